"""Data without a card: somebody else's JPEG files in folders, and webdatasets made from them, by the whole road."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ensemble_bench import cli, runner, sources
from ensemble_bench.errors import BadData, BadOption
from ensemble_bench.request import Request
from ensemble_bench.sources import own
from ensemble_bench.sources.base import Source, checked
from ensemble_bench.task import Catalogue

CLASSES = ["guinea_pig", "red panda", "wolf"]


def jpeg(path: Path, seed: int) -> None:
    """A photograph of sorts: smooth noise, as a JPEG of some size."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (9, 12, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(small).resize((60 + seed % 9, 48), Image.Resampling.BICUBIC).save(path, "JPEG", quality=90)


def photographs(folder: Path, count: int = 4, seed: int = 0) -> Path:
    for place, name in enumerate(CLASSES):
        for number in range(count):
            jpeg(folder / name / f"IMG_{number}.JPG", seed + 10 * place + number)
    return folder


def packed(folder: Path, out: Path, split: str) -> None:
    """The same photographs as two shards in CLIP_benchmark's layout, keys counted from 0, by its own way of writing labels."""
    import io
    import tarfile

    (out / split).mkdir(parents=True)
    files = sorted(folder.rglob("*.JPG"))
    for shard in range(2):
        with tarfile.open(out / split / f"{shard}.tar", "w") as tar:
            for number in range(shard, len(files), 2):
                label = CLASSES.index(files[number].parent.name)
                for ending, data in (("jpg", files[number].read_bytes()), ("cls", str(label).encode())):
                    info = tarfile.TarInfo(f"s{number:07d}.{ending}")
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
    (out / split / "nshards.txt").write_text("2\n")
    (out / "classnames.txt").write_text("\n".join(name.replace("_", " ") for name in CLASSES) + "\n")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENSEMBLE_BENCH_CACHE", str(tmp_path / "store"))
    monkeypatch.chdir(tmp_path)


def source(text: str) -> Source:
    return sources.named(sources.of(own.read(text)))


def run(*words: str) -> list[dict[str, Any]]:
    """The records of a run."""
    assert cli.main(["run", *words, "-b", "mini/vit-16,mini/vit-8", "--draws", "2", "-o", "out"]) == 0
    return [json.loads(line) for line in Path("out", "records.jsonl").read_text().splitlines()]


# The whole road ------------------------------------------------------------------------------------------------------


def test_a_folder_of_jpeg_files_runs(capsys: pytest.CaptureFixture[str]) -> None:
    photographs(Path("pets/test"))
    photographs(Path("pets/train"), seed=100)
    records = run("-t", "folder:pets", "-s", "single", "log-avg", "best-single")
    name = own.read("folder:pets").name
    assert name.startswith("folder-pets-") and {record["task"] for record in records} == {name}
    assert all(record["status"] == "done" and record["n"] == 12 for record in records)
    assert {record["labels"] for record in records if record["strategy"] == "best-single"} == {3}
    supports = json.loads(Path("out", "supports", f"{name}.json").read_text())
    assert [len(draw["ids"]) for draw in supports["draws"]] == [3, 3] and supports["draws"][0]["labels"] == [0, 1, 2]
    assert all(Path("pets", sample).is_file() for draw in supports["draws"] for sample in draw["ids"])
    assert {record["support"] for record in records if record["draw"] is not None} == {
        draw["digest"] for draw in supports["draws"]
    }
    assert name in capsys.readouterr().out


def test_a_webdataset_made_of_them_runs_alike() -> None:
    """The same pictures packed: every decision is that of the folder, sample by sample."""
    photographs(Path("pets/test"))
    photographs(Path("pets/train"), seed=100)
    packed(Path("pets/test"), Path("shards"), "test")
    packed(Path("pets/train"), Path("shards"), "train")
    asked = Request(backbones=("mini/vit-16", "mini/vit-8"), strategies=("log-avg", "best-single"), draws=2)
    decisions = []
    for text in ("folder:pets", "wds:shards"):
        found = runner.run(asked.changed(tasks=(text,), output=Path(text.partition(":")[0])))
        assert found.failures == []
        cell = next(record.cell for record in found.results.records if record.strategy == "log-avg")
        kept = found.results.predictions(cell)
        order = np.argsort(kept.ids)
        decisions.append((kept.labels[order].tolist(), kept.decisions[0][order].tolist()))
    assert decisions[0] == decisions[1]
    assert cli.main(["check-task", "wds:shards", "folder:pets"]) == 0


