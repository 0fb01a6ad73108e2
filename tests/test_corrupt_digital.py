"""Digital corruptions: the reference byte by byte, colours by the thousand against scikit-image, warping against scipy."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage, stats

from ensemble_bench.corrupt import digital, suite, sums, warp
from ensemble_bench.corrupt.reference import corrupted
from ensemble_bench.corrupt.stream import Stream

Picture = NDArray[np.uint8]
SEVERITIES = (1, 2, 3, 4, 5)
AMOUNTS = suite.read(suite.suites()["imagenet-c-full"], "imagenet-c-full").amounts
STILL = ("brightness", "contrast", "pixelate", "jpeg_compression", "saturate")  # these draw nothing


@pytest.fixture(scope="module")
def photographs() -> list[Picture]:
    """Photographs with a sky, of the night, and of a cup."""
    from skimage import data
    from sklearn.datasets import load_sample_image

    return [
        load_sample_image("flower.jpg")[::4, ::4].copy(),
        data.rocket()[::3, ::5].copy(),
        data.coffee()[60:282:2, 100:396:2].copy(),
    ]


def palette() -> Picture:
    """Every seventeenth level in all combinations, all pure greys, and twenty thousand colours by chance: [n, 64, 3]."""
    steps = np.arange(0, 256, 17)
    grid = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(-1, 3)
    greys = np.repeat(np.arange(256), 3).reshape(-1, 3)
    chance = np.random.default_rng(0).integers(0, 256, (20_032, 3))
    ties = chance[:4096].copy()
    ties[:2048, 0], ties[2048:, 2] = ties[:2048, 1], ties[2048:, 1]
    return np.concatenate((grid, greys, chance, ties)).astype(np.uint8).reshape(-1, 64, 3)


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("name", [*STILL, "elastic_transform"])
def test_identical_on_whole_photographs(name: str, severity: int, photographs: list[Picture]) -> None:
    for seed, picture in enumerate(photographs):
        wanted = corrupted(picture, name, severity, seed)
        draws = [Stream.identical(seed)] + [Stream.native("a", name, severity)] * (name in STILL)
        for stream in draws:
            ours = getattr(digital, name)(picture, AMOUNTS[name][severity - 1], stream)
            assert np.array_equal(ours, wanted), picture.shape


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("name", ["brightness", "saturate"])
def test_colours_are_scikit_image_s(name: str, severity: int) -> None:
    picture = palette()
    ours = getattr(digital, name)(picture, AMOUNTS[name][severity - 1], Stream.native("a", name, severity))
    assert np.array_equal(ours, corrupted(picture, name, severity, 0))


@pytest.mark.parametrize("level", [0, 1, 50, 51, 255])
def test_contrast_of_even_pictures_is_rounded_as_the_reference_rounds_it(level: int) -> None:
    """Where the mean is the picture every sum is a whole level but for rounding, and numpy's order of adding decides."""
    picture = np.full((37, 41, 3), level, np.uint8)
    for severity in SEVERITIES:
        ours = digital.contrast(picture, AMOUNTS["contrast"][severity - 1], Stream.native("a", "contrast", severity))
        assert np.array_equal(ours, corrupted(picture, "contrast", severity, 0))


@pytest.mark.parametrize("spread", [0.4, 3.0, 40.0])
@pytest.mark.parametrize("shape", [(30, 41), (7, 5), (2, 9)])
def test_fetching_is_scipy_s(shape: tuple[int, int], spread: float) -> None:
    rng = np.random.default_rng(2)
    values = rng.random((*shape, 3), dtype=np.float32)
    field = rng.normal(scale=spread, size=(*shape, 2)).astype(np.float32)
    down, right = np.mgrid[: shape[0], : shape[1]]
    places = (down + field[..., 1], right + field[..., 0])
    channels = [ndimage.map_coordinates(values[..., k], places, order=1, mode="reflect") for k in range(3)]
    wanted = np.uint8(np.clip(np.stack(channels, -1), 0, 1) * np.float32(255))
    assert np.array_equal(warp.fetched(values, field), wanted)
    fast = np.abs(warp.fetched_fast(values, field).astype(int) - wanted)
    assert fast.max() <= 1 and (fast > 0).mean() <= 2e-3


