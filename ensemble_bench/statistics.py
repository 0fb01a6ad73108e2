"""Intervals: percentile bootstrap over draws and images, with the same resamples for everything that is compared."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000
LEVEL = 0.95
BINS = 15
_AT_ONCE = 1 << 24  # numbers in one array of weights or columns: 128 MB

Floats = NDArray[np.float64]
Array = NDArray[Any]
Alternative = Literal["two-sided", "greater", "less"]


def _picks(name: str, count: int, items: int) -> Iterator[Floats]:
    """Blocks of rows that add up to ``count``: how often each of ``items`` is picked in ``items`` picks, float64 [rows, items].

    From raw 64-bit output, because the streams of numpy's distributions may change between versions.
    """
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:16], "big")
    bits = np.random.PCG64(seed)
    block = max(1, min(count, _AT_ONCE // items))
    for start in range(0, count, block):
        rows = min(block, count - start)
        picked = ((bits.random_raw(rows * items) >> np.uint64(32)) * np.uint64(items)) >> np.uint64(32)
        flat = picked.astype(np.int64) + np.repeat(np.arange(rows) * items, items)
        yield np.bincount(flat, minlength=rows * items).reshape(rows, items).astype(np.float64)


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

    @cached_property
    def _kept(self) -> list[Floats]:
        return list(_picks(self.name, self.count, self.samples))

    def _weights(self) -> Iterator[tuple[slice, Floats]]:
        """How often each image is picked, float64 [rows, s], with the rows they are; kept where that is small."""
        blocks = self._kept if self.count * self.samples <= _AT_ONCE else _picks(self.name, self.count, self.samples)
        start = 0
        for block in blocks:
            yield slice(start, start + len(block)), block
            start += len(block)

    def _over_draws(self, per_draw: Floats, draws: Sequence[int]) -> Floats:
        """Mean over resampled draws, [count, k], from one column per draw of each of k cells."""
        found = np.empty((self.count, len(draws)))
        picks = {d: np.concatenate(list(_picks(f"{self.name}\n{d} draws", self.count, d))) / d for d in set(draws) if d > 1}
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

    def recalls(self, right: Sequence[Array], labels: Array) -> Floats:
        """Resampled mean per-class recalls, float64 [count, k], from truth values [d, s]; over the classes in the resample."""
        order = np.argsort(labels, kind="stable")
        columns = np.concatenate(right).astype(np.float64).T[order]
        per_draw = np.empty((self.count, columns.shape[1]))
        starts = np.flatnonzero(np.diff(labels[order], prepend=labels.min() - 1))
        for rows, weights in self._weights():
            ordered = weights[:, order]
            sizes = np.add.reduceat(ordered, starts, axis=1)
            shares = np.divide(1, sizes, out=np.zeros_like(sizes), where=sizes > 0)
            total = np.zeros((len(weights), columns.shape[1]))
            for place, (start, end) in enumerate(pairwise((*starts, len(order)))):
                total += (ordered[:, start:end] @ columns[start:end]) * shares[:, place : place + 1]
            per_draw[rows] = total / (sizes > 0).sum(1, keepdims=True)
        return self._over_draws(per_draw, [len(value) for value in right])

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


def mcnemar(gained: int, lost: int, alternative: Alternative = "two-sided") -> float:
    """P value of McNemar's exact test that gains and losses are equally likely; 1 where nothing changed.

    ``gained`` images only the first of two has right, ``lost`` only the second; ``greater`` asks whether the first is better.

    >>> mcnemar(5, 0), mcnemar(5, 0, "greater"), mcnemar(0, 0)
    (0.0625, 0.03125, 1.0)
    """
    from scipy.stats import binomtest

    return float(binomtest(gained, gained + lost, 0.5, alternative).pvalue) if gained + lost else 1.0


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
