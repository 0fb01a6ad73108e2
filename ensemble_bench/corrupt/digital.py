"""Digital corruptions: brightness, contrast, saturation, elastic warping, coarse pixels, JPEG."""

from __future__ import annotations

import math
from io import BytesIO

import numpy as np
from numpy.typing import NDArray

from ensemble_bench.corrupt.compiled import compiled
from ensemble_bench.corrupt.stream import Stream
from ensemble_bench.corrupt.sums import UNITS, Floats, bell, converted, plain, smoothed
from ensemble_bench.corrupt.warp import UNITS32, fetched, fetched_fast

Picture = NDArray[np.uint8]  # [h, w, 3]

DOUBT = 1e-6  # a level this near to a whole number may be rounded either way by sums taken in another order


def brightness(picture: Picture, amount: tuple[float, ...], draws: Stream) -> Picture:
    """The V of HSV (the largest channel, 0 to 1) raised by ``amount = (more,)``. Draws nothing."""
    return _recoloured(plain(picture), UNITS, 1.0, 0.0, float(amount[0]))


def saturate(picture: Picture, amount: tuple[float, ...], draws: Stream) -> Picture:
    """The S of HSV (0 to 1) times ``amount[0]`` plus ``amount[1]``. Draws nothing."""
    return _recoloured(plain(picture), UNITS, float(amount[0]), float(amount[1]), 0.0)


@compiled
def _recoloured(picture: Picture, units: Floats, factor: float, saturation: float, value: float) -> Picture:
    """The picture with S times ``factor`` plus ``saturation`` and V plus ``value``, both cut to 0 to 1, rounded down."""
    height, width, _ = picture.shape
    out = np.empty_like(picture)
    channels = np.empty((3, width))
    ends = np.empty((3, width), np.uint8)
    for y in range(height):
        line, end = picture[y], out[y]
        for x in range(width):
            for k in range(3):
                channels[k, x] = units[line[x, k]]
        _recolour(channels, ends, factor, saturation, value)
        for x in range(width):
            for k in range(3):
                end[x, k] = ends[k, x]
    return out


@compiled
def _recolour(channels: Floats, ends: NDArray[np.uint8], factor: float, saturation: float, value: float) -> None:
    """One row, [3, w]: scikit-image's rgb2hsv and hsv2rgb, operation by operation, and without branches.

    Of the three channels the largest becomes V, the smallest V (1 - S), and only the middle one depends on the hue.
    """
    reds, greens, blues = channels[0], channels[1], channels[2]
    new_reds, new_greens, new_blues = ends[0], ends[1], ends[2]
    for x in range(reds.size):
        red, green, blue = reds[x], greens[x], blues[x]
        top = red if red > green else green
        top = top if top > blue else blue
        low = red if red < green else green
        low = low if low < blue else blue
        spread = top - low
        grey = spread == 0.0
        s = spread / (1.0 if top == 0.0 else top) * factor + saturation
        s = s if s > 0.0 else 0.0
        s = s if s < 1.0 else 1.0
        v = top + value
        v = v if v < 1.0 else 1.0
        difference = red - green if blue == top else (blue - red if green == top else green - blue)
        sector = 4.0 if blue == top else (2.0 if green == top else 0.0)
        hue = (sector + difference / (1.0 if grey else spread)) / 6.0
        hue = (hue + 1.0 if hue < 0.0 else hue) * 6
        whole = np.floor(hue)
        part = hue - whole
        part = part if (whole == 1.0) | (whole == 3.0) | (whole == 5.0) else 1 - part
        least, middle = v * (1 - s), v * (1 - part * s)
        level = v if red == top else (least if red == low else middle)
        new_reds[x] = np.uint8(np.int32(level * 255))
        level = v if (green == top) & (not grey) else (least if green == low else middle)
        new_greens[x] = np.uint8(np.int32(level * 255))
        level = v if (blue == top) & (not grey) else (least if blue == low else middle)
        new_blues[x] = np.uint8(np.int32(level * 255))


