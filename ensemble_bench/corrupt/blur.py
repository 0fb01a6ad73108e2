"""Blurs: out of focus, behind glass, in motion, zooming, and a plain Gaussian."""

from __future__ import annotations

import itertools
import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ensemble_bench.corrupt.compiled import compiled
from ensemble_bench.corrupt.stream import Stream
from ensemble_bench.corrupt.sums import (
    UNITS,
    Floats,
    add1,
    add4,
    bell,
    converted,
    inside,
    pair,
    pairs4,
    plain,
    smoothed,
    truncated,
)

Picture = NDArray[np.uint8]  # [h, w, 3]


def gaussian_blur(picture: Picture, amount: tuple[float, ...], draws: Stream) -> Picture:
    """The picture weighted by a Gaussian of ``amount = (sigma,)`` pixels, edges repeated. Draws nothing."""
    return _gaussian(plain(picture), amount[0])


def _gaussian(picture: Picture, sigma: float) -> Picture:
    """Gaussian blur with scikit-image's arithmetic, rounded down."""
    weights = bell(sigma)
    return truncated(smoothed(converted(picture, UNITS), weights, weights, False), 255.0)


def glass_blur(picture: Picture, amount: tuple[float, ...], draws: Stream) -> Picture:
    """Gaussian blur, then every pixel replaced by one nearby, then blurred again: ``amount = (sigma, reach, rounds)``.

    The reference means to swap two pixels; its rows are views, so that it copies the second over the first. So does this.
    """
    sigma, reach, rounds = amount[0], int(amount[1]), int(amount[2])
    blurred = _gaussian(plain(picture), sigma)
    height, width = (max(side - 2 * reach, 0) for side in picture.shape[:2])
    count = rounds * height * width
    moves = draws.legacy.randint(-reach, reach, size=(count, 2)) if draws.identical else _moves(draws, count, reach)
    return _gaussian(_moved(blurred, moves.astype(np.int8, copy=False), reach, rounds), sigma)


