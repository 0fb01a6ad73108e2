"""A task written as a webdataset: the same bytes come back, whole or not at all, and never over something else."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ensemble_bench import shards, sources
from ensemble_bench.cli import main
from ensemble_bench.corrupt.manifest import NAME
from ensemble_bench.errors import BadData, BadOption, Missing, UnknownName
from ensemble_bench.host.datasets import Pictures
from ensemble_bench.pictures import encoded
from ensemble_bench.sources import own
from ensemble_bench.task import Catalogue, Task

FACES = Catalogue().task("mini/faces")


def read_back(task: Task, folder: Path) -> Any:
    """The source of the same task as it lies in a folder of shards."""
    return sources.of(dataclasses.replace(task, source="webdataset", options={"root": str(folder)}))


@pytest.mark.parametrize("text", ["mini/faces", "mini/faces@mini-c:fog:3"])
def test_the_same_pictures_come_back(tmp_path: Path, text: str) -> None:
    task, condition, suite = shards.named(text)
    done = shards.written(shards.Export(task, tmp_path / "out", condition, suite, shards=3), workers=2)
    assert done == shards.Written(6, 0)
    source, back = sources.of(task), read_back(task, tmp_path / "out")
    for split, count in (("train", 40), ("test", 160)):
        index = source.index(split)
        own = back.index(split)  # of train samples the id says so too, because packers count from 0 in each split
        assert own.labels == index.labels and len(own.ids) == count
        assert own.ids == tuple(f"train/{name}" if split == "train" else name for name in index.ids)
        alter = suite.alter(condition) if suite and split == "test" else None
        for name, one, other in zip(index.ids, source.pictures(split, index.ids), back.pictures(split, own.ids), strict=True):
            assert np.array_equal(one if alter is None else alter(name, one), other)


def test_the_layout_is_the_hosts(tmp_path: Path) -> None:
    shards.written(shards.Export(FACES, tmp_path / "out", shards=2, limit=5), workers=1)
    found = {path.relative_to(tmp_path / "out").as_posix(): path for path in (tmp_path / "out").rglob("*") if path.is_file()}
    beside = {"classnames.txt", "zeroshot_classification_templates.txt", "dataset_type.txt", NAME}
    tars = {f"{split}/{name}" for split in ("train", "test") for name in ("0.tar", "1.tar", "nshards.txt")}
    assert set(found) == beside | tars
    assert found["test/nshards.txt"].read_text() == "2\n"
    assert found["classnames.txt"].read_text().splitlines() == list(FACES.classes)
    assert found["zeroshot_classification_templates.txt"].read_text().splitlines() == list(FACES.templates)
    assert not [path for path in tmp_path.iterdir() if path.name != "out"]
    assert len(read_back(FACES, tmp_path / "out").index("test").ids) == 5


def test_the_same_export_has_the_same_bytes_and_is_not_made_twice(tmp_path: Path) -> None:
    for name, workers in (("a", 1), ("b", 3)):
        shards.written(shards.Export(FACES, tmp_path / name, limit=20), workers)
    one, two = ({p.relative_to(tmp_path / n): p.read_bytes() for p in (tmp_path / n).rglob("*.*")} for n in "ab")
    assert one == two
    assert shards.written(shards.Export(FACES, tmp_path / "a", limit=20), 1) == shards.Written(0, 16)


def test_an_interrupted_export_goes_on_and_leaves_nothing_half_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = shards.Export(FACES, tmp_path / "out", shards=4, limit=20)
    shown: list[int] = []

    def stop(units: int) -> None:
        shown.append(units)
        if len(shown) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        shards.written(asked, 1, stop)
    assert not (tmp_path / "out").exists()
    with pytest.raises(BadOption, match="is of another copy: its shards is"):
        shards.written(shards.Export(FACES, tmp_path / "out", shards=2, limit=20), 1)
    assert shards.written(asked, 1) == shards.Written(5, 3)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_folder_with_something_else_is_refused(tmp_path: Path) -> None:
    asked = shards.Export(FACES, tmp_path / "out", limit=8, shards=1)
    (tmp_path / "out").mkdir()
    shards.written(asked, 1)  # an empty one is fine
    with pytest.raises(BadOption, match="its condition is"):
        task, condition, suite = shards.named("mini/faces@mini-c:fog:1")
        shards.written(shards.Export(task, tmp_path / "out", condition, suite, limit=8, shards=1), 1)
    (tmp_path / "out" / "test" / "0.tar").write_bytes(b"spoilt")
    with pytest.raises(BadOption, match="holds something else, or has been changed"):
        shards.written(asked, 1)
    shutil.rmtree(tmp_path / "out")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "letter.txt").write_text("dear all")
    with pytest.raises(BadOption, match="holds something else"):
        shards.written(asked, 1)
    (tmp_path / "file").write_text("")
    with pytest.raises(BadOption, match="is a file"):
        shards.written(dataclasses.replace(asked, out=tmp_path / "file"), 1)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"classes": ("face", "wall\nfloor")}, "the class name 'wall.nfloor' is no line of its own"),
        ({"classes": ("face", " wall")}, "the class name ' wall' is no line of its own"),
        ({"templates": ("a {c} {d}",)}, "cannot fill in the template"),
        ({"templates": ("a {c} {{x}}",)}, "cannot fill in the template"),
    ],
)
def test_what_the_layout_cannot_hold(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(BadOption, match=said):
        shards.Export(dataclasses.replace(FACES, **changes), tmp_path / "out")


def test_names_that_come_with_the_data_are_written(tmp_path: Path) -> None:
    """A third of the collection has its class names with its download only."""
    shards.written(shards.Export(FACES, tmp_path / "data", shards=1, limit=6), workers=1)
    (tmp_path / "data" / "classnames.txt").write_text("somebody\nnobody\n")
    nameless = dataclasses.replace(
        FACES,
        source="webdataset",
        options={"root": str(tmp_path / "data")},
        classes=(),
        templates=(),
        counts={},
        classes_from="source",
        templates_from="source",
        digests={},
    )
    asked = shards.Export(nameless, tmp_path / "out", shards=2)
    assert shards.written(asked, workers=1) == shards.Written(4, 0)
    assert (tmp_path / "out" / "classnames.txt").read_text() == "somebody\nnobody\n"
    made = Pictures(nameless, "test")
    assert made.classes == ["somebody", "nobody"] and made.templates == list(FACES.templates) and len(made) == 6
    (tmp_path / "data" / "classnames.txt").write_text("somebody\nno one\n")
    with pytest.raises(BadOption, match="is of another copy: its names is"):
        shards.written(shards.Export(nameless, tmp_path / "out", shards=2), workers=1)
    (tmp_path / "data" / "classnames.txt").unlink()
    with pytest.raises(BadData, match="no class names come with the images"):
        shards.Export(nameless, tmp_path / "other")


@pytest.mark.parametrize("name", Catalogue().paths)
def test_every_task_of_the_collection_fits_the_layout(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As far as it can be told without its images: what is not fetched says so, and nothing else is wrong."""
    monkeypatch.setenv("ENSEMBLE_BENCH_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    task = Catalogue().task(name)
    if task.kind == "multilabel":
        with pytest.raises(BadOption, match="several labels may be right"):
            shards.named(name)
    elif task.complete:
        assert shards.Export(shards.named(name)[0], tmp_path / "out").task == task
    else:
        with pytest.raises(Missing, match=f"run 'ensemble-bench fetch -t {name}'|Run 'ensemble-bench fetch -t {name}'"):
            shards.Export(shards.named(name)[0], tmp_path / "out")


def test_an_empty_name_between_others_is_an_empty_line(tmp_path: Path) -> None:
    """So the fourth class of CLEVR's distances is called, by CLIP_benchmark too; at the end nobody would see it."""
    three = dataclasses.replace(FACES, classes=("face", "", "wall"), digests={})
    shards.written(shards.Export(three, tmp_path / "out", shards=1, limit=4), workers=1)
    assert (tmp_path / "out" / "classnames.txt").read_text() == "face\n\nwall\n"
    again = read_back(dataclasses.replace(three, classes=(), classes_from="source"), tmp_path / "out")
    assert again.names().classes == three.classes
    with pytest.raises(BadOption, match="the class name '' is no line of its own"):
        shards.Export(dataclasses.replace(FACES, classes=("face", "")), tmp_path / "end")


def test_without_the_train_split(tmp_path: Path) -> None:
    asked = shards.Export(FACES, tmp_path / "out", shards=2, test_only=True)
    assert shards.written(asked, workers=1) == shards.Written(2, 0) and asked.total() == 160
    assert not (tmp_path / "out" / "train").exists()


def test_pictures_without_a_card(tmp_path: Path) -> None:
    """A folder of somebody's own becomes a webdataset; an @ in its path is no condition unless a suite follows."""
    root = tmp_path / "me@home" / "pets"
    for place, name in enumerate(("cat", "dog", "cat", "dog", "dog")):
        path = root / name / f"{place}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(np.full((30, 40, 3), 40 * place, dtype=np.uint8)))
    for text, condition in ((f"folder:{root}", "clean"), (f"folder:{root}@mini-c:fog:2", "mini-c:fog:2")):
        task, told, suite = shards.named(text)
        assert str(told) == condition and (suite is None) == (condition == "clean")
        out = tmp_path / condition.replace(":", "-")
        shards.written(shards.Export(task, out, told, suite, shards=1), workers=1)
        back = sources.named(sources.of(own.read(f"wds:{out}")))
        assert back.task.classes == ("cat", "dog") and back.index("test").labels == (0, 0, 1, 1, 1)
        shown = next(back.pictures("test", back.index("test").ids[1:2]))
        plain = np.full((30, 40, 3), 80, dtype=np.uint8)
        assert np.array_equal(shown, plain if suite is None else suite.alter(told)("cat/2.png", plain))


def test_names_of_conditions() -> None:
    assert str(shards.named("mini/faces@clean")[1]) == "clean"
    with pytest.raises(BadOption, match="'mini-c' stands for 6"):
        shards.named("mini/faces@mini-c")
    with pytest.raises(UnknownName, match=r"no corruption suite is called 'mini-d'\. Did you mean mini-c"):
        shards.named("mini/faces@mini-d:fog:1")


def test_the_verb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main(["export", "task", "mini/faces", str(out), "--shards", "2", "--limit", "10", "--jpeg", "90"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].endswith("4 shards made, 0 were there, 50 images")
    assert said[1] == f"clip_benchmark eval --dataset wds/mini/faces --dataset_root {out} --num_workers 2"
    header = json.loads((out / NAME).read_text().splitlines()[0])
    assert header["jpeg"] == 90 and header["task"][0] == "mini/faces"
    for words, said in (
        (["mini/facets", str(out)], "no task is called 'mini/facets'. Did you mean mini/faces"),
        (["mini/faces", str(out), "--shards", "0"], "--shards must be at least 1"),
        (["mini/faces", str(out), "--jpeg", "101"], "--jpeg must be from 1 to 100"),
        (["mini/faces@fog", str(out)], "no corruption suite is called 'fog'"),
    ):
        assert main(["export", "task", *words]) == 2
        assert said in capsys.readouterr().err
