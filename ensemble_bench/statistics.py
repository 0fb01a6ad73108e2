"""Intervals and tests: a paired bootstrap over draws and images, exact tests per task, ranks over tasks, what can be found."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000
LEVEL = 0.95
POWER = 0.8
BINS = 15
_AT_ONCE = 1 << 24  # numbers in one array of weights or columns: 128 MB
_BLOCK = 1 << 22  # weights in memory at once where there are more than that
_PACKED = 1 << 27  # weights that are kept a byte each

Floats = NDArray[np.float64]
Array = NDArray[Any]
Alternative = Literal["two-sided", "greater", "less"]


def _words(name: str, count: int, items: int) -> Iterator[NDArray[np.uint64]]:
    """Raw words for blocks of rows that add up to ``count``, ``items`` for each row, flat.

    Raw, because the streams of numpy's distributions may change between versions.
    """
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:16], "big")
    bits = np.random.PCG64(seed)
    block = max(1, min(count, (_AT_ONCE if count * items <= _AT_ONCE else _BLOCK) // items))
    for start in range(0, count, block):
        yield bits.random_raw(min(block, count - start) * items)


def _picks(name: str, count: int, items: int) -> Iterator[NDArray[np.int64]]:
    """Blocks of rows that add up to ``count``: which of ``items`` are picked in ``items`` picks, int64 [rows, items]."""
    for picked in _words(name, count, items):
        picked >>= np.uint64(32)
        picked *= np.uint64(items)
        picked >>= np.uint64(32)
        yield picked.view(np.int64).reshape(-1, items)


def _times(picked: NDArray[np.int64], kinds: int) -> Floats:
    """How often each of ``kinds`` is picked in every row, float64 [rows, kinds]."""
    rows = len(picked)
    flat = (picked + np.arange(rows)[:, None] * kinds).ravel()
    return np.bincount(flat, minlength=rows * kinds).reshape(rows, kinds).astype(np.float64)


def _shares(weights: Floats, labels: Array) -> Floats:
    """The weights [rows, s], divided by that of their class in the row and by the number of classes in it."""
    order = np.argsort(labels, kind="stable")
    starts = np.flatnonzero(np.diff(labels[order], prepend=labels.min() - 1))
    sizes = np.add.reduceat(weights[:, order], starts, axis=1)
    shares = np.divide(1, sizes, out=np.zeros_like(sizes), where=sizes > 0)
    shares /= (sizes > 0).sum(1, keepdims=True)
    return weights * shares[:, np.unique(labels, return_inverse=True)[1]]


class Resamples:
    """``count`` bootstrap resamples of the s images of one task under one condition, and of the draws of each cell.

    Seeded by ``name`` (task and condition), so that every strategy meets the same images and draws in a resample: differences
    and ratios of columns are paired. Draws and images are crossed: each draw saw the same images, so a resample picks draws
    once and images once, both with replacement. Arrays are [d, s]; with one draw only images vary. Five draws make for a
    bootstrap of draws that is a little too narrow (by about a tenth in standard deviation).
    """

    def __init__(self, samples: int, name: str, count: int = RESAMPLES) -> None:
        self.samples = samples
        self.name = name
        self.count = count
        self._labels: Array | None = None
        self._shared: list[tuple[slice, Floats]] = []

    def _blocks(self) -> Iterator[Floats]:
        return (_times(picked, self.samples) for picked in _picks(self.name, self.count, self.samples))

    @cached_property
    def _kept(self) -> list[Floats]:
        return list(self._blocks())

    @cached_property
    def _packed(self) -> list[NDArray[np.uint8]]:
        from ensemble_bench import passes  # for its weight

        return [passes.times(words, self.samples, self.samples) for words in _words(self.name, self.count, self.samples)]

    def _weights(self) -> Iterator[tuple[slice, Floats]]:
        """How often each image is picked, float64 [rows, s], with the rows they are; kept where that is small."""
        size = self.count * self.samples
        packed = (block.astype(np.float64) for block in self._packed) if _AT_ONCE < size <= _PACKED else None
        start = 0
        for block in self._kept if size <= _AT_ONCE else packed or self._blocks():
            yield slice(start, start + len(block)), block
            start += len(block)

    def _over_draws(self, per_draw: Floats, draws: Sequence[int]) -> Floats:
        """Mean over resampled draws, [count, k], from one column per draw of each of k cells."""
        found = np.empty((self.count, len(draws)))
        picks = {
            d: np.concatenate([_times(picked, d) for picked in _picks(f"{self.name}\n{d} draws", self.count, d)]) / d
            for d in set(draws)
            if d > 1
        }
        start = 0
        for cell, d in enumerate(draws):
            columns = per_draw[:, start : start + d]
            found[:, cell] = columns[:, 0] if d == 1 else np.einsum("rd,rd->r", columns, picks[d])
            start += d
        return found

    def means(self, values: Sequence[Array]) -> Floats:
        """Resampled means of k cells, float64 [count, k], from per-sample values [d, s] of each."""
        columns = np.concatenate(values).astype(np.float64).T
        per_draw = np.empty((self.count, columns.shape[1]))
        for rows, weights in self._weights():
            per_draw[rows] = weights @ columns
        return self._over_draws(per_draw / self.samples, [len(value) for value in values])

    def counts(self, groups: Array, number: int) -> Floats:
        """How many images of each group a resample picks, float64 [count, number], from the group of each image, int [s]."""
        groups = np.asarray(groups, np.int64)
        return np.concatenate([_times(groups[picked], number) for picked in _picks(self.name, self.count, self.samples)])

    def recalls(self, right: Sequence[Array], labels: Array) -> Floats:
        """Resampled mean per-class recalls, float64 [count, k], from truth values [d, s]; over the classes in the resample."""
        columns = np.concatenate(right).astype(np.float64).T
        per_draw = np.empty((self.count, columns.shape[1]))
        for rows, weights in self._by_class(labels):
            per_draw[rows] = weights @ columns
        return self._over_draws(per_draw, [len(value) for value in right])

    def _by_class(self, labels: Array) -> Iterator[tuple[slice, Floats]]:
        """What each image adds to a mean per-class recall if it is right, float64 [rows, s]; kept as ``_weights`` is."""
        if self.count * self.samples > _AT_ONCE:
            yield from ((rows, _shares(weights, labels)) for rows, weights in self._weights())
            return
        if self._labels is None or not np.array_equal(self._labels, labels):
            self._labels, self._shared = labels, [(rows, _shares(weights, labels)) for rows, weights in self._weights()]
        yield from self._shared

    def calibration_errors(self, confidence: Sequence[Array], right: Sequence[Array]) -> Floats:
        """Resampled expected calibration errors, float64 [count, k], from confidences in [0, 1] and truth values, each [d, s].

        BINS bins of equal width, each closed above.
        The plain estimate grows with noise, so the whole interval may lie above the value of all images.
        Sums within a bin are taken in float32 (error below 1e-5): this is most of the work of a board.
        """
        sure, good = np.concatenate(confidence).astype(np.float64), np.concatenate(right)
        per_draw = np.empty((self.count, len(sure)))
        step = max(1, _AT_ONCE // (BINS * max(self.samples, self.count)))
        for start in range(0, len(sure), step):
            part = slice(start, start + step)
            gap = (sure[part] - good[part]).astype(np.float32)  # [k, s]
            place = np.ceil(sure[part] * BINS).astype(np.int64).clip(1, BINS) - 1 + np.arange(len(gap))[:, None] * BINS
            bins, place = np.unique(place, return_inverse=True)  # empty bins cost nothing
            columns = np.zeros((self.samples, len(bins)), np.float32)
            columns[np.arange(self.samples), place.reshape(gap.shape)] = gap
            first = np.flatnonzero(np.diff(bins // BINS, prepend=-1))
            for rows, weights in self._weights():
                sums = np.abs(weights.astype(np.float32) @ columns)
                per_draw[rows, part] = np.add.reduceat(sums, first, axis=1)
        return self._over_draws(per_draw / self.samples, [len(value) for value in right])


def ratio(numerator: Floats, denominator: Floats) -> Floats:
    """Quotient of two resampled numbers, NaN where the denominator is 0."""
    found = np.full(numerator.shape, np.nan)
    np.divide(numerator, denominator, out=found, where=denominator != 0)
    return found


def interval(resampled: Floats, level: float = LEVEL) -> tuple[float, float] | None:
    """Percentile interval of one resampled number [count], NaN left out; None if fewer than ``level`` of them are defined."""
    ordered = np.sort(resampled)  # NaN last
    defined = len(ordered) - int(np.isnan(resampled).sum())
    if not defined or defined < level * len(ordered):
        return None
    low, high = np.interp(
        [(1 - level) / 2 * (defined - 1), (1 + level) / 2 * (defined - 1)], np.arange(defined), ordered[:defined]
    )
    return float(low), float(high)


def intervals(resampled: Floats, level: float = LEVEL) -> list[tuple[float, float] | None]:
    """``interval`` of every column of resampled numbers [count, k]."""
    if np.isnan(resampled).any():
        return [interval(column, level) for column in resampled.T]
    ordered = np.sort(resampled, axis=0)
    last = len(ordered) - 1
    places = [part * last for part in ((1 - level) / 2, (1 + level) / 2)]
    ends = [ordered[int(at)] + (at - int(at)) * (ordered[min(int(at) + 1, last)] - ordered[int(at)]) for at in places]
    return [(float(one), float(two)) for one, two in zip(*ends, strict=True)]


def separation(bounds: tuple[float, float] | None) -> str:
    """What an interval of a difference says: ``better``, ``worse``, or ``not separable`` where it holds 0 or does not exist.

    >>> separation((0.01, 0.03)), separation((-0.02, 0.0))
    ('better', 'not separable')
    """
    if bounds is None or bounds[0] <= 0 <= bounds[1]:
        return "not separable"
    return "better" if bounds[0] > 0 else "worse"


def mcnemar(gained: int, lost: int, alternative: Alternative = "two-sided") -> float:
    """P value of McNemar's exact test that gains and losses are equally likely; 1 where nothing changed.

    ``gained`` images only the first of two has right, ``lost`` only the second; ``greater`` asks whether the first is better.

    >>> mcnemar(5, 0), mcnemar(5, 0, "greater"), mcnemar(0, 0)
    (0.0625, 0.03125, 1.0)
    """
    if alternative == "two-sided":
        return min(1.0, 2 * mcnemar(max(gained, lost), min(gained, lost), "greater"))
    if alternative == "less":
        return mcnemar(lost, gained, "greater")
    from scipy.special import betainc  # scipy.stats takes a second to load

    return float(betainc(gained, lost + 1, 0.5)) if gained else 1.0


def holm(p: Sequence[float]) -> list[float]:
    """P values adjusted so that the chance of even one false alarm among them all stays below the level (Holm 1979).

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p, kind="stable")
    stepped = np.asarray(p, np.float64)[order] * np.arange(len(p), 0, -1)
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(np.maximum.accumulate(stepped), 1)
    return [float(value) for value in adjusted]


