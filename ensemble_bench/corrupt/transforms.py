"""Simple transformations of pictures, each by degrees.

Blur, brightness, contrast and JPEG by degrees are corruptions already: the suite ``transforms`` has them with amounts of its
own.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ensemble_bench.corrupt.stream import Stream
from ensemble_bench.corrupt.sums import converted, plain
from ensemble_bench.corrupt.warp import UNITS32, fetched_fast

Picture = NDArray[np.uint8]  # [h, w, 3]

GREY = 127
LUMA = np.array([299, 587, 114])  # thousandths, ITU-R BT.601


def rotation(picture: Picture, amount: tuple[float, ...], draws: Stream) -> Picture:
    """Turned about its middle by ``amount = (degrees,)``, which way is drawn; bilinear, edges mirrored."""
    height, width = picture.shape[:2]
    angle = math.radians(amount[0]) * (1 if draws.uniform() < 0.5 else -1)
    down, right = np.mgrid[:height, :width] - np.array([(height - 1) / 2, (width - 1) / 2])[:, None, None]
    cosine, sine = math.cos(angle) - 1, math.sin(angle)
    field = np.stack((right * cosine - down * sine, right * sine + down * cosine), axis=-1)
    return fetched_fast(converted(plain(picture), UNITS32), np.round(field, 6).astype(np.float32))


def horizontal_flip(picture: Picture, amount: tuple[float, ...], draws: Stream) -> Picture:
    """Left and right exchanged, with probability ``amount[0]``: the share of the pictures of a set that are flipped."""
    return picture[:, ::-1].copy() if draws.uniform() < amount[0] else picture.copy()


def vertical_flip(picture: Picture, amount: tuple[float, ...], draws: Stream) -> Picture:
    """Up and down exchanged, with probability ``amount[0]``: the share of the pictures of a set that are flipped."""
    return picture[::-1].copy() if draws.uniform() < amount[0] else picture.copy()


def greyscale(picture: Picture, amount: tuple[float, ...], draws: Stream) -> Picture:
    """Every colour moved ``amount[0]`` of the way (0 to 1, to the nearest hundredth) to the grey of its luma. Draws nothing."""
    share = round(100 * amount[0])
    values = picture.astype(np.int64)
    grey = (values @ LUMA)[..., None]
    moved = values * (1000 * (100 - share)) + grey * share
    return np.asarray((moved + 50_000) // 100_000, dtype=np.uint8)


def occlusion(picture: Picture, amount: tuple[float, ...], draws: Stream) -> Picture:
    """A grey rectangle of the picture's own proportions over ``amount[0]`` of its area (0 to 1), where is drawn."""
    out = picture.copy()
    places = []
    for side in picture.shape[:2]:
        covered = min(max(round(side * math.sqrt(amount[0])), 1), side)
        start = int(draws.integers(0, side - covered + 1))
        places.append(slice(start, start + covered))
    out[tuple(places)] = GREY
    return out


def low_pass(picture: Picture, amount: tuple[float, ...], draws: Stream) -> Picture:
    """Frequencies above ``amount[0]`` cycles a pixel taken away (Butterworth, order 2; edges mirrored). Draws nothing."""
    return _filtered(picture, _passed(picture.shape, amount[0]))


def high_pass(picture: Picture, amount: tuple[float, ...], draws: Stream) -> Picture:
    """Frequencies below ``amount[0]`` cycles a pixel taken away (as ``low_pass``), about the mean colour. Draws nothing."""
    gain = 1 - _passed(picture.shape, amount[0])
    gain[0, 0] = 1
    return _filtered(picture, gain)


def _passed(shape: tuple[int, ...], cut: float) -> NDArray[np.float64]:
    """The gain at each frequency of a cosine transform, [h, w]: 1 at the mean, 1/2 at ``cut`` cycles a pixel."""
    down, right = (np.arange(side) / (2 * side) for side in shape[:2])
    return np.asarray(1 / (1 + (down[:, None] ** 2 + right**2) ** 2 / cut**4))


def _filtered(picture: Picture, gain: NDArray[np.float64]) -> Picture:
    """The picture with its frequencies (cosine transform, which mirrors the edges) times ``gain``, to the nearest level."""
    from scipy.fft import dctn, idctn

    values = idctn(dctn(picture.astype(np.float64), axes=(0, 1)) * gain[..., None], axes=(0, 1))
    return np.asarray(np.clip(np.rint(values), 0, 255), dtype=np.uint8)
