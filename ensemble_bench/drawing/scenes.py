"""What is drawn: one function a kind of scene. Each takes the draws and what must be shown, and returns float32 pictures.

Where ``None`` is allowed for a quality, the scene draws it at random; the second value returned names the qualities shown.
"""

from __future__ import annotations

import numpy as np

from ensemble_bench.drawing.canvas import (
    COLOURS,
    SHAPES,
    SIDE,
    Floats,
    Ints,
    background,
    colour,
    covered,
    enlarged,
    frame,
    paint,
    shape,
    turn,
)
from ensemble_bench.drawing.draws import Draws
from ensemble_bench.drawing.glyphs import glyph

Facts = dict[str, Ints]

PATTERNS = [
    "horizontal stripes",
    "vertical stripes",
    "diagonal stripes",
    "checkerboard",
    "dots",
    "rings",
    "grid",
    "zigzag",
]
POSITIONS = [
    "top left",
    "top",
    "top right",
    "left",
    "centre",
    "right",
    "bottom left",
    "bottom",
    "bottom right",
]
RELATIONS = ["above", "below", "left of", "right of"]
SURFACES = ["brick", "grass", "gravel"]
COUNTS = ["one", "two", "three", "four", "five", "six"]


def _two_colours(draws: Draws, first: Ints | None = None) -> tuple[Ints, Ints]:
    """Two different colour numbers per picture; the first may be given."""
    first = draws.integers(len(COLOURS)) if first is None else first
    return first, (first + 1 + draws.integers(len(COLOURS) - 1)) % len(COLOURS)


