"""KNORA-E: the backbones that are right on all of the nearest examples vote."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ensemble_bench.cube import Cube
from ensemble_bench.strategies.neighbours import Neighbourhood, voted


@dataclass(eq=False)
class KnoraE(Neighbourhood):
    """One vote for each backbone that is right on all ``k`` nearest support samples, or on as many of them as any backbone is.

    The neighbourhood shrinks from its far end until some backbone is right on all of it; where none is right even on the
    nearest sample, all vote. Ko, Sabourin and Britto 2008, as in DESlib.
    """

    gives: ClassVar[str] = "votes"

    def predict(self, query: Cube) -> Tensor:
        run = self.right_near(query).to(torch.uint8).cumprod(1).sum(1)
        return voted(query.only(self.backbones_), run == run.amax(1, keepdim=True))