def win_tie_loss(differences: Sequence[float]) -> tuple[int, int, int]:
    """On how many tasks a difference is above, at and below 0; differences below 1e-12 are rounding.

    >>> win_tie_loss([0.1, 0.0, -0.2, 0.3])
    (2, 1, 1)
    """
    signs = [0 if abs(one) < 1e-12 else 1 if one > 0 else -1 for one in differences]
    return signs.count(1), signs.count(0), signs.count(-1)


@dataclass(frozen=True)
class Ranks:
    """What Friedman's test and Nemenyi's comparisons say of k strategies on n tasks (Demsar 2006).

    ``mean`` [k]: mean rank, 1 is best, ties share theirs. ``p``: Friedman's, corrected for ties, that all are alike; None for
    fewer than three strategies or two tasks. ``pairwise`` [k, k]: Nemenyi's p value of every pair. Two strategies whose mean
    ranks are closer than ``critical_difference`` (at level 1 - LEVEL) cannot be told apart by their ranks.
    """

    mean: Floats
    p: float | None
    pairwise: Floats
    critical_difference: float


def ranks(values: Array) -> Ranks:
    """Ranks of k strategies over n tasks, from values [n, k] of which more is better."""
    from scipy.stats import friedmanchisquare, rankdata, studentized_range

    n, k = values.shape
    mean = rankdata(-np.round(values, 12), axis=1).mean(0)
    step = np.sqrt(k * (k + 1) / (6 * n))
    apart = np.abs(mean[:, None] - mean[None]) / step * np.sqrt(2)
    alike = bool((values == values[:, :1]).all())
    p = 1.0 if alike else float(friedmanchisquare(*np.round(values, 12).T).pvalue) if k > 2 and n > 1 else None
    pairwise = np.clip(studentized_range.sf(apart, k, np.inf), 0, 1) if k > 1 else np.ones((1, 1))
    np.fill_diagonal(pairwise, 1.0)
    critical = float(studentized_range.ppf(LEVEL, k, np.inf) / np.sqrt(2) * step) if k > 1 else 0.0
    return Ranks(mean, p if k > 2 and n > 1 else None, pairwise, critical)


