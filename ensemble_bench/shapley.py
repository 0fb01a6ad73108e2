"""What each member of a pool is worth: Shapley and leave-one-out values, greedy curves, for any worth of subsets.

Subsets are whole numbers: bit k is set where member k is in. A table of worths has the subset as its first axis, [2^b, ...].
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from math import factorial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensemble_bench.statistics import Floats

ENUMERATED = 12  # members of which all subsets are tried; beyond, permutations are drawn
PERMUTATIONS = 200

Worth = Callable[[int], Any]
"""The worth of a subset: a number or an array, of the same shape for every subset."""


def shapley(worths: NDArray[Any]) -> Floats:
    """Exact Shapley values [b, ...] from the worth of every subset [2^b, ...].

    A member's value is its mean contribution over all orders in which a pool can be put together; the values add up to the
    worth of the whole pool less that of none.

    >>> shapley(np.array([0.0, 0.6, 0.4, 0.8])).round(6).tolist()
    [0.5, 0.3]
    """
    worths = np.asarray(worths, np.float64)
    b = len(worths).bit_length() - 1
    subsets = np.arange(len(worths))
    sizes = np.array([int(subset).bit_count() for subset in subsets])
    weight = np.array([factorial(size) * factorial(b - size - 1) / factorial(b) if size < b else 0.0 for size in sizes])
    found = np.empty((b, *worths.shape[1:]))
    for member in range(b):
        without = subsets[subsets >> member & 1 == 0]
        found[member] = np.tensordot(weight[without], worths[without | 1 << member] - worths[without], 1)
    return found


def sampled(worth: Worth, b: int, *, permutations: int = PERMUTATIONS, seed: int = 0) -> tuple[Floats, Floats]:
    """Shapley values [b, ...] and their standard errors, from ``permutations`` random orders; for pools too large to enumerate.

    Orders come in pairs, one the reverse of the other, which cancels much of the noise. Every subset is asked for once.
    """
    known: dict[int, Floats] = {}

    def of(subset: int) -> Floats:
        if subset not in known:
            known[subset] = np.asarray(worth(subset), np.float64)
        return known[subset]

    total, squares = np.zeros((b, *of(0).shape)), np.zeros((b, *of(0).shape))
    count = max(2, permutations // 2)
    for number in range(count):
        order = sorted(range(b), key=lambda member: hashlib.sha256(f"{seed}/{number}/{member}".encode()).digest())
        gains = np.zeros_like(total)
        for way in (order, order[::-1]):
            subset = 0
            for member in way:
                gains[member] += (of(subset | 1 << member) - of(subset)) / 2
                subset |= 1 << member
        total += gains
        squares += gains**2
    mean = total / count
    return mean, np.sqrt(np.maximum(squares / count - mean**2, 0) / (count - 1))


def leave_one_out(worths: NDArray[Any]) -> Floats:
    """What the whole pool loses without each member, [b, ...], from the worth of every subset [2^b, ...]."""
    worths = np.asarray(worths, np.float64)
    whole = len(worths) - 1
    return np.array([worths[whole] - worths[whole & ~(1 << member)] for member in range(whole.bit_length())])


def greedy(worth: Callable[[int], float], b: int) -> list[int]:
    """Members in the order in which each adds most to those before it; of equals, the first."""
    order: list[int] = []
    subset = 0
    while len(order) < b:
        rest = [member for member in range(b) if member not in order]
        gains = [round(float(worth(subset | 1 << member)), 12) for member in rest]
        order.append(rest[int(np.argmax(gains))])
        subset |= 1 << order[-1]
    return order


def prefixes(order: Sequence[int]) -> list[int]:
    """The subsets that an order goes through.

    >>> prefixes([2, 0, 1])
    [4, 5, 7]
    """
    found, subset = [], 0
    for member in order:
        subset |= 1 << member
        found.append(subset)
    return found


def log_average_right(logs: NDArray[Any], labels: NDArray[Any]) -> NDArray[np.bool_]:
    """Whether the log-average of every subset is right, bool [2^b, s], from log-probabilities [b, s, c] and labels [s].

    Ties go to the lower class index. The empty subset is never right here: what a guess is worth is for the caller to say.
    Subsets come in an order in which one member joins or leaves at a time, so each costs one addition.
    """
    b = len(logs)
    found = np.zeros((1 << b, len(labels)), bool)
    held = np.zeros(logs.shape[1:], np.float64)
    subset = 0
    for step in range(1, 1 << b):
        member = (step & -step).bit_length() - 1
        subset ^= 1 << member
        held = held + logs[member] if subset >> member & 1 else held - logs[member]
        if subset.bit_count() == 1:
            held = logs[subset.bit_length() - 1].astype(np.float64)  # leaves earlier rounding behind
        found[subset] = held.argmax(-1) == labels
    return found
