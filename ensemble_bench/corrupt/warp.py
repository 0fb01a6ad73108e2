"""Pictures fetched from elsewhere, bilinear: every pixel from its place plus a move of its own, edges mirrored."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ensemble_bench.corrupt.compiled import compiled
from ensemble_bench.corrupt.sums import inside

Picture = NDArray[np.uint8]  # [h, w, 3]

UNITS32 = np.arange(256, dtype=np.float32) / np.float32(255)  # the levels as ``values`` want them


@compiled
def _mirrored(place: float, length: int) -> float:
    """The coordinate that scipy's mode ``reflect`` puts for ``place``: at most one beyond the outermost pixel."""
    if length == 1:
        return 0.0
    if place < 0:
        if place < -2 * length:
            place += 2 * length * math.floor(-place / (2 * length))
        return place + 2 * length if place < -length else -place - 1
    if place > length - 1:
        place -= 2 * length * math.floor(place / (2 * length))
        return 2 * length - place - 1 if place >= length else place
    return place


@compiled
def fetched(values: NDArray[np.float32], field: NDArray[np.float32]) -> Picture:
    """``values [h, w, 3]`` at every pixel's place plus ``field [h, w, (right, down)]``, as scipy's ``map_coordinates``.

    Unsigned indices spare the look for negative ones.
    """
    height, width, _ = values.shape
    out = np.empty(values.shape, np.uint8)
    flat, ends = values.reshape(-1), out.reshape(-1)
    end = np.uintp(0)
    for y in range(height):
        moves = field[y]
        for x in range(width):
            place = _mirrored(y + np.float64(moves[x, 1]), height)
            start = np.floor(place)
            a = 1.0 - (place - start)
            b = 1.0 - a
            above, below = _pair(np.int64(start), height)
            place = _mirrored(x + np.float64(moves[x, 0]), width)
            start = np.floor(place)
            c = 1.0 - (place - start)
            d = 1.0 - c
            left, right = _pair(np.int64(start), width)
            p, q = np.uintp((above * width + left) * 3), np.uintp((above * width + right) * 3)
            r, s = np.uintp((below * width + left) * 3), np.uintp((below * width + right) * 3)
            for channel in range(3):
                k = np.uintp(channel)
                value = ((flat[p + k] * a) * c + (flat[q + k] * a) * d) + (flat[r + k] * b) * c
                ends[end + k] = _level(np.float32(value + (flat[s + k] * b) * d))
            end += np.uintp(3)
    return out


@compiled
def fetched_fast(values: NDArray[np.float32], field: NDArray[np.float32]) -> Picture:
    """The same in float32, columns first, as ``p + (q - p) * weight``, which is exact where p = q."""
    height, width, _ = values.shape
    out = np.empty(values.shape, np.uint8)
    flat, ends = values.reshape(-1), out.reshape(-1)
    end = np.uintp(0)
    for y in range(height):
        moves = field[y]
        for x in range(width):
            right_by, down_by = moves[x, 0], moves[x, 1]
            columns, rows = np.floor(right_by), np.floor(down_by)
            across, down = right_by - columns, down_by - rows
            above, below = _pair(y + np.int64(rows), height)
            left, right = _pair(x + np.int64(columns), width)
            p, q = np.uintp((above * width + left) * 3), np.uintp((above * width + right) * 3)
            r, s = np.uintp((below * width + left) * 3), np.uintp((below * width + right) * 3)
            for channel in range(3):
                k = np.uintp(channel)
                one = flat[p + k] + (flat[r + k] - flat[p + k]) * down
                other = flat[q + k] + (flat[s + k] - flat[q + k]) * down
                ends[end + k] = _level(one + (other - one) * across)
            end += np.uintp(3)
    return out


@compiled
def _pair(place: int | np.int64, length: int) -> tuple[int | np.int64, int | np.int64]:
    """The pixels that stand for ``place`` and for the next one, mirrored at the edges."""
    if place >= 0 and place + 1 < length:
        return place, place + 1
    return inside(place, length, True), inside(place + 1, length, True)


@compiled
def _level(value: np.float32) -> np.uint8:
    """A value of 0 to 1, or a hair beyond, as a grey level, rounded down."""
    value = value if value > np.float32(0) else np.float32(0)
    value = value if value < np.float32(1) else np.float32(1)
    return np.uint8(np.int32(value * np.float32(255)))
