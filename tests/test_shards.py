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
from ensemble_bench.errors import BadOption, UnknownName
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


def test_names_of_conditions() -> None:
    assert str(shards.named("mini/faces@clean")[1]) == "clean"
    with pytest.raises(BadOption, match="'mini-c' stands for 6"):
        shards.named("mini/faces@mini-c")
    with pytest.raises(UnknownName, match=r"no corruption suite is called 'mini-d'\. Did you mean mini-c"):
        shards.named("mini/faces@mini-d:fog:1")


def test_the_verb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main(["export", "task", "mini/faces", str(out), "--shards", "2", "--limit", "10", "--jpeg", "90"]) == 0
    assert "4 shards made, 0 were there, 50 images" in capsys.readouterr().out
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
