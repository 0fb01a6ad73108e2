"""The verb ``corrupt``: a corrupted copy on disk that is whole or says what is missing, however often it is interrupted."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import signal
import subprocess
import sys
import tarfile
import time
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import ensemble_bench
from ensemble_bench import cli, pictures
from ensemble_bench.condition import Condition
from ensemble_bench.corrupt import suite
from ensemble_bench.corrupt.manifest import JOURNAL, NAME
from ensemble_bench.errors import BadData

ROOT = Path(ensemble_bench.__file__).parents[1]


def crops(count: int, side: int) -> list[np.ndarray[Any, np.dtype[np.uint8]]]:
    """Different crops of the two photographs that scikit-learn carries."""
    whole = [
        pictures.decoded(files("sklearn.datasets.images").joinpath(name).read_bytes(), name)
        for name in ("china.jpg", "flower.jpg")
    ]
    places = np.random.default_rng(0).integers(0, 427 - side, (count, 2))
    return [whole[number % 2][y : y + side, x : x + side] for number, (y, x) in enumerate(places)]


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 small photographs in two classes."""
    folder = tmp_path_factory.mktemp("photographs")
    for number, crop in enumerate(crops(200, 40)):
        path = folder / ("house" if number % 2 == 0 else "flower") / f"{number:03d}.{'jpg' if number % 3 else 'png'}"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(crop).save(path)
    return folder


@pytest.fixture
def few(photographs: Path, tmp_path: Path) -> Path:
    """Four of them."""
    for name in ("house/000.png", "house/002.jpg", "flower/001.jpg", "flower/003.png"):
        path = tmp_path / "few" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((photographs / name).read_bytes())
    return tmp_path / "few"


