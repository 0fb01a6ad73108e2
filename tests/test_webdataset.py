"""Tar shards as a source: aligned by key, clean or corrupted earlier, bad shards as sentences, pickles never read."""

from __future__ import annotations

import io
import pickle
import tarfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from ensemble_bench import cli, pictures, runner, sources
from ensemble_bench.corrupt import suite
from ensemble_bench.errors import BadData
from ensemble_bench.request import Request
from ensemble_bench.sources.base import checked
from ensemble_bench.task import Catalogue

CARD = """
name = "mine/tars"
version = 1
title = "Tars"
classes = ["circle", "square"]
templates = ["a {c}"]
licence = "MIT"
provenance = "made by a test"
[source]
kind = "webdataset"
root = "ROOT"
corrupted = "COPY"
[counts]
train = 8
test = 12
[digests]
"""


def shard(path: Path, members: Mapping[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def picture(number: int) -> pictures.Picture:
    return np.random.default_rng(number).integers(0, 256, (40, 40, 3), dtype=np.uint8)


def sample(number: int) -> dict[str, bytes]:
    return {f"s{number:03d}.png": pictures.encoded(picture(number)), f"s{number:03d}.cls": str(number % 2).encode()}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for number in range(3):
        shard(tmp_path / "data" / "test" / f"{number}.tar", {k: v for n in range(4) for k, v in sample(4 * number + n).items()})
    shard(tmp_path / "data" / "train" / "0.tar", {k: v for n in range(100, 108) for k, v in sample(n).items()})
    (tmp_path / "data" / "test" / "nshards.txt").write_text("3\n")
    path = tmp_path / "tasks" / "mine" / "tars.toml"
    path.parent.mkdir(parents=True)
    path.write_text(CARD.replace("ROOT", str(tmp_path / "data")).replace("COPY", str(tmp_path / "copy")))
    return tmp_path


def source(root: Path) -> sources.base.Source:
    return sources.of(Catalogue((root,)).task("mine/tars"))


def test_samples_by_key(root: Path) -> None:
    one = source(root)
    index = checked(one, "test")
    assert index.ids == tuple(f"s{n:03d}" for n in range(12)) and index.labels == tuple(n % 2 for n in range(12))
    for name, shown in zip(("s007", "s002"), one.pictures("test", ["s007", "s002"]), strict=True):
        assert np.array_equal(shown, picture(int(name[1:])))


def test_pickles_and_climbing_names_are_never_read(root: Path) -> None:
    """A member that would make a folder if it were unpickled, and one that leads out of the archive."""
    mark = root / "unpickled"
    bomb = f"cos\nmkdir\n(S'{mark}'\ntR.".encode()
    extra = {"s000.pkl": bomb, "s000.pyd": bomb, "../climbs.png": b"x", "s000.json": b"{}"}
    shard(root / "data" / "test" / "0.tar", {**extra, **{k: v for n in range(4) for k, v in sample(n).items()}})
    one = source(root)
    assert len(list(one.pictures("test", checked(one, "test").ids))) == 12
    assert not mark.exists()
    pickle.loads(bomb)  # the mark does work
    assert mark.exists()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda p: (p / "nshards.txt").write_text("7"), r"nshards.txt says '7' shards, and there are 3"),
        (lambda p: shard(p / "2.tar", {"a.png": b"x"}), r"2.tar: a lack a picture or a class"),
        (lambda p: shard(p / "2.tar", {"a.png": b"x", "a.cls": b"cat"}), r"the class of a is 'cat', no number"),
        (lambda p: shard(p / "2.tar", sample(0)), r"the sample 's000' is in 0.tar and in 2.tar"),
        (lambda p: (p / "2.tar").write_bytes((p / "2.tar").read_bytes()[:700]), r"2.tar is (no whole tar|cut off)"),
        (lambda p: (p / "2.tar").write_bytes(b"nonsense" * 99), r"2.tar is no whole tar archive"),
    ],
)
def test_bad_shards_are_sentences(root: Path, spoil: object, said: str) -> None:
    spoil(root / "data" / "test")  # type: ignore[operator]
    with pytest.raises(BadData, match=said):
        checked(source(root), "test")


def test_a_copy_made_by_corrupt_is_a_condition(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENSEMBLE_BENCH_CACHE", str(root / "store"))
    words = ["corrupt", str(root / "data"), str(root / "copy"), "--suite", "imagenet-c:contrast:2", "--workers", "1"]
    assert cli.main(words) == 0
    asked = Request(
        tasks=("mine/tars",), cards=(root,), backbones=("mini/vit-16",), strategies=("single", "best-single"), draws=2
    )
    found = runner.run(asked.changed(corruptions=("imagenet-c-disk:contrast:2",), output=root / "out"))
    assert found.failures == []
    assert {record.condition for record in found.results.records} == {"clean", "imagenet-c-disk:contrast:2"}
    one = source(root)
    (condition,) = suite.read(suite.suites(())["imagenet-c-disk"], "imagenet-c-disk").conditions("imagenet-c-disk:contrast:2")
    shown = next(one.under(condition).pictures("test", ["s005"]))
    assert shown.shape == (224, 224, 3) and not np.array_equal(shown, pictures.cropped(picture(5), 224))
    gone = runner.run(asked.changed(corruptions=("imagenet-c-disk:fog:1",), output=root / "gone"))
    assert any("there is no folder" in sentence for sentence in gone.failures)
