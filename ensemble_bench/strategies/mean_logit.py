"""Mean of the backbones' logits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ensemble_bench.cube import Cube
from ensemble_bench.metrics import mean_logit
from ensemble_bench.strategies.base import Strategy


@dataclass(eq=False)
class MeanLogit(Strategy):
    """Mean of the backbones' logits: the decisions and the probabilities of ``log-avg``, as a check of that identity.

    Log-probabilities are logits less a number that is the same for all classes, which neither an argmax nor a softmax sees.
    """

    family: ClassVar[str] = "static"
    needs: ClassVar[tuple[str, ...]] = ("logits",)
    gives: ClassVar[str] = "logits"
    rough: ClassVar[bool] = True

    def predict(self, query: Cube) -> Tensor:
        return mean_logit(query)
