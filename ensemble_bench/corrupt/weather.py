"""Weather: snow, frost, fog, and water or mud on the lens.

Everything but the draws is done in the reference's order of operations (of imagecorruptions, and of scipy's ``zoom`` and
``gaussian_filter`` below it), so that the same draws give the same bytes.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensemble_bench.corrupt.compiled import compiled, mixed
from ensemble_bench.corrupt.legacy import Replay
from ensemble_bench.corrupt.normal import EDGES, HEIGHTS, normal
from ensemble_bench.corrupt.stream import Stream

Picture = NDArray[np.uint8]
Layer = NDArray[np.float64]  # [h, w]

FROSTS = ("frost1.png", "frost2.png", "frost3.png", "frost4.jpg", "frost5.jpg")  # the sixth is never drawn by the reference
UNITS = np.arange(256) / 255.0
UNIT = 2.0**-53


def _plain(picture: Picture) -> Picture:
    """The picture; a copy where it is read-only or a part of another, for which code is not compiled."""
    return np.require(picture, requirements=("C", "W"))


def _normals(draws: Stream | Replay, shape: tuple[int, int], mean: float, deviation: float) -> Layer:
    """Normal draws [h, w]."""
    if isinstance(draws, Replay):
        out = draws.normal(shape[0] * shape[1]).reshape(shape)
    else:
        out = np.empty(shape)
        normal(draws.key(), out.reshape(-1), EDGES, HEIGHTS)
    out *= deviation
    out += mean
    return out


# snow


@compiled
def _knots(length: int, longer: int) -> tuple[NDArray[np.int64], Layer]:
    """Where each of ``longer`` points falls between the points of a line, and the weight of either, as scipy's zoom has it."""
    step = (length - 1) / (longer - 1) if longer > 1 else 1.0
    places = np.empty((2, longer), dtype=np.int64)
    weights = np.empty((2, longer))
    for i in range(longer):
        at = step * i
        if at > length - 1:  # a hair beyond the edge is outside for scipy, and outside is 0
            places[:, i] = 0
            weights[:, i] = 0.0
        else:
            start = math.floor(at)
            places[0, i] = start
            places[1, i] = start + 1 if start + 1 < length else max(length - 2, 0)
            weights[0, i] = 1.0 - (at - start)
            weights[1, i] = 1.0 - weights[0, i]
    return places, weights


@compiled
def _flakes(small: Layer, shape: tuple[int, int], least: float) -> Layer:
    """The layer enlarged to ``shape`` (bilinear), what is below ``least`` put to 0, cut to 0 to 1."""
    height, width = shape
    rows, down = _knots(small.shape[0], height)
    columns, right = _knots(small.shape[1], width)
    out = np.empty(shape)
    for y in range(height):
        upper, lower, a, b = small[rows[0, y]], small[rows[1, y]], down[0, y], down[1, y]
        line = out[y]
        for x in range(width):
            i, j, c, d = columns[0, x], columns[1, x], right[0, x], right[1, x]
            value = upper[i] * a * c + upper[j] * a * d + lower[i] * b * c + lower[j] * b * d
            line[x] = 0.0 if value < least else min(max(value, 0.0), 1.0)
    return out


@compiled
def _smeared(layer: Layer, kernel: Layer, ups: NDArray[np.int64], lefts: NDArray[np.int64]) -> NDArray[np.uint8]:
    """The layer moved by each (up, left) and weighed by the kernel, edges repeated, summed in order, in whole 255ths."""
    height, width = layer.shape
    border = max(np.abs(lefts).max(), 0)
    wide = np.empty((height, width + 2 * border))
    wide[:, border : border + width] = layer
    for y in range(height):
        wide[y, :border] = layer[y, 0]
        wide[y, border + width :] = layer[y, width - 1]
    out = np.empty((height, width), dtype=np.uint8)
    total = np.empty(width)
    for y in range(height):
        total[:] = 0.0
        for i in range(ups.size):
            row = min(max(y + ups[i], 0), height - 1)
            moved = wide[row, border + lefts[i] : border + lefts[i] + width]
            weight = kernel[i]
            for x in range(width):
                total[x] += weight * moved[x]
        line = out[y]
        for x in range(width):
            line[x] = np.uint8(np.rint(total[x] * 255.0))
    return out