def test_even_pictures_stay_even_under_both_ways_of_fetching() -> None:
    field = np.random.default_rng(3).normal(scale=3, size=(20, 20, 2)).astype(np.float32)
    for level in range(256):
        values = np.full((20, 20, 3), warp.UNITS32[level])
        assert np.array_equal(warp.fetched(values, field), warp.fetched_fast(values, field))


def test_native_fields_are_those_of_the_reference() -> None:
    """A smooth field of our draws has mean, spread and correlation of one of the reference's."""
    half = sums.bell(2.24, 3.0)
    ours, theirs = [], []
    for i in range(12):
        words = Stream.native(f"s{i}", "elastic_transform", 1).raw(56 * 56 // 2).view(np.uint16)
        drawn = digital._centred(words, np.float32(1)).reshape(56, 56, 2)
        ours.append(sums.smoothed(drawn, half.astype(np.float32), half.astype(np.float32), True)[..., 0])
        theirs.append(ndimage.gaussian_filter(np.random.RandomState(i).uniform(-1, 1, (56, 56)), 2.24, truncate=3))
    one, other = np.array(ours), np.array(theirs)
    assert abs(one.mean()) < 4 * other.mean(axis=(1, 2)).std() / np.sqrt(12)
    assert one.std() == pytest.approx(other.std(), rel=0.1)
    for lag in (1, 2, 4):
        mine, reference = ((f[:, lag:] * f[:, :-lag]).mean() / (f**2).mean() for f in (one, other))
        assert mine == pytest.approx(reference, abs=0.07)
    apart = one[:, ::14, ::14].ravel()  # farther than the smoothing reaches, so independent
    assert stats.ks_2samp(apart, other[:, ::14, ::14].ravel()).pvalue > 1e-3


def test_uniform_draws_of_16_bits_are_uniform() -> None:
    words = Stream.native("a", "elastic_transform", 1).raw(10_000).view(np.uint16)
    drawn = digital._centred(words, np.float32(1.12))
    assert stats.kstest(drawn, stats.uniform(-1.12, 2.24).cdf).pvalue > 1e-3
    extreme = digital._centred(np.array([0, 65535], np.uint16), np.float32(1))
    assert extreme[0] == -extreme[1] and 0.9999 < extreme[1] < 1


@pytest.mark.parametrize("severity", [1, 3, 5])
def test_the_mean_warped_picture_is_that_of_the_reference(severity: int, photographs: list[Picture]) -> None:
    picture, amount = np.ascontiguousarray(photographs[2][:64, :64]), AMOUNTS["elastic_transform"][severity - 1]

    def kernel(draws: Stream) -> NDArray[np.float64]:
        return digital.elastic_transform(picture, amount, draws).astype(float)

    ours = np.mean([kernel(Stream.native(f"s{i}", "e", severity)) for i in range(40)], axis=0)
    theirs = [kernel(Stream.identical(seed)) for seed in range(80)]
    one, other = np.mean(theirs[:40], axis=0), np.mean(theirs[40:], axis=0)
    assert (np.abs(ours - one).mean() + np.abs(ours - other).mean()) / 2 <= 1.35 * np.abs(one - other).mean()


def test_a_worked_colour() -> None:
    """(200, 100, 50) has V 200/255 and S 3/4: V + 0.1 gives 225.5, 112.75, 56.375; half of S gives 200, 150, 125."""
    colour = np.array([[[200, 100, 50]]], np.uint8)
    assert digital.brightness(colour, (0.1,), Stream.identical(0)).tolist() == [[[225, 112, 56]]]
    halved = digital.saturate(colour, (0.5, 0), Stream.identical(0)).astype(int)
    assert np.abs(halved - [[[200, 150, 125]]]).max() <= 1  # whole levels: rounding may take one away


def test_coarse_pixels_are_means() -> None:
    picture = np.zeros((4, 4, 3), np.uint8)
    picture[:2, :2] = np.array([[0, 100], [100, 200]])[..., None]
    coarse = digital.pixelate(picture, (0.5,), Stream.identical(0))
    assert (coarse[:2, :2] == 100).all() and (coarse[2:] == 0).all()
    assert digital.pixelate(picture[:1, :1], (0.25,), Stream.identical(0)).shape == (1, 1, 3)
