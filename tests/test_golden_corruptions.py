"""Golden digests: what every corruption makes of one photograph at every severity, byte for byte.

``python tests/test_golden_corruptions.py`` makes the file anew, after a change of the kernels that is meant
(``ensemble_bench.corrupt.suite.KERNELS`` then goes up too). With the library versions that stand in the file every digest must
be equal. With others three corruptions may differ, and no more than is said in ``verdict``.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ensemble_bench import provenance, sheet
from ensemble_bench.condition import Condition
from ensemble_bench.corrupt import suite
from ensemble_bench.pictures import Picture

FILE = Path(__file__).with_name("golden_corruptions.json")
SUITES = ("imagenet-c-full", "transforms")
LIBRARIES = ("numpy", "scipy", "scikit-image", "pillow", "libjpeg-turbo", "opencv-python", "numba")
BLOCK = 32
SHARE = 1e-4  # of the values, which may be one grey level off
MOVES = {"motion_blur", "frost"}  # floating-point sums of OpenCV and scipy before rounding: a level here and there
CODEC = {"jpeg_compression", "jpeg"}  # the codec decides


def photograph() -> Picture:
    """The photograph, uint8 [96, 128, 3]."""
    return np.ascontiguousarray(sheet.photograph(128)[16:112])


def versions() -> dict[str, str | None]:
    """Versions of the libraries that make the pictures, and for what OpenCV chooses its code: the processor's features."""
    import cv2

    found = {name: version for name, version in provenance.versions().items() if name in LIBRARIES}
    return {**found, "processor": cv2.getCPUFeaturesLine()}


def seen(picture: Picture) -> dict[str, Any]:
    """Digest of a picture, and the sums of its blocks by channel, from which one sees how far another one is."""
    down, across = (-picture.shape[0] % BLOCK, -picture.shape[1] % BLOCK)
    whole = np.pad(picture.astype(np.int64), ((0, down), (0, across), (0, 0)))
    sums = whole.reshape(whole.shape[0] // BLOCK, BLOCK, whole.shape[1] // BLOCK, BLOCK, 3).sum((1, 3))
    return {"sha256": hashlib.sha256(picture.tobytes()).hexdigest(), "sums": sums.ravel().tolist()}


def made(name: str, corruption: str) -> dict[str, Any]:
    """What the kernel of a suite makes of the photograph, by severity."""
    one = dataclasses.replace(suite.read(suite.suites()[name], name), side=None, jpeg=None)
    conditions = [Condition(name, corruption, severity) for severity in suite.SEVERITIES]
    return {str(c.severity): seen(one.alter(c)("golden", photograph())) for c in conditions}


def verdict(
    corruption: str, found: Mapping[str, Any], golden: Mapping[str, Any], here: Mapping[str, Any], there: Mapping[str, Any]
) -> str:
    """``same``, ``wrong``, or why this picture may differ from the golden one with these library versions."""
    if found["sha256"] == golden["sha256"]:
        return "same"
    changed = sorted(name for name in there if here.get(name) != there[name])
    if not changed:
        return "wrong"
    if corruption in CODEC and "libjpeg-turbo" in changed:
        return f"another codec: libjpeg-turbo {here.get('libjpeg-turbo')}, not {there['libjpeg-turbo']}"
    apart = np.abs(np.array(found["sums"]) - np.array(golden["sums"])).sum()
    if corruption in MOVES and apart <= np.ceil(photograph().size * SHARE):
        return f"at most {SHARE:.2%} of the values one level off, with other versions of {', '.join(changed)}"
    return "wrong"


def remake() -> None:
    """Write the golden file."""
    found = {name: {c: made(name, c) for c in suite.read(suite.suites()[name], name).amounts} for name in SUITES}
    text = json.dumps({"kernels": suite.KERNELS, "versions": versions(), "photograph": seen(photograph()), "suites": found})
    FILE.write_text(text.replace('"5": {', '\n  "5": {').replace("}}, ", "}},\n") + "\n", encoding="utf-8")


GOLDEN = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {"suites": {}}
EVERY = [(name, corruption) for name, corruptions in GOLDEN["suites"].items() for corruption in corruptions]


def test_the_file_is_whole() -> None:
    there = {name: set(suite.read(suite.suites()[name], name).amounts) for name in SUITES}
    assert {name: set(corruptions) for name, corruptions in GOLDEN["suites"].items()} == there
    assert GOLDEN["kernels"] == suite.KERNELS, "kernels changed: make the file anew with the command at its test's top"
    for name, corruption in EVERY:
        different = len({one["sha256"] for one in GOLDEN["suites"][name][corruption].values()})
        assert different == 5 or corruption.endswith("flip"), f"{corruption}: severities that look alike"


def test_the_photograph_is_the_same() -> None:
    """Cropping is part of what suites do; it is whole numbers inside Pillow."""
    assert seen(photograph())["sha256"] == GOLDEN["photograph"]["sha256"]


@pytest.mark.parametrize(("name", "corruption"), EVERY)
def test_every_corruption(name: str, corruption: str) -> None:
    golden = GOLDEN["suites"][name][corruption]
    found = {
        severity: verdict(corruption, one, golden[severity], versions(), GOLDEN["versions"])
        for severity, one in made(name, corruption).items()
    }
    assert "wrong" not in found.values(), found
    differing = {severity: reason for severity, reason in found.items() if reason != "same"}
    if differing:
        pytest.skip(f"{corruption} differs as it may: {differing}")


def _off(by: int) -> dict[str, Any]:
    picture = photograph()
    picture.ravel()[:by] ^= 1
    return seen(picture)


@pytest.mark.parametrize(
    ("corruption", "off", "changed", "said"),
    [
        ("fog", 0, (), "same"),
        ("fog", 1, (), "wrong"),
        ("fog", 1, ("numpy",), "wrong"),
        ("motion_blur", 1, (), "wrong"),
        ("motion_blur", 1, ("opencv-python",), "at most 0.01% of the values one level off"),
        ("motion_blur", 400, ("opencv-python",), "wrong"),
        ("frost", 1, ("opencv-python",), "with other versions of opencv-python"),
        ("jpeg_compression", 400, ("pillow",), "wrong"),
        ("jpeg_compression", 400, ("libjpeg-turbo",), "another codec: libjpeg-turbo other, not"),
    ],
)
def test_what_may_differ(corruption: str, off: int, changed: tuple[str, ...], said: str) -> None:
    here = {**versions(), **dict.fromkeys(changed, "other")}
    assert said in verdict(corruption, _off(off), seen(photograph()), here, versions())


if __name__ == "__main__":
    remake()
