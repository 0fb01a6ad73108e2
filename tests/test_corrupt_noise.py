"""Noise of our own draws has the distribution of the reference's, and the formula's; edge cases by hand."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from ensemble_bench.corrupt import noise, suite
from ensemble_bench.corrupt.reference import corrupted
from ensemble_bench.corrupt.stream import Stream

Picture = NDArray[np.uint8]
NAMES = ("gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise")
AMOUNTS = suite.read(suite.suites()["imagenet-c-full"], "imagenet-c-full").amounts


def photograph() -> Picture:
    """Half of a photograph, 150 x 225."""
    from skimage import data

    return np.ascontiguousarray(data.chelsea()[::2, ::2])


def native(name: str, picture: Picture, severity: int, sample: str = "a") -> Picture:
    drawn: Picture = getattr(noise, name)(picture, AMOUNTS[name][severity - 1], Stream.native(sample, name, severity))
    return drawn


def histogram(picture: Picture) -> NDArray[np.float64]:
    return np.bincount(picture.reshape(-1), minlength=256) / picture.size


def total_variation(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    return float(np.abs(one - other).sum() / 2)


@pytest.mark.parametrize("severity", [1, 3, 5])
@pytest.mark.parametrize("name", NAMES)
def test_histograms_are_as_near_as_the_reference_to_itself(name: str, severity: int) -> None:
    """Total variation of grey-level histograms, mean over all pairs of 24 pictures: at most 1.12 times as large."""
    picture = photograph()[::2, ::2]
    theirs = [histogram(corrupted(picture, name, severity, seed)) for seed in range(24)]
    ours = [histogram(native(name, picture, severity, f"s{i}")) for i in range(24)]
    itself = np.mean([total_variation(one, other) for i, one in enumerate(theirs) for other in theirs[:i]])
    apart = np.mean([total_variation(one, other) for one in ours for other in theirs])
    assert apart <= 1.12 * itself


@pytest.mark.parametrize("name", NAMES)
def test_mean_and_variance_of_each_grey_level(name: str) -> None:
    """Of a grey level's 40 000 draws, against as many of the reference: within five standard errors."""
    for grey in (0, 3, 64, 127, 200, 255):
        flat = np.full((116, 116, 3), grey, dtype=np.uint8)
        ours, theirs = native(name, flat, 3).astype(np.float64), corrupted(flat, name, 3, 11).astype(np.float64)
        error = np.sqrt((ours.var() + theirs.var()) / ours.size)
        assert abs(ours.mean() - theirs.mean()) <= 5 * error
        fourth = ((theirs - theirs.mean()) ** 4).mean()
        assert abs(ours.var() - theirs.var()) <= 5 * np.sqrt(2 * max(fourth - theirs.var() ** 2, 0) / ours.size)


@pytest.mark.parametrize(("name", "grey", "severity"), [("gaussian_noise", 128, 1), ("speckle_noise", 100, 3)])
def test_normal_noise_is_normal(name: str, grey: int, severity: int) -> None:
    """Chi square of 120 000 draws against the probabilities of every grey level by scipy."""
    flat = np.full((200, 200, 3), grey, dtype=np.uint8)
    counts = np.bincount(native(name, flat, severity).reshape(-1), minlength=256)
    deviation = AMOUNTS[name][severity - 1][0] * (255 if name == "gaussian_noise" else grey)
    below = stats.norm.cdf(np.arange(1, 256), grey, deviation)
    expected = np.diff(below, prepend=0, append=1) * flat.size
    likely = expected > 5
    assert stats.chisquare(counts[likely], expected[likely] * counts[likely].sum() / expected[likely].sum()).pvalue > 1e-4


def test_shot_noise_is_poisson() -> None:
    flat = np.full((200, 200, 3), 153, dtype=np.uint8)  # 0.6 * 5 = 3 photons
    out = native("shot_noise", flat, 4).reshape(-1)
    counts = np.array([(out == value).sum() for value in (0, 51, 102, 153, 204)])
    assert counts.sum() + (out == 255).sum() == out.size
    expected = stats.poisson.pmf(np.arange(5), 3) * out.size
    assert (np.abs(counts - expected) < 5 * np.sqrt(expected)).all()


def test_impulse_noise_is_salt_and_pepper() -> None:
    flat = np.full((200, 200, 3), 90, dtype=np.uint8)
    out = native("impulse_noise", flat, 5)
    assert set(np.unique(out)) == {0, 90, 255}
    for value in (0, 255):
        assert abs((out == value).mean() - 0.135) < 5 * np.sqrt(0.135 * 0.865 / out.size)


