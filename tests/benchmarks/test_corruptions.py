"""Speed of the corruptions beside the reference: the same photographs, 224 x 224, one thread, one process, taken in turns.

``tox -e benchmarks`` prints the table and holds the bars, which are ratios only: times are of one machine on one day.
``python tests/benchmarks/test_corruptions.py`` writes the table into docs/corruption-speed.md.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pytest_benchmark.fixture import BenchmarkFixture

from ensemble_bench.corrupt import reference, registry, suite
from ensemble_bench.corrupt.stream import Stream

Picture = NDArray[np.uint8]
PAGE = Path(__file__).resolve().parents[2] / "docs" / "corruption-speed.md"
AMOUNTS = suite.read(suite.suites()["imagenet-c-full"], "imagenet-c-full").amounts
SEVERITIES = suite.SEVERITIES
SIDE = 224
ROUNDS = 7
SLOW = "glass_blur"  # the reference takes seconds for it: one round
DRAWING_NOTHING = {
    *("defocus_blur", "zoom_blur", "gaussian_blur"),
    *("brightness", "contrast", "saturate", "pixelate", "jpeg_compression"),
}
BARS = {"native": (50, 12), "identical": (25, 6)}  # times the reference's speed: all nineteen, and without glass_blur
WORST = 1.1  # of the reference's time, for any one corruption

COMPILE = """
import sys, time
import numpy as np
from ensemble_bench.corrupt import registry, suite
from ensemble_bench.corrupt.stream import Stream
amounts = suite.read(suite.suites()["imagenet-c-full"], "imagenet-c-full").amounts
picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
def seconds():
    start = time.thread_time()
    for name, five in amounts.items():
        for severity, amount in enumerate(five, 1):
            for draws in (Stream.native("a", name, severity), Stream.identical(0)):
                registry.load(name)(picture, amount, draws)
    return time.thread_time() - start
