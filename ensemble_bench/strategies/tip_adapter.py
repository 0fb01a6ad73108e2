"""Tip-Adapter: every backbone's zero-shot logits plus a cache of the support, then the mean over backbones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from ensemble_bench.cube import Cube
from ensemble_bench.strategies.evidence import examples
from ensemble_bench.strategies.heads import PoolOrOne, unit

ALPHA, BETA = 1.17, 1.0
GRID = 20
LOW, HIGH = 0.1, 50.0
CELLS = 1 << 22


def recalled(near: Tensor, values: Tensor, classes: int) -> Tensor:
    """What the cache says of each class: affinities [s, n] added up by the classes int64 [n] of the keys, [s, c]."""
    return torch.zeros(len(near), classes, dtype=near.dtype).index_add_(1, values, near)


def affinity(x: Tensor, keys: Tensor, beta: float) -> Tensor:
    """exp(-beta (1 - x k)) of unit features x [s, d] and keys [n, d], [s, n]: 1 where they are the same."""
    return (x @ keys.T - 1).mul_(beta).exp_()


def without_itself(keys: Tensor, values: Tensor, classes: int, beta: float) -> Tensor:
    """What the cache says of its own keys, each left out for itself, [n, c]."""
    return recalled(affinity(keys, keys, beta).fill_diagonal_(0), values, classes)


def grid() -> Tensor:
    """The values that alpha and beta may take, from 0.1 to 50 in equal ratios."""
    return torch.logspace(0, 1, GRID, base=HIGH / LOW, dtype=torch.float64) * LOW


def chosen(logits: Tensor, keys: Tensor, values: Tensor) -> tuple[float, float]:
    """Alpha and beta with the fewest leave-one-out errors on the support, then the lowest leave-one-out cross-entropy.

    ``logits`` float32 [n, c] and unit ``keys`` float32 [n, d] of one backbone, classes ``values`` int64 [n]. Where a class has
    a single example, leaving it out says nothing of the class: the defaults of the method are kept.
    """
    if int(values.unique(return_counts=True)[1].min()) < 2:
        return ALPHA, BETA
    n, classes = logits.shape
    alphas, index = grid(), values.unsqueeze(1)
    size = max(1, CELLS // (GRID * classes))
    found = []
    for beta in grid().tolist():
        cached = without_itself(keys, values, classes, beta)
        total = torch.zeros(GRID, dtype=torch.float64)
        for rows in torch.arange(n).split(size):
            scores = logits[rows] + alphas.float()[:, None, None] * cached[rows]
            own = scores.gather(2, index[rows].expand(GRID, -1, -1))
            nll = (scores.logsumexp(-1) - own.squeeze(-1)).double().sum(1) / n
            total += ((scores >= own).sum(-1) > 1).sum(1) + nll / (1 + nll)
        found.append(total)
    best = int(torch.stack(found).argmin())
    return float(alphas[best % GRID]), float(grid()[best // GRID])


@dataclass(eq=False)
class TipAdapter(PoolOrOne):
    """Z + alpha exp(-beta (1 - f K^T)) V per backbone, with the support's unit features as keys K and its labels as values V.

    Alpha and beta of each backbone are chosen by leave-one-out on the support; with one example of a class they are 1.17 and 1.
    The answer is the mean of the adapters' log-probabilities over the pool, or the adapter of one ``backbone``. Zhang et al.,
    ECCV 2022; keys are features of the images as they are, not means over augmented views: a recorded deviation.
    """

    family: ClassVar[str] = "adaptive"
    labels: ClassVar[str] = "support"
    needs: ClassVar[tuple[str, ...]] = ("logits", "features")
    gives: ClassVar[str] = "logits"
    convex: ClassVar[bool] = False
    convex_reason: ClassVar[str] = "the cache of labelled examples may outvote every zero-shot head"

    def fit(self, support: Cube) -> Self:
        cube = self.own(examples(support))
        keys = [unit(cube.only([name])) for name in cube.backbones]
        rates = [chosen(logits, own, cube.labels) for logits, own in zip(cube.logits.float(), keys, strict=True)]
        self.backbones_ = cube.backbones
        self.alpha_ = tuple(alpha for alpha, _ in rates)
        self.beta_ = tuple(beta for _, beta in rates)
        self.values_ = cube.labels
        self.keys_ = torch.cat(keys, dim=1)
        return self

    def keys(self, cube: Cube) -> tuple[Tensor, ...]:
        """The keys of each backbone, float32 [n, d_b], in the order of ``backbones_``, which is that of the cube."""
        return tuple(torch.split(self.keys_, [part.shape[1] for part in cube.features], dim=1))

    def adapted(self, query: Cube) -> Tensor:
        """The adapters' logits, float32 [b, s, c], in the order of ``backbones_``."""
        self.fitted()
        cube = query.only(self.backbones_)
        found = cube.logits.float().clone()
        for b, (keys, part) in enumerate(zip(self.keys(cube), cube.features, strict=True)):
            x = torch.nn.functional.normalize(part.float(), dim=1)
            found[b] += self.alpha_[b] * recalled(affinity(x, keys, self.beta_[b]), self.values_, len(cube.classes))
        return found

    def predict(self, query: Cube) -> Tensor:
        return self.adapted(query).double().log_softmax(-1).mean(0)
