"""Crops of the brick, grass and gravel photographs that scikit-image carries."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from ensemble_bench.sources.base import Index, Picture, Source
from ensemble_bench.sources.enlarge import coloured

_NAMES = ("brick", "grass", "gravel")
_CROP = 128
_ROWS = {"train": (0, 64, 128), "test": (256, 288, 320, 352, 384)}  # top edges: the upper half trains, the lower half tests
_COLUMNS = {"train": 10, "test": 20}


@cache
def _photograph(name: str) -> NDArray[np.uint8]:
    import skimage.data

    photograph: NDArray[np.uint8] = getattr(skimage.data, name)()
    return photograph


class Surfaces(Source):
    """128 x 128 crops, each 2 x 2 pixels averaged to one. Train and test come from different halves of the photographs."""

    def index(self, split: str) -> Index:
        steps = _COLUMNS[split]
        lefts = [(512 - _CROP) * step // (steps - 1) for step in range(steps)]
        crops = [(label, top, left) for label in range(3) for top in _ROWS[split] for left in lefts]
        ids = tuple(f"{_NAMES[label]}-{top:03d}-{left:03d}" for label, top, left in crops)
        return Index(ids, tuple(label for label, _, _ in crops))

    def pictures(self, split: str, ids: Sequence[str]) -> Iterator[Picture]:
        for text in ids:
            name, top, left = text.split("-")
            crop = _photograph(name)[int(top) : int(top) + _CROP, int(left) : int(left) + _CROP].astype(np.int64)
            total = crop[::2, ::2] + crop[1::2, ::2] + crop[::2, 1::2] + crop[1::2, 1::2]
            yield coloured(((total + 2) // 4).astype(np.uint8))
