"""The 200 grey crops that scikit-image carries from Labeled Faces in the Wild: half faces, half background."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from ensemble_bench.sources.base import Index, Picture, Source
from ensemble_bench.sources.enlarge import coloured, enlarged

_TRAIN = 20  # of each of the two classes; crops 0-99 are faces, 100-199 background


@cache
def _data() -> NDArray[np.uint8]:
    from skimage.data import lfw_subset

    crops: NDArray[np.float64] = lfw_subset()
    return np.floor(crops * 255 + 0.5).astype(np.uint8)


class Faces(Source):
    """25 x 25 crops enlarged to 64 x 64. Train: the first 20 of each class; test: the other 80."""

    def index(self, split: str) -> Index:
        own = range(_TRAIN) if split == "train" else range(_TRAIN, 100)
        rows = [100 * label + place for label in (0, 1) for place in own]
        return Index(tuple(f"crop-{row:03d}" for row in rows), tuple(row // 100 for row in rows))

    def pictures(self, split: str, ids: Sequence[str]) -> Iterator[Picture]:
        for name in ids:
            yield coloured(enlarged(_data()[int(name.removeprefix("crop-"))], 64))
