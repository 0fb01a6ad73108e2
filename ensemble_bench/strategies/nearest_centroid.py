"""The class whose examples are nearest on average."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ensemble_bench.strategies.heads import LinearHead, means


@dataclass(eq=False)
class NearestCentroid(LinearHead):
    """The class with the nearest mean of support features, in the concatenated unit features of the pool or of one backbone.

    The score is m_c x - |m_c|^2 / 2, which ranks classes as the Euclidean distance to their mean m_c does.
    """

    gives: ClassVar[str] = "votes"

    def solved(self, x: Tensor, labels: Tensor, classes: int) -> tuple[Tensor, Tensor]:
        centre = means(x, labels, classes)
        return centre, -centre.square().sum(1) / 2
