"""KNORA-U: every backbone votes as often as it is right on the nearest examples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ensemble_bench.cube import Cube
from ensemble_bench.strategies.neighbours import Neighbourhood, voted


@dataclass(eq=False)
class KnoraU(Neighbourhood):
    """Each backbone has as many votes as it is right on the ``k`` nearest support samples; where none is right, one each.

    Ko, Sabourin and Britto 2008, as in DESlib, except that its vote answers the first class where no backbone is right.
    """

    gives: ClassVar[str] = "votes"

    def predict(self, query: Cube) -> Tensor:
        times = self.right_near(query).sum(1)
        return voted(query.only(self.backbones_), torch.where((times > 0).any(1, keepdim=True), times, 1))
