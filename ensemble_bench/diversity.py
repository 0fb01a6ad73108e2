"""How much backbones complement each other: from who was right together to measures of pairs and pools, with their resamples.

Everything here is counted from the joint pattern of right and wrong answers of b backbones, of which there are at most 2^b:
``Tally`` takes chunk after chunk of decisions and labels, ``Joint`` holds the counts, or those of many resamples at once.
docs/complementarity.md says how to read each measure.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ensemble_bench.errors import BadCube
from ensemble_bench.statistics import RESAMPLES, Floats, Resamples, ratio

MOST = 62  # backbones whose pattern fits into one whole number

Ints = NDArray[np.int64]


def pairs(b: int) -> list[tuple[int, int]]:
    """The pairs of b backbones, in the order of every array [..., pairs].

    >>> pairs(3)
    [(0, 1), (0, 2), (1, 2)]
    """
    return list(combinations(range(b), 2))


def disagreements(decisions: NDArray[Any], labels: NDArray[Any]) -> tuple[Floats, Floats]:
    """How much each of b backbones differs from the others on each sample, [b, s] in [0, 1]: in being right, in the answer.

    The mean over the others of "one of us is right and one is wrong", and of "our answers differ". The mean over backbones is
    the mean over pairs. From decisions [b, s] of at least two backbones and labels [s].
    """
    right = decisions == labels
    others = len(decisions) - 1
    return (
        np.array([(right != one).sum(0) / others for one in right]),
        np.array([(decisions != one).sum(0) / others for one in decisions]),
    )


@dataclass(frozen=True, eq=False)
class Cells:
    """Shares of images by the fate of both backbones of a pair, each [..., pairs]: both right, only the first, and so on.

    ``differ``: the share of images on which the two give different answers, right or wrong.
    """

    both: Floats
    first: Floats
    second: Floats
    neither: Floats
    differ: Floats

    @property
    def accuracies(self) -> tuple[Floats, Floats]:
        """Of the first and of the second backbone."""
        return self.both + self.first, self.both + self.second


@dataclass(frozen=True)
class Measure:
    """A number of a pair as a quotient of two sums, so that over tasks both are added up first; null where the lower one is 0.

    ``high`` is what two equal backbones have (unless noted in the docs), ``reading`` says what more of it means.
    """

    name: str
    low: float
    high: float
    reading: str
    parts: Callable[[Cells], tuple[Floats, Floats]]

    def of(self, cells: Cells) -> Floats:
        """The measure itself, NaN where it is not defined."""
        return ratio(*self.parts(cells))


def _share(own: Floats) -> tuple[Floats, Floats]:
    return own, np.ones_like(own)


def _q(cells: Cells) -> tuple[Floats, Floats]:
    same, apart = cells.both * cells.neither, cells.first * cells.second
    return same - apart, same + apart


def _rho(cells: Cells) -> tuple[Floats, Floats]:
    one, two = cells.accuracies
    spread = one * (cells.second + cells.neither) * two * (cells.first + cells.neither)
    return cells.both * cells.neither - cells.first * cells.second, np.sqrt(spread)


def _kappa(cells: Cells) -> tuple[Floats, Floats]:
    one, two = cells.accuracies
    expected = one * two + (cells.second + cells.neither) * (cells.first + cells.neither)
    apart = one * (cells.first + cells.neither) + two * (cells.second + cells.neither)  # 1 - expected, 0 where it is
    return cells.both + cells.neither - expected, apart


MEASURES: Mapping[str, Measure] = {
    measure.name: measure
    for measure in (
        Measure("disagreement", 0, 1, "one is right and the other wrong", lambda c: _share(c.first + c.second)),
        Measure("label_disagreement", 0, 1, "the answers differ", lambda c: _share(c.differ)),
        Measure("q", -1, 1, "Yule's Q of being right: 0 independent, 1 nested", _q),
        Measure("rho", -1, 1, "correlation of being right", _rho),
        Measure("double_fault", 0, 1, "both are wrong", lambda c: _share(c.neither)),
        Measure("kappa", -1, 1, "error consistency: agreement of fates beyond what the accuracies give", _kappa),
    )
}
RESCUES: Mapping[str, Measure] = {
    measure.name: measure
    for measure in (
        Measure("rescue", 0, 1, "the second is right where the first is wrong", lambda c: (c.second, c.second + c.neither)),
        Measure("rescued", 0, 1, "the first is right where the second is wrong", lambda c: (c.first, c.first + c.neither)),
    )
}


def complementarity(rescued: ArrayLike, independent: ArrayLike) -> Floats:
    """The headline number, in [-1, 1]: how many errors of the best single backbone others rescue, beyond independence.

    ``rescued`` is R, the share of the best single backbone's errors that some other backbone has right; ``independent`` is R0,
    the share that backbones of the same accuracies would have right if their errors had nothing to do with each other. The
    number is (R - R0) / max(R0, 1 - R0): the deviation from independence, as a share of the largest one that any pool with this
    R0 could show in either direction.

    0 is what independence explains. Below 0, backbones fail on the same images; where R0 is at least a half, as in most pools,
    1 + the number is the part of the independent rescues that is left, and -1 means that nobody ever rescues the best. Above 0,
    they fail on different images more often than chance would have it; 1 means that every error is rescued although
    independence would leave at least half of them. Never further from 0 than 2 |R - R0|, so that where hardly anything could
    deviate it stays near 0. NaN where the best single backbone makes no errors (``rescued`` is NaN).

    >>> complementarity([0.45, 0.75, 0.9], [0.75, 0.75, 0.2]).round(6).tolist()
    [-0.4, 0.0, 0.875]
    """
    rescued, independent = np.asarray(rescued, np.float64), np.asarray(independent, np.float64)
    return np.asarray((rescued - independent) / np.maximum(independent, 1 - independent))


def rescues(accuracy: Floats, oracle: Floats, best: int) -> tuple[Floats, Floats, Floats]:
    """Shares of all images, [...]: errors of the ``best`` backbone, those others have right, those independence would.

    From the accuracy of each backbone [..., b] and of the oracle [...]. Over tasks the three are averaged, and the headline is
    ``complementarity(rescued / errors, independent / errors)``.
    """
    errors = 1 - accuracy[..., best]
    others = np.delete(accuracy, best, axis=-1)
    return errors, oracle - accuracy[..., best], errors * (1 - np.prod(1 - others, axis=-1))


@dataclass(frozen=True, eq=False)
class Joint:
    """Which of b backbones were right together: ``counts`` [..., p] of the p patterns ``right`` bool [p, b] that occur.

    ``differ`` [..., pairs] counts images on which the answers of a pair differ. Leading axes are resamples.
    """

    right: NDArray[np.bool_]
    counts: Floats
    differ: Floats

    @classmethod
    def of(cls, decisions: ArrayLike, labels: ArrayLike, resamples: Resamples | None = None) -> Joint:
        """From decisions int [b, s] and labels int [s]; with ``resamples`` [1 + count, ...], what was seen comes first."""
        decisions, labels = np.asarray(decisions), np.asarray(labels)
        tally = Tally(len(decisions))
        tally.add(decisions, labels)
        joint = tally.joint()
        if resamples is None:
            return joint
        place = np.searchsorted(tally.codes, _codes(decisions == labels))
        counts = resamples.counts(place, len(tally.codes))
        differ = np.empty((len(counts), joint.differ.shape[-1]))
        if len(decisions) > 1:
            apart = [(decisions[i] != decisions[j])[None] for i, j in pairs(len(decisions))]
            differ = np.round(resamples.means(apart) * len(labels))
        return cls(joint.right, np.vstack([joint.counts, counts]), np.vstack([joint.differ, differ]))

    def resampled(self, name: str, count: int = RESAMPLES) -> Joint:
        """The counts with those of ``count`` bootstrap resamples below, [1 + count, ...], from the counts alone.

        Picking n of n images is picking patterns with their frequencies, so this is the bootstrap over images itself, at a
        price that does not depend on n. Label disagreements are exact for each pair, and between pairs as if independent.
        Seeded by ``name``; numpy keeps this generator's numbers as they are.
        """
        words = np.frombuffer(hashlib.sha256(name.encode()).digest()[:16], np.uint32)
        generator = np.random.RandomState(np.random.MT19937(words))
        n = int(self.counts.sum())
        counts = generator.multinomial(n, self.counts / max(n, 1), count).astype(np.float64)
        seen = self.cells
        alone = Joint(self.right, counts, np.zeros((count, self.differ.shape[-1])))
        among = np.clip(ratio(seen.differ - seen.first - seen.second, seen.neither), 0, 1)
        apart = np.round((alone.cells.first + alone.cells.second) * n)
        neither = np.round(alone.cells.neither * n).astype(np.int64)
        differ = apart + generator.binomial(neither, np.nan_to_num(among))
        return Joint(self.right, np.vstack([self.counts, counts]), np.vstack([self.differ, differ]))

    @property
    def backbones(self) -> int:
        """How many there are, b."""
        return int(self.right.shape[1])

    @cached_property
    def n(self) -> Floats:
        """Images, [...]."""
        return np.asarray(self.counts.sum(-1))

    def share(self, patterns: ArrayLike) -> Floats:
        """Share of images, [..., k], that k columns [p, k] (or one, [p]) of weights per pattern add up to."""
        weights = np.asarray(patterns, np.float64)
        n = self.n if weights.ndim == 1 else self.n[..., None]
        return np.asarray(self.counts @ weights / n)

    @cached_property
    def accuracy(self) -> Floats:
        """Of each backbone, [..., b]."""
        return self.share(self.right)

    @cached_property
    def cells(self) -> Cells:
        """Of every pair. Counts are whole numbers, so what is empty is exactly 0."""
        first, second = (self.right[:, place] for place in np.array(pairs(self.backbones), np.int64).reshape(-1, 2).T)
        return Cells(
            self.share(first & second),
            self.share(first & ~second),
            self.share(~first & second),
            self.share(~(first | second)),
            self.differ / self.n[..., None],
        )

    @cached_property
    def best(self) -> int:
        """The backbone with the highest accuracy on what was seen (resamples do not choose anew); the first of several."""
        return int(self.accuracy.reshape(-1, self.backbones)[0].argmax())

    def oracle(self, members: int | None = None) -> Floats:
        """Share of images that any backbone has right, [...]; of the ``members`` whose bits are set in a whole number."""
        chosen = slice(None) if members is None else [place for place in range(self.backbones) if members >> place & 1]
        return self.share(self.right[:, chosen].any(1))

    @cached_property
    def unique(self) -> Floats:
        """Share of images that each backbone alone has right, [..., b]: also what the oracle loses without it."""
        return self.share(self.right & (self.right.sum(1) == 1)[:, None])

    @cached_property
    def shapley(self) -> Floats:
        """Shapley value of each backbone for the oracle, [..., b]: what is right is shared equally by those who have it right.

        Non-negative, and together the accuracy of the oracle. Exact for any number of backbones.
        """
        return self.share(self.right / np.maximum(self.right.sum(1), 1)[:, None])

    def headline(self) -> Floats:
        """``complementarity`` of the pool, [...], NaN where it is not defined."""
        errors, rescued, independent = rescues(self.accuracy, self.oracle(), self.best)
        return complementarity(ratio(rescued, errors), ratio(independent, errors))

    def independent(self) -> Floats:
        """The oracle that backbones of these accuracies would have if their errors were independent, [...]."""
        return np.asarray(1 - np.prod(1 - self.accuracy, axis=-1))


def guessing(backbones: int, classes: int) -> float:
    """The oracle of backbones that only guess, each by itself: 1 - (1 - 1/C)^B.

    >>> round(guessing(9, 2), 3), round(guessing(9, 100), 3)
    (0.998, 0.086)
    """
    return 1 - (1 - 1 / classes) ** backbones


class Tally:
    """Counts who was right together, chunk after chunk: memory grows with the patterns that occur, not with the samples.

    ``add(decisions, labels)`` takes class indices int [b, n] and [n] (arrays or tensors on the CPU; -1, no answer, is wrong)
    and ``joint()`` gives what was counted so far. Chunks in any order and of any size count the same.
    """

    def __init__(self, backbones: int) -> None:
        if not 1 <= backbones <= MOST:
            raise BadCube(f"who is right together can be counted for 1 to {MOST} backbones, not for {backbones}.")
        self.backbones = backbones
        self.codes: Ints = np.empty(0, np.int64)
        """Patterns that occur, ascending: bit k is set where backbone k is right."""
        self.counts: Ints = np.empty(0, np.int64)
        self.differ: Ints = np.zeros(len(pairs(backbones)), np.int64)

    def add(self, decisions: ArrayLike, labels: ArrayLike) -> None:
        """Count one chunk; shapes that do not fit are ``BadCube``."""
        decisions, labels = np.asarray(decisions), np.asarray(labels)
        if labels.ndim != 1 or decisions.shape != (self.backbones, len(labels)):
            wanted = f"[{self.backbones}, n] and [n]"
            raise BadCube(f"decisions and labels must be {wanted}, not {list(decisions.shape)} and {list(labels.shape)}.")
        codes, counts = np.unique(_codes(decisions == labels), return_counts=True)
        both = np.union1d(self.codes, codes)
        total = np.zeros(len(both), np.int64)
        total[np.searchsorted(both, self.codes)] = self.counts
        total[np.searchsorted(both, codes)] += counts
        self.codes, self.counts = both, total
        self.differ += np.array([int((decisions[i] != decisions[j]).sum()) for i, j in pairs(self.backbones)], np.int64)

    def joint(self) -> Joint:
        """What was counted so far; ``BadCube`` where that is nothing."""
        if not len(self.codes):
            raise BadCube("there is nobody to compare: no sample has been counted.")
        bits = np.arange(self.backbones)
        return Joint((self.codes[:, None] >> bits & 1).astype(bool), self.counts.astype(float), self.differ.astype(float))


def _codes(right: NDArray[np.bool_]) -> Ints:
    """The pattern of each sample as a whole number, int64 [s], from truth values [b, s]."""
    codes = np.zeros(right.shape[1], np.int64)
    for place, row in enumerate(right):
        codes |= row.astype(np.int64) << place
    return codes
