"""Data sets read by the library ``datasets``, an extra: with the real one where it is installed, with a stand-in elsewhere."""

from __future__ import annotations

import dataclasses
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ensemble_bench import cli, runner, sources
from ensemble_bench.errors import BadCard, BadData, Missing
from ensemble_bench.pictures import encoded
from ensemble_bench.progress import Progress
from ensemble_bench.request import Request
from ensemble_bench.sources import own
from ensemble_bench.sources.base import Wanted, checked
from ensemble_bench.task import Catalogue, Task


def task(repository: str = "me/pets", **more: Any) -> Task:
    return dataclasses.replace(
        own.read("wds:x"),
        name="mine/pets",
        source="huggingface",
        options={"repository": repository, **more},
        templates=("a photo of a {c}.",),
        templates_from="card",
        splits=("train", "test"),
        card_digest="1",
    )


def picture(number: int) -> Any:
    return np.random.default_rng(number).integers(0, 256, (12, 14, 3), dtype=np.uint8)


class Rows:
    """As much of a ``datasets.Dataset`` as the source needs."""

    def __init__(self, columns: dict[str, list[Any]], features: dict[str, Any]) -> None:
        self.columns, self.features = columns, features
        self.decode = True

    @property
    def column_names(self) -> list[str]:
        return list(self.columns)

    def cast_column(self, name: str, feature: Any) -> Rows:
        assert self.columns[name] and feature.decode is False
        return self

    def __getitem__(self, key: Any) -> Any:
        return self.columns[key] if isinstance(key, str) else {name: column[key] for name, column in self.columns.items()}


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Any]:
    """A stand-in for the library; what it was asked for."""
    asked: list[Any] = []
    on_disk = tmp_path / "3.png"
    Image.fromarray(picture(3)).save(on_disk)

    def load_dataset(repository: str, config: str | None = None, *, split: str, **options: Any) -> Rows:
        asked.append((repository, config, split, options, module.config.HF_HUB_OFFLINE))
        if repository != "me/pets":
            raise ConnectionError(f"Couldn't reach '{repository}' on the Hub")
        pictures = [{"bytes": encoded(picture(n)), "path": None} for n in range(3)] + [{"bytes": None, "path": str(on_disk)}]
        label = SimpleNamespace(names=["guinea_pig", "wolf"])
        return Rows({"image": pictures, "label": [0, 1, 1, 0], "note": ["x"] * 4}, {"label": label})

    module = SimpleNamespace(
        load_dataset=load_dataset,
        Image=lambda decode: SimpleNamespace(decode=decode),
        config=SimpleNamespace(HF_HUB_OFFLINE=False),
    )
    monkeypatch.setitem(sys.modules, "datasets", module)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    return asked


def test_rows_become_samples(library: list[Any]) -> None:
    one = sources.named(sources.of(task(config="small", revision="abc", test="validation")))
    assert one.task.classes == ("guinea pig", "wolf") and one.task.templates == ("a photo of a {c}.",)
    index = checked(one, "test")
    assert index.ids == tuple(f"test/000000{row}" for row in range(4)) and index.labels == (0, 1, 1, 0)
    for name, shown in zip(index.ids[::-1], one.pictures("test", index.ids[::-1]), strict=True):
        assert np.array_equal(shown, picture(int(name[-1])))
    assert library == [("me/pets", "small", "validation", {"revision": "abc"}, False)]
    assert one.said("test", index.ids[:2]) != one.said("test", index.ids[1:3])


