"""Mean of the backbones' log-probabilities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ensemble_bench.cube import Cube
from ensemble_bench.metrics import mean_log_probability
from ensemble_bench.strategies.base import Strategy


@dataclass(eq=False)
class LogAvg(Strategy):
    """Mean of the backbones' log-probabilities: the same decisions as the mean of their logits."""

    family: ClassVar[str] = "static"
    needs: ClassVar[tuple[str, ...]] = ("probabilities",)
    gives: ClassVar[str] = "logits"
    rough: ClassVar[bool] = True

    def predict(self, query: Cube) -> Tensor:
        return mean_log_probability(query)