def digests(folder: Path) -> dict[str, str]:
    """Sha256 of every file, the hidden ones too."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line, parse_constant=pytest.fail) for line in (folder / NAME).read_text().splitlines()]


def corrupt(*words: object) -> int:
    return cli.main(["corrupt", *map(str, words), "-q"])


def test_the_copy_is_what_a_run_would_show(few: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert corrupt(few, out, "--suite", "mini-c:fog", "mini-c:gaussian_noise:1", "--seed", "4") == 0
    assert capsys.readouterr().out == f"{out}: 12 files made, 0 were there, 0 failed\n"
    one = suite.read(suite.suites()["mini-c"], "mini-c")
    for path in few.rglob("*.*"):
        name = path.relative_to(few).as_posix()
        for condition in (Condition("mini-c", "fog", 2, 4), Condition("mini-c", "gaussian_noise", 1, 4)):
            made = out / condition.corruption / str(condition.severity) / Path(name).with_suffix(".png")
            wanted = one.alter(condition)(name, np.array(Image.open(path).convert("RGB")))
            assert np.array_equal(np.array(Image.open(made)), wanted)


def test_the_manifest_is_strict_and_right(few: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert corrupt(few, out, "--suite", "mini-c") == 0
    head, *rest = lines(out)
    assert (head["suite"], head["version"], head["engine"], head["seed"], head["jpeg"]) == ("mini-c", 1, "native", 0, None)
    assert {"numpy", "pillow", "opencv-python"} <= set(head["versions"])
    assert len(rest) == 24 and all(entry["status"] == "done" for entry in rest)
    found = digests(out)
    assert found.pop(NAME) and {entry["path"]: entry["sha256"] for entry in rest} == found
    for entry in rest:
        assert hashlib.sha256((few / entry["from"]).read_bytes()).hexdigest() == entry["from_sha256"]


def test_jpeg_of_a_quality(few: Path, tmp_path: Path) -> None:
    assert corrupt(few, tmp_path / "out", "--suite", "mini-c:fog:1", "--jpeg", "85") == 0
    one = suite.read(suite.suites()["mini-c"], "mini-c").alter(Condition("mini-c", "fog", 1))
    clean = np.array(Image.open(few / "house" / "000.png"))
    with Image.open(tmp_path / "out" / "fog" / "1" / "house" / "000.jpg") as made:
        assert made.format == "JPEG"
        assert np.array_equal(np.array(made), pictures.decoded(pictures.encoded(one("house/000.png", clean), 85), ""))


@pytest.mark.parametrize("workers", [1, 8])
def test_the_same_bytes_with_any_number_of_workers(few: Path, tmp_path: Path, workers: int) -> None:
    assert corrupt(few, tmp_path / "out", "--suite", "mini-c", "--workers", workers) == 0
    assert corrupt(few, tmp_path / "two", "--suite", "mini-c", "--workers", 2) == 0
    assert digests(tmp_path / "out") == digests(tmp_path / "two")


def test_killed_half_way_and_started_again(photographs: Path, tmp_path: Path) -> None:
    words = ["--suite", "mini-c", "--workers", "2", "-q"]
    assert cli.main(["corrupt", str(photographs), str(tmp_path / "whole"), *words]) == 0
    out = tmp_path / "out"
    command = [sys.executable, "-m", "ensemble_bench", "corrupt", str(photographs), str(out), *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for wanted in (150, 600):
        child = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        end = time.monotonic() + 60
        while child.poll() is None and time.monotonic() < end:
            if (out / JOURNAL).exists() and (out / JOURNAL).read_bytes().count(b"\n") > wanted:
                break
            time.sleep(0.002)
        child.send_signal(signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL, "it must be killed before it is done"
        assert not (out / NAME).exists(), "what is not finished must not look finished"
        for path in out.rglob("*.png"):
            pictures.decoded(path.read_bytes(), str(path))  # under its own name a file is whole
    (out / "fog" / "2" / ".eb-part-left-behind").write_bytes(b"half")
    assert cli.main(["corrupt", str(photographs), str(out), *words]) == 0
    assert digests(out) == digests(tmp_path / "whole")
    assert len(digests(out)) == 1 + 200 * 6


def test_again_makes_nothing_and_mends_what_is_spoilt(few: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert corrupt(few, out, "--suite", "mini-c:fog") == 0
    before = digests(out)
    spoilt = out / "fog" / "2" / "house" / "000.png"
    times = {path: path.stat().st_mtime_ns for path in out.rglob("*.png")}
    spoilt.write_bytes(spoilt.read_bytes()[:-5])
    (out / "fog" / "4" / "house" / "002.png").unlink()
    capsys.readouterr()
    assert corrupt(few, out, "--suite", "mini-c:fog") == 0
    assert "2 files made, 6 were there, 0 failed" in capsys.readouterr().out
    assert digests(out) == before
    assert sum(path.stat().st_mtime_ns != then for path, then in times.items()) == 2
    assert corrupt(few, out, "--suite", "mini-c:fog:5") == 0
    assert len(lines(out)) == 1 + 12
    (few / "house" / "000.png").write_bytes((few / "flower" / "003.png").read_bytes())
    assert corrupt(few, out, "--suite", "mini-c:fog:5") == 0
    assert "1 files made, 3 were there" in capsys.readouterr().out


@pytest.mark.parametrize("change", [["--seed", "1"], ["--jpeg", "85"], ["--suite", "imagenet-c:fog:2"]])
def test_a_folder_of_another_copy_is_refused(
    few: Path, tmp_path: Path, change: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    words = {"--suite": "mini-c:fog:2"}
    assert corrupt(few, tmp_path / "out", *(word for pair in words.items() for word in pair)) == 0
    before = digests(tmp_path / "out")
    words |= dict([change])
    assert corrupt(few, tmp_path / "out", *(word for pair in words.items() for word in pair)) == 2
    assert "is of another copy: its" in capsys.readouterr().err
    assert {name: digest for name, digest in digests(tmp_path / "out").items() if name != JOURNAL} == before


def _saved(image: Image.Image, path: Path, **how: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **how)


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """Pictures of every odd kind, and some that are none."""
    folder, colour = tmp_path / "odd" / "c", Image.fromarray(crops(1, 40)[0])
    _saved(colour.convert("L"), folder / "grey.png")
    _saved(colour.convert("RGBA"), folder / "transparent.png")
    _saved(colour.convert("P"), folder / "palette.gif")
    _saved(colour.convert("LA"), folder / "grey-alpha.png")
    _saved(colour.convert("CMYK"), folder / "cmyk.jpg")
    _saved(colour.convert("1"), folder / "bits.png")
    _saved(Image.fromarray((np.arange(1600, dtype=np.uint16) * 40).reshape(40, 40)), folder / "sixteen.png")
    _saved(colour.crop((0, 0, 1, 1)), folder / "one.png")
    _saved(Image.fromarray(np.full((2, 3000, 3), 90, np.uint8)), folder / "wide.png")
    _saved(colour, folder / "twin.png")
    _saved(colour, folder / "twin.jpg")
    whole = io.BytesIO()
    colour.save(whole, "JPEG")
    (folder / "truncated.jpg").write_bytes(whole.getvalue()[:-200])
    (folder / "text.png").write_text("no picture")
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "notes.txt").write_text("not for corrupting")
    return folder.parent


def test_odd_pictures_are_converted_or_listed(odd: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert corrupt(odd, out, "--suite", "mini-c:gaussian_noise:2,mini-c:fog:2,mini-c:defocus_blur:2") == 2
    said = capsys.readouterr()
    assert "33 files made, 0 were there, 3 failed" in said.out
    assert "1 files whose endings are no picture's were left out: c/notes.txt" in said.err
    failed = {entry["from"]: entry["reason"] for entry in lines(out) if entry.get("status") == "failed"}
    assert set(failed) == {"c/truncated.jpg", "c/text.png", "c/empty.jpg"}
    assert "cannot be decoded: " in failed["c/truncated.jpg"] and "truncated" in failed["c/truncated.jpg"]
    assert failed["c/text.png"] == failed["c/empty.jpg"] == "is no picture."
    for name, reason in failed.items():
        assert f"ensemble-bench: {name} {reason}\n" in said.err
    assert said.err.splitlines()[-1] == f"ensemble-bench: 3 failed; the others are finished, see {out / NAME}."
    made = {path.name for path in (out / "fog" / "2" / "c").iterdir()}
    assert {"twin.png.png", "twin.jpg.png", "grey.png", "one.png", "wide.png", "cmyk.png", "palette.png"} < made
    assert len(made) == 11
    for path in out.rglob("*.png"):
        with Image.open(path) as image:
            assert image.mode == "RGB"
            assert image.size == {"one.png": (1, 1), "wide.png": (3000, 2)}.get(path.name, (40, 40))
    before = digests(out)
    assert corrupt(odd, out, "--suite", "mini-c:gaussian_noise:2,mini-c:fog:2,mini-c:defocus_blur:2") == 2
    assert "0 files made, 33 were there, 3 failed" in capsys.readouterr().out
    assert digests(out) == before


def test_what_a_file_holds_as_rgb() -> None:
    """16 bits by hand: 65535 / 257 = 255, 32896 / 257 = 128; a palette's colours; the rest as Pillow has it."""
    values = np.array([[0, 257, 32896, 65535]], np.uint16)
    out = io.BytesIO()
    Image.fromarray(values).save(out, "PNG")
    assert pictures.decoded(out.getvalue(), "x")[0, :, 0].tolist() == [0, 1, 128, 255]
    out = io.BytesIO()
    two = Image.fromarray(np.array([[0, 1]], np.uint8), "L").convert("P")
    two.putpalette([10, 20, 30, 200, 100, 50])
    two.save(out, "PNG")
    assert pictures.decoded(out.getvalue(), "x").tolist() == [[[10, 20, 30], [200, 100, 50]]]
    out = io.BytesIO()
    Image.fromarray(np.ones((2, 2), np.float32)).save(out, "TIFF")
    with pytest.raises(BadData, match="x holds values of 32 bits"):
        pictures.decoded(out.getvalue(), "x")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere", "out", "--suite", "mini-c"], "nowhere is not there"),
        (["few", "few/out", "--suite", "mini-c"], "lies in few: a copy into its own source"),
        (["few", "few", "--suite", "mini-c"], "a copy into its own source"),
        (
            ["few", "out", "--suite", "mini-c,imagenet-c:snow"],
            "a copy is made with one suite, and these are mini-c, imagenet-c",
        ),
        (["few", "out", "--suite", "clean"], "and these are none"),
        (["few", "out", "--suite", "mini-d"], "no corruption suite is called 'mini-d'"),
        (["few", "out", "--suite", "mini-c:fog:9"], "a severity is a whole number from 1 to 5"),
        (["few", "out", "--suite", "imagenet-c-disk"], "reads pictures that lie on disk"),
        (["few", "out", "--suite", "mini-c", "--jpeg", "0"], "--jpeg must be from 1 to 100"),
        (["few", "out", "--suite", "mini-c", "--workers", "0"], "--workers must be from 1"),
        (["empty", "out", "--suite", "mini-c"], "holds neither pictures nor shards"),
        (["mixed", "out", "--suite", "mini-c"], "holds both pictures (x.png) and shards (x.tar)"),
        (["few/house/000.png", "out", "--suite", "mini-c"], "is neither a folder nor a shard"),
    ],
)
def test_what_the_user_must_mend_writes_nothing(
    few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("mixed").mkdir()
    for name in ("x.png", "x.tar"):
        Path("mixed", name).touch()
    before = digests(few)
    assert corrupt(*words) == 2
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1
    assert not Path("out").exists() and digests(few) == before


def test_two_at_once_do_not_mix(few: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from ensemble_bench.corrupt.copy import Copy
    from ensemble_bench.corrupt.manifest import Manifest

    one = suite.read(suite.suites()["mini-c"], "mini-c")
    copy = Copy(few, tmp_path / "out", one, one.conditions("mini-c"))
    with Manifest(copy.out, copy.header("folder")):
        assert corrupt(few, tmp_path / "out", "--suite", "mini-c") == 2
    assert "another process is writing into" in capsys.readouterr().err


# Shards --------------------------------------------------------------------------------------------------------------


class Bomb:
    """Would leave a file behind if it were ever unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def _shard(path: Path, members: dict[str, bytes], **strange: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(data), 1234567
            tar.addfile(info, io.BytesIO(data))
        for name, kind in strange.items():
            info = tarfile.TarInfo(name.replace("__", "/"))
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)


def _members(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Two shards and what lies beside them, one with a bad picture, strange members and a pickle that must not be opened."""
    folder, bomb = tmp_path / "wds", pickle.dumps(Bomb(tmp_path / "exploded"))
    shown = [pictures.encoded(crop) for crop in crops(5, 40)]
    _shard(folder / "test" / "0.tar", {f"{n}.{end}": data for n in (0, 1) for end, data in (("png", shown[n]), ("cls", b"3"))})
    odd = {
        "2.jpg": pictures.encoded(crops(3, 40)[2], 90),
        "2.cls": b"1",
        "2.pkl": bomb,
        "3.cls": b"0",
        "3.png": b"no picture",
        "../climbs.png": shown[3],
        "deep/4.seg.png": shown[4],
        "deep/4.json": b"{}",
    }
    _shard(folder / "test" / "1.tar", odd, link=tarfile.SYMTYPE, device=tarfile.CHRTYPE)
    (folder / "test" / "nshards.txt").write_text("2")
    (folder / "classnames.txt").write_text("cat\ndog")
    return folder


def test_shards(shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert corrupt(shards, out, "--suite", "mini-c:fog") == 2
    said = capsys.readouterr()
    assert not (tmp_path / "exploded").exists() and not (tmp_path / "climbs.png").exists()
    assert "8 files made, 0 were there, 8 failed" in said.out
    for reason in (
        "fog/2/test/1.tar: without 3.png: is no picture.",
        "fog/4/test/1.tar: without ../climbs.png: its name leads out of the archive",
        "fog/2/test/1.tar: without link: it is neither a file nor a folder",
        "fog/2/test/1.tar: without device: it is neither a file nor a folder",
    ):
        assert f"ensemble-bench: {reason}\n" in said.err
    assert (out / "fog" / "2" / "classnames.txt").read_text() == "cat\ndog"
    assert (out / "fog" / "4" / "test" / "nshards.txt").read_text() == "2"
    whole = _members(out / "fog" / "2" / "test" / "0.tar")
    assert list(whole) == ["0.png", "0.cls", "1.png", "1.cls"] and whole["1.cls"] == b"3"
    alter = suite.read(suite.suites()["mini-c"], "mini-c").alter(Condition("mini-c", "fog", 2))
    wanted = alter("test/0.tar/1.png", pictures.decoded(_members(shards / "test" / "0.tar")["1.png"], ""))
    assert np.array_equal(pictures.decoded(whole["1.png"], ""), wanted)
    odd = _members(out / "fog" / "4" / "test" / "1.tar")
    assert list(odd) == ["2.png", "2.cls", "2.pkl", "deep/4.seg.png", "deep/4.json"]
    assert odd["2.pkl"] == pickle.dumps(Bomb(tmp_path / "exploded"))


def test_shards_again_and_with_other_workers(shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, workers in (("one", 1), ("eight", 8)):
        assert corrupt(shards, tmp_path / name, "--suite", "mini-c", "--workers", workers) == 2
    assert digests(tmp_path / "one") == digests(tmp_path / "eight")
    capsys.readouterr()
    before = digests(tmp_path / "one")
    assert corrupt(shards, tmp_path / "one", "--suite", "mini-c") == 2, "what is left out is said every time"
    assert "0 files made, 24 were there, 24 failed" in capsys.readouterr().out
    assert digests(tmp_path / "one") == before
    assert corrupt(shards / "test" / "0.tar", tmp_path / "single", "--suite", "mini-c:fog:2") == 0
    assert list(_members(tmp_path / "single" / "fog" / "2" / "0.tar")) == ["0.png", "0.cls", "1.png", "1.cls"]


@pytest.mark.parametrize("cut", [100, 700, 2000])
def test_a_shard_that_is_cut_off_is_not_copied(
    shards: Path, tmp_path: Path, cut: int, capsys: pytest.CaptureFixture[str]
) -> None:
    path = shards / "test" / "0.tar"
    path.write_bytes(path.read_bytes()[:cut])
    assert corrupt(shards, tmp_path / "out", "--suite", "mini-c:fog:2") == 2
    assert "ensemble-bench: test/0.tar is no whole tar archive" in capsys.readouterr().err
    assert not (tmp_path / "out" / "fog" / "2" / "test" / "0.tar").exists()
    assert (tmp_path / "out" / "fog" / "2" / "test" / "1.tar").exists()
    assert not [name for name in digests(tmp_path / "out") if ".eb-part" in name]
