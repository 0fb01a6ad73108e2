"""What classifiers of features share: unit-length features side by side, the span of a few examples, a linear answer."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from ensemble_bench.cube import Cube
from ensemble_bench.strategies.base import Strategy
from ensemble_bench.strategies.evidence import examples

ALL = "all"
UNSEEN = 20.0
"""How far below the worst class of a sample a class without an example is put: never the answer, and still finite."""


def unit(cube: Cube) -> Tensor:
    """Features of all backbones side by side, each at unit length, float32 [s, sum of d_b]."""
    return torch.cat([torch.nn.functional.normalize(part.float(), dim=1) for part in cube.features], dim=1)


def span(x: Tensor) -> tuple[Tensor, Tensor]:
    """Coordinates [n, r] of the rows of ``x`` [n, d] in an orthonormal basis [d, r] of a space that holds them, r = min(n, d).

    Distances and inner products stay what they are, so that a fit on n examples costs what n dimensions cost, whatever d is.
    """
    basis, triangle = torch.linalg.qr(x.T)
    return triangle.T, basis


@dataclass(eq=False)
class PoolOrOne(Strategy):
    """A strategy of the whole pool, or of one backbone: ``backbone`` is ``all`` or an id (``each`` on the command line)."""

    backbone: str = ALL

    def own(self, cube: Cube) -> Cube:
        """The part of a cube that the strategy looks at, backbones in the order of their ids."""
        return cube.by_backbone() if self.backbone == ALL else cube.only([self.backbone])

    def used(self, query: Cube) -> Tensor:
        mine = torch.tensor([self.backbone in (ALL, name) for name in query.backbones])
        return mine.unsqueeze(1).expand(-1, len(query)).clone()


@dataclass(eq=False)
class LinearHead(PoolOrOne):
    """Scores x W^T + b of the unit features x of the pool, or of one ``backbone``, side by side; zero-shot heads play no part.

    ``weight_`` float32 [c, d] and ``bias_`` float32 [c] come from ``solved``. A class without an example is never answered.
    """

    family: ClassVar[str] = "control"
    labels: ClassVar[str] = "support"
    needs: ClassVar[tuple[str, ...]] = ("features",)
    convex: ClassVar[bool] = False
    convex_reason: ClassVar[str] = "it learns from features and labels alone, and may contradict every zero-shot head"

    @abstractmethod
    def solved(self, x: Tensor, labels: Tensor, classes: int) -> tuple[Tensor, Tensor]:
        """Weight [c, d] and bias [c] from examples x float64 [n, d] of ``classes`` classes, each with at least one."""

    def fit(self, support: Cube) -> Self:
        cube = self.own(examples(support))
        seen, rank = cube.labels.unique(return_inverse=True)
        weight, bias = self.solved(unit(cube).double(), rank, len(seen))
        self.backbones_ = cube.backbones
        self.seen_ = torch.zeros(len(cube.classes), dtype=torch.bool).index_fill_(0, seen, True)
        self.weight_ = torch.zeros(len(cube.classes), weight.shape[1]).index_copy_(0, seen, weight.float())
        self.bias_ = torch.zeros(len(cube.classes)).index_copy_(0, seen, bias.float())
        return self

    def predict(self, query: Cube) -> Tensor:
        self.fitted()
        scores = torch.addmm(self.bias_, unit(query.only(self.backbones_)), self.weight_.T)
        worst = torch.where(self.seen_, scores, torch.inf).amin(1, keepdim=True)
        return torch.where(self.seen_, scores, worst - UNSEEN)


def means(x: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Mean of the rows of each class, [c, d], from x [n, d] and labels int64 [n]; every class has at least one."""
    total = torch.zeros(classes, x.shape[1], dtype=x.dtype).index_add_(0, labels, x)
    return total / labels.bincount(minlength=classes).unsqueeze(1)
