"""Weighted sums along rows and columns, compiled: what the blurs are made of.

Every sum is taken in a fixed order without contraction, so that float64 repeats scipy bit by bit and float32 gives the same
bytes on every processor. Several terms are added in one pass over a row, because a pass is bound by loads and stores.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensemble_bench.corrupt.compiled import compiled

Floats = NDArray[Any]  # float32 or float64

UNITS = np.arange(256) / 255.0


@lru_cache(maxsize=64)
def bell(sigma: float, truncate: float = 4.0) -> NDArray[np.float64]:
    """The weights of a Gaussian from its middle outwards, float64 [radius + 1], as scipy's ``gaussian_filter1d`` has them."""
    radius = int(truncate * sigma + 0.5)
    if sigma <= 0:
        return np.ones(1)
    offsets = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 / (sigma * sigma) * offsets**2)
    half: NDArray[np.float64] = (weights / weights.sum())[radius:]
    half.flags.writeable = False
    return half


@compiled
def add4(out: Floats, a: Floats, i: float, b: Floats, j: float, c: Floats, k: float, d: Floats, m: float) -> None:
    """``out += a*i + b*j + c*k + d*m``, term after term."""
    for x in range(out.size):
        out[x] = (((out[x] + a[x] * i) + b[x] * j) + c[x] * k) + d[x] * m


@compiled
def add1(out: Floats, a: Floats, i: float) -> None:
    """``out += a*i``."""
    for x in range(out.size):
        out[x] += a[x] * i


@compiled
def pairs4(
    out: Floats,
    a: Floats,
    b: Floats,
    i: float,
    c: Floats,
    d: Floats,
    j: float,
    e: Floats,
    f: Floats,
    k: float,
    g: Floats,
    h: Floats,
    m: float,
) -> None:
    """``out += (a+b)*i + (c+d)*j + (e+f)*k + (g+h)*m``, term after term."""
    for x in range(out.size):
        out[x] = (((out[x] + (a[x] + b[x]) * i) + (c[x] + d[x]) * j) + (e[x] + f[x]) * k) + (g[x] + h[x]) * m


@compiled
def pair(out: Floats, a: Floats, b: Floats, i: float) -> None:
    """``out += (a+b)*i``."""
    for x in range(out.size):
        out[x] += (a[x] + b[x]) * i


@compiled
def inside(place: int | np.int64, length: int, mirrored: bool) -> int | np.int64:
    """The index that stands for ``place``: the nearest, or (mirrored) that of d c b a | a b c d | d c b a."""
    if not mirrored:
        return min(max(place, 0), length - 1)
    while place < 0 or place >= length:
        place = -1 - place if place < 0 else 2 * length - 1 - place
    return place


@compiled
def smoothed(values: Floats, down: Floats, across: Floats, mirrored: bool) -> Floats:
    """``values [h, w, k]`` weighted down the columns, then along the rows, in the order of scipy's symmetric filter."""
    height, width, depth = values.shape
    length = width * depth
    lines = values.reshape(height, length)
    reach, edge = across.size - 1, (across.size - 1) * depth
    out = np.empty_like(lines)
    padded = np.empty(length + 2 * edge, values.dtype)
    middle = padded[edge : edge + length]
    above = np.empty(down.size, np.intp)
    below = np.empty(down.size, np.intp)
    for row in range(height):
        for far in range(down.size):
            above[far], below[far] = inside(row - far, height, mirrored), inside(row + far, height, mirrored)
        line = lines[row]
        for x in range(length):
            middle[x] = line[x] * down[0]
        far = down.size - 1
        while far >= 4:
            pairs4(
                middle,
                *(lines[above[far]], lines[below[far]], down[far]),
                *(lines[above[far - 1]], lines[below[far - 1]], down[far - 1]),
                *(lines[above[far - 2]], lines[below[far - 2]], down[far - 2]),
                *(lines[above[far - 3]], lines[below[far - 3]], down[far - 3]),
            )
            far -= 4
        while far >= 1:
            pair(middle, lines[above[far]], lines[below[far]], down[far])
            far -= 1
        for far in range(1, reach + 1):
            left, right = inside(-far, width, mirrored) * depth, inside(width - 1 + far, width, mirrored) * depth
            for k in range(depth):
                padded[edge - far * depth + k] = middle[left + k]
                padded[edge + length + (far - 1) * depth + k] = middle[right + k]
        line = out[row]
        for x in range(length):
            line[x] = middle[x] * across[0]
        far = reach
        while far >= 4:
            low, high = edge - far * depth, edge + far * depth
            pairs4(
                line,
                *(padded[low:][:length], padded[high:][:length], across[far]),
                *(padded[low + depth :][:length], padded[high - depth :][:length], across[far - 1]),
                *(padded[low + 2 * depth :][:length], padded[high - 2 * depth :][:length], across[far - 2]),
                *(padded[low + 3 * depth :][:length], padded[high - 3 * depth :][:length], across[far - 3]),
            )
            far -= 4
        while far >= 1:
            pair(line, padded[edge - far * depth :][:length], padded[edge + far * depth :][:length], across[far])
            far -= 1
    return out.reshape(height, width, depth)


def plain(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The picture; a copy where it is read-only or a part of another, for which code is not compiled."""
    return np.require(picture, requirements=("C", "W"))


@compiled
def converted(picture: NDArray[np.uint8], table: Floats) -> Floats:
    """``table[picture]``, of the table's type."""
    out = np.empty(picture.shape, table.dtype)
    given, ends = picture.ravel(), out.ravel()
    for x in range(given.size):
        ends[x] = table[given[x]]
    return out


@compiled
def truncated(values: Floats, scale: float) -> NDArray[np.uint8]:
    """``values * scale`` cut to 0 to 255 and rounded down."""
    out = np.empty(values.shape, np.uint8)
    given, ends = values.ravel(), out.ravel()
    for x in range(given.size):
        ends[x] = np.uint8(np.int32(min(max(given[x] * scale, 0.0), 255.0)))
    return out
