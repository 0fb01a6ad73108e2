"""Pictures that the project draws itself, one after the other class, worn as much as the card says."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from ensemble_bench.drawing import canvas, scenes
from ensemble_bench.drawing.canvas import COLOURS, SHAPES, Floats, Ints
from ensemble_bench.drawing.draws import Draws
from ensemble_bench.drawing.glyphs import SIGNS
from ensemble_bench.errors import BadCard
from ensemble_bench.sources.base import Index, Picture, Source

_SHAPES, _COLOURS = list(SHAPES), list(COLOURS)
_PAIRS = (("circle", "square"), ("triangle", "star"))
_HUES = (("red", "blue"), ("green", "yellow"))


def _shape_numbers(pair: Ints) -> tuple[Ints, Ints]:
    numbers = np.array([[_SHAPES.index(name) for name in names] for names in _PAIRS])
    return numbers[pair, 0], numbers[pair, 1]


def _relation(draws: Draws, label: Ints) -> Floats:
    first, second = _shape_numbers(label // 4)
    return scenes.pair(draws, first, second, label % 4)[0]


def _binding(draws: Draws, label: Ints) -> Floats:
    first, second = _shape_numbers(label // 4)
    hues = np.array([[_COLOURS.index(name) for name in names] for names in _HUES])[label // 2 % 2]
    swapped = label % 2 == 1
    one, two = np.where(swapped, hues[:, 1], hues[:, 0]), np.where(swapped, hues[:, 0], hues[:, 1])
    return scenes.pair(draws, first, second, hues=(one, two))[0]


# Each scene: its classes in the order of the labels, and how a label is drawn.
SCENES: dict[str, tuple[list[str], Callable[[Draws, Ints], Floats]]] = {
    "shapes": (_SHAPES, lambda draws, label: scenes.single(draws, kind=label)[0]),
    "colours": (_COLOURS, lambda draws, label: scenes.single(draws, hue=label)[0]),
    "positions": (scenes.POSITIONS, lambda draws, label: scenes.single(draws, cell=label)[0]),
    "patterns": (scenes.PATTERNS, lambda draws, label: scenes.pattern(draws, kind=label)[0]),
    "counting": (scenes.COUNTS, lambda draws, label: scenes.several(draws, count=label)[0]),
    "letters": (SIGNS[10:], lambda draws, label: scenes.written(draws, label + 10)[0]),
    "relations": ([f"a {a} {where} a {b}" for a, b in _PAIRS for where in scenes.RELATIONS], _relation),
    "bindings": (
        [
            text
            for a, b in _PAIRS
            for one, two in _HUES
            for text in (f"a {one} {a} and a {two} {b}", f"a {two} {a} and a {one} {b}")
        ],
        _binding,
    ),
}
_BATCH = 128


class Drawn(Source):
    """``source.scene`` is one of SCENES, ``source.wear`` the least and the most camera trouble in per cent."""

    def _scene(self) -> tuple[list[str], Callable[[Draws, Ints], Floats]]:
        name = self.option("scene", str, f"one of {', '.join(SCENES)}")
        if name not in SCENES:
            raise BadCard(f"the card of {self.task.name}: 'source.scene' must be one of {', '.join(SCENES)}, not {name!r}.")
        scene = SCENES[str(name)]
        if list(self.task.classes) != scene[0]:
            raise BadCard(f"the card of {self.task.name}: 'classes' must be {scene[0]}, in that order.")
        return scene

    def index(self, split: str) -> Index:
        self._scene()
        count = self.task.counts.get(split, 0)
        return Index(
            tuple(f"{split}-{number:04d}" for number in range(count)),
            tuple(number % len(self.task.classes) for number in range(count)),
        )

    def pictures(self, split: str, ids: Sequence[str]) -> Iterator[Picture]:
        _, drawn = self._scene()
        wear = self.option("wear", list, "a pair of percentages")
        low, high = (int(share) / 100 for share in wear)  # type: ignore[attr-defined]
        domain = f"{self.task.name} version {self.task.version} {split}"
        for start in range(0, len(ids), _BATCH):
            number = np.array([int(name.rpartition("-")[2]) for name in ids[start : start + _BATCH]], dtype=np.int64)
            draws = Draws(domain, number)
            picture = drawn(draws, number % len(self.task.classes))
            yield from canvas.finished(canvas.worn(draws, picture, draws.uniform(low, high)))