@pytest.mark.parametrize("layout", [".", "test", "train", "val"])
def test_one_split_is_the_test_and_learners_do_not_apply(layout: str) -> None:
    photographs(Path("pets", layout))
    records = {record["strategy"]: record for record in run("-t", "folder:pets", "-s", "log-avg", "best-single")}
    assert records["log-avg"]["status"] == "done" and records["log-avg"]["n"] == 12
    assert records["best-single"]["status"] == "not-applicable"
    assert "no train split to draw them from" in records["best-single"]["reason"]


def test_what_is_broken_is_a_row_and_the_rest_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    photographs(Path("good"))
    photographs(Path("broken"))
    path = Path("broken/wolf/IMG_2.JPG")
    path.write_bytes(path.read_bytes()[:-300])
    words = ["run", "-t", "folder:broken", "folder:nowhere", "folder:good", "-b", "mini/vit-16", "-s", "log-avg", "-o", "out"]
    assert cli.main(words) == 2
    err = capsys.readouterr().err.splitlines()
    assert any("IMG_2.JPG cannot be decoded" in line for line in err)
    assert any("nowhere is not a folder" in line for line in err)
    assert err[-1] == "ensemble-bench: 2 cells failed; the others are finished."
    statuses = {record.task.split("-")[1]: record.status for record in runner.Results(Path("out")).records}
    assert statuses == {"broken": "failed", "nowhere": "failed", "good": "done"}
    jpeg(path, 1)
    photographs(Path("nowhere"))
    assert cli.main(words) == 0, "mended, the same command fills the rows"


def test_a_changed_picture_or_label_gets_new_numbers() -> None:
    photographs(Path("pets"))
    asked = Request(tasks=("folder:pets",), backbones=("mini/vit-16",), strategies=("log-avg",), output=Path("out"))
    assert (runner.run(asked).made, runner.run(asked).made) == (1, 0)
    jpeg(Path("pets/wolf/IMG_0.JPG"), 999)
    assert runner.run(asked).made == 1
    Path("pets/wolf/IMG_0.JPG").rename("pets/red panda/IMG_9.JPG")
    assert runner.run(asked).made == 1
    shutil.rmtree("store")
    packed(Path("pets"), Path("shards"), "test")
    asked = asked.changed(tasks=("wds:shards",), output=Path("wds"))
    assert (runner.run(asked).made, runner.run(asked).made) == (1, 0)
    shutil.rmtree("shards")
    CLASSES.reverse()
    try:
        packed(Path("pets"), Path("shards"), "test")  # the same keys and pictures, other labels
    finally:
        CLASSES.reverse()
    assert runner.run(asked).made == 1


# Layouts -------------------------------------------------------------------------------------------------------------


def test_names_come_from_the_folders_or_from_files() -> None:
    photographs(Path("pets"))
    one = source("folder:pets")
    assert one.task.classes == ("guinea pig", "red panda", "wolf") and one.task.templates == ("a photo of a {c}.",)
    assert checked(one, "test").labels == (0,) * 4 + (1,) * 4 + (2,) * 4
    assert one.index("test").ids[0] == "guinea_pig/IMG_0.JPG"
    Path("pets/classnames.txt").write_text("a cavy\r\na panda\r\na wolf\r\n\r\n")
    Path("pets/zeroshot_classification_templates.txt").write_text("a drawing of {c}\n{c}\n")
    one = source("folder:pets")
    assert one.task.classes == ("a cavy", "a panda", "a wolf") and one.task.templates == ("a drawing of {c}", "{c}")


