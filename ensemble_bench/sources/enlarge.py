"""Enlargement in whole numbers, so that it gives the same bytes everywhere."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def _weights(length: int, side: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """For each of ``side`` places: the two neighbours it lies between, and its distance from the first in 1 / (2 side)."""
    place = np.clip((2 * np.arange(side) + 1) * length - side, 0, 2 * side * (length - 1))
    low = np.minimum(place // (2 * side), length - 1)
    return low, np.minimum(low + 1, length - 1), place - low * 2 * side


def enlarged(picture: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Bilinear enlargement of a grey picture [h, w] to [side, side]: pixel centres aligned, edges repeated, rounded to nearest.

    >>> enlarged(np.array([[0, 100]], dtype=np.uint8), 4)[0].tolist()
    [0, 25, 75, 100]
    """
    rows = picture.astype(np.int64)
    top, below, down = _weights(picture.shape[0], side)
    left, right, across = _weights(picture.shape[1], side)
    unit = 2 * side
    mixed = rows[top] * (unit - down)[:, None] + rows[below] * down[:, None]
    total = mixed[:, left] * (unit - across) + mixed[:, right] * across
    return ((total + unit * unit // 2) // (unit * unit)).astype(np.uint8)


def coloured(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A grey picture [h, w] as [h, w, 3]."""
    return np.repeat(grey[..., None], 3, axis=2)