def detectable(n: int, discordant: float, *, power: float = POWER, level: float = 1 - LEVEL) -> float | None:
    """The smallest true difference that McNemar's exact two-sided test finds with this power, in [0, discordant], or None.

    ``n`` images, of which in truth a share ``discordant`` is right for one of two strategies only; the difference is in shares
    of all images. Found means: significant at ``level``, and in the right direction. None where even a difference of
    ``discordant`` (all changes in one direction) would be missed too often.
    """
    from scipy.stats import binom

    if not 0 < discordant <= 1 or n < 1:
        return None
    low, high = (int(binom.ppf(tail, n, discordant)) for tail in (1e-9, 1 - 1e-9))
    changed = np.arange(max(low, 1), high + 1)
    weight = binom.pmf(changed, n, discordant)
    needed = binom.isf(level / 2, changed, 0.5) + 1  # as many gains, or more, are significant

    def found(difference: float) -> float:
        return float(weight @ binom.sf(needed - 1, changed, min(1.0, (1 + difference / discordant) / 2)))

    if found(discordant) < power:
        return None
    nearly, enough = 0.0, discordant
    while enough - nearly > 1e-7:
        middle = (nearly + enough) / 2
        nearly, enough = (nearly, middle) if found(middle) >= power else (middle, enough)
    return enough


