"""The backbone that is best on labelled examples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from ensemble_bench.cube import Cube
from ensemble_bench.metrics import log_posteriors
from ensemble_bench.strategies.base import Strategy
from ensemble_bench.strategies.single import alone, only_used

_AT_ONCE = 1 << 20  # posteriors that are in memory together


def best(cube: Cube) -> str:
    """Id of the backbone with the most right decisions; ties go to the lower NLL where there are probabilities, then by id."""
    cube = cube.canonical()
    right = (cube.decisions == cube.labels).sum(1)
    first = [name for name, count in zip(cube.backbones, right.tolist(), strict=True) if count == int(right.max())]
    if len(first) == 1 or "probabilities" not in cube.has:
        return first[0]
    cube = cube.only(first)
    size = max(1, _AT_ONCE // (len(first) * len(cube.classes)))
    nll = torch.cat([_nll(part) for part in cube.chunks(size)], 1).sum(1).tolist()
    return first[min(range(len(first)), key=nll.__getitem__)]


def _nll(cube: Cube) -> Tensor:
    """Of each backbone on each sample, float64 [b, s]."""
    index = cube.labels.expand(len(cube.backbones), -1).unsqueeze(-1)
    return -log_posteriors(cube).gather(-1, index).squeeze(-1)


@dataclass(eq=False)
class BestSingle(Strategy):
    """The backbone with the highest support accuracy (ties: lower support NLL): the honest best single backbone."""

    family: ClassVar[str] = "control"
    labels: ClassVar[str] = "support"
    needs: ClassVar[tuple[str, ...]] = ("decisions",)
    gives: ClassVar[str] = "logits"

    def fit(self, support: Cube) -> Self:
        self.backbone_ = best(support)
        return self

    def predict(self, query: Cube) -> Tensor:
        self.fitted()
        return alone(query, self.backbone_)

    def used(self, query: Cube) -> Tensor:
        self.fitted()
        return only_used(query, self.backbone_)
