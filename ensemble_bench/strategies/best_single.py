"""The backbone that is best on labelled examples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from torch import Tensor

from ensemble_bench.cube import Cube
from ensemble_bench.metrics import log_posteriors
from ensemble_bench.strategies.base import Strategy
from ensemble_bench.strategies.single import alone, only_used


def best(cube: Cube) -> str:
    """Id of the backbone with the most right decisions; ties go to the lower NLL where there are probabilities, then by id."""
    cube = cube.canonical()
    right = (cube.decisions == cube.labels).sum(1).tolist()
    nll = [0.0] * len(right)
    if "probabilities" in cube.has:
        index = cube.labels.expand(len(right), -1).unsqueeze(-1)
        nll = (-log_posteriors(cube).gather(-1, index)).sum((1, 2)).tolist()
    return cube.backbones[min(range(len(right)), key=lambda i: (-right[i], nll[i]))]


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
