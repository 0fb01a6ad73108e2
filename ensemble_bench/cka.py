"""Linear CKA: how alike the features of backbones are, whatever their width, from one pass over chunks of samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ensemble_bench.errors import BadCube
from ensemble_bench.statistics import Floats, t_interval

BATCH = 16  # samples of the batches whose scatter gives the interval
FEWEST = 4  # samples below which nothing can be debiased


@dataclass(frozen=True, eq=False)
class Alike:
    """Linear CKA of every pair of b backbones, each [b, b], symmetric.

    ``debiased`` (Song et al. 2012, Nguyen et al. 2021): around 0 for unrelated features, 1 for equal ones; may fall a little
    below 0; NaN for features that do not vary. ``plain`` (Kornblith et al. 2019): in [0, 1], and too high unless there are many
    more samples than features. ``error``: standard error of the debiased one, NaN with fewer than three batches of samples.
    """

    debiased: Floats
    plain: Floats
    error: Floats
    batches: int

    def intervals(self) -> tuple[Floats, Floats]:
        """Lower and upper ends of 95 % intervals of the debiased values, by Student's t over batches."""
        return t_interval(self.debiased, self.error, self.batches - 1)


class LinearCKA:
    """Sums from which linear CKA follows exactly, chunk after chunk: memory is that of d x d products, whatever the samples.

    ``add(features)`` takes one [n, d_b] per backbone, rows of the same samples (arrays or tensors on the CPU); ``alike()``
    gives what they are worth so far. Sums are float64, around the mean of the first chunk: that changes only the rounding.
    """

    def __init__(self, backbones: int) -> None:
        self.backbones = backbones
        self.n = 0
        self._pairs = list(combinations_with_replacement(range(backbones), 2))
        self._origin: list[Floats] = []
        self._product: dict[tuple[int, int], Floats] = {}  # sum of x y^T
        self._sum: list[Floats] = []  # sum of x
        self._lengths: dict[tuple[int, int], Any] = {}  # sum of |x|^2 |y|^2
        self._lengthy: dict[tuple[int, int], Floats] = {}  # sum of x |y|^2
        self._square: list[float] = []  # sum of |x|^2
        self._rest: list[Floats] = []  # samples that do not fill a batch yet
        self._batches: list[Floats] = []  # debiased HSIC of every pair, a row a batch

    def add(self, features: Sequence[ArrayLike]) -> None:
        """Take one chunk; arrays that do not fit together are ``BadCube``."""
        parts = [np.asarray(part, np.float64) for part in features]
        n = len(parts[0]) if parts else 0
        if len(parts) != self.backbones or any(part.ndim != 2 or len(part) != n for part in parts):
            shapes = ", ".join(str(list(part.shape)) for part in parts)
            raise BadCube(f"features must be {self.backbones} arrays [n, d] of the same samples, not {shapes}.")
        if not n:
            return
        if not self.n:
            self._start(parts)
        elif any(part.shape[1] != len(origin) for part, origin in zip(parts, self._origin, strict=True)):
            raise BadCube("the features of a backbone must have the same width in every chunk.")
        parts = [part - origin for part, origin in zip(parts, self._origin, strict=True)]
        lengths = [np.einsum("nd,nd->n", part, part) for part in parts]
        for i, j in self._pairs:
            self._product[i, j] += parts[i].T @ parts[j]
            self._lengths[i, j] += float(lengths[i] @ lengths[j])
        for i in range(self.backbones):
            self._sum[i] += parts[i].sum(0)
            self._square[i] += float(lengths[i].sum())
            for j in range(self.backbones):
                self._lengthy[i, j] += lengths[j] @ parts[i]
        self.n += n
        self._scatter(parts)

    def _start(self, parts: Sequence[Floats]) -> None:
        widths = [part.shape[1] for part in parts]
        self._origin = [part.mean(0) for part in parts]
        self._product = {(i, j): np.zeros((widths[i], widths[j])) for i, j in self._pairs}
        self._lengths = dict.fromkeys(self._pairs, 0.0)
        self._lengthy = {(i, j): np.zeros(widths[i]) for i in range(self.backbones) for j in range(self.backbones)}
        self._sum = [np.zeros(width) for width in widths]
        self._square = [0.0] * self.backbones
        self._rest = [np.zeros((0, width)) for width in widths]

    def _scatter(self, parts: Sequence[Floats]) -> None:
        """Debiased HSIC within every full batch."""
        self._rest = [np.concatenate(pair) for pair in zip(self._rest, parts, strict=True)]
        whole = len(self._rest[0]) // BATCH * BATCH
        for start in range(0, whole, BATCH):
            grams = [part[start : start + BATCH] @ part[start : start + BATCH].T for part in self._rest]
            self._batches.append(np.array([_hsic(grams[i], grams[j]) for i, j in self._pairs]))
        self._rest = [part[whole:] for part in self._rest]

    def alike(self) -> Alike:
        """CKA of what was added so far; ``BadCube`` for fewer than FEWEST samples."""
        if self.n < FEWEST:
            raise BadCube(f"CKA needs at least {FEWEST} samples, not {self.n}.")
        debiased = np.array([self._debiased(i, j) for i, j in self._pairs])
        plain = np.array([self._plain(i, j) for i, j in self._pairs])
        batches = np.array(self._batches).reshape(-1, len(self._pairs))
        return Alike(
            self._square_form(self._normed(debiased)),
            self._square_form(self._normed(plain)),
            self._square_form(self._error(batches)),
            len(batches),
        )

    def _plain(self, i: int, j: int) -> float:
        """Squared norm of the product of centred features."""
        centred = self._product[i, j] - np.outer(self._sum[i], self._sum[j]) / self.n
        return float((centred**2).sum())

    def _debiased(self, i: int, j: int) -> float:
        """HSIC_1 of linear kernels, from sums: the diagonals of both kernel matrices are taken out of every term."""
        n, product, one, two = self.n, self._product[i, j], self._sum[i], self._sum[j]
        trace = float((product**2).sum()) - self._lengths[i, j]
        whole = (float(one @ one) - self._square[i]) * (float(two @ two) - self._square[j])
        between = float(one @ product @ two) - float(one @ self._lengthy[i, j]) - float(two @ self._lengthy[j, i])
        return _unbiased(n, trace, whole, between + self._lengths[i, j])

    def _normed(self, products: Floats) -> Floats:
        """CKA of every pair [..., pairs] from inner products; NaN where a backbone's own is not above 0."""
        own = [self._pairs.index((i, i)) for i in range(self.backbones)]
        norms = np.sqrt(np.where(products[..., own] > 0, products[..., own], np.nan))
        first, second = np.array(self._pairs).T
        found: Floats = products / (norms[..., first] * norms[..., second])
        return found

    def _error(self, batches: Floats) -> Floats:
        """Standard error [pairs] by leaving out one batch at a time."""
        m = len(batches)
        if m < 3:
            return np.full(len(self._pairs), np.nan)
        left = self._normed((batches.sum(0) - batches) / (m - 1))
        return np.asarray(np.sqrt((m - 1) * left.var(0)))

    def _square_form(self, values: Floats) -> Floats:
        found = np.empty((self.backbones, self.backbones))
        for (i, j), value in zip(self._pairs, values, strict=True):
            found[i, j] = found[j, i] = value
        return found


def _unbiased(n: int, trace: float, whole: float, between: float) -> float:
    """HSIC_1 from tr(KL), 1K1 x 1L1 and 1KL1 of kernel matrices with empty diagonals."""
    return (trace + whole / ((n - 1) * (n - 2)) - 2 * between / (n - 2)) / (n * (n - 3))


def _hsic(one: NDArray[Any], two: NDArray[Any]) -> float:
    """HSIC_1 of two kernel matrices [n, n]."""
    one, two = one - np.diag(np.diag(one)), two - np.diag(np.diag(two))
    sums = one.sum(0), two.sum(0)
    return _unbiased(len(one), float((one * two).sum()), float(sums[0].sum() * sums[1].sum()), float(sums[0] @ sums[1]))
