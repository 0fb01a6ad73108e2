"""Weather of our own draws looks as the reference's does on average; its parts against scipy; edge cases by hand."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage, stats

from ensemble_bench.corrupt import normal, suite, weather
from ensemble_bench.corrupt.reference import corrupted
from ensemble_bench.corrupt.stream import Stream

Picture = NDArray[np.uint8]
NAMES = ("snow", "frost", "fog", "spatter")
AMOUNTS = suite.read(suite.suites()["imagenet-c-full"], "imagenet-c-full").amounts


def photograph() -> Picture:
    """A part of a photograph, 64 x 80."""
    from skimage import data

    return np.ascontiguousarray(data.coffee()[100:228:2, 150:310:2])


def native(name: str, picture: Picture, severity: int, sample: str = "a") -> Picture:
    drawn: Picture = getattr(weather, name)(picture, AMOUNTS[name][severity - 1], Stream.native(sample, name, severity))
    return drawn


@pytest.mark.parametrize("severity", [1, 3, 5])
@pytest.mark.parametrize("name", NAMES)
def test_pictures_vary_as_those_of_the_reference(name: str, severity: int) -> None:
    """Mean, contrast and roughness of 60 pictures have the distribution of 60 of the reference (Kolmogorov-Smirnov)."""
    picture = photograph()

    def figures(out: Picture) -> tuple[float, ...]:
        values = out.astype(np.float64)
        return values.mean(), values.std(), float(np.abs(np.diff(values, axis=1)).mean()), float(values[..., 2].max())

    ours = np.array([figures(native(name, picture, severity, f"s{i}")) for i in range(60)])
    theirs = np.array([figures(corrupted(picture, name, severity, seed)) for seed in range(60)])
    for figure in range(ours.shape[1]):
        assert stats.ks_2samp(ours[:, figure], theirs[:, figure]).pvalue > 1e-3


@pytest.mark.parametrize("name", ["snow", "fog", "spatter"])  # frost is five photographs: sixty are too few
def test_the_mean_picture_is_that_of_the_reference(name: str) -> None:
    """The mean of 60 pictures, pixel by pixel, against that of 60 of the reference: as far apart as two such means are."""
    picture = photograph()
    ours = np.mean([native(name, picture, 3, f"s{i}") for i in range(60)], axis=0)
    theirs = [corrupted(picture, name, 3, seed).astype(np.float64) for seed in range(120)]
    one, other = np.mean(theirs[:60], axis=0), np.mean(theirs[60:], axis=0)
    itself = np.abs(one - other).mean()
    assert (np.abs(ours - one).mean() + np.abs(ours - other).mean()) / 2 <= 1.35 * itself


def test_normal_draws_are_normal() -> None:
    out = np.empty(200_000)
    normal.normal(np.uint64(12345), out, normal.EDGES, normal.HEIGHTS)
    assert stats.kstest(out, "norm").pvalue > 1e-3
    assert abs(stats.kurtosis(out)) < 5 * np.sqrt(24 / out.size)
    beyond = np.abs(out) > normal.TAIL
    assert abs(beyond.sum() - 2 * stats.norm.sf(normal.TAIL) * out.size) < 5 * np.sqrt(
        2 * stats.norm.sf(normal.TAIL) * out.size
    )
    assert abs((out[1:] * out[:-1]).mean()) < 5 / np.sqrt(out.size)


def test_the_layers_of_the_ziggurat_have_one_area() -> None:
    """Every layer, the lowest with its tail, covers the same area, and the highest ends at the top of the curve."""
    edges, heights = normal.EDGES, normal.HEIGHTS
    areas = edges[1:-1] * np.diff(heights[1:])
    assert np.allclose(areas, normal.AREA, rtol=1e-6)
    lowest = normal.TAIL * heights[1] + np.sqrt(2 * np.pi) * stats.norm.sf(normal.TAIL)
    assert lowest == pytest.approx(normal.AREA, rel=1e-6)
    assert heights[-1] == 1.0


@pytest.mark.parametrize("shape", [(23, 37), (7, 90), (2, 3), (40, 1)])
@pytest.mark.parametrize("sigma", [1, 1.5, 4])
@pytest.mark.parametrize("kind", [np.float64, np.float32])
def test_smoothing_is_scipys(shape: tuple[int, int], sigma: float, kind: type) -> None:
    layer = np.random.default_rng(1).normal(size=shape).astype(kind)
    expected = ndimage.gaussian_filter(layer, sigma, mode="nearest", truncate=4.0)
    ours = weather._smooth(layer, weather._bell(sigma))
    assert ours.dtype == kind
    assert np.array_equal(ours, expected)


@pytest.mark.parametrize("shape", [(23, 37), (90, 75), (2, 3), (5, 1)])
@pytest.mark.parametrize("zoom", [2, 2.5, 3, 4.5])
def test_enlarging_is_scipys(shape: tuple[int, int], zoom: float) -> None:
    layer = np.random.default_rng(2).uniform(size=shape)
    expected = ndimage.zoom(layer[..., None], (zoom, zoom, 1), order=1)[..., 0]
    assert np.array_equal(weather._flakes(layer, expected.shape, -1.0), expected)


def test_without_snow_a_picture_is_only_whitened() -> None:
    """By hand: 0.7 of 100 and 0.3 of the larger of 100 and 1.5 * 100 + 127.5, which is cut at nothing: 153.25."""
    grey = np.full((40, 50, 3), 100, dtype=np.uint8)
    out = weather.snow(grey, (-9.0, 0.1, 3, 0.5, 10, 4, 0.7), Stream.native("a", "snow", 1))
    assert set(np.unique(out)) == {153}


def test_full_snow_is_white() -> None:
    black = np.zeros((40, 50, 3), dtype=np.uint8)
    assert (weather.snow(black, (9.0, 0.1, 3, 0.5, 10, 4, 0.7), Stream.native("a", "snow", 1)) == 255).all()


def test_frost_comes_from_the_photographs_and_from_all_five() -> None:
    """A black picture under all of the frost is a part of one of the photographs."""
    import cv2

    black = np.zeros((30, 40, 3), dtype=np.uint8)
    seen = set()
    for sample in range(40):
        out = weather.frost(black, (0.5, 1.0), Stream.native(str(sample), "frost", 1))
        for name in set(weather.FROSTS) - seen:
            whole = weather._frost(name, 30, 40)
            if cv2.matchTemplate(whole, out, cv2.TM_SQDIFF).min() < 1:
                seen.add(name)
                break
    assert seen == set(weather.FROSTS)


@pytest.mark.parametrize("shape", [(1100, 60), (60, 1400), (1300, 1500)])
def test_frost_grows_with_the_picture(shape: tuple[int, int]) -> None:
    picture = np.full((*shape, 3), 40, dtype=np.uint8)
    for seed in range(3):
        ours = weather.frost(picture, AMOUNTS["frost"][2], Stream.identical(seed))
        assert np.array_equal(ours, corrupted(picture, "frost", 3, seed))


def test_fog_keeps_the_whitest_as_white_and_black_black() -> None:
    """Where the cloud is thickest, (1 + c) / (1 + c) of a white pixel stays; a black picture has no white to give."""
    white = np.full((32, 32, 3), 255, dtype=np.uint8)
    out = weather.fog(white, (2.0, 2.0), Stream.native("a", "fog", 1))
    assert out.min() >= 255 // 3 and out.max() == 255
    assert not weather.fog(np.zeros((32, 32, 3), dtype=np.uint8), (2.0, 2.0), Stream.native("a", "fog", 1)).any()


def test_no_drop_no_change() -> None:
    """Without a drop the reference divides by zero; ours leaves the picture as the way through 255ths leaves it."""
    picture = photograph()
    dry = weather.spatter(picture, (0.1, 0.01, 4, 0.69, 0.6, 0), Stream.native("a", "spatter", 1))
    assert np.abs(dry.astype(int) - picture).max() <= 1
    clean = weather.spatter(picture, (0.1, 0.01, 1, 0.65, 1.5, 1), Stream.native("a", "spatter", 4))
    assert np.abs(clean.astype(int) - picture).max() <= 1


def test_mud_is_brown() -> None:
    white = np.full((40, 50, 3), 255, dtype=np.uint8)
    out = weather.spatter(white, (0.9, 0.01, 1, 0.65, 1.5, 1), Stream.native("a", "spatter", 4))
    assert np.abs(out.astype(int) - (63, 42, 20)).max() <= 1