def _moves(draws: Stream, count: int, reach: int) -> NDArray[np.int8]:
    """Native draws of (x, y) moves, each from -reach to reach - 1, int8 [count, 2]: two moves from a raw word."""
    words = draws.raw((count + 1) // 2).view(np.uint16)
    return _scaled(words[: 2 * count], 2 * reach).reshape(count, 2)


@compiled
def _scaled(words: NDArray[np.uint16], sides: int) -> NDArray[np.int8]:
    """Words as numbers from -sides/2 to sides/2 - 1, whose probabilities differ by 2**-16 at most."""
    out = np.empty(words.size, np.int8)
    for x in range(words.size):
        out[x] = np.int8(((np.uint32(words[x]) * np.uint32(sides)) >> np.uint32(16)) - np.uint32(sides // 2))
    return out


@compiled
def _moved(picture: Picture, moves: NDArray[np.int8], reach: int, rounds: int) -> Picture:
    """Pixels copied from where ``moves`` points, from the last to the first, ``rounds`` times over."""
    height, width, _ = picture.shape
    pixels = np.empty((height, width), np.uint32)
    for y in range(height):
        for x in range(width):
            red, green, blue = picture[y, x]
            pixels[y, x] = np.uint32(red) | np.uint32(green) << np.uint32(8) | np.uint32(blue) << np.uint32(16)
    flat = pixels.ravel()
    step = 0
    for _ in range(rounds):
        for y in range(height - reach, reach, -1):
            for x in range(width - reach, reach, -1):
                flat[np.uintp(y * width + x)] = flat[np.uintp((y + moves[step, 1]) * width + x + moves[step, 0])]
                step += 1
    out = np.empty_like(picture)
    for y in range(height):
        for x in range(width):
            pixel = pixels[y, x]
            out[y, x, 0] = np.uint8(pixel & np.uint32(255))
            out[y, x, 1] = np.uint8((pixel >> np.uint32(8)) & np.uint32(255))
            out[y, x, 2] = np.uint8(pixel >> np.uint32(16))
    return out


def defocus_blur(picture: Picture, amount: tuple[float, ...], draws: Stream) -> Picture:
    """Every point spread over a disk of ``amount = (radius, softness of its edge)`` pixels; edges mirrored. Draws nothing.

    The reference filters by a Fourier transform in float64. Columns of the disk are runs of equal weights, so that sums from
    the top give each run from its two ends: the same to within 1e-11 of a level. The weights are float32 and their sum
    is not 1, so that sums do not fall on whole levels and both round alike.
    """
    return truncated(_spread(plain(picture), *_disk(amount[0], amount[1])), 1.0)


@lru_cache(maxsize=32)
def _disk(radius: float, softness: float) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
    """The reference's disk, each column as runs about the middle row, and runs of one reach and height by twos.

    For each reach its first pair; of every pair the columns, -1 for none, [n, 2]; its height, [n].
    """
    import cv2

    reach, size = (8, 3) if radius <= 8 else (int(radius), 5)
    side = np.arange(-reach, reach + 1)
    across, down = np.meshgrid(side, side)
    sharp = np.array(across**2 + down**2 <= radius**2, dtype=np.float32)
    sharp /= np.sum(sharp)
    disk = cv2.GaussianBlur(sharp, ksize=(size, size), sigmaX=softness).astype(np.float64)
    assert (disk == disk[::-1]).all(), "the disk's lower half is its upper half"
    disk[disk < 1e-15] = 0  # a softness of 0.1 leaves weights of 1e-22
    far = int(np.abs(np.argwhere(disk) - reach).max())
    lower = disk[reach : reach + far + 1, reach - far : reach + far + 1]
    heights = -np.diff(lower, axis=0, append=0)
    firsts: list[int] = [0]
    pairs: list[tuple[int, int]] = []
    steps: list[float] = []
    for row in heights:
        for height in np.unique(row[row != 0]):  # as good as always two columns, left and right of the middle
            columns = np.flatnonzero(row == height)
            pairs += list(itertools.zip_longest(columns[::2], columns[1::2], fillvalue=-1))
            steps += [height] * (len(pairs) - len(steps))
        firsts.append(len(pairs))
    return np.array(firsts), np.array(pairs), np.array(steps)


@compiled
def _spread(picture: Picture, firsts: NDArray[np.intp], pairs: NDArray[np.intp], heights: Floats) -> Floats:
    """The picture under a disk given as runs (see ``_disk``), float64: a run is a difference of sums from the top."""
    height, width, _ = picture.shape
    length, reach = 3 * width, firsts.size - 2
    sums = np.zeros((height + 2 * reach + 1, length + 6 * reach), np.int32)  # sums[y] is of all rows before y
    padded = np.empty(length + 6 * reach, np.uint8)
    for y in range(height + 2 * reach):
        line = picture[_bounced(y - reach, height)]
        padded[3 * reach : 3 * reach + length] = line.reshape(length)
        for x in range(reach):
            left, right = line[_bounced(x - reach, width)], line[_bounced(width + x, width)]
            for k in range(3):
                padded[3 * x + k], padded[3 * reach + length + 3 * x + k] = left[k], right[k]
        before, row = sums[y], sums[y + 1]
        for x in range(padded.size):
            row[x] = before[x] + padded[x]
    out = np.zeros((height, length))
    run = np.zeros(sums.shape[1] + length)  # ends in zeros, for runs that are alone
    starts = np.where(pairs < 0, sums.shape[1], 3 * pairs)
    for y in range(height):
        total = out[y]
        for far in range(reach + 1):
            term, last = firsts[far], firsts[far + 1]
            if term == last:
                continue
            upper, lower = sums[y + reach - far], sums[y + reach + far + 1]
            for x in range(upper.size):
                run[x] = lower[x] - upper[x]
            while term + 4 <= last:
                pairs4(
                    total,
                    *(run[starts[term, 0] :][:length], run[starts[term, 1] :][:length], heights[term]),
                    *(run[starts[term + 1, 0] :][:length], run[starts[term + 1, 1] :][:length], heights[term + 1]),
                    *(run[starts[term + 2, 0] :][:length], run[starts[term + 2, 1] :][:length], heights[term + 2]),
                    *(run[starts[term + 3, 0] :][:length], run[starts[term + 3, 1] :][:length], heights[term + 3]),
                )
                term += 4
            while term < last:
                pair(total, run[starts[term, 0] :][:length], run[starts[term, 1] :][:length], heights[term])
                term += 1
    return out.reshape(height, width, 3)


@compiled
def _bounced(place: int, length: int) -> int:
    """The index that stands for ``place`` where d c b | a b c d | c b a goes on beyond the edges."""
    if length == 1:
        return 0
    while place < 0 or place >= length:
        place = -place if place < 0 else 2 * length - 2 - place
    return place


def motion_blur(picture: Picture, amount: tuple[float, ...], draws: Stream) -> Picture:
    """Smeared along a line at a drawn angle of -45 to 45 degrees by half a Gaussian: ``amount = (radius, sigma)`` pixels.

    The line has 2 radius + 1 points, each a copy of the picture moved by whole pixels, edges repeated.
    """
    picture = plain(picture)
    weights = (_tail if draws.identical else _steady)(2 * int(amount[0]) + 1, amount[1])
    moves = np.array(_line(len(weights), float(draws.uniform(-45, 45)), picture.shape[:2]))
    return truncated(_smeared(picture, moves, weights[: len(moves)]), 1.0)


@lru_cache(maxsize=32)
def _tail(width: int, sigma: float) -> NDArray[np.float64]:
    """Half a Gaussian from its middle on, of sum 1, with the reference's arithmetic."""
    weights = np.exp(-(np.arange(width) ** 2) / (2 * (sigma**2))) / (np.sqrt(2 * np.pi) * sigma)
    tail: NDArray[np.float64] = weights / np.sum(weights)
    return tail


@lru_cache(maxsize=32)
def _steady(width: int, sigma: float) -> NDArray[np.float64]:
    """The same to twelve digits: what numpy's ``exp`` gives in the last one depends on the processor, and pixels with it."""
    values = [round(math.exp(-(step**2) / (2 * sigma**2)), 12) for step in range(width)]
    return np.array(values) / math.fsum(values)


def _line(points: int, angle: float, shape: tuple[int, ...]) -> list[tuple[int, int]]:
    """By how many pixels (down, right) each point of the line moves the picture; it ends where it would leave the picture."""
    down, right = (points * float(part(np.deg2rad(angle))) for part in (np.sin, np.cos))
    length = math.hypot(down, right)
    moves = []
    for point in range(points):
        move = -math.ceil(point * down / length - 0.5), -math.ceil(point * right / length - 0.5)
        if abs(move[0]) >= shape[0] or abs(move[1]) >= shape[1]:
            break
        moves.append(move)
    return moves


@compiled
def _smeared(picture: Picture, moves: NDArray[np.int64], weights: Floats) -> Floats:
    """The picture moved by every move (down, right), edges repeated, and summed with weights in that order, float64."""
    height, width, _ = picture.shape
    length = width * 3
    left, right = 3 * max(moves[:, 1].max(), 0), 3 * max(-moves[:, 1].min(), 0)
    padded = np.empty((height, left + length + right))
    for y in range(height):
        line, row = picture[y].reshape(length), padded[y]
        row[left : left + length] = line
        for x in range(left):
            row[x] = line[x % 3]
        for x in range(right):
            row[left + length + x] = line[length - 3 + x % 3]
    out = np.zeros((height, length))
    starts = left - 3 * moves[:, 1]
    for y in range(height):
        total = out[y]
        point = 0
        while point + 4 <= weights.size:
            add4(
                total,
                *(padded[inside(y - moves[point, 0], height, False)][starts[point] :][:length], weights[point]),
                *(padded[inside(y - moves[point + 1, 0], height, False)][starts[point + 1] :][:length], weights[point + 1]),
                *(padded[inside(y - moves[point + 2, 0], height, False)][starts[point + 2] :][:length], weights[point + 2]),
                *(padded[inside(y - moves[point + 3, 0], height, False)][starts[point + 3] :][:length], weights[point + 3]),
            )
            point += 4
        while point < weights.size:
            add1(total, padded[inside(y - moves[point, 0], height, False)][starts[point] :][:length], weights[point])
            point += 1
    return out.reshape(height, width, 3)


def zoom_blur(picture: Picture, amount: tuple[float, ...], draws: Stream) -> Picture:
    """The mean of the picture and its enlargements by each factor of ``amount``, bilinear, about the middle. Draws nothing.

    In native mode rows are mixed first and in float32; for even parts of a picture both ways give the same bytes.
    """
    height, width = picture.shape[:2]
    values = converted(plain(picture), _UNITS).reshape(height, width * 3)
    total = np.zeros_like(values)
    enlarged = _enlarged if draws.identical else _enlarged_fast
    for factor in amount:
        rows, down = _knots(height, factor)
        enlarged(total, values, rows, down, *_runs(width, factor))
    return _mean(values, total, np.float32(len(amount) + 1)).reshape(picture.shape)


_UNITS = UNITS.astype(np.float32)


@lru_cache(maxsize=1024)
def _knots(side: int, factor: float) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """For each point of the enlarged middle of a side: the pixel before it, and the weights of that and of the next, [2, n].

    As scipy's ``zoom`` has it: a point that rounding puts beyond the last pixel counts as 0, and is left out here.
    """
    small = math.ceil(side / factor)
    start, large = (side - small) // 2, round(small * factor)
    at = np.arange(large) * ((small - 1) / (large - 1) if large > 1 else 1.0)
    at = at[at <= small - 1][:side]
    before = np.floor(at)
    first = 1.0 - (at - before)
    return start + before.astype(np.intp), np.stack((first, 1.0 - first))


@lru_cache(maxsize=1024)
def _runs(side: int, factor: float) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
    """The knots of rows of three channels as runs, in which neighbours come from neighbours: bounds, sources, weights.

    Values bounds[i] to bounds[i + 1] come from those that start at sources[i] and from those three further on.
    """
    before, weights = _knots(side, factor)
    breaks = np.flatnonzero(np.diff(before) != 1) + 1
    bounds = np.concatenate(([0], breaks, [before.size]))
    return 3 * bounds, 3 * before[bounds[:-1]], np.repeat(weights, 3, axis=1)


@compiled
def _enlarged(
    total: Floats,
    values: Floats,
    rows: NDArray[np.intp],
    down: Floats,
    bounds: NDArray[np.intp],
    sources: NDArray[np.intp],
    right: Floats,
) -> None:
    """Add an enlargement of ``values [h, 3 w]`` to ``total``, with the products and sums of scipy in float64."""
    height, length = values.shape
    upper, lower = np.zeros(length + 3), np.zeros(length + 3)  # beyond the last pixel lie zeros, of weight zero
    for y in range(rows.size):
        above, below = values[rows[y]], values[min(rows[y] + 1, height - 1)]
        a, b = down[0, y], down[1, y]
        for x in range(length):
            upper[x] = above[x] * a
            lower[x] = below[x] * b
        line = total[y]
        for run in range(sources.size):
            start, stop, source = bounds[run], bounds[run + 1], sources[run]
            out, c, d = line[start:stop], right[0, start:stop], right[1, start:stop]
            p, q = upper[source:][: out.size + 3], lower[source:][: out.size + 3]
            p_next, q_next = p[3:], q[3:]
            for x in range(out.size):
                out[x] += np.float32(((p[x] * c[x] + p_next[x] * d[x]) + q[x] * c[x]) + q_next[x] * d[x])


@compiled
def _enlarged_fast(
    total: Floats,
    values: Floats,
    rows: NDArray[np.intp],
    down: Floats,
    bounds: NDArray[np.intp],
    sources: NDArray[np.intp],
    right: Floats,
) -> None:
    """The same in float32: rows mixed first, both ways as ``p + (q - p) * weight``, which is exact where p = q."""
    height, length = values.shape
    mixed = np.zeros(length + 3, np.float32)
    weights = right[1].astype(np.float32)
    for y in range(rows.size):
        above, below = values[rows[y]], values[min(rows[y] + 1, height - 1)]
        weight = np.float32(down[1, y])
        for x in range(length):
            mixed[x] = above[x] + (below[x] - above[x]) * weight
        line = total[y]
        for run in range(sources.size):
            start, stop, source = bounds[run], bounds[run + 1], sources[run]
            out, d = line[start:stop], weights[start:stop]
            p = mixed[source:][: out.size]
            p_next = mixed[source + 3 :][: out.size]
            for x in range(out.size):
                out[x] += p[x] + (p_next[x] - p[x]) * d[x]


@compiled
def _mean(values: Floats, total: Floats, count: np.float32) -> Picture:
    """(values + total) / count as grey levels, clipped and rounded down."""
    out = np.empty(values.shape, np.uint8)
    given, added, ends = values.ravel(), total.ravel(), out.ravel()
    for x in range(given.size):
        value = (given[x] + added[x]) / count
        ends[x] = np.uint8(np.int32(min(max(value, np.float32(0)), np.float32(1)) * np.float32(255)))
    return out