def _fall(width: int, sigma: float, angle: float, shape: tuple[int, ...]) -> tuple[Layer, NDArray[np.int64], NDArray[np.int64]]:
    """Weights and moves (up, left) of a motion blur of ``width`` steps, as far as they stay within ``shape``."""
    kernel = np.exp(-(np.arange(width) ** 2) / (2 * sigma**2)) / (np.sqrt(2 * np.pi) * sigma)
    kernel = kernel / np.sum(kernel)
    down, across = width * np.sin(np.deg2rad(angle)), width * np.cos(np.deg2rad(angle))
    length = math.hypot(down, across)
    ups = [math.ceil(i * down / length - 0.5) for i in range(width)]
    lefts = [math.ceil(i * across / length - 0.5) for i in range(width)]
    within = [abs(up) < shape[0] and abs(left) < shape[1] for up, left in zip(ups, lefts, strict=True)]
    stays = within.index(False) if False in within else width
    return kernel[:stays], np.array(ups[:stays]), np.array(lefts[:stays])


@compiled
def _whitened(
    picture: Picture, grey: NDArray[np.float32], flakes: Picture, units: Layer, keep: np.float32, rest: np.float32, out: Picture
) -> None:
    """The picture made paler where ``grey`` is high, with the flakes, and the flakes again turned by half."""
    height, width = picture.shape[:2]
    for y in range(height):
        for x in range(width):
            pale = grey[y, x] * np.float32(1.5) + np.float32(0.5)
            snow, turned = units[flakes[y, x]], units[flakes[height - 1 - y, width - 1 - x]]
            for c in range(3):
                value = np.float32(picture[y, x, c]) / np.float32(255)
                value = keep * value + rest * max(value, pale)
                out[y, x, c] = np.uint8(min(max(np.float64(value) + snow + turned, 0.0), 1.0) * 255.0)


def snow(picture: Picture, amount: tuple[float, ...], draws: Stream) -> Picture:
    """Whitened, with flakes falling at 45 to 135 degrees.

    ``amount``: mean and deviation of the layer of flakes, its enlargement, its threshold, steps and width of the fall, and how
    much of the picture stays.
    """
    import cv2

    mean, deviation, zoom, least, radius, sigma, keep = amount
    height, width = picture.shape[:2]
    high, wide = math.ceil(height / zoom), math.ceil(width / zoom)
    if draws.identical:
        replay = Replay(draws.legacy)
        top, left = (height - high) // 2, (width - wide) // 2
        small = _normals(replay, (height, width), mean, deviation)[top : top + high, left : left + wide]
        angle = -135.0 + 90.0 * float(replay.uniform(1)[0])
    else:
        small = _normals(draws, (high, wide), mean, deviation)
        angle = float(draws.uniform(-135, -45))
    layer = _flakes(np.ascontiguousarray(small), (round(high * zoom), round(wide * zoom)), least)
    kernel, ups, lefts = _fall(int(radius) * 2 + 1, sigma, angle, layer.shape)
    flakes = np.ascontiguousarray(_smeared(layer, kernel, ups, lefts)[:height, :width])
    grey: Any = cv2.cvtColor(picture.astype(np.float32) / np.float32(255), cv2.COLOR_RGB2GRAY)
    out = np.empty_like(picture, order="C")
    _whitened(_plain(picture), grey, flakes, UNITS, np.float32(keep), np.float32(1 - keep), out)
    return out


# frost


@lru_cache(maxsize=10)
def _frost(name: str, height: int, width: int) -> Picture:
    """A photograph of frost, RGB, enlarged to at least 1.1 times ``height`` and ``width`` (0: by 1.1 as it is)."""
    from importlib.metadata import distribution

    import cv2

    file = distribution("imagecorruptions").locate_file(f"imagecorruptions/frost/{name}")
    frost = np.asarray(cv2.imread(str(file)))
    factor = max(1.0, height / frost.shape[0], width / frost.shape[1]) * 1.1
    size = (math.ceil(frost.shape[1] * factor), math.ceil(frost.shape[0] * factor))
    return np.ascontiguousarray(cv2.resize(frost, dsize=size, interpolation=cv2.INTER_CUBIC)[..., ::-1])


@compiled
def _blended(picture: Picture, frost: Picture, ours: Layer, theirs: Layer, out: Picture) -> None:
    for y in range(picture.shape[0]):
        for x in range(picture.shape[1]):
            for c in range(3):
                out[y, x, c] = np.uint8(min(max(ours[picture[y, x, c]] + theirs[frost[y, x, c]], 0.0), 255.0))


