"""OLA: the backbone that is best on the nearest examples answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ensemble_bench.cube import Cube
from ensemble_bench.strategies.neighbours import Neighbourhood
from ensemble_bench.strategies.single import picked


@dataclass(eq=False)
class OLA(Neighbourhood):
    """Scores of the backbone that is right most often on the ``k`` nearest support samples; of equal ones, the first by id.

    Overall local accuracy: Woods, Kegelmeyer and Bowyer 1997, as in DESlib.
    """

    gives: ClassVar[str] = "logits"

    def predict(self, query: Cube) -> Tensor:
        times = self.right_near(query).sum(1)
        b = len(self.backbones_)
        best = (times * b - torch.arange(b)).argmax(1)
        return picked(query.only(self.backbones_), best)
