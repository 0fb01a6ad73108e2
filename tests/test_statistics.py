"""Intervals: hand-worked resamples, scipy as a reference, coverage, pairing."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from ensemble_bench.statistics import BINS, RESAMPLES, Resamples, interval, ratio


def _weights(resamples: Resamples) -> np.ndarray:
    return np.concatenate([block for _, block in resamples._weights()])


def test_a_resample_picks_as_many_images_as_there_are() -> None:
    weights = _weights(Resamples(7, "mini/x\nclean"))
    assert weights.shape == (RESAMPLES, 7) and (weights.sum(1) == 7).all() and (weights >= 0).all()
    assert abs(weights.mean(0) - 1).max() < 0.1  # standard error .02
    assert abs(weights.var(0) - (1 - 1 / 7)).max() < 0.15  # binomial of 7 picks with probability 1/7


def test_the_same_name_is_the_same_resamples_and_another_is_not() -> None:
    one, same, other = (_weights(Resamples(50, name)) for name in ("mini/x\nclean", "mini/x\nclean", "mini/y\nclean"))
    assert (one == same).all() and (one != other).any()
    assert one[0, :10].tolist() == [1, 3, 2, 0, 1, 0, 0, 1, 2, 1]  # the same on every machine and numpy


def test_blocks_do_not_change_a_resample(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    right, sure, labels = rng.random((3, 40)) < 0.5, rng.random((3, 40)), rng.integers(0, 4, 40)

    def every() -> list[np.ndarray]:
        resamples = Resamples(40, "x", count=200)
        means, recalls = resamples.means([right, right[:1]]), resamples.recalls([right], labels)
        return [means, recalls, resamples.calibration_errors([sure, sure[:2]], [right, right[:2]])]

    whole = every()
    monkeypatch.setattr("ensemble_bench.statistics._AT_ONCE", 1000)
    for before, after in zip(whole, every(), strict=True):
        assert np.allclose(before, after, rtol=0, atol=1e-6)


def test_every_measure_is_what_its_weights_say() -> None:
    """Each resample worked out again the slow way, image by image."""
    rng = np.random.default_rng(1)
    labels = np.array([0, 0, 0, 1, 1, 2])
    right = rng.random((1, 6)) < 0.6
    sure = np.array([[0.0, 0.2, 0.2, 0.55, 0.6, 1.0]])
    resamples = Resamples(6, "six", count=50)
    means, recalls = resamples.means([right])[:, 0], resamples.recalls([right], labels)[:, 0]
    errors = resamples.calibration_errors([sure], [right])[:, 0]
    for row, weights in enumerate(_weights(resamples)):
        picked = np.repeat(np.arange(6), weights.astype(int))
        good, label, confidence = right[0, picked], labels[picked], sure[0, picked]
        assert means[row] == pytest.approx(good.mean())
        assert recalls[row] == pytest.approx(np.mean([good[label == c].mean() for c in np.unique(label)]))
        edges = np.linspace(0, 1, BINS + 1)
        bins = np.digitize(confidence, edges, right=True).clip(1)
        expected = sum(abs((confidence - good)[bins == b].sum()) for b in np.unique(bins)) / 6
        assert errors[row] == pytest.approx(expected, abs=1e-6)


def test_against_scipy() -> None:
    rng = np.random.default_rng(2)
    right = rng.random(300) < 0.7
    ours = interval(Resamples(300, "scipy").means([right[None]])[:, 0])
    theirs = scipy.stats.bootstrap((right.astype(float),), np.mean, method="percentile", n_resamples=5000).confidence_interval
    wilson = scipy.stats.binomtest(int(right.sum()), 300).proportion_ci(method="wilson")
    assert ours == pytest.approx((theirs.low, theirs.high), abs=0.008)
    assert ours == pytest.approx((wilson.low, wilson.high), abs=0.012)


def test_a_difference_of_paired_columns_against_scipy() -> None:
    rng = np.random.default_rng(4)
    first = rng.random(200) < 0.6
    second = np.where(rng.random(200) < 0.9, first, ~first)
    resampled = Resamples(200, "paired").means([first[None], second[None]])
    ours = interval(resampled[:, 0] - resampled[:, 1])
    theirs = scipy.stats.bootstrap(
        (first.astype(float), second.astype(float)),
        lambda a, b, axis: a.mean(axis) - b.mean(axis),
        paired=True,
        method="percentile",
        n_resamples=5000,
    ).confidence_interval
    assert ours == pytest.approx((theirs.low, theirs.high), abs=0.01)
    unpaired = np.hypot(*resampled.std(0))
    assert (resampled[:, 0] - resampled[:, 1]).std() < 0.6 * unpaired


def test_equal_columns_never_differ_and_a_better_one_is_never_worse() -> None:
    rng = np.random.default_rng(6)
    right = rng.random((5, 60)) < 0.5
    more = right | (rng.random((5, 60)) < 0.2)
    resampled = Resamples(60, "x").means([right, right.copy(), more])
    assert (resampled[:, 0] == resampled[:, 1]).all()
    assert (resampled[:, 2] >= resampled[:, 0]).all()


def test_draws_vary_as_well_as_images() -> None:
    """Two draws, one always right, one never: a resample has both of one kind with probability 1/4 each."""
    draws = np.array([[True] * 30, [False] * 30])
    resampled = Resamples(30, "x").means([draws, draws[:1]])
    values, counts = np.unique(resampled[:, 0], return_counts=True)
    assert values.tolist() == [0.0, 0.5, 1.0]
    assert abs(counts / RESAMPLES - [0.25, 0.5, 0.25]).max() < 0.04
    assert interval(resampled[:, 0]) == (0.0, 1.0)
    assert interval(resampled[:, 1]) == (1.0, 1.0)  # one draw: images only


def test_equal_draws_are_no_more_certain_than_one() -> None:
    """Draws saw the same images: five equal ones have exactly the interval of one."""
    right = np.random.default_rng(7).random((1, 80)) < 0.6
    resampled = Resamples(80, "x").means([right, np.repeat(right, 5, axis=0)])
    assert np.allclose(resampled[:, 0], resampled[:, 1])


def test_coverage() -> None:
    """About 95 of 100 intervals hold the true accuracy (of 400: standard error 1.1 points; the bootstrap is a little short)."""
    rng = np.random.default_rng(8)
    right = rng.random((400, 1, 120)) < 0.7
    resampled = Resamples(120, "coverage").means(list(right))
    found = [interval(column) for column in resampled.T]
    covered = np.mean([low <= 0.7 <= high for low, high in found])  # type: ignore[misc]
    assert 0.91 <= covered <= 0.98


def test_a_ratio_without_denominator_is_not_defined() -> None:
    found = ratio(np.array([1.0, 0.0, 3.0]), np.array([2.0, 0.0, -1.0]))
    assert found[[0, 2]].tolist() == [0.5, -3.0] and np.isnan(found[1])


def test_an_interval_of_what_is_defined() -> None:
    numbers = np.arange(1000.0)[::-1]
    assert interval(numbers) == pytest.approx((24.975, 974.025))
    assert interval(numbers) == pytest.approx(tuple(np.quantile(numbers, [0.025, 0.975])))
    assert interval(np.append(numbers, [np.nan] * 50)) == interval(numbers)
    assert interval(np.append(numbers, [np.nan] * 60)) is None
    assert interval(np.full(3, np.nan)) is None
