"""Which backbones an oracle chooses, and what it would score by chance: pure functions of decisions and labels.

An oracle grows with the number of backbones even where they only guess. ``diversity.guessing`` knows the numbers of backbones
and classes, ``Joint.independent`` how accurate each backbone is; ``oracle_by_chance`` takes the very decisions and scores them
against shuffled labels, so that backbones which answer alike, or always the same, are not taken for so many guessers.
"""

from __future__ import annotations

import math
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensemble_bench.errors import Lacking

MOST_SUBSETS = 200_000
MOST_BACKBONES = 62
"""A subset is kept in the bits of one integer."""

_AT_ONCE = 1 << 24


def best_subset(right: Any, k: int) -> tuple[int, ...]:
    """The k backbones with the most samples that any of them has right; ``right`` bool [b, s]; ties to the first in order.

    Samples on which the same backbones are right count together, so that 50,000 samples of nine backbones are at most 512.
    More than 200,000 subsets are not tried: ``Lacking``.
    """
    right = np.asarray(right, dtype=bool)
    b = len(right)
    if k > b:
        raise Lacking(f"an oracle of {k} backbones needs as many, and there are only {b}.")
    if math.comb(b, k) > MOST_SUBSETS:
        raise Lacking(f"{b} backbones have {math.comb(b, k):,} subsets of {k}: more than {MOST_SUBSETS:,} are not tried.")
    if b > MOST_BACKBONES:
        raise Lacking(f"the best {k} of {b} backbones are not sought: at most {MOST_BACKBONES} are.")
    bits = np.int64(1) << np.arange(b, dtype=np.int64)
    pattern, count = np.unique(bits @ right, return_counts=True)
    chosen = np.array(list(combinations(range(b), k)), dtype=np.int64).reshape(-1, k)
    masks = bits[chosen].sum(1)
    step = max(1, _AT_ONCE // max(1, len(pattern)))
    found = [((part[:, None] & pattern) != 0) @ count for part in np.split(masks, range(step, len(masks), step))]
    return tuple(int(i) for i in chosen[np.concatenate(found).argmax()])


def best_by_class(right: NDArray[np.bool_], labels: NDArray[Any], classes: int) -> NDArray[np.int64]:
    """Number of the backbone that is right most often on each class, int64 [c]; ties go to the first.

    ``right`` bool [b, s], ``labels`` class indices [s]. A class without a sample has the first, too.
    """
    count = np.stack([np.bincount(labels[row], minlength=classes) for row in right])
    best: NDArray[np.int64] = count.argmax(0)
    return best


def oracle_by_chance(decisions: NDArray[Any], labels: NDArray[Any]) -> NDArray[np.float64]:
    """Probability [s] that some backbone is right on a sample when the labels are shuffled; its mean is the oracle by chance.

    Exactly the expectation over all orders of ``labels`` [s] of the oracle over ``decisions`` [b, s] (-1 = no answer, never
    right): the share of the labels that are a class which some backbone says.
    """
    ordered = np.sort(decisions, axis=0)
    fresh = np.diff(ordered, axis=0, prepend=-1) > 0  # the first of each class; "no answer" is none
    hoped: NDArray[np.float64] = np.where(fresh, _share(ordered, labels), 0.0).sum(0)
    return hoped


def oracle_per_class_by_chance(decisions: NDArray[Any], labels: NDArray[Any], best: NDArray[Any]) -> NDArray[np.float64]:
    """The same [s] for an oracle that lets backbone ``best[c]`` answer where the label is c, with ``best`` int [c] kept."""
    asked = best[decisions] == np.arange(len(decisions))[:, None]
    hoped: NDArray[np.float64] = np.where(asked & (decisions >= 0), _share(decisions, labels), 0.0).sum(0)
    return hoped


def _share(decisions: NDArray[Any], labels: NDArray[Any]) -> NDArray[np.float64]:
    """Share of the labels that are what was decided, in the shape of the decisions."""
    count = np.bincount(labels, minlength=int(decisions.max(initial=0)) + 1)
    share: NDArray[np.float64] = (count / len(labels))[decisions]
    return share
