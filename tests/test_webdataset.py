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


@pytest.mark.parametrize("ending", ["pkl", "pickle", "pyd", "pth", "seg.pkl"])
def test_pickles_are_refused_and_never_executed(root: Path, ending: str) -> None:
    """A member that would make a folder if it were unpickled."""
    mark = root / "unpickled"
    bomb = f"cos\nmkdir\n(S'{mark}'\ntR.".encode()
    shard(root / "data" / "test" / "0.tar", {f"s000.{ending}": bomb, **{k: v for n in range(4) for k, v in sample(n).items()}})
    with pytest.raises(BadData, match=rf"0.tar holds 's000.{ending}': a pickle, .* Nothing was executed"):
        checked(source(root), "test")
    assert not mark.exists()
    pickle.loads(bomb)  # the mark does work
    assert mark.exists()


@pytest.mark.parametrize("name", ["../climbs.png", "/etc/climbs.png", "a/../../climbs.png", "a\\..\\climbs.png"])
def test_names_that_lead_out_are_refused(root: Path, name: str) -> None:
    shard(root / "data" / "test" / "0.tar", {name: b"x", **{k: v for n in range(4) for k, v in sample(n).items()}})
    with pytest.raises(BadData, match=r"its name leads out of the archive\. Nothing was unpacked"):
        checked(source(root), "test")
    assert not list(root.rglob("climbs.png"))


def test_what_else_a_sample_holds_is_not_its_picture(root: Path) -> None:
    """The host takes webp, png, jpg, jpeg in this order, and no ``seg.png``."""
    other = pictures.encoded(picture(77))
    for name in ("s000.seg.png", "s000.json", "s000.txt", "s000.jpeg", "s000.gif"):
        members = {name: other, **{k: v for n in range(4) for k, v in sample(n).items()}}
        shard(root / "data" / "test" / "0.tar", members)
        assert np.array_equal(next(source(root).pictures("test", ["s000"])), picture(0))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda p: (p / "nshards.txt").write_text("7"), r"nshards.txt says 7 shards, and there are 3"),
        (lambda p: (p / "nshards.txt").write_text("three"), r"nshards.txt must hold a number of shards, .* not 'three'"),
        (lambda p: (p / "nshards.txt").write_text("-1"), r"must hold a number of shards"),
        (lambda p: shard(p / "2.tar", {**sample(1), "s001.jpg": b"x", "s050.png": b"x"}), r"s050 lack a picture or a class"),
        (lambda p: shard(p / "2.tar", {"a.png": b"x", "a.cls": b"-1"}), r"the class of a is '-1', no number from 0 on"),
        (lambda p: shard(p / "2.tar", {"a.png": b"x", "a.cls": "\u0663".encode()}), r"no number from 0 on"),
        (lambda p: shard(p / "2.tar", {"a.png": b"x", "a.cls": b"6"}), r"the test split has 9 images; its card says 12"),
        (lambda p: shard(p / "2.tar", {"a.png": b"x"}), r"2.tar: a lack a picture or a class"),
        (lambda p: shard(p / "2.tar", {"a.png": b"x", "a.cls": b"cat"}), r"the class of a is 'cat', no number"),
        (
            lambda p: shard(p / "2.tar", sample(0)),
            r"the sample 's000' is in 0.tar and in 2.tar: fetch or make the shards again",
        ),
        (lambda p: (p / "2.tar").write_bytes((p / "2.tar").read_bytes()[:700]), r"2.tar is (no whole tar|cut off)"),
        (lambda p: (p / "2.tar").write_bytes(b"nonsense" * 99), r"2.tar is no whole tar archive"),
    ],
)
def test_bad_shards_are_sentences(root: Path, spoil: object, said: str) -> None:
    spoil(root / "data" / "test")  # type: ignore[operator]
    with pytest.raises(BadData, match=said):
        checked(source(root), "test")


def test_labels_beyond_the_class_names(root: Path) -> None:
    """Seven labels for six names, in small: three for two."""
    shard(root / "data" / "test" / "2.tar", {**sample(8), **sample(9), **sample(10), **sample(11), "s011.cls": b"2"})
    with pytest.raises(BadData, match=r"the test split has the label 2 \(1 images .* there are 2 classes"):
        checked(source(root), "test")


def test_a_split_that_is_not_there(root: Path) -> None:
    with pytest.raises(BadData, match=r"there is no validation split: no shards .*validation/\*\.tar"):
        source(root).index("validation")


def test_ids_of_the_two_splits_never_meet(root: Path) -> None:
    """Packers count from 0 in each split: the same key is another sample."""
    shard(root / "data" / "train" / "0.tar", {k: v for n in range(8) for k, v in sample(n).items()})
    one = source(root)
    assert checked(one, "train").ids == tuple(f"train/s{n:03d}" for n in range(8))
    assert not set(one.index("train").ids) & set(one.index("test").ids)
    assert np.array_equal(next(one.pictures("train", ["train/s003"])), picture(3))


def test_the_remembered_index_is_of_the_shard_as_it_is(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENSEMBLE_BENCH_CACHE", str(root / "store"))
    before = source(root).index("test"), source(root).said("test")
    monkeypatch.setattr("ensemble_bench.sources.shards.members", lambda path: pytest.fail("headers were read again"))
    assert (source(root).index("test"), source(root).said("test")) == before
    monkeypatch.undo()
    monkeypatch.setenv("ENSEMBLE_BENCH_CACHE", str(root / "store"))
    changed = {k: v for n in (8, 9, 10) for k, v in sample(n).items()} | {"s011.png": sample(11)["s011.png"], "s011.cls": b"0"}
    shard(root / "data" / "test" / "2.tar", changed)
    after = source(root).index("test"), source(root).said("test")
    assert after[0].ids == before[0].ids and after[0].labels[-1] == 0 != before[0].labels[-1]
    assert after[1] != before[1], "another label is another key"
    memo = next((root / "store" / "indexes").glob("*.json"))
    for spoilt in (b"", b"[]", b'{"keys": 1}', memo.read_bytes()[:-9]):
        for path in (root / "store" / "indexes").glob("*.json"):
            path.write_bytes(spoilt)
        assert source(root).index("test") == after[0]


def test_only_the_pictures_asked_for_change_a_key(root: Path) -> None:
    few = source(root).said("test", ["s000", "s001"])
    shard(
        root / "data" / "test" / "2.tar",
        {k: v for n in (8, 9, 10) for k, v in sample(n).items()} | {"s011.png": b"other"} | {"s011.cls": b"1"},
    )
    again = source(root)
    assert again.said("test", ["s000", "s001"]) == few
    assert again.said("test", ["s000", "s011"]) != few


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
