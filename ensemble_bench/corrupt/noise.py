"""Noise: every value of a picture drawn anew, alone, from what its grey level may become.

With our own draws, the four are one kernel: what a grey level may become is a distribution over 256 grey levels, and a value is
drawn from it by Walker's alias method (Vose 1991) with one random word of 32 bits. The probabilities are those of the
reference's formulas, cut to 2**-32. With the reference's draws, its formulas are repeated in its order of operations.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ensemble_bench.corrupt.compiled import compiled, mixed
from ensemble_bench.corrupt.legacy import Replay
from ensemble_bench.corrupt.stream import Stream

Picture = NDArray[np.uint8]
GREYS = 256
CELL = 1 << 24  # what one cell of an alias table holds: 256 cells, 2**32 in all


@compiled
def _alias(shares: NDArray[np.int64]) -> NDArray[np.uint32]:
    """An alias table of each row of ``shares`` [n, 256], whose sums are 2**32: ``limit << 8 | other`` of each cell."""
    table = np.empty(shares.shape, dtype=np.uint32)
    small = np.empty(GREYS, dtype=np.int64)
    large = np.empty(GREYS, dtype=np.int64)
    for row in range(shares.shape[0]):
        left = shares[row].copy()
        smalls = larges = 0
        for value in range(GREYS):
            table[row, value] = np.uint32(value)  # a full cell: whatever the limit, the value is itself
            if left[value] < CELL:
                small[smalls] = value
                smalls += 1
            elif left[value] > CELL:
                large[larges] = value
                larges += 1
        while smalls > 0 and larges > 0:
            smalls -= 1
            low, high = small[smalls], large[larges - 1]
            table[row, low] = np.uint32((left[low] << 8) | high)
            left[high] -= CELL - left[low]
            if left[high] <= CELL:
                larges -= 1
                if left[high] < CELL:
                    small[smalls] = high
                    smalls += 1
    return table


@compiled
def _redraw(values: NDArray[np.uint8], table: NDArray[np.uint32], key: np.uint64, out: NDArray[np.uint8]) -> None:
    """Into ``out`` each of ``values`` [n] drawn anew from its row of ``table`` [256, 256]."""
    pairs = values.size // 2
    for pair in range(pairs):
        word = mixed(key, pair)
        for half in range(2):
            draw = np.uint32(word >> np.uint64(32 * half))
            cell = draw >> np.uint32(24)
            entry = table[values[2 * pair + half], cell]
            own = (draw & np.uint32(0xFFFFFF)) < (entry >> np.uint32(8))
            out[2 * pair + half] = np.uint8(cell if own else entry & np.uint32(0xFF))
    if values.size % 2:
        draw = np.uint32(mixed(key, pairs))
        cell = draw >> np.uint32(24)
        entry = table[values[-1], cell]
        own = (draw & np.uint32(0xFFFFFF)) < (entry >> np.uint32(8))
        out[-1] = np.uint8(cell if own else entry & np.uint32(0xFF))


def _flat(picture: Picture) -> Picture:
    """Its values in a line; copied where the picture is read-only or a part of another, for which code is not compiled."""
    return np.require(picture, requirements=("C", "W")).reshape(-1)


def _drawn(picture: Picture, table: NDArray[np.uint32], draws: Stream) -> Picture:
    out = np.empty_like(picture, order="C")
    _redraw(_flat(picture), table, draws.key(), out.reshape(-1))
    return out


def _table(below: NDArray[np.float64]) -> NDArray[np.uint32]:
    """The alias tables [256, 256] for P(new grey level < k), ``below`` [grey level, k] with k from 1 to 255."""
    edges = np.zeros((GREYS, GREYS + 1), dtype=np.int64)
    edges[:, 1:-1] = np.rint(below * 2.0**32)
    edges[:, -1] = 1 << 32
    return _alias(np.diff(edges))


@lru_cache(maxsize=32)
def _normal_table(amount: float, proportional: bool) -> NDArray[np.uint32]:
    """Of g + 255 * amount * N, or of g + g * amount * N, cut to 0 to 255 and to a whole number."""
    from scipy.special import ndtr

    grey = np.arange(GREYS)[:, None]
    scale = np.maximum(grey, 1e-9) * amount if proportional else np.full((GREYS, 1), 255 * amount)
    return _table(ndtr((np.arange(1, GREYS) - grey) / scale))


@lru_cache(maxsize=32)
def _shot_table(amount: float) -> NDArray[np.uint32]:
    """Of Poisson(g / 255 * amount) / amount * 255, cut to 0 to 255 and to a whole number."""
    from scipy.special import pdtr

    counts = np.arange(int(amount) + 2)
    becomes = (np.clip(counts / amount, 0, 1) * 255).astype(np.uint8)
    last = np.searchsorted(becomes, np.arange(1, GREYS)) - 1  # the most counts that stay below k
    return _table(pdtr(last, np.arange(GREYS)[:, None] / 255.0 * amount))


@lru_cache(maxsize=32)
def _impulse_table(amount: float) -> NDArray[np.uint32]:
    """Of black and white with half of ``amount`` each, else the grey level itself."""
    shares = np.zeros((GREYS, GREYS))
    shares[:, 0] = shares[:, -1] = amount / 2
    shares[np.arange(GREYS), _UNCHANGED] += 1 - amount
    return _table(shares.cumsum(1)[:, :-1])


UNITS = np.arange(GREYS) / 255.0
_UNCHANGED = (UNITS * 255).astype(np.uint8)  # there and back, as the reference goes


@compiled
def _noisy(values: NDArray[np.uint8], noise: NDArray[np.float64], scale: float, each: bool, out: NDArray[np.uint8]) -> None:
    """Into ``out`` the values with noise of ``scale``, in proportion to the value (``each``) or not."""
    for i in range(values.size):
        value = values[i] / 255.0
        change = scale * noise[i]
        out[i] = np.uint8(min(max(value + (value * change if each else change), 0.0), 1.0) * 255.0)


@compiled
def _sprinkled(
    values: NDArray[np.uint8],
    flips: NDArray[np.float64],
    salts: NDArray[np.float64],
    share: float,
    unchanged: NDArray[np.uint8],
    out: NDArray[np.uint8],
) -> None:
    for i in range(values.size):
        extreme = np.uint8(255) if salts[i] < 0.5 else np.uint8(0)
        out[i] = extreme if flips[i] < share else unchanged[values[i]]


def _normal_noise(picture: Picture, scale: float, draws: Stream, proportional: bool) -> Picture:
    if not draws.identical:
        return _drawn(picture, _normal_table(scale, proportional), draws)
    out = np.empty_like(picture, order="C")
    _noisy(_flat(picture), Replay(draws.legacy).normal(picture.size), scale, proportional, out.reshape(-1))
    return out


def gaussian_noise(picture: Picture, amount: tuple[float, ...], draws: Stream) -> Picture:
    """Normal noise of standard deviation ``amount[0]`` (of the range 0 to 1) added to every value."""
    return _normal_noise(picture, amount[0], draws, proportional=False)


def speckle_noise(picture: Picture, amount: tuple[float, ...], draws: Stream) -> Picture:
    """Normal noise of standard deviation ``amount[0]`` times the value itself."""
    return _normal_noise(picture, amount[0], draws, proportional=True)


def shot_noise(picture: Picture, amount: tuple[float, ...], draws: Stream) -> Picture:
    """Every value a Poisson count whose mean is ``amount[0]`` for white: the smaller, the noisier; at most 250."""
    if not draws.identical:
        return _drawn(picture, _shot_table(amount[0]), draws)
    counts = Replay(draws.legacy).poisson(_flat(picture), UNITS * amount[0])
    becomes = (np.clip(np.arange(GREYS) / float(amount[0]), 0, 1) * 255).astype(np.uint8)
    out: Picture = becomes[counts].reshape(picture.shape)
    return out


def impulse_noise(picture: Picture, amount: tuple[float, ...], draws: Stream) -> Picture:
    """A share ``amount[0]`` of the values black or white, as often one as the other."""
    if not draws.identical:
        return _drawn(picture, _impulse_table(amount[0]), draws)
    share, both = np.cumsum((amount[0], 1 - amount[0]))
    units = Replay(draws.legacy).uniform(2 * picture.size).reshape(2, -1)
    out = np.empty_like(picture, order="C")
    _sprinkled(_flat(picture), units[0], units[1], share / both, _UNCHANGED, out.reshape(-1))
    return out