def contrast(picture: Picture, amount: tuple[float, ...], draws: Stream) -> Picture:
    """Every channel drawn towards its mean, to ``amount[0]`` of the distance. Draws nothing.

    Means are of whole numbers. The reference adds up float64, in an order of numpy's choice; where that could decide a
    rounding, so does this.
    """
    picture = plain(picture)
    means = _sums(picture) / (255.0 * picture.shape[0] * picture.shape[1])
    levels = _contrasted(means, amount[0])
    if (np.abs(levels - np.rint(levels)) < DOUBT).any():
        levels = _contrasted(converted(picture, UNITS).mean(axis=(0, 1)), amount[0])
    return _replaced(picture, levels.astype(np.uint8))


def _contrasted(means: NDArray[np.float64], share: float) -> NDArray[np.float64]:
    """What becomes of each level in each channel, [256, 3]."""
    return np.clip((UNITS[:, None] - means) * share + means, 0, 1) * 255


@compiled
def _sums(picture: Picture) -> NDArray[np.int64]:
    """The sum of each channel, [3]."""
    height, width, _ = picture.shape
    columns = np.zeros(width * 3, np.int64)
    for y in range(height):
        line = picture[y].reshape(width * 3)
        for x in range(columns.size):
            columns[x] += line[x]
    total: NDArray[np.int64] = columns.reshape(width, 3).sum(0)
    return total


@compiled
def _replaced(picture: Picture, levels: NDArray[np.uint8]) -> Picture:
    """Every level replaced as the table [256, 3] of its channel says."""
    out = np.empty_like(picture)
    given, ends = picture.reshape(-1, 3), out.reshape(-1, 3)
    for x in range(given.shape[0]):
        for k in range(3):
            ends[x, k] = levels[given[x, k], k]
    return out


def elastic_transform(picture: Picture, amount: tuple[float, ...], draws: Stream) -> Picture:
    """Every pixel fetched from a place nearby, bilinear: a field of uniform draws, smoothed, times ``amount = (strength,)``.

    The draws reach 0.5 % of the height either way, the smoothing 1 % of either side. In native mode a draw has 16 bits, and
    field and interpolation are float32; where a picture is even, both ways give the same bytes.
    """
    picture = plain(picture)
    height, width = picture.shape[:2]
    most = height * 0.005
    down, across = bell(height * 0.01, 3.0), bell(width * 0.01, 3.0)
    values = converted(picture, UNITS32)
    if draws.identical:
        right, below = (draws.uniform(-most, most, (height, width)) for _ in range(2))
        field = smoothed(np.stack((right, below), axis=-1), down, across, True)
        return fetched(values, (field * amount[0]).astype(np.float32))
    words = draws.raw(math.ceil(height * width / 2)).view(np.uint16)[: 2 * height * width]
    drawn = _centred(words, np.float32(most * amount[0])).reshape(height, width, 2)
    return fetched_fast(values, smoothed(drawn, down.astype(np.float32), across.astype(np.float32), True))


@compiled
def _centred(words: NDArray[np.uint16], most: np.float32) -> NDArray[np.float32]:
    """Words as numbers from -most to most."""
    out = np.empty(words.size, np.float32)
    for x in range(words.size):
        out[x] = (np.float32(words[x]) - np.float32(32767.5)) * (most * np.float32(2.0**-15))
    return out


def pixelate(picture: Picture, amount: tuple[float, ...], draws: Stream) -> Picture:
    """Averaged down to ``amount[0]`` of either side (one pixel at least), and up again by repetition. Draws nothing."""
    from PIL import Image

    height, width = picture.shape[:2]
    small = max(int(width * amount[0]), 1), max(int(height * amount[0]), 1)
    coarse = Image.fromarray(picture).resize(small, Image.Resampling.BOX)
    return np.array(coarse.resize((width, height), Image.Resampling.NEAREST))


def jpeg_compression(picture: Picture, amount: tuple[float, ...], draws: Stream) -> Picture:
    """Saved as JPEG of quality ``amount[0]`` and read again. Draws nothing."""
    from PIL import Image

    file = BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=int(amount[0]))
    return np.array(Image.open(file))
