"""The 1,797 handwritten digits that scikit-learn carries (UCI Optical Recognition of Handwritten Digits, test part)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from ensemble_bench.sources.base import Index, Picture, Source
from ensemble_bench.sources.enlarge import coloured, enlarged

_TRAIN = 797


@cache
def _data() -> tuple[NDArray[np.uint8], tuple[int, ...]]:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return bunch.images.astype(np.uint8), tuple(bunch.target.tolist())


class Digits(Source):
    """8 x 8 scans with 17 grey levels, enlarged to 64 x 64. Train: rows 0-796 of the file; test: rows 797-1796."""

    def index(self, split: str) -> Index:
        _, labels = _data()
        rows = range(_TRAIN) if split == "train" else range(_TRAIN, len(labels))
        return Index(tuple(f"digit-{row:04d}" for row in rows), tuple(labels[row] for row in rows))

    def pictures(self, split: str, ids: Sequence[str]) -> Iterator[Picture]:
        images, _ = _data()
        for name in ids:
            levels = images[int(name.removeprefix("digit-"))].astype(np.int64)
            yield coloured(enlarged((levels * 255 // 16).astype(np.uint8), 64))