@pytest.mark.parametrize("name", NAMES)
def test_neighbours_are_independent(name: str) -> None:
    """Neighbouring values, channels and rows of the noise are uncorrelated within five standard errors."""
    flat = np.full((100, 100, 3), 120, dtype=np.uint8)
    out = native(name, flat, 3).astype(np.float64)
    out = (out - out.mean()) / out.std()
    for one, other in ((out[:, 1:], out[:, :-1]), (out[1:], out[:-1]), (out[..., 1:], out[..., :-1])):
        assert abs((one * other).mean()) < 5 / np.sqrt(one.size)


@pytest.mark.parametrize("name", NAMES)
def test_other_samples_get_other_noise(name: str) -> None:
    picture = photograph()
    outs = {native(name, picture, 3, sample).tobytes() for sample in ("a", "b", "c")}
    assert len(outs) == 3
    assert native(name, picture, 3).tobytes() in outs


def test_speckle_leaves_black_black_and_shot_too() -> None:
    black = np.zeros((30, 31, 3), dtype=np.uint8)
    for name in ("speckle_noise", "shot_noise"):
        for severity in (1, 5):
            assert not native(name, black, severity).any()
            assert not corrupted(np.zeros((33, 33, 3), dtype=np.uint8), name, severity, 0).any()


def test_values_that_do_not_survive_the_way_through_255ths_are_those_of_the_reference() -> None:
    greys = np.arange(256, dtype=np.uint8).repeat(3 * 48).reshape(-1, 48, 3)
    for identical in (True, False):
        draws = Stream.identical(1) if identical else Stream.native("a", "impulse_noise", 1)
        out = noise.impulse_noise(greys, (1e-9,), draws)
        assert np.array_equal(out, (greys / 255.0 * 255).astype(np.uint8))


def shares(table: NDArray[np.uint32]) -> NDArray[np.int64]:
    """What an alias table [256] gives each outcome of 2**32 draws, added up cell by cell."""
    given = np.zeros(256, dtype=np.int64)
    for cell, entry in enumerate(table.tolist()):
        given[cell] += entry >> 8
        given[entry & 255] += (1 << 24) - (entry >> 8)
    return given


def test_an_alias_table_holds_its_shares_exactly() -> None:
    random = np.random.default_rng(4)
    edges = np.sort(random.integers(0, 1 << 32, size=(6, 255)), axis=1)
    edges[1, :200] = 0  # a few outcomes take all
    edges[2, :] = 1 << 32  # one takes all
    edges = np.concatenate([np.zeros((6, 1), dtype=np.int64), edges, np.full((6, 1), 1 << 32)], axis=1)
    wanted = np.diff(edges)
    for row, table in zip(wanted, noise._alias(wanted), strict=True):
        assert np.array_equal(shares(table), row)


@pytest.mark.parametrize("severity", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("name", NAMES)
def test_the_tables_hold_the_distribution_itself(name: str, severity: int) -> None:
    """Every outcome's probability, within rounding of 2**-32, by scipy.stats and the reference's formula."""
    (amount,) = AMOUNTS[name][severity - 1]
    tables = {
        "gaussian_noise": lambda: noise._normal_table(amount, proportional=False),
        "speckle_noise": lambda: noise._normal_table(amount, proportional=True),
        "shot_noise": lambda: noise._shot_table(amount),
        "impulse_noise": lambda: noise._impulse_table(amount),
    }
    for grey in (0, 1, 7, 100, 254, 255):
        expected = np.zeros(256)
        if name == "shot_noise":
            counts = np.arange(400)
            becomes = (np.clip(counts / float(amount), 0, 1) * 255).astype(np.uint8)
            np.add.at(expected, becomes, stats.poisson.pmf(counts, grey / 255.0 * amount))
        elif name == "impulse_noise":
            expected[[0, 255]] = amount / 2
            expected[int(grey / 255.0 * 255)] += 1 - amount
        elif name == "speckle_noise" and grey == 0:
            expected[0] = 1
        else:
            deviation = amount * (255 if name == "gaussian_noise" else grey)
            expected = np.diff(stats.norm.cdf(np.arange(1, 256), grey, deviation), prepend=0, append=1)
        assert np.abs(shares(tables[name]()[grey]) / 2.0**32 - expected).max() < 2.0**-31