def single(
    draws: Draws, kind: Ints | None = None, hue: Ints | None = None, cell: Ints | None = None, size: Ints | None = None
) -> tuple[Floats, Facts]:
    """One shape of one colour somewhere; ``cell`` [n] numbers POSITIONS, ``size`` is 0 (small) or 1 (large)."""
    kind = draws.integers(len(SHAPES)) if kind is None else kind
    hue, ground = _two_colours(draws, hue)
    size = draws.integers(2) if size is None else size
    radius = np.where(size == 1, draws.uniform(0.5, 0.72), draws.uniform(0.2, 0.36)).astype(np.float32)
    free = cell is None
    if cell is None:
        cell = draws.integers(9)
    else:
        radius = radius * np.float32(0.8)
    reach = np.minimum(np.float32(0.62), 1 - radius)
    x = (cell % 3 - 1).astype(np.float32) * reach + draws.uniform(-0.06, 0.06)
    y = (cell // 3 - 1).astype(np.float32) * reach + draws.uniform(-0.06, 0.06)
    picture = background(draws, colour(draws, ground))
    paint(picture, shape(kind, x, y, radius, turn(draws, 0.14)), colour(draws, hue))
    facts = {"shape": kind, "colour": hue, "ground": ground, "size": size}
    return picture, facts if free else {**facts, "cell": cell}


def pattern(draws: Draws, kind: Ints | None = None) -> tuple[Floats, Facts]:
    """Two colours repeated all over the picture."""
    kind = draws.integers(len(PATTERNS)) if kind is None else kind
    n = len(draws)
    first, second = _two_colours(draws)
    period = draws.uniform(0.2, 0.62)
    phase = draws.uniform(0, 1, (2,))
    duty = draws.uniform(0.3, 0.5)
    lean = turn(draws, 0.08)
    u, v = frame(np.zeros(n, np.float32), np.zeros(n, np.float32), period, lean)
    u, v = u + phase[:, 0, None, None], v + phase[:, 1, None, None]
    half = np.float32(0.5)

    def folded(a: Floats) -> Floats:
        """Distance to the nearest whole number, 0..0.5."""
        distance: Floats = np.abs(a - np.floor(a) - half)
        return distance

    wave = folded(u) * 2
    centre = draws.uniform(-0.4, 0.4, (2,))
    ru, rv = frame(centre[:, 0], centre[:, 1], period)
    mirrored = np.where(draws.flips(0.5), -1, 1).astype(np.float32)[:, None, None]
    choices = [
        lambda i: folded(v[i]),
        lambda i: folded(u[i]),
        lambda i: folded((u[i] + mirrored[i] * v[i]) * np.float32(0.7071)),
        lambda i: (folded(u[i]) - np.float32(0.25)) * (folded(v[i]) - np.float32(0.25)) * 4 + duty[i, None, None] * half,
        lambda i: np.sqrt(folded(u[i]) * folded(u[i]) + folded(v[i]) * folded(v[i])) * np.float32(1.1),
        lambda i: folded(np.sqrt(ru[i] * ru[i] + rv[i] * rv[i])),
        lambda i: np.minimum(folded(u[i]), folded(v[i])) * np.float32(1.6),
        lambda i: folded(v[i] + wave[i]),
    ]
    distance = np.empty((n, SIDE, SIDE), dtype=np.float32)
    for number in np.unique(kind):
        own = np.flatnonzero(kind == number)
        distance[own] = choices[number](own)
    coverage = covered(distance - (duty * half)[:, None, None], period)
    picture = background(draws, colour(draws, second))
    paint(picture, coverage, colour(draws, first))
    return picture, {"pattern": kind, "colour": first, "ground": second}


def several(draws: Draws, count: Ints | None = None) -> tuple[Floats, Facts]:
    """One to six shapes of one kind, none touching another; ``count`` [n] numbers COUNTS."""
    count = draws.integers(len(COUNTS)) if count is None else count
    kind = draws.integers(len(SHAPES))
    hue, ground = _two_colours(draws)
    cells = draws.permutation(9)
    picture = background(draws, colour(draws, ground))
    rgb = colour(draws, hue)
    base = draws.uniform(0.17, 0.28)
    for place in range(len(COUNTS)):
        cell = cells[:, place]
        x = (cell % 3 - 1).astype(np.float32) * np.float32(0.62) + draws.uniform(-0.05, 0.05)
        y = (cell // 3 - 1).astype(np.float32) * np.float32(0.62) + draws.uniform(-0.05, 0.05)
        radius = base * draws.uniform(0.85, 1.1)
        lean = turn(draws, 0.14)
        own = count >= place
        paint(picture, shape(kind, x, y, radius, lean) * own[:, None, None], rgb)
    return picture, {"count": count, "shape": kind, "colour": hue}


def written(draws: Draws, sign: Ints, low_pixels: float = 0.0) -> tuple[Floats, Facts]:
    """A letter or digit (``sign`` [n] numbers glyphs.SIGNS); a share ``low_pixels`` as an 8 x 8 scan, dark or light."""
    hue, ground = _two_colours(draws)
    scan = draws.flips(low_pixels)
    radius = np.where(scan, draws.uniform(0.78, 1.0), draws.uniform(0.45, 0.9)).astype(np.float32)
    room = np.maximum(1 - radius, 0) * np.float32(0.8)
    x, y = draws.uniform(-1, 1) * room, draws.uniform(-1, 1) * room
    ink = glyph(draws, sign, x, y, radius, turn(draws, 0.1))
    picture = background(draws, colour(draws, ground))
    paint(picture, ink, colour(draws, hue))
    if scan.any():
        grey = draws.uniform(0, 0.15)[scan], draws.uniform(0.8, 1.0)[scan]
        blocks = ink[scan].reshape(-1, 8, SIDE // 8, 8, SIDE // 8)
        total = np.zeros((*blocks.shape[:2], 8), dtype=np.float32)
        for row in range(SIDE // 8):
            for column in range(SIDE // 8):
                total += blocks[:, :, row, :, column]
        coarse = np.minimum(total * np.float32(1.25 / (SIDE // 8) ** 2), 1)
        tone = enlarged(coarse) * (grey[1] - grey[0])[:, None, None] + grey[0][:, None, None]
        picture[scan] = tone[..., None]
    return picture, {"sign": sign, "scan": scan.astype(np.int64), "colour": hue, "ground": ground}


def pair(
    draws: Draws,
    first: Ints | None = None,
    second: Ints | None = None,
    relation: Ints | None = None,
    hues: tuple[Ints, Ints] | None = None,
) -> tuple[Floats, Facts]:
    """Two different shapes of two colours, the first one ``relation`` (numbering RELATIONS) the second."""
    first = draws.integers(len(SHAPES)) if first is None else first
    if second is None:
        second = (first + 1 + draws.integers(len(SHAPES) - 1)) % len(SHAPES)
    relation = draws.integers(4) if relation is None else relation
    one, two = _two_colours(draws) if hues is None else hues
    step = 1 + draws.integers(len(COLOURS) - 2)
    ground = (one + step) % len(COLOURS)
    ground = np.where(ground == two, (one + len(COLOURS) - 1) % len(COLOURS), ground)
    ground = np.where(ground == two, (one + 1) % len(COLOURS), ground)
    apart = draws.uniform(0.4, 0.55)
    drift = draws.uniform(-0.2, 0.2)
    sign = np.where(relation % 2 == 0, -1, 1).astype(np.float32)
    upright = relation < 2
    picture = background(draws, colour(draws, ground))
    for side, kind, hue in ((sign, first, one), (-sign, second, two)):
        far = side * apart + draws.uniform(-0.05, 0.05)
        near = drift + draws.uniform(-0.1, 0.1)
        x, y = np.where(upright, near, far), np.where(upright, far, near)
        radius = draws.uniform(0.26, 0.38)
        paint(picture, shape(kind, x, y, radius, turn(draws, 0.1)), colour(draws, hue))
    return picture, {"shape": first, "other": second, "relation": relation, "colour": one, "other colour": two}


def _ellipse(x: Floats, y: Floats, width: Floats, height: Floats, lean: Floats, soft: float) -> Floats:
    u, v = frame(x, y, width, lean)
    ratio = (width / height)[:, None, None]
    v = v * ratio
    return covered(np.sqrt(u * u + v * v) - 1, width, soft)


def _grey(picture: Floats) -> Floats:
    return np.repeat(picture[..., 1:2], 3, axis=3)


def face(draws: Draws) -> Floats:
    """A drawn portrait in greys: head, hair, eyes, brows, nose, mouth, light from one side."""
    n = len(draws)
    skin = draws.uniform(0.4, 0.85)
    tone = np.repeat(skin[:, None], 3, axis=1)
    ground = np.repeat(draws.uniform(0.05, 0.9)[:, None], 3, axis=1)
    picture = background(draws, ground)
    lean = turn(draws, 0.07)
    cx, cy = draws.uniform(-0.12, 0.12), draws.uniform(-0.1, 0.15)
    width, height = draws.uniform(0.6, 0.95), draws.uniform(0.85, 1.2)
    hair = np.repeat(draws.uniform(0.02, 0.45)[:, None], 3, axis=1)
    paint(picture, _ellipse(cx, cy - np.float32(0.15), width * np.float32(1.12), height * np.float32(1.08), lean, 3), hair)
    head = _ellipse(cx, cy + np.float32(0.08), width, height, lean, 3)
    paint(picture, head, tone)
    u, v = frame(cx, cy, np.ones(n, np.float32), lean)
    light = draws.uniform(-0.3, 0.3, (2,))
    picture += (head * (light[:, 0, None, None] * u + light[:, 1, None, None] * v))[..., None]
    dark = tone * draws.uniform(0.15, 0.6)[:, None]
    gap, eyes = draws.uniform(0.3, 0.4), cy - draws.uniform(0.08, 0.25)
    eye_width, eye_height = draws.uniform(0.1, 0.18), draws.uniform(0.05, 0.1)
    for side in (-1, 1):
        ex = cx + np.float32(side) * gap
        socket = _ellipse(ex, eyes, eye_width * np.float32(1.5), eye_height * np.float32(2.4), lean, 6)
        paint(picture, socket * np.float32(0.5), dark)
        paint(picture, _ellipse(ex, eyes, eye_width, eye_height, lean, 2), dark * np.float32(0.4))
        brow = eyes - np.float32(0.17)
        paint(picture, _ellipse(ex, brow, eye_width * np.float32(1.3), eye_height * np.float32(0.6), lean, 3), dark)
    nose = cy + draws.uniform(0.12, 0.25)
    paint(picture, _ellipse(cx, nose, draws.uniform(0.1, 0.18), draws.uniform(0.05, 0.1), lean, 5) * np.float32(0.6), dark)
    mouth = cy + draws.uniform(0.45, 0.6)
    lips = _ellipse(cx, mouth, draws.uniform(0.2, 0.36), draws.uniform(0.04, 0.1), lean, 3)
    paint(picture, lips, dark * draws.uniform(0.6, 1.0)[:, None])
    teeth = _ellipse(cx, mouth, np.full(n, 0.18, np.float32), np.full(n, 0.04, np.float32), lean, 2)
    paint(picture, teeth * draws.flips(0.35)[:, None, None], np.minimum(tone + np.float32(0.3), 1))
    return _grey(picture)


def clutter(draws: Draws) -> Floats:
    """A blurred corner of nowhere in greys: ground, a few soft blobs and bars, no object."""
    picture = background(draws, np.repeat(draws.uniform(0.1, 0.9)[:, None], 3, axis=1))
    cloud = draws.uniform(-0.5, 0.5, (4, 4, 1)) * draws.uniform(0.2, 1.0)[:, None, None, None]
    picture += enlarged(cloud)
    for _ in range(5):
        x, y = draws.uniform(-1, 1), draws.uniform(-1, 1)
        width, height = draws.uniform(0.05, 0.9), draws.uniform(0.05, 0.9)
        tone = np.repeat(draws.uniform(0, 1)[:, None], 3, axis=1)
        u, v = frame(x, y, width, turn(draws, 1.0))
        bar = covered(np.maximum(np.abs(u), np.abs(v * (width / height)[:, None, None])) - 1, width, 5)
        blob = _ellipse(x, y, width, height, turn(draws, 1.0), 7)
        some = draws.flips(0.5)[:, None, None]
        paint(picture, np.where(some, bar, blob) * draws.uniform(0.2, 0.9)[:, None, None], tone)
    return _grey(picture)


def _brick(draws: Draws) -> Floats:
    n = len(draws)
    rows = draws.uniform(0.1, 0.34)
    u, v = frame(draws.uniform(-1, 1), draws.uniform(-1, 1), rows, turn(draws, 0.05))
    row = np.floor(v)
    long = draws.uniform(1.8, 3.2)[:, None, None]
    along = u / long + np.float32(0.5) * (row - 2 * np.floor(row * np.float32(0.5)))
    brick = np.floor(along)
    joint = draws.uniform(0.05, 0.14)[:, None, None]
    edge = np.minimum(np.minimum(v - row, 1 - (v - row)), np.minimum(along - brick, 1 - (along - brick)) * long)
    inside = np.clip((edge - joint) * 10 + np.float32(0.5), 0, 1)
    table = draws.uniform(-0.14, 0.14, (64,))
    which = (row.astype(np.int64) * 13 + brick.astype(np.int64) * 7) % 64
    stain = np.take_along_axis(table, which.reshape(n, -1), axis=1).reshape(which.shape)
    stone, mortar = draws.uniform(0.25, 0.65)[:, None, None], draws.uniform(0.3, 0.95)[:, None, None]
    tone = mortar + inside * (stone + stain - mortar)
    rough = enlarged(draws.uniform(-1, 1, (32, 32))) * draws.uniform(0.02, 0.12)[:, None, None]
    wall: Floats = tone + rough
    return wall


def _grass(draws: Draws) -> Floats:
    tone = enlarged(draws.uniform(0.1, 0.6, (6, 6)))
    for blade in range(36):
        x, y = draws.uniform(-1.1, 1.1), draws.uniform(-1.1, 1.1)
        length = draws.uniform(0.15, 0.6)
        lean = turn(draws, 0.9)
        u, v = frame(x, y, length, lean)
        thin = draws.uniform(0.04, 0.13)[:, None, None]
        curve = draws.uniform(-0.3, 0.3)[:, None, None]
        distance = np.maximum(np.abs(u + curve * v * v) - thin * (np.float32(1.2) - np.abs(v)), np.abs(v) - 1)
        ink = covered(distance, length, 1.5)
        level = draws.uniform(0.05, 0.95)[:, None, None] * np.float32(0.5 + blade / 72)
        tone = tone + ink * (level - tone)
    return tone + draws.uniform(-0.06, 0.06, (SIDE, SIDE))


def _gravel(draws: Draws) -> Floats:
    n = len(draws)
    side = 5
    zoom = draws.uniform(0.45, 1.0)
    place = draws.uniform(-0.42, 0.42, (side * side, 2))
    level = draws.uniform(0.25, 0.95, (side * side,))
    u, v = frame(np.zeros(n, np.float32), np.zeros(n, np.float32), zoom, turn(draws, 0.6))
    u, v = u * np.float32(1.1), v * np.float32(1.1)
    u, v = u * 2 - np.floor(u), v * 2 - np.floor(v)  # folds: stones are cut along lines, as by the edge of a slab
    first = np.full(u.shape, 99, dtype=np.float32)
    second = first.copy()
    tone = np.zeros_like(first)
    for cell in range(side * side):
        x = place[:, cell, 0, None, None] + np.float32(cell % side - side // 2) * np.float32(0.9)
        y = place[:, cell, 1, None, None] + np.float32(cell // side - side // 2) * np.float32(0.9)
        dx, dy = u - x, v - y
        distance = np.sqrt(dx * dx + dy * dy)
        nearer = distance < first
        second = np.where(nearer, first, np.minimum(second, distance))
        shade = level[:, cell, None, None] - (dx + dy) * np.float32(0.25)
        tone = np.where(nearer, shade, tone)
        first = np.minimum(first, distance)
    gap = np.clip((second - first) * draws.uniform(2.5, 6.0)[:, None, None], 0, 1)
    tone = tone * gap + draws.uniform(0.0, 0.15)[:, None, None] * (1 - gap)
    stones: Floats = tone + enlarged(draws.uniform(-1, 1, (32, 32))) * draws.uniform(0.02, 0.12)[:, None, None]
    return stones


def surface(draws: Draws, kind: Ints, index: Ints, domain: str) -> Floats:
    """Brick, grass or gravel (``kind`` [n] numbers SURFACES) filling the picture, in greys or its own colour."""
    picture = np.empty((len(kind), SIDE, SIDE, 3), dtype=np.float32)
    tints = np.array([[1.25, 0.8, 0.65], [0.75, 1.2, 0.55], [1.02, 1.0, 0.96]], dtype=np.float32)
    for number, drawn in enumerate((_brick, _grass, _gravel)):
        own = kind == number
        if own.any():
            mine = Draws(f"{domain} {SURFACES[number]}", index[own])
            tone = drawn(mine)
            aside = mine.flips(0.5)[:, None, None]
            picture[own] = np.where(aside, tone.transpose(0, 2, 1), tone)[..., None]
    tint = 1 + (tints[kind] - 1) * (draws.uniform() * draws.flips(0.5))[:, None]
    return picture * tint[:, None, None, :]
