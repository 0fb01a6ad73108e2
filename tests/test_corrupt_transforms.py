"""Simple transformations against what can be said by hand of them."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from ensemble_bench.corrupt import registry, suite, transforms
from ensemble_bench.corrupt.stream import Stream

Picture = NDArray[np.uint8]
SEVERITIES = (1, 2, 3, 4, 5)
AMOUNTS = suite.read(suite.suites()["transforms"], "transforms").amounts
OWN = ("rotation", "horizontal_flip", "vertical_flip", "greyscale", "occlusion", "low_pass", "high_pass")


@pytest.fixture(scope="module")
def cup() -> Picture:
    """A part of a photograph, 60 x 80."""
    from skimage import data

    picture: Picture = data.coffee()[100:220:2, 150:310:2].copy()
    return picture


def streams(name: str, count: int) -> list[Stream]:
    return [Stream.native(f"s{i}", name, 1) for i in range(count)]


@pytest.mark.parametrize("name", sorted(AMOUNTS))
def test_every_degree_changes_more(name: str, cup: Picture) -> None:
    def distance(severity: int) -> float:
        outs = [registry.load(name)(cup, AMOUNTS[name][severity - 1], draws) for draws in streams(name, 30)]
        return float(np.mean([np.abs(out.astype(int) - cup).mean() for out in outs]))

    distances = [distance(severity) for severity in SEVERITIES]
    assert distances[0] > 0 and sorted(distances) == distances and distances[0] < distances[4]


@pytest.mark.parametrize("name", OWN)
def test_input_stays_and_draws_decide(name: str, cup: Picture) -> None:
    kernel, amount, before = getattr(transforms, name), AMOUNTS[name][2], cup.copy()
    one, again = (kernel(cup, amount, Stream.native("s", name, 3)) for _ in range(2))
    assert np.array_equal(one, again) and np.array_equal(cup, before) and not np.shares_memory(one, cup)
    outs = {kernel(cup, amount, draws).tobytes() for draws in streams(name, 12)}
    assert (len(outs) > 1) == (name not in ("greyscale", "low_pass", "high_pass"))


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (7, 2), (33, 20)])
def test_odd_shapes(name: str, shape: tuple[int, int]) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    for amount in AMOUNTS[name]:
        out = getattr(transforms, name)(picture, amount, Stream.native("s", name, 1))
        assert out.dtype == np.uint8 and out.shape == picture.shape


def test_quarter_and_half_turns_are_those_of_numpy(cup: Picture) -> None:
    square = np.ascontiguousarray(cup[:, :60])
    sides = set()
    for draws in streams("rotation", 20):
        out = transforms.rotation(square, (90,), draws).astype(int)
        off = [np.abs(out - np.rot90(square, quarters)).max() for quarters in (1, 3)]
        assert min(off) <= 1 < max(off)
        sides.add(off.index(min(off)))
    assert sides == {0, 1}
    half = transforms.rotation(cup, (180,), Stream.native("s", "rotation", 1)).astype(int)
    assert np.abs(half - cup[::-1, ::-1]).max() <= 1
    assert np.abs(transforms.rotation(cup, (0,), Stream.native("s", "rotation", 1)).astype(int) - cup).max() <= 1


@pytest.mark.parametrize(("name", "axis"), [("horizontal_flip", 1), ("vertical_flip", 0)])
def test_a_share_of_the_pictures_is_flipped(name: str, axis: int, cup: Picture) -> None:
    kernel = getattr(transforms, name)
    flipped = [np.array_equal(kernel(cup, (0.3,), draws), np.flip(cup, axis)) for draws in streams(name, 400)]
    assert abs(np.mean(flipped) - 0.3) < 4 * np.sqrt(0.3 * 0.7 / 400)
    assert all(np.array_equal(kernel(cup, (1.0,), draws), np.flip(cup, axis)) for draws in streams(name, 20))
    assert all(np.array_equal(kernel(cup, (0.0,), draws), cup) for draws in streams(name, 20))


def test_greys() -> None:
    """Luma of (200, 100, 50) is 0.299 * 200 + 0.587 * 100 + 0.114 * 50 = 124.2."""
    colour, draws = np.array([[[200, 100, 50]]], np.uint8), Stream.identical(0)
    assert transforms.greyscale(colour, (1.0,), draws).tolist() == [[[124, 124, 124]]]
    assert transforms.greyscale(colour, (0.5,), draws).tolist() == [[[162, 112, 87]]]
    assert transforms.greyscale(colour, (0.0,), draws).tolist() == [[[200, 100, 50]]]


@pytest.mark.parametrize("share", [0.05, 0.35, 0.5, 1.0])
def test_occlusion_covers_its_share(share: float) -> None:
    picture = np.full((100, 160, 3), 200, np.uint8)
    corners = set()
    for draws in streams("occlusion", 40):
        covered = (transforms.occlusion(picture, (share,), draws) == transforms.GREY).all(-1)
        rows, columns = np.flatnonzero(covered.any(1)), np.flatnonzero(covered.any(0))
        assert covered.sum() == rows.size * columns.size == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
        assert covered.mean() == pytest.approx(share, abs=0.01)
        corners.add((rows[0], columns[0]))
    assert len(corners) > 20 or share == 1.0


@pytest.mark.parametrize("cut", [0.02, 0.1])
def test_filters_pass_what_they_say(cut: float) -> None:
    """A cosine at the cut is halved by both; one four times as fast or slow is kept or lost but for 1/257."""
    places = np.arange(300) + 0.5
    for factor, low, high in ((1, 0.5, 0.5), (4, 1 / 257, 256 / 257), (1 / 4, 256 / 257, 1 / 257)):
        wave = np.cos(2 * np.pi * places * cut * factor)
        picture = np.repeat(np.rint(128 + 100 * wave)[None, :, None], 3, axis=2).astype(np.uint8).repeat(40, axis=0)
        for kernel, gain in ((transforms.low_pass, low), (transforms.high_pass, high)):
            out = kernel(picture, (cut,), Stream.identical(0))
            assert np.abs(out - (128 + 100 * gain * wave)[None, :, None]).max() < 1.5


def test_what_one_filter_takes_the_other_leaves(cup: Picture) -> None:
    low, high = (
        kernel(cup, (0.05,), Stream.identical(0)).astype(float) for kernel in (transforms.low_pass, transforms.high_pass)
    )
    whole = low + high - cup.mean((0, 1))
    inside = (high > 0) & (high < 255) & (low > 0) & (low < 255)
    assert np.abs(whole - cup)[inside].max() <= 1.5 and inside.mean() > 0.5
