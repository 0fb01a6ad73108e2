"""Letters and digits as strokes on a grid four wide and six high, in several hands where people's hands differ."""

from __future__ import annotations

import numpy as np

from ensemble_bench.drawing.canvas import Floats, Ints, covered, frame
from ensemble_bench.drawing.draws import Draws

# One glyph is one or more strokes, separated by spaces; a stroke is a row of points of two digits each: column 0-4, row 0-6.
STROKES: dict[str, tuple[str, ...]] = {
    "0": ("103041453616050110", "20313526151120"),
    "1": ("112026", "112026 1636", "2026"),
    "2": ("01103041420646", "10304142240646"),
    "3": ("01103041423323 334445361605", "0040233344453616"),
    "4": ("3036 300444", "100343 3036"),
    "5": ("400002324345361605", "3010023243453616"),
    "6": ("413010010516364544331304", "3011030516364544331304"),
    "7": ("004016", "004026 1333"),
    "8": ("103041423313020110 133344453616050413",),
    "9": ("051636454130100102133342", "42331302011030414246"),
    "a": ("062046 1434",),
    "b": ("003041423303 334445360600",),
    "c": ("4130100105163645",),
    "d": ("00204244260600",),
    "e": ("40000646 0333",),
    "f": ("400006 0333",),
    "g": ("41301001051636454323",),
    "h": ("0006 4046 0343",),
    "i": ("2026 1030 1636",),
    "j": ("4045361605",),
    "k": ("0006 400346",),
    "l": ("000646",),
    "m": ("0600234046",),
    "n": ("06004640",),
    "o": ("103041453616050110",),
    "p": ("06003041423303",),
    "q": ("103041453616050110 2446",),
    "r": ("06003041423303 2346",),
    "s": ("413010010213334445361605",),
    "t": ("0040 2026",),
    "u": ("000516364540",),
    "v": ("002640",),
    "w": ("0016233640",),
    "x": ("0046 4006",),
    "y": ("002340 2326",),
    "z": ("00400646",),
}
SIGNS = list(STROKES)
DIGITS, LETTERS = SIGNS[:10], SIGNS[10:]


def _points(hand: str) -> tuple[list[tuple[float, float]], list[tuple[int, int]]]:
    """Points in -1..1 of one hand and the pairs of point numbers that its segments join."""
    points: list[tuple[float, float]] = []
    joined: list[tuple[int, int]] = []
    for stroke in hand.split():
        for place in range(0, len(stroke), 2):
            points.append((int(stroke[place]) / 3 - 2 / 3, int(stroke[place + 1]) / 3 - 1))
            if place:
                joined.append((len(points) - 2, len(points) - 1))
    return points, joined


_HANDS = [[_points(hand) for hand in hands] for hands in STROKES.values()]


def glyph(draws: Draws, sign: Ints, x: Floats, y: Floats, radius: Floats, direction: Floats) -> Floats:
    """Coverage of one written sign per picture (``sign`` [n] numbers SIGNS): wobbling points, slant, any pen width."""
    n = len(draws)
    width = draws.uniform(0.09, 0.26)
    squeeze = draws.uniform(0.75, 1.2)
    slant = draws.uniform(-0.3, 0.3)
    hand = draws.integers(6)
    wobble = draws.uniform(-0.09, 0.09, (20, 2))
    u, v = frame(x, y, radius, direction)
    nearest = np.full((n, *u.shape[1:]), 9, dtype=np.float32)
    for number in np.unique(sign):
        hands = _HANDS[number]
        for style, (points, joined) in enumerate(hands):
            own = np.flatnonzero((sign == number) & (hand % len(hands) == style))
            if own.size == 0:
                continue
            place = np.array(points, dtype=np.float32)[None] + wobble[own, : len(points)]
            place[..., 0] = place[..., 0] * squeeze[own, None] - slant[own, None] * place[..., 1]
            mine_u, mine_v = u[own], v[own]
            best = np.full(mine_u.shape, 9, dtype=np.float32)
            for start, end in joined:
                ax, ay = place[:, start, 0, None, None], place[:, start, 1, None, None]
                bx, by = place[:, end, 0, None, None] - ax, place[:, end, 1, None, None] - ay
                px, py = mine_u - ax, mine_v - ay
                along = np.clip((px * bx + py * by) / (bx * bx + by * by + np.float32(1e-6)), 0, 1)
                dx, dy = px - along * bx, py - along * by
                best = np.minimum(best, dx * dx + dy * dy)
            nearest[own] = np.sqrt(best)
    return covered(nearest - width[:, None, None], radius, soft=1.5)
