"""Blurs: the reference byte by byte where they claim it, their parts against scipy and OpenCV, their draws by distribution."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage, stats

from ensemble_bench.corrupt import blur, suite, sums
from ensemble_bench.corrupt.reference import corrupted
from ensemble_bench.corrupt.stream import Stream

Picture = NDArray[np.uint8]
SEVERITIES = (1, 2, 3, 4, 5)
AMOUNTS = suite.read(suite.suites()["imagenet-c-full"], "imagenet-c-full").amounts
SHARE = 1e-4  # of the values, that the float32 of zoom_blur may put one level off


@pytest.fixture(scope="module")
def photographs() -> list[Picture]:
    """Photographs with a sky, of the night, and of a cup: 96 x 120 and bigger."""
    from skimage import data
    from sklearn.datasets import load_sample_image

    return [
        load_sample_image("china.jpg")[::4, ::4].copy(),
        data.rocket()[::3, ::5].copy(),
        data.coffee()[60:282:2, 100:396:2].copy(),
    ]


def apart(one: Picture, other: Picture) -> tuple[int, float]:
    """The greatest difference in levels, and the share of values that differ."""
    difference = np.abs(one.astype(int) - other.astype(int))
    return int(difference.max()), float((difference > 0).mean())


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("name", ["defocus_blur", "motion_blur", "gaussian_blur", "zoom_blur"])
def test_identical_on_whole_photographs(name: str, severity: int, photographs: list[Picture]) -> None:
    for seed, picture in enumerate(photographs):
        ours = getattr(blur, name)(picture, AMOUNTS[name][severity - 1], Stream.identical(seed))
        assert np.array_equal(ours, corrupted(picture, name, severity, seed)), picture.shape


@pytest.mark.parametrize("severity", SEVERITIES)
def test_identical_glass(severity: int, photographs: list[Picture]) -> None:
    for seed, picture in enumerate(photographs):
        part = np.ascontiguousarray(picture[10:50, 20:60])
        ours = blur.glass_blur(part, AMOUNTS["glass_blur"][severity - 1], Stream.identical(seed))
        assert np.array_equal(ours, corrupted(part, "glass_blur", severity, seed))


@pytest.mark.parametrize("name", ["defocus_blur", "gaussian_blur", "zoom_blur"])
def test_native_without_draws_is_the_reference_but_for_last_bits(name: str, photographs: list[Picture]) -> None:
    for severity in SEVERITIES:
        for picture in photographs:
            ours = getattr(blur, name)(picture, AMOUNTS[name][severity - 1], Stream.native("a", name, severity))
            most, share = apart(ours, corrupted(picture, name, severity, 0))
            assert most <= 1 and share <= (SHARE if name == "zoom_blur" else 0), severity


def test_even_pictures_zoom_alike_in_both_modes() -> None:
    """Whether v or v - 1 comes out hangs on the last bits, and hangs on them alike."""
    for severity in SEVERITIES:
        for level in range(0, 256, 3):
            picture = np.full((33, 47, 3), level, np.uint8)
            amount = AMOUNTS["zoom_blur"][severity - 1]
            ours, theirs = (blur.zoom_blur(picture, amount, s) for s in (Stream.native("a", "z", 1), Stream.identical(0)))
            assert np.array_equal(ours, theirs) and apart(ours, picture)[0] <= 1


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize(("shape", "down", "across"), [((40, 31, 3), 1.3, 4.0), ((5, 9, 2), 3.0, 3.0), ((1, 1, 3), 2.0, 1.0)])
def test_smoothing_is_scipy_s(shape: tuple[int, int, int], down: float, across: float, mirrored: bool) -> None:
    values = np.random.default_rng(0).random(shape)
    wanted = ndimage.gaussian_filter(values, (down, across, 0), mode="reflect" if mirrored else "nearest")
    assert np.array_equal(sums.smoothed(values, sums.bell(down), sums.bell(across), mirrored), wanted)


@pytest.mark.parametrize("shape", [(1, 1), (2, 30), (9, 9), (41, 30)])
@pytest.mark.parametrize("amount", [(0.3, 0.4), (1.5, 0.1), *AMOUNTS["defocus_blur"], (12, 0.5)])
def test_the_disk_is_opencv_s(amount: tuple[float, ...], shape: tuple[int, int]) -> None:
    import cv2

    radius, softness = amount
    side, size = (np.arange(-8, 9), 3) if radius <= 8 else (np.arange(-radius, radius + 1), 5)
    disk = (side[:, None] ** 2 + side**2 <= radius**2).astype(np.float32)
    kernel = cv2.GaussianBlur(disk / disk.sum(), (size, size), sigmaX=softness)
    picture = np.random.default_rng(1).integers(0, 256, (*shape, 3), dtype=np.uint8)
    wanted = np.stack(
        [ndimage.correlate(picture[..., k].astype(float), kernel.astype(float), mode="mirror") for k in range(3)], -1
    )
    sure = np.abs(wanted - np.rint(wanted)) > 1e-9
    ours = blur.defocus_blur(picture, amount, Stream.native("a", "defocus_blur", 1))
    assert np.array_equal(ours[sure], np.clip(wanted, 0, 255).astype(np.uint8)[sure]) and sure.mean() > 0.5


def test_a_point_behind_glass_stays_within_reach() -> None:
    """One pixel of the table of moves: the value two to the right and one down of it is copied over it."""
    picture = np.zeros((9, 9, 3), np.uint8)
    picture[5, 6] = 10, 20, 30
    moves = np.zeros((5 * 5, 2), np.int8)
    order = [(y, x) for y in range(7, 2, -1) for x in range(7, 2, -1)]
    moves[order.index((4, 4))] = 2, 1
    moved = blur._moved(picture, moves, 2, 1)
    assert moved[4, 4].tolist() == [10, 20, 30] and moved[5, 6].tolist() == [10, 20, 30]
    assert np.count_nonzero(moved.any(-1)) == 2


@pytest.mark.parametrize("reach", [1, 2, 3, 4])
def test_moves_are_even(reach: int) -> None:
    moves = blur._moves(Stream.native("a", "glass_blur", reach), 40_001, reach)
    pairs = np.bincount((moves[:, 0] + reach).astype(int) * 2 * reach + moves[:, 1] + reach, minlength=4 * reach**2)
    assert moves.shape == (40_001, 2) and pairs.size == 4 * reach**2
    assert stats.chisquare(pairs).pvalue > 1e-3


def test_angles_are_even() -> None:
    drawn = [float(Stream.native(f"s{i}", "motion_blur", 1).uniform(-45, 45)) for i in range(400)]
    assert stats.kstest(drawn, stats.uniform(-45, 90).cdf).pvalue > 1e-3


@pytest.mark.parametrize("name", ["glass_blur", "motion_blur"])
def test_the_mean_picture_is_that_of_the_reference(name: str, photographs: list[Picture]) -> None:
    """The mean of 40 pictures against that of 40 with the reference's draws: as far apart as two such means are."""
    picture, amount = np.ascontiguousarray(photographs[2][:64, :64]), AMOUNTS[name][2]
    kernel = getattr(blur, name)
    ours = np.mean([kernel(picture, amount, Stream.native(f"s{i}", name, 3)) for i in range(40)], axis=0)
    theirs = [kernel(picture, amount, Stream.identical(seed)).astype(float) for seed in range(80)]
    one, other = np.mean(theirs[:40], axis=0), np.mean(theirs[40:], axis=0)
    assert (np.abs(ours - one).mean() + np.abs(ours - other).mean()) / 2 <= 1.35 * np.abs(one - other).mean()


def test_motion_ends_where_it_leaves_the_picture() -> None:
    picture = np.full((3, 3, 3), 200, np.uint8)
    draws: Any = SimpleNamespace(identical=True, uniform=lambda low, high: 0.0)
    weights = np.exp(-(np.arange(21) ** 2) / 18)
    wanted = int(200 * weights[:3].sum() / weights.sum())
    assert (blur.motion_blur(picture, (10, 3), draws) == wanted).all()
