"""The pixel grid and what is done on it: outlines, paint, backgrounds, wear.

A picture is float32 [n, 64, 64, 3] in 0..1; a coverage is float32 [n, 64, 64] in 0..1. Coordinates run from -1 to 1, x to the
right and y downwards. An outline is a signed distance, negative inside, in units of the shape's own radius.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ensemble_bench.drawing.draws import Draws

SIDE = 64
Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

_AXIS: Floats = (np.arange(SIDE, dtype=np.float32) * np.float32(2) + np.float32(1 - SIDE)) / np.float32(SIDE)

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (215, 35, 35),
    "green": (40, 160, 55),
    "blue": (35, 70, 205),
    "yellow": (240, 215, 40),
    "orange": (240, 130, 25),
    "purple": (125, 45, 160),
    "pink": (245, 140, 185),
    "brown": (120, 75, 35),
    "black": (18, 18, 18),
    "white": (242, 242, 242),
    "grey": (128, 128, 128),
    "cyan": (45, 200, 215),
}
_RGB: Floats = np.array(list(COLOURS.values()), dtype=np.float32) / np.float32(255)


def colour(draws: Draws, index: Ints, jitter: float = 0.07) -> Floats:
    """RGB near the named colour number ``index``, float32 [n, 3]."""
    rgb: Floats = np.clip(_RGB[index] + draws.uniform(-jitter, jitter, (3,)), 0, 1)
    return rgb


def turn(draws: Draws, reach: float) -> Floats:
    """A unit vector (cosine, sine) of a turn with half-angle tangent within ``reach``; 1 is a quarter turn. [n, 2]."""
    t = draws.uniform(-reach, reach)
    scale = 1 + t * t
    return np.stack([(1 - t * t) / scale, (t + t) / scale], axis=1)


def frame(x: Floats, y: Floats, radius: Floats, direction: Floats | None = None) -> tuple[Floats, Floats]:
    """The grid as seen by a shape at (x, y) with that radius and direction: u, v, each [n, 64, 64]."""
    u = (_AXIS[None, None, :] - x[:, None, None]) / radius[:, None, None]
    v = (_AXIS[None, :, None] - y[:, None, None]) / radius[:, None, None]
    if direction is None:
        return np.broadcast_arrays(u, v)  # type: ignore[return-value]
    c, s = direction[:, 0, None, None], direction[:, 1, None, None]
    return u * c + v * s, v * c - u * s


def covered(distance: Floats, radius: Floats, soft: float = 1.0) -> Floats:
    """Share of each pixel inside the outline; ``soft`` is the width of the edge in pixels."""
    width = np.float32(2 * soft / SIDE) / radius[:, None, None]
    return np.clip(np.float32(0.5) - distance / width, 0, 1)


def paint(picture: Floats, coverage: Floats, rgb: Floats) -> None:
    """Lay a colour [n, 3] over the picture, in place."""
    picture += coverage[..., None] * (rgb[:, None, None, :] - picture)


# Outlines ------------------------------------------------------------------------------------------------------------


def _length(u: Floats, v: Floats) -> Floats:
    return np.sqrt(u * u + v * v)


def _circle(u: Floats, v: Floats) -> Floats:
    return _length(u, v) - np.float32(0.95)


def _square(u: Floats, v: Floats) -> Floats:
    return np.maximum(np.abs(u), np.abs(v)) - np.float32(0.82)


def _triangle(u: Floats, v: Floats) -> Floats:
    slope = np.abs(u) * np.float32(0.894) - v * np.float32(0.447)
    distance: Floats = np.maximum(slope - np.float32(0.42), v - np.float32(0.75))
    return distance


# cosine and sine of 90, 162, 234, 306 and 18 degrees: the directions of a pentagram's five sides
_FIVE = [(0.0, 1.0), (-0.9510565, 0.3090170), (-0.5877853, -0.8090170), (0.5877853, -0.8090170), (0.9510565, 0.3090170)]


def _star(u: Floats, v: Floats) -> Floats:
    largest = np.full_like(u, -9)
    second = np.full_like(u, -9)
    for c, s in _FIVE:
        side = u * np.float32(c) + v * np.float32(s)
        second = np.maximum(second, np.minimum(largest, side))
        largest = np.maximum(largest, side)
    return second - np.float32(0.33)


def _cross(u: Floats, v: Floats) -> Floats:
    a, b = np.abs(u), np.abs(v)
    bar = np.float32(0.3)
    reach = np.float32(0.95)
    return np.minimum(np.maximum(a - reach, b - bar), np.maximum(a - bar, b - reach))


def _ring(u: Floats, v: Floats) -> Floats:
    distance: Floats = np.abs(_length(u, v) - np.float32(0.72)) - np.float32(0.24)
    return distance


def _diamond(u: Floats, v: Floats) -> Floats:
    return (np.abs(u) * np.float32(1.35) + np.abs(v) - np.float32(1)) * np.float32(0.6)


def _crescent(u: Floats, v: Floats) -> Floats:
    distance: Floats = np.maximum(_circle(u, v), np.float32(0.8) - _length(u - np.float32(0.45), v))
    return distance


def _hexagon(u: Floats, v: Floats) -> Floats:
    a, b = np.abs(u), np.abs(v)
    return np.maximum(b, a * np.float32(0.8660254) + b * np.float32(0.5)) - np.float32(0.85)


def _arrow(u: Floats, v: Floats) -> Floats:
    head = np.maximum((u + np.abs(v)) * np.float32(0.7) - np.float32(0.66), -u)
    shaft = np.maximum(np.abs(u + np.float32(0.45)) - np.float32(0.5), np.abs(v) - np.float32(0.26))
    distance: Floats = np.minimum(head, shaft)
    return distance


SHAPES: dict[str, Callable[[Floats, Floats], Floats]] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "cross": _cross,
    "ring": _ring,
    "diamond": _diamond,
    "crescent": _crescent,
    "hexagon": _hexagon,
    "arrow": _arrow,
}
_OUTLINES = list(SHAPES.values())


def shape(kind: Ints, x: Floats, y: Floats, radius: Floats, direction: Floats) -> Floats:
    """Coverage of one shape per picture, ``kind`` [n] numbering SHAPES."""
    u, v = frame(x, y, radius, direction)
    distance = np.empty(u.shape, dtype=np.float32)
    for number in np.unique(kind):
        own = kind == number
        distance[own] = _OUTLINES[number](u[own], v[own])
    return covered(distance, radius)


# Backgrounds and wear ------------------------------------------------------------------------------------------------


def enlarged(small: Floats, side: int = SIDE) -> Floats:
    """Bilinear enlargement of [n, h, w, ...] to [n, side, side, ...], pixel centres aligned, edges repeated."""
    for axis in (1, 2):
        length = small.shape[axis]
        place = (np.arange(side, dtype=np.float32) + np.float32(0.5)) * np.float32(length / side) - np.float32(0.5)
        place = np.clip(place, 0, length - 1)
        low = np.minimum(place.astype(np.int64), max(length - 2, 0))
        share = (place - low.astype(np.float32)).reshape([-1 if a == axis else 1 for a in range(small.ndim)])
        first = np.take(small, low, axis=axis)
        second = np.take(small, np.minimum(low + 1, length - 1), axis=axis)
        small = first + share * (second - first)
    return small


def reduced(picture: Floats, factor: int) -> Floats:
    """Mean over blocks of factor x factor pixels, added in a fixed order."""
    total = np.zeros_like(picture[:, ::factor, ::factor])
    for row in range(factor):
        for column in range(factor):
            total += picture[:, row::factor, column::factor]
    return total / np.float32(factor * factor)


def background(draws: Draws, rgb: Floats) -> Floats:
    """Plain, graded or cloudy ground around ``rgb`` [n, 3]."""
    n = len(draws)
    picture = np.broadcast_to(rgb[:, None, None, :], (n, SIDE, SIDE, 3)).copy()
    slope = draws.uniform(-0.22, 0.22, (2, 3)) * draws.flips(0.5)[:, None, None]
    picture += slope[:, None, None, 0] * _AXIS[None, None, :, None] + slope[:, None, None, 1] * _AXIS[None, :, None, None]
    cloud = draws.uniform(-0.2, 0.2, (5, 5, 1)) * draws.flips(0.4)[:, None, None, None]
    picture += enlarged(cloud)
    return np.clip(picture, 0, 1)


def blurred(picture: Floats, share: Floats) -> Floats:
    """Mixed with the mean of its four neighbours, by ``share`` [n]."""
    padded = np.pad(picture, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    around = (padded[:, :-2, 1:-1] + padded[:, 2:, 1:-1] + padded[:, 1:-1, :-2] + padded[:, 1:-1, 2:]) * np.float32(0.25)
    return picture + share[:, None, None, None] * (around - picture)


def worn(draws: Draws, picture: Floats, strength: Floats) -> Floats:
    """The picture after camera trouble of ``strength`` [n] in 0..1: fewer pixels, less contrast, tint, noise, greyness."""
    coarse = draws.uniform() < np.float32(0.45) * strength
    factor = np.where(draws.flips(0.5), 4, 2)
    for size in (2, 4):
        own = coarse & (factor == size)
        if own.any():
            picture[own] = enlarged(reduced(picture[own], size))
    picture = blurred(picture, draws.uniform() * strength)
    contrast = 1 - np.float32(0.55) * strength * draws.uniform()
    shift = np.float32(0.18) * strength * draws.uniform(-1, 1)
    half = np.float32(0.5)
    picture = (picture - half) * contrast[:, None, None, None] + (half + shift)[:, None, None, None]
    grey = (picture[..., 0] * np.float32(0.3) + picture[..., 1] * np.float32(0.59)) + picture[..., 2] * np.float32(0.11)
    pale = draws.uniform() * strength * draws.flips(0.25)
    picture = picture + pale[:, None, None, None] * (grey[..., None] - picture)
    noise = draws.uniform(-1, 1, (SIDE, SIDE)) + draws.uniform(-1, 1, (SIDE, SIDE))
    level = np.float32(0.16) * strength * draws.uniform()
    return picture + (level[:, None, None] * noise)[..., None]


def finished(picture: Floats) -> NDArray[np.uint8]:
    """uint8 [n, 64, 64, 3]."""
    return (np.clip(picture, 0, 1) * np.float32(255) + np.float32(0.5)).astype(np.uint8)
