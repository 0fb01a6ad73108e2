"""Mean of the backbones' probabilities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ensemble_bench import metrics
from ensemble_bench.cube import Cube
from ensemble_bench.strategies.base import Strategy


@dataclass(eq=False)
class MeanProbability(Strategy):
    """Arithmetic mean of the backbones' probabilities; not the same decisions as ``log-avg``."""

    family: ClassVar[str] = "static"
    needs: ClassVar[tuple[str, ...]] = ("probabilities",)
    gives: ClassVar[str] = "probabilities"
    rough: ClassVar[bool] = True

    def predict(self, query: Cube) -> Tensor:
        scores = metrics.mean_probability(query)
        return scores / scores.sum(-1, keepdim=True)  # an archive's rounded rows need not sum to one