def test_paths_of_all_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    photographs(Path("my, own: pets"))
    monkeypatch.setenv("HOME", str(Path.cwd()))
    monkeypatch.setenv("WHERE", str(Path.cwd()))
    places = ["my, own: pets", f"{Path.cwd()}/my, own: pets", "~/my, own: pets", "$WHERE/my, own: pets", "./my, own: pets/"]
    tasks = sources.chosen([f"folder:{place}" for place in places], Catalogue())
    assert [task.name for task in tasks] == [own.read("folder:my, own: pets").name]
    Path("list.txt").write_text("folder:my, own: pets  # mine\nmini/digits\n")
    names = [task.name for task in sources.chosen(["list.txt", "mini/faces,folder:x"], Catalogue())]
    assert names[1:3] == ["mini/digits", "mini/faces"] and names[3].startswith("folder-x-")
    assert own.read("folder:a/pets").name != own.read("folder:b/pets").name
    for letter in own.read("wds:Ünder (odd) näme!").name:
        assert letter in "abcdefghijklmnopqrstuvwxyz0123456789-"


@pytest.mark.parametrize("text", ["folder:", "wds:  "])
def test_no_path_is_a_sentence(text: str) -> None:
    with pytest.raises(BadOption, match="names no path"):
        own.read(text)
    with pytest.raises(BadOption, match="are read from the disk"):
        own.read("folder:https://x/y")


def _missing_class() -> None:
    shutil.rmtree("pets/train/wolf")


def _both() -> None:
    jpeg(Path("pets/cat/1.jpg"), 1)


def _stray() -> None:
    Path("pets/test/notes").mkdir()


def _too_many_names() -> None:
    Path("pets/classnames.txt").write_text("a\nb\n")


def _twins() -> None:
    Path("pets/classnames.txt").write_text("a\nb\na\n")


def _empty_name() -> None:
    Path("pets/classnames.txt").write_text("a\n\nb\n")


def _no_placeholder() -> None:
    Path("pets/zeroshot_classification_templates.txt").write_text("a {}\n")


def _nothing() -> None:
    shutil.rmtree("pets")
    Path("pets").mkdir()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_missing_class, r"pets/train lacks the class folders wolf, which another split has"),
        (_both, r"holds both splits \(train, test\) and what looks like classes \(cat\)"),
        (_stray, r"train lacks the class folders notes"),
        (_too_many_names, r"classnames.txt has 2 lines for 3 class folders"),
        (_twins, r"'a' is number 1 and 3"),
        (_empty_name, r"class names are empty: number 2"),
        (_no_placeholder, r"a template that came with it lacks"),
        (_nothing, r"holds no class folders"),
    ],
)
def test_what_cannot_be_guessed_is_a_sentence(spoil: Any, said: str) -> None:
    photographs(Path("pets/test"))
    photographs(Path("pets/train"), seed=100)
    spoil()
    with pytest.raises(BadData, match=said):
        one = source("folder:pets")
        for split in one.splits():
            checked(one, split)


def test_a_folder_without_pictures_is_no_class() -> None:
    photographs(Path("pets"))
    Path("pets/thumbnails").mkdir()
    with pytest.raises(BadData, match="thumbnails holds no pictures: fill it or remove it"):
        source("folder:pets").index("test")


def test_a_class_may_be_called_like_a_split() -> None:
    for name in ("car", "train", "test"):
        jpeg(Path("vehicles", name, "1.jpg"), 1)
    assert source("folder:vehicles").task.classes == ("car", "test", "train")


@pytest.mark.parametrize(
    ("splits", "found"),
    [(("test", "train"), ("test", "train")), (("val",), ("test",)), (("train",), ("test",)), ((".",), ("test",))],
)
def test_splits_of_webdatasets(splits: tuple[str, ...], found: tuple[str, ...]) -> None:
    photographs(Path("pets"))
    for split in splits:
        packed(Path("pets"), Path("packed"), split) if split != "." else packed(Path("pets"), Path("packed"), "x")
    if splits == (".",):
        for path in Path("packed/x").iterdir():
            path.rename(Path("packed") / path.name)
    one = source("wds:packed")
    assert sorted(one.splits()) == sorted(found) and len(checked(one, "test").ids) == 12
    assert one.task.classes == ("guinea pig", "red panda", "wolf") and one.task.templates == ("a photo of a {c}.",)