first = seconds()
print(first - seconds())
"""


@dataclass(frozen=True)
class Row:
    """Milliseconds for the five severities of one corruption, and how far it is from the reference in levels and share."""

    name: str
    reference: float
    native: float
    identical: float
    identical_apart: tuple[int, float]
    native_apart: tuple[int, float] | None  # None where it draws


def photographs() -> list[Picture]:
    """Three photographs that scikit-learn and scikit-image carry, 224 x 224."""
    from PIL import Image
    from skimage import data
    from sklearn.datasets import load_sample_image

    whole = (load_sample_image("china.jpg"), load_sample_image("flower.jpg"), data.astronaut())
    return [np.array(Image.fromarray(each).resize((SIDE, SIDE), Image.Resampling.BICUBIC)) for each in whole]


@contextmanager
def one_thread() -> Iterator[None]:
    """OpenCV kept to one thread; nothing else here has more."""
    import cv2

    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


def row(name: str, pictures: list[Picture]) -> Row:
    """One corruption timed: medians per severity of CPU time of this thread, the three in turns, added up."""
    kernel = registry.load(name)
    sums = dict.fromkeys(("reference", "native", "identical"), 0.0)
    ways = list(sums)
    apart: dict[str, list[NDArray[np.int64]]] = {"native": [], "identical": []}
    for severity, amount in zip(SEVERITIES, AMOUNTS[name], strict=True):
        times: dict[str, list[float]] = {way: [] for way in sums}
        for turn in range(-1, 1 if name == SLOW else ROUNDS):
            picture = pictures[turn % len(pictures)]
            made: dict[str, Picture] = {}
            for way in ways[turn % 3 :] + ways[: turn % 3]:  # who comes after whom matters to the caches
                start = time.thread_time()
                if way == "reference":
                    made[way] = reference.corrupted(picture, name, severity, turn + 1)
                elif way == "native":
                    made[way] = kernel(picture, amount, Stream.native(str(turn), name, severity))
                else:
                    made[way] = kernel(picture, amount, Stream.identical(turn + 1))
                times[way].append(time.thread_time() - start)
            for way, differences in apart.items():
                differences.append(np.abs(made[way].astype(np.int64) - made["reference"]))
        for way, taken in times.items():
            sums[way] += 1000 * statistics.median(taken[1:])  # the first warms up
    levels = {way: (int(max(d.max() for d in found)), float(np.mean([d > 0 for d in found]))) for way, found in apart.items()}
    return Row(name, *sums.values(), levels["identical"], levels["native"] if name in DRAWING_NOTHING else None)


def rows() -> list[Row]:
    """All nineteen."""
    with one_thread():
        pictures = photographs()
        return [row(name, pictures) for name in AMOUNTS]


def ratio(rows: list[Row], way: str, glass: bool = True) -> float:
    """How many times as fast as the reference, over all rows together."""
    kept = [each for each in rows if glass or each.name != SLOW]
    return sum(each.reference for each in kept) / sum(getattr(each, way) for each in kept)


def table(rows: list[Row]) -> str:
    """The rows in Markdown."""

    def shown(apart: tuple[int, float] | None) -> str:
        return "own draws" if apart is None else "same bytes" if apart[0] == 0 else f"{apart[0]} level in {apart[1]:.0e}"

    lines = [
        "| corruption | reference, ms | native, ms | times | identical, ms | times | native against reference | identical |",
        "|---|---:|---:|---:|---:|---:|---|---|",
    ]
    for each in rows:
        lines.append(
            f"| {each.name} | {each.reference:.1f} | {each.native:.2f} | {each.reference / each.native:.1f} "
            f"| {each.identical:.2f} | {each.reference / each.identical:.1f} "
            f"| {shown(each.native_apart)} | {shown(each.identical_apart)} |"
        )
    for title, glass in (("**all nineteen**", True), ("**without glass_blur**", False)):
        kept = [each for each in rows if glass or each.name != SLOW]
        totals = [sum(getattr(each, way) for each in kept) for way in ("reference", "native", "identical")]
        lines.append(
            f"| {title} | {totals[0]:.0f} | {totals[1]:.1f} | **{ratio(rows, 'native', glass):.1f}** "
            f"| {totals[2]:.1f} | **{ratio(rows, 'identical', glass):.1f}** | | |"
        )
    return "\n".join(lines)


def compilation() -> tuple[float, float]:
    """Seconds that a process spends on compiling all kernels in both modes: the very first one, and any later one."""
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"NUMBA_CACHE_DIR": folder}
        first, later = (
            float(subprocess.run([sys.executable, "-c", COMPILE], env=environment, capture_output=True, check=True).stdout)
            for _ in range(2)
        )
    return first, later


def test_nineteen_by_five(
    benchmark: BenchmarkFixture, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    if not request.config.getoption("--benchmark-only"):
        pytest.skip("speed is measured alone: tox -e benchmarks")
    found = rows()
    picture = photographs()[0]

    def whole_suite() -> None:
        for name, amounts in AMOUNTS.items():
            for severity, amount in enumerate(amounts, 1):
                registry.load(name)(picture, amount, Stream.native("a", name, severity))

    with one_thread():
        benchmark.pedantic(whole_suite, rounds=3)
    first, later = compilation()
    benchmark.extra_info.update({way: round(ratio(found, way), 1) for way in BARS}, compiling=first, loading=later)
    with capsys.disabled():
        print(f"\n{table(found)}\ncompiling everything: {first:.1f} s once, {later:.1f} s in later processes")
    for way, (whole, without) in BARS.items():
        assert ratio(found, way) >= whole, way
        assert ratio(found, way, glass=False) >= without, way
    for each in found:
        assert max(each.native, each.identical) <= WORST * each.reference, each
        assert each.identical_apart == (0, 0.0), each
        assert each.native_apart is None or (each.native_apart[0] <= 1 and each.native_apart[1] <= 1e-4), each


def write() -> None:
    """Write the page."""
    found = rows()
    first, later = compilation()
    PAGE.write_text(
        f"""# Speed of the corruptions

Written by `python tests/benchmarks/test_corruptions.py`; `tox -e benchmarks` measures the same and holds the bars. Milliseconds
of CPU time for one picture of 224 x 224 at severities 1 to 5 together, one thread: medians of {ROUNDS} rounds over three
photographs (glass_blur: one), the reference (imagecorruptions 1.1.2 behind the compatibility layer) and both modes of ours in
turns in one process. The machine had two cores, shared with other work: only the ratios travel.

{table(found)}

Compiling is apart from this: {first:.0f} s of CPU once for all kernels in both modes, kept on disk; later processes take
{later:.1f} s to load it. Nothing is compiled on import.

The last columns compare with the reference, given the same draws: the greatest difference in grey levels and the share of
values that differ. Corruptions that draw cannot be compared byte by byte in native mode; the deterministic part of theirs is
the same code, except elastic_transform, which then interpolates in float32 as zoom_blur does. There, and only there, a value
within rounding of a whole grey level may come out one lower or higher.
""",
        encoding="utf-8",
    )


if __name__ == "__main__":
    write()