def frost(picture: Picture, amount: tuple[float, ...], draws: Stream) -> Picture:
    """``amount[0]`` of the picture plus ``amount[1]`` of a random part of one of five photographs of frost."""
    height, width = picture.shape[:2]
    name = FROSTS[int(draws.integers(0, len(FROSTS)))]
    texture = _frost(name, height, width)
    top = int(draws.integers(0, texture.shape[0] - height))
    left = int(draws.integers(0, texture.shape[1] - width))
    out = np.empty_like(picture, order="C")
    part = texture[top : top + height, left : left + width]
    _blended(_plain(picture), part, amount[0] * np.arange(256.0), amount[1] * np.arange(256.0), out)
    return out


# fog


@compiled
def _plasma(units: Layer, size: int, decay: float) -> Layer:
    """A fractal surface [size, size] by the diamond-square method, edges joined, from 0 to 1; ``units`` [size**2 - 1]."""
    out = np.empty((size, size))
    out[0, 0] = 0.0
    step, wibble, at = size, 100.0, 0
    while step >= 2:
        half, n = step // 2, size // step
        low, span = -wibble, wibble - -wibble
        for i in range(n):  # the middles of the squares
            here, below, middle = out[i * step], out[(i + 1) % n * step], out[i * step + half]
            draw = units[at : at + n]
            for j in range(n):
                x, y = j * step, (j + 1) % n * step
                total = (here[x] + below[x]) + (here[y] + below[y])
                middle[x + half] = total / 4.0 + wibble * (low + span * draw[j])
            at += n
        for i in range(n):  # the middles of the upper edges
            here, above, middle = out[i * step], out[(i - 1) % n * step + half], out[i * step + half]
            draw = units[at : at + n]
            for j in range(n):
                x, y = j * step, (j + 1) % n * step
                total = (middle[x + half] + above[x + half]) + (here[x] + here[y])
                here[x + half] = total / 4.0 + wibble * (low + span * draw[j])
            at += n
        for i in range(n):  # the middles of the left edges
            here, below, middle = out[i * step], out[(i + 1) % n * step], out[i * step + half]
            draw = units[at : at + n]
            for j in range(n):
                x, before = j * step, (j - 1) % n * step
                total = (middle[x + half] + middle[before + half]) + (here[x] + below[x])
                middle[x] = total / 4.0 + wibble * (low + span * draw[j])
            at += n
        step = half
        wibble /= decay
    lowest, highest = out.min(), out.max()
    scale = highest - lowest
    for y in range(size):
        for x in range(size):
            out[y, x] = (out[y, x] - lowest) / scale
    return out


@compiled
def _units(key: np.uint64, count: int) -> Layer:
    out = np.empty(count)
    for i in range(count):
        out[i] = np.float64(np.int64(mixed(key, i) >> np.uint64(11))) * UNIT
    return out


@compiled
def _fogged(picture: Picture, units: Layer, cloud: Layer, thick: float, white: float, out: Picture) -> None:
    for y in range(picture.shape[0]):
        for x in range(picture.shape[1]):
            veil = thick * cloud[y, x]
            for c in range(3):
                value = (units[picture[y, x, c]] + veil) * white / (white + thick)
                out[y, x, c] = np.uint8(min(max(value, 0.0), 1.0) * 255.0)


def fog(picture: Picture, amount: tuple[float, ...], draws: Stream) -> Picture:
    """A fractal cloud added, ``amount[0]`` thick, coarser for a higher ``amount[1]``; the whitest stays as white as it was."""
    thick, decay = amount
    size = 1 << (max(picture.shape) - 1).bit_length()
    count = size * size - 1
    units = Replay(draws.legacy).uniform(count) if draws.identical else _units(draws.key(), count)
    out = np.empty_like(picture, order="C")
    _fogged(_plain(picture), UNITS, _plasma(units, size, decay), thick, UNITS[picture.max()], out)
    return out


# spatter


@compiled
def _folded(line: Layer, kernel: Layer, out: Layer) -> None:
    """Into ``out`` [n] the padded ``line`` weighed by a symmetric kernel, from its middle and then from its ends inwards."""
    radius, n = kernel.size // 2, out.size
    middle, weight = line[radius : radius + n], kernel[radius]
    for x in range(n):
        out[x] = middle[x] * weight
    for k in range(radius):
        before, after, weight = line[k : k + n], line[2 * radius - k : 2 * radius - k + n], kernel[k]
        for x in range(n):
            out[x] += (before[x] + after[x]) * weight


