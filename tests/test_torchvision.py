"""Data sets of torchvision as sources, from files that the tests write in their formats; nothing is downloaded."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ensemble_bench import cli, sources
from ensemble_bench.errors import BadCard, BadData, Missing
from ensemble_bench.progress import Progress
from ensemble_bench.sources import own
from ensemble_bench.sources.base import Wanted, checked
from ensemble_bench.sources.torchvision import Torchvision
from ensemble_bench.task import Task

datasets = pytest.importorskip("torchvision.datasets")

CARD = """
name = "mine/fashion"
version = 1
title = "Clothes"
classes = ["T-shirt", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]
templates = ["a photo of a {c}."]
licence = "MIT"
provenance = "made by a test"
[source]
kind = "torchvision"
dataset = "FashionMNIST"
root = "ROOT"
[counts]
train = 40
test = 30
"""


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENSEMBLE_BENCH_CACHE", str(tmp_path / "store"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)


def task(dataset: str, **more: Any) -> Task:
    """A task with a card that names a class of torchvision."""
    options = {"dataset": dataset, **more}
    one = own.read("wds:x")
    return dataclasses.replace(
        one,
        name=f"mine/{dataset.lower()}",
        source="torchvision",
        options=options,
        templates=("a photo of a {c}.",),
        templates_from="card",
        splits=("train", "test"),
        card_digest="1",
    )


def pixels(seed: int, count: int, side: int = 28) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(seed).integers(0, 256, (count, side, side), dtype=np.uint8)


def mnist(root: Path, name: str, count: dict[str, int]) -> dict[str, Any]:
    """The idx files of an MNIST-like data set: magic number, sizes, bytes."""
    made = {}
    for place, (split, images) in enumerate(count.items()):
        data, labels = pixels(place, images), np.arange(images, dtype=np.uint8) % 10
        folder = root / name / "raw"
        folder.mkdir(parents=True, exist_ok=True)
        prefix = "t10k" if split == "test" else "train"
        (folder / f"{prefix}-images-idx3-ubyte").write_bytes(struct.pack(">IIII", 0x803, images, 28, 28) + data.tobytes())
        (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 0x801, images) + labels.tobytes())
        made[split] = data, labels
    return made


def test_pictures_and_labels_of_an_mnist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHERE", str(tmp_path))
    made = mnist(tmp_path / "tv", "FashionMNIST", {"train": 40, "test": 30})
    one = sources.named(sources.of(task("FashionMNIST", root="$WHERE/tv")))
    assert one.task.classes[0] == "T-shirt/top" and len(one.task.classes) == 10
    for split, (data, labels) in made.items():
        index = checked(one, split)
        assert index.labels == tuple(labels.tolist()) and index.ids[7] == f"{split}/0000007"
        for name in (index.ids[7], index.ids[0]):
            shown = next(one.pictures(split, [name]))
            assert shown.shape == (28, 28, 3) and np.array_equal(shown[..., 1], data[int(name[-3:])])


def test_a_changed_file_gets_another_key(tmp_path: Path) -> None:
    mnist(tmp_path, "FashionMNIST", {"train": 40, "test": 30})
    before = sources.of(task("FashionMNIST", root=str(tmp_path))).said("test", ["test/0000001"])
    path = tmp_path / "FashionMNIST/raw/t10k-images-idx3-ubyte"
    data = bytearray(path.read_bytes())
    data[16 + 784 + 5] ^= 255
    path.write_bytes(data)
    again = sources.of(task("FashionMNIST", root=str(tmp_path)))
    assert again.said("test", ["test/0000001"]) != before
    assert again.said("test", ["test/0000002"]) == sources.of(again.task).said("test", ["test/0000002"])


def test_a_card_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mnist(tmp_path, "FashionMNIST", {"train": 40, "test": 30})
    path = tmp_path / "cards/tasks/mine/fashion.toml"
    path.parent.mkdir(parents=True)
    path.write_text(CARD.replace("ROOT", str(tmp_path)))
    words = ["-t", "mine/fashion", "--cards", str(tmp_path / "cards")]
    assert cli.main(["check-task", *words]) == 0
    assert cli.main(["fetch", *words]) == 0
    assert "0 files came (0.0 MB), 2 were there" in capsys.readouterr().out
    assert cli.main(["run", *words, "-b", "mini/vit-16,mini/vit-8", "-s", "best-single", "--draws", "2", "-o", "out"]) == 0


def test_splits_by_word_and_lists_of_files(tmp_path: Path) -> None:
    """Country211 is a folder of folders; its digest is that of the files."""
    for split in ("train", "test"):
        for label, name in enumerate(("AD", "AE", "ZW")):
            for number in range(2):
                path = tmp_path / "country211" / split / name / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels(10 * label + number, 1)[0]).save(path)
    one = sources.named(sources.of(task("Country211", root=str(tmp_path))))
    assert one.task.classes == ("AD", "AE", "ZW") and checked(one, "test").labels == (0, 0, 1, 1, 2, 2)
    before = one.said("test")
    (tmp_path / "country211/test/AE/1.png").write_bytes(b"no picture")
    other = sources.named(sources.of(task("Country211", root=str(tmp_path))))
    assert other.said("test") != before
    with pytest.raises(BadData, match=r"test/0000003 cannot be decoded: UnidentifiedImageError"):
        list(other.pictures("test", other.index("test").ids))


def test_numbers_that_begin_at_one(tmp_path: Path) -> None:
    """EMNIST's letters: labels 1 to 26, and a class 0 that is none."""
    folder = tmp_path / "EMNIST" / "raw"
    folder.mkdir(parents=True)
    for part in ("train", "test"):
        labels = np.arange(1, 27, dtype=np.uint8)
        (folder / f"emnist-letters-{part}-images-idx3-ubyte").write_bytes(
            struct.pack(">IIII", 0x803, 26, 28, 28) + pixels(1, 26).tobytes()
        )
        (folder / f"emnist-letters-{part}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 0x801, 26) + labels.tobytes())
    options = {"arguments": {"split": "letters"}, "root": str(tmp_path), "first_label": 1}
    one = sources.of(task("EMNIST", **options))
    assert one.index("test").labels == tuple(range(26))


def test_nothing_there_is_a_sentence_and_offline_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = sources.of(task("FashionMNIST"))
    with pytest.raises(
        Missing, match=r"FashionMNIST is not in .*store/datasets/torchvision, .*Run 'ensemble-bench fetch -t mine"
    ):
        one.index("test")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(Missing, match="--offline forbids to fetch it"):
        one.fetch(Wanted(), Progress())


def test_damaged_files_are_a_sentence(tmp_path: Path) -> None:
    mnist(tmp_path, "FashionMNIST", {"train": 40, "test": 30})
    path = tmp_path / "FashionMNIST/raw/t10k-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(BadData, match=r"torchvision's FashionMNIST cannot be read from .*: \w+"):
        sources.of(task("FashionMNIST", root=str(tmp_path))).index("test")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"dataset": "FashonMNIST"}, "torchvision.datasets has no class 'FashonMNIST'. Did you mean FashionMNIST"),
        ({"dataset": "MNIST", "test": {"split": "test"}}, "MNIST takes no argument 'split'"),
        ({"dataset": "MNIST", "test": "test"}, "'source.test' must be a table of arguments, not 'test'"),
        ({"dataset": "MNIST", "rot": "x"}, "unknown key 'source.rot'"),
        ({"dataset": 3}, "'source.dataset' must be a class of torchvision.datasets, not 3"),
    ],
)
def test_cards_that_ask_for_what_there_is_not(options: dict[str, Any], said: str) -> None:
    with pytest.raises(BadCard, match=said.replace(".", r"\.")):
        sources.of(dataclasses.replace(task("MNIST"), options=options)).index("test")


