"""The 1,797 handwritten digits that scikit-learn carries (UCI Optical Recognition of Handwritten Digits, test part)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ensemble_bench.errors import BadData
from ensemble_bench.sources.base import Index, Picture, Source
from ensemble_bench.sources.enlarge import coloured, enlarged

_TRAIN = 797


@cache
def _data() -> tuple[NDArray[np.uint8], tuple[int, ...]]:
    """Grey levels 0-16 [1797, 8, 8] and labels, read from scikit-learn's file: importing scikit-learn for it takes seconds."""
    spec = find_spec("sklearn")
    path = Path(spec.origin or "").parent / "datasets" / "data" / "digits.csv.gz" if spec else None
    if path is None or not path.is_file():
        raise BadData(
            "mini/digits: scikit-learn's file digits.csv.gz is not there; pip install --force-reinstall scikit-learn."
        )
    table = np.loadtxt(path, delimiter=",", dtype=np.uint8)
    return table[:, :-1].reshape(-1, 8, 8), tuple(table[:, -1].tolist())


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
