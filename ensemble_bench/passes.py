"""Compiled passes over scores: what every sample of a cube or of a strategy's answer says, each row read while it is at hand.

In single precision, with polynomials for exponentials; ``metrics.Slack`` bounds how far that may be from double. Nothing is
compiled before the first call, and what was compiled is kept on disk.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Function = TypeVar("Function", bound=Callable[..., Any])
Array = NDArray[Any]

VOTES, PROBABILITIES, LOGITS = range(3)  # as GIVES in strategies/base.py
_FINITE = {"contract", "nsz", "nnan", "ninf"}  # scores have been checked; a product may be added without being rounded first
_ANY_ORDER = {*_FINITE, "reassoc"}  # and sums and maxima may be taken eight at a time

_SMALLEST = np.float32(-87.0)  # of which the exponential is still a normal number
_LOG2_E = np.float32(1.4426950408889634)
_LN2_HIGH, _LN2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)  # the first has so few bits that products are exact
_TERMS = tuple(np.float32(1 / factorial) for factorial in (720, 120, 24, 6, 2))


def _compiled(flags: set[str]) -> Callable[[Function], Function]:
    return cast(Callable[[Function], Function], numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=flags))


@dataclass(frozen=True, eq=False)
class Sums:
    """What one pass over float32 logits [b, s, c] gives.

    ``decisions`` int64 [b, s]: the best class, the first of several. ``rest`` float64 [b, s]: the sum over the other classes of
    exp(logit - highest logit), so that 1 / (1 + rest) is the highest probability. Of the backbones ``mean_logit`` and
    ``mean_probability``, float32 [s, c].
    """

    decisions: Tensor
    rest: Tensor
    mean_logit: Tensor
    mean_probability: Tensor


def sums(logits: Tensor, order: list[int]) -> Sums:
    """One pass over float32 logits [b, s, c]; means are added up in the order of these places."""
    array = np.ascontiguousarray(logits.detach().cpu().numpy())
    b, s, c = array.shape
    decisions, rest = np.empty((b, s), np.int64), np.empty((b, s))
    logit, probability = np.empty((s, c), np.float32), np.empty((s, c), np.float32)
    _sums(array, np.array(order), decisions, rest, logit, probability)
    return Sums(*(torch.from_numpy(found) for found in (decisions, rest, logit, probability)))


@dataclass(frozen=True, eq=False)
class Judged:
    """What one pass over scores [s, c] gives, each [s]: ``doubtful`` says where nothing may be believed.

    ``decisions`` int64, ``top5`` bool, ``confidence``, ``nll`` and ``brier`` float64 (0 where scores are votes), and where they
    are probabilities the ``least`` and the ``total``, float64.
    """

    decisions: Tensor
    doubtful: Tensor
    top5: Tensor
    confidence: Tensor
    nll: Tensor
    brier: Tensor
    least: Tensor
    total: Tensor


def judged(
    scores: Tensor, labels: Tensor, mean: Tensor | None, kind: int, room: tuple[float, float] | None, near: tuple[float, float]
) -> Judged:
    """One pass over finite scores [s, c], of what ``kind`` they may be: VOTES, PROBABILITIES or LOGITS.

    Scores that are closer to one another than ``room``, a + r * |score| with (a, r), are no more to be told apart; with None
    they are exact, and equal ones go by the ``mean`` probability [s, c], which is not to be told apart within ``near``; without
    it they are doubtful.
    """
    array = np.ascontiguousarray(scores.numpy())
    n, c = array.shape
    decisions, flags, numbers = np.empty(n, np.int64), np.zeros((2, n), np.bool_), np.zeros((5, n))
    apart = (0.0, 0.0) if room is None else room
    means = np.empty((0, c), np.float32) if mean is None else np.ascontiguousarray(mean.float().numpy())
    _judged(array, labels.numpy(), means, kind, room is None, *apart, *near, decisions, *flags, *numbers)
    return Judged(*(torch.from_numpy(found) for found in (decisions, *flags, *numbers)))


def times(words: NDArray[np.uint64], items: int, most: int) -> NDArray[np.uint8]:
    """How often each of ``items`` is picked in each of some rows of ``most`` picks, uint8 [rows, items], from raw 64-bit words.

    The upper half of a word picks. Raises OverflowError where one is picked more than 255 times.
    """
    found = np.zeros((len(words) // most, items), np.uint8)
    if not _times(words.reshape(-1, most), found):
        raise OverflowError("of thousands of images, one was picked more than 255 times")
    return found


@_compiled(set())
def _times(words: Array, found: Array) -> bool:
    rows, most = words.shape
    items = np.uint64(found.shape[1])
    half, full, fits = np.uint64(32), np.uint8(255), True
    for row in range(rows):
        for pick in range(most):
            place = ((words[row, pick] >> half) * items) >> half
            fits &= found[row, place] != full
            found[row, place] += np.uint8(1)
    return fits


@_compiled(_ANY_ORDER)
def _highest(row: Array) -> Any:
    found = row[0]
    for x in range(len(row)):
        if row[x] > found:
            found = row[x]
    return found


@_compiled(set())
def _first(row: Array, value: Any) -> Any:
    """The first place of a value that is there."""
    none = np.int32(len(row))
    found = none
    for x in range(len(row)):
        found = min(found, np.int32(x) if row[x] == value else none)
    return np.int64(found)


@_compiled(_ANY_ORDER)
def _lowest(row: Array) -> Any:
    found = row[0]
    for x in range(len(row)):
        if row[x] < found:
            found = row[x]
    return found


@_compiled(_ANY_ORDER)
def _count(row: Array, bound: Any) -> Any:
    """How many are at least as much."""
    found = np.int32(0)
    for x in range(len(row)):
        found += np.int32(1) if row[x] >= bound else np.int32(0)
    return found


@_compiled(_ANY_ORDER)
def _total(row: Array) -> Any:
    found = row[0] - row[0]
    for x in range(len(row)):
        found += row[x]
    return found


@_compiled(_ANY_ORDER)
def _squares(row: Array) -> Any:
    found = row[0] - row[0]
    for x in range(len(row)):
        found += row[x] * row[x]
    return found


@_compiled(_FINITE)
def _exponentials(row: Array, top: Any, power: Array, out: Array) -> None:
    """exp(row - top), float32, into ``out``: 2^k times a polynomial of what is left, |left| <= ln(2) / 2."""
    bits = power.view(np.int32)
    for x in range(len(row)):
        size = max(np.float32(row[x] - top), _SMALLEST)
        k = np.floor(size * _LOG2_E + np.float32(0.5))
        left = (size - k * _LN2_HIGH) - k * _LN2_LOW
        p = _TERMS[0] * left + _TERMS[1]
        p = p * left + _TERMS[2]
        p = p * left + _TERMS[3]
        p = p * left + _TERMS[4]
        out[x] = (p * left) * left + left + np.float32(1)
        bits[x] = (np.int32(k) + np.int32(127)) << np.int32(23)
    for x in range(len(row)):
        out[x] *= power[x]


@_compiled(_FINITE)
def _sums(logits: Array, order: Array, decisions: Array, rest: Array, mean_logit: Array, mean_probability: Array) -> None:
    b, s, c = logits.shape
    size, power = np.empty(c, np.float32), np.empty(c, np.float32)
    share = np.float32(1) / np.float32(b)
    for j in range(s):
        logit, probability = mean_logit[j], mean_probability[j]
        logit[:] = np.float32(0)
        probability[:] = np.float32(0)
        for i in order:
            row = logits[i, j]
            top = _highest(row)
            place = _first(row, top)
            _exponentials(row, top, power, size)
            size[place] = np.float32(0)
            others = np.float64(_total(size))
            size[place] = np.float32(1)
            decisions[i, j], rest[i, j] = place, others
            weight = np.float32(1 / (b * (1 + others)))
            for x in range(c):
                probability[x] += size[x] * weight
                logit[x] += row[x]
        for x in range(c):
            logit[x] *= share


@_compiled(_FINITE)
def _settled(row: Array, mean: Array, top: Any, near_a: float, near_r: float) -> Any:
    """Of the classes that share the highest score, that with the highest mean; -1 where another one is as near as no matter."""
    best, place = np.float32(-1), np.int64(-1)
    for x in range(len(row)):
        if row[x] == top and mean[x] > best:
            best, place = mean[x], np.int64(x)
    bound = best - (near_a + near_r * best)
    for x in range(len(row)):
        if row[x] == top and x != place and mean[x] >= bound:
            return np.int64(-1)
    return place


@_compiled(_FINITE)
def _before(row: Array, mean: Array, label: int, near_a: float, near_r: float) -> tuple[int, int]:
    """How many classes with the score of the label stand before it: surely, and perhaps."""
    own, surely, perhaps = mean[label], 0, 0
    room = near_a + near_r * own
    for x in range(len(row)):
        if row[x] == row[label] and x != label and mean[x] >= own - room:
            perhaps += 1
            if mean[x] > own + room:
                surely += 1
    return surely, perhaps


@_compiled(_FINITE)
def _judged(
    scores: Array,
    labels: Array,
    mean: Array,
    kind: int,
    exact: bool,
    room_a: float,
    room_r: float,
    near_a: float,
    near_r: float,
    decisions: Array,
    doubtful: Array,
    top5: Array,
    confidence: Array,
    nll: Array,
    brier: Array,
    least: Array,
    total: Array,
) -> None:
    n, c = scores.shape
    known = len(mean) > 0
    size, power = np.empty(c, np.float32), np.empty(c, np.float32)
    edge = np.empty(3, scores.dtype)  # so that comparisons are made in the type of the scores
    for j in range(n):
        row, label = scores[j], labels[j]
        top, own = _highest(row), row[label]
        place = _first(row, top)
        # The answer ---------------------------------------------------------------------------------------------------
        room = room_a + room_r * abs(own)
        edge[0], edge[1], edge[2] = top - (room_a + room_r * abs(top)), own - room, own + room
        if _count(row, edge[0]) > 1:
            settled = _settled(row, mean[j], top, near_a, near_r) if exact and known else np.int64(-1)
            doubtful[j] = settled < 0
            place = max(settled, np.int64(0))
        decisions[j] = place
        # The first five -----------------------------------------------------------------------------------------------
        if _count(row, edge[1]) <= 5:
            top5[j] = True
        elif exact and known:
            above = 0
            for x in range(c):
                above += 1 if row[x] > own else 0
            if above < 5:
                surely, perhaps = _before(row, mean[j], label, near_a, near_r)
                top5[j] = above + perhaps < 5
                doubtful[j] |= above + perhaps >= 5 and above + surely < 5
        else:
            doubtful[j] |= exact or _count(row, edge[2]) < 5
        # The probabilities --------------------------------------------------------------------------------------------
        if kind == PROBABILITIES:
            mine = np.float64(own)
            confidence[j] = row[place]
            nll[j] = -np.log(max(mine, 2.2250738585072014e-308))
            brier[j] = np.float64(_squares(row)) - 2 * mine + 1
            total[j] = _total(row)
            least[j] = _lowest(row)
            doubtful[j] |= mine < near_a and not exact
        elif kind == LOGITS:
            _exponentials(row, top, power, size)
            size[place] = np.float32(0)
            others = np.float64(_total(size))
            size[place] = np.float32(1)
            squares = np.float64(_squares(size)) / (1 + others) ** 2
            nll[j] = np.log1p(others) - np.float64(own - top)
            confidence[j] = 1 / (1 + others)
            brier[j] = squares - 2 * np.exp(-nll[j]) + 1