def test_offline_is_told_to_the_library(library: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    sources.of(task()).index("train")
    monkeypatch.delenv("HF_HUB_OFFLINE")
    assert sources.of(task()).fetch(Wanted(shots=0), Progress()).kept == 1
    assert [entry[-1] for entry in library] == [True, False]


def test_what_cannot_be_loaded_is_a_sentence(library: list[Any]) -> None:
    with pytest.raises(Missing, match=r"me/cats \(test\) cannot be loaded by the library datasets \(ConnectionError: Couldn't"):
        sources.of(task("me/cats")).index("test")
    with pytest.raises(BadCard, match=r"me/pets has no column 'lable' \('source.label'\). Did you mean label"):
        sources.of(task(label="lable")).index("test")
    with pytest.raises(BadData, match=r"the label of row 0 of test is 'x', no number"):
        sources.of(task(label="note")).index("test")
    with pytest.raises(BadCard, match=r"'source\.config' must be a text"):
        sources.of(task(config=3))


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(Missing, match=r"mine/pets is read by the library datasets, .*pip install 'ensemble-bench\[datasets\]'"):
        sources.of(task()).index("test")


real = pytest.mark.skipif(find_spec("datasets") is None, reason="the library datasets (extra 'datasets') is not installed")
"""Not where only a stand-in can be tried."""


@real
@pytest.mark.filterwarnings("ignore")  # of the library and what it imports
def test_the_real_library_reads_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its loader of image folders, offline: names, labels and pixels."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    for split, first in (("train", 0), ("test", 50)):
        for label, name in enumerate(("guinea_pig", "wolf")):
            for number in range(3):
                path = tmp_path / "pets" / split / name / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(picture(first + 10 * label + number)).save(path)
    one = sources.named(sources.of(task(str(tmp_path / "pets"))))
    assert one.task.classes == ("guinea pig", "wolf")
    index = checked(one, "test")
    assert index.labels == (0, 0, 0, 1, 1, 1)
    shown = list(one.pictures("test", index.ids))
    assert np.array_equal(shown[4], picture(61))
    assert len(one.said("train")["files"]) == 64


CARD = """
name = "mine/pets"
version = 1
title = "Pets"
classes_from = "source"
templates = ["a photo of a {{c}}."]
licence = "MIT"
provenance = "made by a test"
[source]
kind = "huggingface"
repository = "{root}"
image = "img"
label = "species"
[counts]
train = 6
test = 8
classes = 2
"""


@real
@pytest.mark.parametrize("form", ["parquet", "saved"])
@pytest.mark.filterwarnings("ignore")
def test_what_the_real_library_wrote_runs(form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the whole road: pictures inside the file, names of the label column, support from the train split, no network."""
    import datasets

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ENSEMBLE_BENCH_CACHE", str(tmp_path / "store"))
    features = datasets.Features({"img": datasets.Image(), "species": datasets.ClassLabel(names=["guinea_pig", "wolf"])})
    root = tmp_path / "pets"
    made = {}
    for split, first, count in (("train", 0, 6), ("test", 50, 8)):
        pictures = [{"bytes": encoded(picture(first + n)), "path": None} for n in range(count)]
        made[split] = datasets.Dataset.from_dict({"img": pictures, "species": [n % 2 for n in range(count)]}, features)
        if form == "parquet":
            (root / "data").mkdir(parents=True, exist_ok=True)
            made[split].to_parquet(root / "data" / f"{split}-00000-of-00001.parquet")
    if form == "saved":
        datasets.DatasetDict(made).save_to_disk(root)
    card = tmp_path / "cards" / "tasks" / "mine" / "pets.toml"
    card.parent.mkdir(parents=True)
    card.write_text(CARD.format(root=root))
    asked = Request(
        tasks=("mine/pets",),
        cards=(tmp_path / "cards",),
        backbones=("mini/vit-16", "mini/vit-8"),
        strategies=("log-avg", "best-single"),
        draws=2,
        output=tmp_path / "out",
    )
    found = runner.run(asked)
    assert found.failures == [] and {record.n for record in found.results.records} == {8}
    assert {record.labels for record in found.results.records if record.strategy == "best-single"} == {2}
    index = sources.named(sources.of(Catalogue(asked.cards).task("mine/pets")))
    assert index.task.classes == ("guinea pig", "wolf") and index.index("test").labels == (0, 1) * 4
    assert np.array_equal(next(index.pictures("test", ["test/0000003"])), picture(53))
    assert cli.main(["check-task", "mine/pets", "--cards", str(tmp_path / "cards"), "-q"]) == 0


@real
@pytest.mark.filterwarnings("ignore")
def test_one_split_without_a_name_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else it would be train and test at once."""
    import datasets

    pictures = [{"bytes": encoded(picture(n)), "path": None} for n in range(4)]
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])})
    datasets.Dataset.from_dict({"image": pictures, "label": [0, 1, 0, 1]}, features).save_to_disk(tmp_path / "one")
    with pytest.raises(Missing, match="it is one split without a name: save a DatasetDict"):
        sources.of(task(str(tmp_path / "one"))).index("test")
    datasets.DatasetDict({"train": datasets.Dataset.from_dict({"image": pictures})}).save_to_disk(tmp_path / "many")
    with pytest.raises(Missing, match="it has no split 'test', only train"):
        sources.of(task(str(tmp_path / "many"))).index("test")