@compiled
def _smooth(layer: Any, kernel: Layer) -> Any:
    """The layer after scipy's ``gaussian_filter`` with edges repeated: sums in float64, stored in the type of the layer."""
    height, width = layer.shape
    radius = kernel.size // 2
    between = np.empty_like(layer)
    total = np.empty(width)
    for y in range(height):
        row, weight = layer[y], kernel[radius]
        for x in range(width):
            total[x] = row[x] * weight
        for k in range(radius):
            above, below, weight = layer[max(y - radius + k, 0)], layer[min(y + radius - k, height - 1)], kernel[k]
            for x in range(width):
                total[x] += (np.float64(above[x]) + np.float64(below[x])) * weight
        between[y] = total
    out = np.empty_like(layer)
    line = np.empty(width + 2 * radius)
    for y in range(height):
        line[:radius] = between[y, 0]
        line[radius : radius + width] = between[y]
        line[radius + width :] = between[y, width - 1]
        _folded(line, kernel, total)
        out[y] = total
    return out


@lru_cache(maxsize=16)
def _bell(sigma: float) -> Layer:
    """scipy's Gaussian kernel, cut at four deviations."""
    radius = int(4.0 * sigma + 0.5)
    bell = np.exp(-0.5 / (sigma * sigma) * np.arange(-radius, radius + 1) ** 2)
    kernel: Layer = bell / bell.sum()
    return kernel


WATER = np.array((175 / 255, 238 / 255, 238 / 255), dtype=np.float32)
MUD = np.array((63 / 255.0, 42 / 255.0, 20 / 255.0))


@compiled
def _wetted(picture: Picture, water: NDArray[np.float32], colour: NDArray[np.float32], out: Picture) -> None:
    for y in range(picture.shape[0]):
        for x in range(picture.shape[1]):
            for c in range(3):
                value = np.float32(picture[y, x, c]) / np.float32(255) + water[y, x] * colour[c]
                out[y, x, c] = np.uint8(min(max(value, np.float32(0)), np.float32(1)) * np.float32(255))


@compiled
def _muddied(picture: Picture, mud: NDArray[np.float32], colour: Layer, out: Picture) -> None:
    for y in range(picture.shape[0]):
        for x in range(picture.shape[1]):
            thick = mud[y, x] if mud[y, x] >= 0.8 else np.float32(0)
            for c in range(3):
                value = np.float32(picture[y, x, c]) / np.float32(255) * (np.float32(1) - thick)
                out[y, x, c] = np.uint8(min(max(np.float64(value) + colour[c] * np.float64(thick), 0.0), 1.0) * 255.0)


def _drops(liquid: Picture) -> NDArray[np.float32]:
    """How bright the drops are [h, w], before scaling: lit from one side along their edges."""
    import cv2

    away = cv2.distanceTransform(255 - cv2.Canny(liquid, 50, 150), cv2.DIST_L2, 5)
    _, away = cv2.threshold(away, 20, 20, cv2.THRESH_TRUNC)
    bright = cv2.equalizeHist(cv2.blur(away, (3, 3)).astype(np.uint8))
    bright = cv2.filter2D(bright, cv2.CV_8U, np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]]))
    lit: NDArray[np.float32] = np.multiply(liquid, cv2.blur(bright, (3, 3)), dtype=np.float32)
    return lit


def spatter(picture: Picture, amount: tuple[float, ...], draws: Stream) -> Picture:
    """Drops of water, or of mud where ``amount[5]`` is not 0.

    ``amount``: mean and deviation of the layer of liquid, its smoothness, its threshold, and how bright water is or how smooth
    mud. Where no drop falls (tiny pictures), the picture stays as it is; the reference divides by zero there.
    """
    mean, deviation, sigma, least, strength, mud = amount
    source = Replay(draws.legacy) if draws.identical else draws
    layer = _smooth(_normals(source, picture.shape[:2], mean, deviation), _bell(sigma))
    out = np.empty_like(picture, order="C")
    if mud:
        _muddied(_plain(picture), _smooth((layer > least).astype(np.float32), _bell(strength)), MUD, out)
        return out
    layer[layer < least] = 0
    water = _drops((layer * 255).astype(np.uint8))
    if brightest := water.max():
        water /= brightest
    water *= np.float32(strength)
    _wetted(_plain(picture), water, WATER, out)
    return out
