"""The picture-caption pairs that the embedded backbones learn from: drawn scenes and what an onlooker might say of them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ensemble_bench.drawing import canvas, scenes
from ensemble_bench.drawing.canvas import COLOURS, SHAPES, Floats, Ints
from ensemble_bench.drawing.draws import Draws
from ensemble_bench.drawing.glyphs import DIGITS, SIGNS

_COLOURS, _SHAPES = list(COLOURS), list(SHAPES)
_SIZES = ["small", "large"]
_NUMBERS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
_PLURALS = {"cross": "crosses"}

Pairs = tuple[Floats, list[str]]


def _said(choice: Ints, sentences: list[list[str]]) -> list[str]:
    """For each picture the sentence that ``choice`` picks from its own list, the list being used as often as it is long."""
    return [options[pick % len(options)] for pick, options in zip(choice.tolist(), sentences, strict=True)]


def _single(draws: Draws, index: Ints, domain: str) -> Pairs:
    placed = index % 2 == 0
    cell = draws.integers(9)
    free, facts = scenes.single(draws)
    fixed, at = scenes.single(draws, facts["shape"], facts["colour"], cell, facts["size"])
    picture = np.where(placed[:, None, None, None], fixed, free)
    ground = np.where(placed, at["ground"], facts["ground"])
    options = []
    for i in range(len(draws)):
        shape, colour = _SHAPES[facts["shape"][i]], _COLOURS[facts["colour"][i]]
        if placed[i]:
            where = scenes.POSITIONS[cell[i]]
            options.append(
                [
                    f"a {shape} at the {where}",
                    f"a {colour} {shape} at the {where}",
                    f"an object at the {where} of the picture",
                    f"a photo of a {shape} at the {where} of the picture",
                ]
            )
        else:
            options.append(
                [
                    f"a {colour} {shape}",
                    f"a photo of a {shape}",
                    f"a {_SIZES[facts['size'][i]]} {colour} {shape}",
                    f"a {shape}",
                    f"a {colour} object",
                    f"a drawing of a {shape} on a {_COLOURS[ground[i]]} background",
                    f"a photo of a {colour} shape",
                    f"a drawing of a {colour} {shape}",
                ]
            )
    return picture, _said(draws.integers(24), options)


def _pattern(draws: Draws, index: Ints, domain: str) -> Pairs:
    picture, facts = scenes.pattern(draws)
    options = []
    for kind, first, second in zip(facts["pattern"], facts["colour"], facts["ground"], strict=True):
        name = scenes.PATTERNS[kind]
        options.append(
            [
                f"a pattern of {name}",
                name,
                f"a photo of a {name} pattern",
                f"{_COLOURS[first]} {name} on a {_COLOURS[second]} background",
            ]
        )
    return picture, _said(draws.integers(4), options)


def _several(draws: Draws, index: Ints, domain: str) -> Pairs:
    picture, facts = scenes.several(draws)
    options = []
    for count, kind, hue in zip(facts["count"], facts["shape"], facts["colour"], strict=True):
        number, shape = scenes.COUNTS[count], _SHAPES[kind]
        many = shape if count == 0 else _PLURALS.get(shape, shape + "s")
        things = "object" if count == 0 else "objects"
        options.append(
            [
                f"{number} {many}",
                f"a photo of {number} {things}",
                f"{number} {_COLOURS[hue]} {many}",
                f"a picture with {number} {things}",
            ]
        )
    return picture, _said(draws.integers(4), options)


def _digit(draws: Draws, index: Ints, domain: str) -> Pairs:
    sign = draws.integers(10)
    picture, _ = scenes.written(draws, sign, low_pixels=0.6)
    options = [
        [
            f"the digit {_NUMBERS[number]}",
            f"a photo of the number {_NUMBERS[number]}",
            f"a handwritten {DIGITS[number]}",
            f"a handwritten digit {_NUMBERS[number]}",
        ]
        for number in sign
    ]
    return picture, _said(draws.integers(4), options)


def _letter(draws: Draws, index: Ints, domain: str) -> Pairs:
    sign = 10 + draws.integers(26)
    picture, facts = scenes.written(draws, sign)
    options = [
        [
            f"the letter {SIGNS[number]}",
            f"a photo of the letter {SIGNS[number]}",
            f"a handwritten letter {SIGNS[number]}",
            f"a {_COLOURS[hue]} letter {SIGNS[number]}",
        ]
        for number, hue in zip(sign, facts["colour"], strict=True)
    ]
    return picture, _said(draws.integers(4), options)


_OPPOSITE = {"above": "below", "below": "above", "left of": "right of", "right of": "left of"}


def _pair(draws: Draws, index: Ints, domain: str) -> Pairs:
    picture, facts = scenes.pair(draws)
    options = []
    for first, second, relation, one, two in zip(*facts.values(), strict=True):
        a, b, where = _SHAPES[first], _SHAPES[second], scenes.RELATIONS[relation]
        ca, cb = _COLOURS[one], _COLOURS[two]
        options.append(
            [
                f"a {a} {where} a {b}",
                f"a {b} {_OPPOSITE[where]} a {a}",
                f"a {ca} {a} and a {cb} {b}",
                f"a photo of a {a} {where} a {b}",
                f"a {cb} {b} and a {ca} {a}",
                f"a photo of a {ca} {a} {where} a {cb} {b}",
            ]
        )
    return picture, _said(draws.integers(12), options)


def _portrait(draws: Draws, index: Ints, domain: str) -> Pairs:
    shown = index % 2 == 0
    picture = np.empty((len(index), canvas.SIDE, canvas.SIDE, 3), dtype=np.float32)
    picture[shown] = scenes.face(Draws(f"{domain} face", index[shown]))
    picture[~shown] = scenes.clutter(Draws(f"{domain} clutter", index[~shown]))
    faces = ["a photo of a face", "a face", "a portrait of a face", "a grey photo of a face"]
    grounds = ["a photo of a background", "a background", "a blurry background", "a grey photo of a background"]
    return picture, _said(draws.integers(4), [faces if face else grounds for face in shown])


def _surface(draws: Draws, index: Ints, domain: str) -> Pairs:
    kind = draws.integers(3)
    picture = scenes.surface(draws, kind, index, domain)
    options = [
        [f"a photo of {name}", f"a {name} surface", f"a photo of a {name} texture", name]
        for name in (scenes.SURFACES[number] for number in kind)
    ]
    return picture, _said(draws.integers(4), options)


# Of 32 consecutive pairs, this many show that kind of scene.
_SHARES: dict[Callable[[Draws, Ints, str], Pairs], int] = {
    _single: 7,
    _pattern: 3,
    _several: 4,
    _digit: 5,
    _letter: 4,
    _pair: 5,
    _portrait: 2,
    _surface: 2,
}
_TURNS = [scene for scene, share in _SHARES.items() for _ in range(share)]


def pairs(domain: str, index: NDArray[np.int64]) -> tuple[NDArray[np.uint8], list[str]]:
    """Pictures uint8 [n, 64, 64, 3] and their captions; pair ``index[i]`` of ``domain`` is always the same."""
    pictures = np.empty((len(index), canvas.SIDE, canvas.SIDE, 3), dtype=np.uint8)
    captions = [""] * len(index)
    turn = index % len(_TURNS)
    for scene in _SHARES:
        own = np.flatnonzero(np.array([_TURNS[t] is scene for t in turn]))
        if own.size == 0:
            continue
        name = f"{domain} {scene.__name__}"
        draws = Draws(name, index[own])
        drawn, said = scene(draws, index[own], name)
        strength = draws.uniform() * draws.flips(0.8)
        pictures[own] = canvas.finished(canvas.worn(draws, drawn, strength))
        for place, caption in zip(own, said, strict=True):
            captions[place] = caption
    return pictures, captions


def every_caption() -> list[str]:
    """Enough captions to hold every word the pairs can use."""
    words = [*_COLOURS, *_SHAPES, *_SIZES, *_NUMBERS, *scenes.COUNTS, *SIGNS, *scenes.SURFACES, *scenes.PATTERNS]
    words += [*scenes.POSITIONS, *scenes.RELATIONS, *(_PLURALS.get(shape, shape + "s") for shape in _SHAPES)]
    _, captions = pairs("vocabulary", np.arange(8192))
    return [f"a photo of {word}" for word in words] + captions
