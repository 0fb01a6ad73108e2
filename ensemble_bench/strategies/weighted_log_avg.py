"""Mean of the backbones' log-probabilities, weighted by how often they are right on labelled examples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from ensemble_bench.cube import Cube
from ensemble_bench.errors import BadOption
from ensemble_bench.metrics import log_posteriors
from ensemble_bench.strategies.base import Strategy
from ensemble_bench.strategies.evidence import evidence


@dataclass(eq=False)
class WeightedLogAvg(Strategy):
    """Log-average in which each backbone weighs as much as its support accuracy, raised to ``sharpness``.

    ``weight_`` float64 [b] sums to one; where no backbone is right even once, all weigh the same.
    """

    sharpness: float = 1.0
    family: ClassVar[str] = "calibrated"
    labels: ClassVar[str] = "support"
    needs: ClassVar[tuple[str, ...]] = ("probabilities",)
    gives: ClassVar[str] = "logits"

    def __post_init__(self) -> None:
        if not self.sharpness >= 0:
            raise BadOption(f"weighted-log-avg: sharpness must be at least 0, not {self.sharpness}.")

    def fit(self, support: Cube) -> Self:
        seen = evidence(support)
        right = (seen.cube.decisions == seen.cube.labels).double().mean(1)
        best = right.max()
        weight = (right / best) ** self.sharpness if best > 0 else torch.ones_like(right)
        self.backbones_ = seen.backbones
        self.weight_ = weight / weight.sum()
        return self

    def predict(self, query: Cube) -> Tensor:
        self.fitted()
        return torch.einsum("b,bsc->sc", self.weight_, log_posteriors(query.only(self.backbones_)))