def test_fetching_brings_all_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torchvision's own downloader, fed from this disk; what it leaves when it breaks is not kept."""
    made = mnist(tmp_path / "server", "FashionMNIST", {"train": 40, "test": 30})
    packed = {path.name: gzip.compress(path.read_bytes(), mtime=0) for path in (tmp_path / "server/FashionMNIST/raw").iterdir()}
    resources = [(f"{name}.gz", hashlib.md5(data).hexdigest()) for name, data in packed.items()]
    monkeypatch.setattr(datasets.FashionMNIST, "resources", resources)
    broken = [True]

    def urlretrieve(url: str, filename: Any, **options: Any) -> None:
        name = url.rpartition("/")[2].removesuffix(".gz")
        if broken and "labels" in name:
            Path(filename).write_bytes(packed[name][:10])
            raise ConnectionResetError("the server went away")
        Path(filename).write_bytes(packed[name])

    monkeypatch.setattr("torchvision.datasets.utils._urlretrieve", urlretrieve)
    monkeypatch.setattr("torchvision.datasets.utils._get_redirect_url", lambda url, **options: url)
    one = task("FashionMNIST")
    root = tmp_path / "store/datasets/torchvision"
    with pytest.raises(Missing, match=r"torchvision cannot fetch FashionMNIST .*: try again later, or put its files into"):
        sources.of(one).fetch(Wanted(), Progress())
    assert list(root.iterdir()) == [], "nothing half fetched stays"
    broken.clear()
    done = sources.of(one).fetch(Wanted(), Progress())
    assert done.files == 8 and done.where == str(root)
    assert sources.of(one).fetch(Wanted(), Progress()).kept == 2
    assert sources.of(one).index("train").labels == tuple(made["train"][1].tolist())


def test_every_class_that_downloads_is_called_rightly() -> None:
    """Arguments for train and test are guessed from what a class takes."""
    guessed = {
        "MNIST": ({"train": True}, {"train": False}),
        "SVHN": ({"split": "train"}, {"split": "test"}),
        "Food101": ({"split": "train"}, {"split": "test"}),
        "SEMEION": ({}, {}),
    }
    for name, (train, test) in guessed.items():
        one = Torchvision(task(name))
        assert (one.arguments("train"), one.arguments("test")) == (train, test)
    quirky = Torchvision(task("QMNIST", train={"what": "train"}, test={"what": "test"}))
    assert quirky.arguments("test") == {"what": "test"}


def test_class_names_that_are_only_numbered(monkeypatch: pytest.MonkeyPatch) -> None:
    """LFWPeople has no ``classes``."""

    class People:
        class_to_idx = {"Zoe_A": 1, "Ann_B": 2, "Max_C": 0}

    source = Torchvision(task("LFWPeople"))
    monkeypatch.setattr(Torchvision, "dataset", lambda self, split: People())
    found = source.names()
    assert found is not None and found.classes == ("Max C", "Zoe A", "Ann B")