def detectable_mean(resampled: Floats, *, power: float = POWER, level: float = 1 - LEVEL) -> float:
    """The same for a mean whose resamples are known: the normal approximation from their standard deviation."""
    normal = NormalDist()
    return float((normal.inv_cdf(1 - level / 2) + normal.inv_cdf(power)) * resampled.std())


def t_interval(value: Floats, error: Floats, freedom: int, level: float = LEVEL) -> tuple[Floats, Floats]:
    """Ends of Student's interval around a value with this standard error and so many degrees of freedom."""
    from scipy.special import stdtrit

    half = float(stdtrit(max(freedom, 1), (1 + level) / 2)) * error
    return value - half, value + half


FEWEST_TASKS = 5


def spearman(one: Sequence[float], two: Sequence[float], level: float = LEVEL) -> tuple[float, float, float] | None:
    """Rank correlation over n tasks with its interval (Bonett and Wright 2000); None for fewer than FEWEST_TASKS or no ranks.

    The interval is Fisher's transformation with variance (1 + r^2 / 2) / (n - 3).
    """
    if len(one) < FEWEST_TASKS or len(set(one)) < 2 or len(set(two)) < 2:
        return None
    r = float(np.corrcoef(_placed(one), _placed(two))[0, 1])
    sure = min(abs(r), 1 - 1e-12) * np.sign(r)
    half = NormalDist().inv_cdf((1 + level) / 2) * np.sqrt((1 + r**2 / 2) / (len(one) - 3))
    return r, float(np.tanh(np.arctanh(sure) - half)), float(np.tanh(np.arctanh(sure) + half))


def _placed(values: Sequence[float]) -> Floats:
    """Rank of each value, 1 is least; equal ones share the mean of theirs."""
    _, place, times = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(times)
    return np.asarray((last - (times - 1) / 2)[place.reshape(-1)])
