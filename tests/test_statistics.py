"""Intervals: hand-worked resamples, scipy as a reference, coverage, pairing."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from ensemble_bench.statistics import (
    BINS,
    RESAMPLES,
    Resamples,
    detectable,
    detectable_mean,
    holm,
    interval,
    intervals,
    mcnemar,
    ranks,
    ratio,
    separation,
    spearman,
    win_tie_loss,
)


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


def test_intervals_of_many_columns_are_those_of_each() -> None:
    columns = np.random.default_rng(9).normal(size=(1001, 5))
    assert intervals(columns) == [pytest.approx(interval(column)) for column in columns.T]
    columns[::40, 2] = np.nan
    columns[::2, 3] = np.nan
    assert intervals(columns) == [interval(column) for column in columns.T] and intervals(columns)[3] is None


def test_counts_of_groups_are_what_the_weights_say() -> None:
    groups = np.array([0, 2, 2, 0, 4])
    resamples = Resamples(5, "groups", count=100)
    weights = _weights(resamples)
    expected = np.stack([weights[:, groups == group].sum(1) for group in range(6)], axis=1)
    assert (resamples.counts(groups, 6) == expected).all()


# Tests ----------------------------------------------------------------------------------------------------------------


def test_mcnemar_by_hand() -> None:
    assert mcnemar(6, 1) == pytest.approx(2 * (1 + 7) / 2**7)
    assert mcnemar(6, 1, "greater") == pytest.approx((1 + 7) / 2**7)
    assert mcnemar(1, 6, "less") == mcnemar(6, 1, "greater") and mcnemar(1, 6) == mcnemar(6, 1)
    assert mcnemar(3, 3) == mcnemar(0, 0) == 1
    assert mcnemar(12, 0) == pytest.approx(2 / 2**12)


def test_mcnemar_keeps_its_level() -> None:
    """Exact tests are cautious: alike strategies are called different in at most 5 of 100 cases, whatever changes."""
    n = 40
    wrong = [
        sum(scipy.stats.binom.pmf(k, changed, 0.5) for k in range(changed + 1) if mcnemar(k, changed - k) <= 0.05)
        for changed in range(n + 1)
    ]
    for changing in (0.2, 0.5, 0.9):
        assert 0.005 < float(scipy.stats.binom.pmf(np.arange(n + 1), n, changing) @ wrong) <= 0.05


def test_holm_by_hand() -> None:
    assert holm([0.005, 0.011, 0.02, 0.04, 0.13]) == pytest.approx([0.025, 0.044, 0.06, 0.08, 0.13])
    assert holm([0.13, 0.04, 0.005, 0.02, 0.011]) == pytest.approx([0.13, 0.08, 0.025, 0.06, 0.044])
    assert holm([0.9, 0.8]) == [1, 1] and holm([]) == []


def test_ranks_by_hand() -> None:
    """Four tasks, three strategies; the first two tie once."""
    found = ranks(np.array([[0.9, 0.8, 0.7], [0.6, 0.6, 0.5], [0.9, 0.7, 0.8], [0.3, 0.2, 0.1]]))
    assert found.mean.tolist() == pytest.approx([4.5 / 4, 8.5 / 4, 11 / 4])
    chi = 12 * 4 / (3 * 4) * (found.mean**2).sum() - 3 * 4 * 4
    chi /= 1 - (2**3 - 2) / (4 * (3**3 - 3))  # one tie of two
    assert found.p == pytest.approx(scipy.stats.chi2.sf(chi, 2))
    assert found.critical_difference == pytest.approx(2.343 * np.sqrt(3 * 4 / (6 * 4)), abs=2e-3)
    assert (np.diag(found.pairwise) == 1).all() and (found.pairwise == found.pairwise.T).all()
    apart = found.mean[2] - found.mean[0]
    assert (apart > found.critical_difference) == bool(found.pairwise[0, 2] < 0.05)


@pytest.mark.parametrize(("k", "n", "expected"), [(2, 14, 1.960), (4, 14, 2.569), (10, 14, 3.164)])
def test_critical_differences_as_in_demsar(k: int, n: int, expected: float) -> None:
    """Critical values q of Demsar 2006, table 5; four classifiers on fourteen data sets have 1.25."""
    found = ranks(np.random.default_rng(k).random((n, k)))
    assert found.critical_difference == pytest.approx(expected * np.sqrt(k * (k + 1) / (6 * n)), abs=2e-3)
    assert k != 4 or round(found.critical_difference, 2) == 1.25


def test_ranks_of_too_few_and_of_equals() -> None:
    assert ranks(np.array([[0.1, 0.2]])).p is None and ranks(np.array([[0.1, 0.2]])).mean.tolist() == [2, 1]
    alike = ranks(np.full((3, 4), 0.5))
    assert alike.p == 1 and (alike.pairwise == 1).all() and alike.mean.tolist() == [2.5] * 4


def test_wins_ties_and_losses() -> None:
    assert win_tie_loss([0.2, 1e-15, -0.1, -0.3, 0.0]) == (1, 2, 2)


@pytest.mark.parametrize(
    ("bounds", "says"),
    [
        ((0.1, 0.2), "better"),
        ((-0.2, -0.1), "worse"),
        ((-0.1, 0.1), "not separable"),
        ((0.0, 0.1), "not separable"),
        (None, None),
    ],
)
def test_separation(bounds: tuple[float, float] | None, says: str | None) -> None:
    assert separation(bounds) == (says or "not separable")


@pytest.mark.parametrize(("n", "discordant"), [(400, 0.1), (1000, 0.05), (200, 0.4)])
def test_what_is_detectable_is_found_four_times_in_five(n: int, discordant: float) -> None:
    difference = detectable(n, discordant)
    assert difference is not None
    rng = np.random.default_rng(n)
    gains = (discordant + difference) / 2
    table = rng.multinomial(n, [gains, discordant - gains, 1 - discordant], 4000)
    p = {pair: mcnemar(*pair) for pair in {(int(won), int(lost)) for won, lost, _ in table}}
    found = np.mean([p[int(won), int(lost)] <= 0.05 and won > lost for won, lost, _ in table])
    assert found == pytest.approx(0.8, abs=0.025)  # standard error .006; counts are whole numbers
    za, zb = scipy.stats.norm.isf(0.025), scipy.stats.norm.ppf(0.8)  # Connor 1987, the normal approximation
    normal = np.sqrt(discordant) * (np.sqrt(n) * za + zb * np.sqrt(n + zb**2 - za**2)) / (n + zb**2)
    assert difference == pytest.approx(normal, rel=0.06) and difference > normal


def test_what_is_detectable_shrinks_with_images_and_may_not_exist() -> None:
    found = [detectable(n, 0.1) for n in (100, 1000, 50_000)]
    assert None not in found and found == sorted(found, reverse=True)  # type: ignore[type-var]
    assert detectable(1000, 0.1, power=0.95) > detectable(1000, 0.1) > detectable(1000, 0.1, level=0.2)  # type: ignore[operator]
    assert detectable(20, 0.1) is None and detectable(100, 0.0) is None and detectable(0, 0.5) is None


def test_what_is_detectable_in_a_mean() -> None:
    resampled = np.random.default_rng(0).normal(0.3, 0.01, 100_000)
    assert detectable_mean(resampled) == pytest.approx((1.95996 + 0.84162) * 0.01, rel=0.01)


def test_rank_correlation_against_scipy() -> None:
    rng = np.random.default_rng(3)
    one = rng.normal(size=12)
    two = one + rng.normal(size=12)
    found = spearman(one.tolist(), two.tolist())
    assert found is not None and found[0] == pytest.approx(scipy.stats.spearmanr(one, two).statistic)
    half = 1.959964 * np.sqrt((1 + found[0] ** 2 / 2) / 9)
    assert found[1:] == pytest.approx(tuple(np.tanh(np.arctanh(found[0]) + sign * half) for sign in (-1, 1)))
    assert spearman([1, 2, 3, 4], [1, 2, 3, 4]) is None and spearman([1.0] * 6, one[:6].tolist()) is None
    perfect = spearman(range(6), range(6))
    assert perfect is not None and perfect[0] == pytest.approx(1) and perfect[1] > 0.99
