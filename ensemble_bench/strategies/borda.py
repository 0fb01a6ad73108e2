"""Backbones rank the classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ensemble_bench.cube import Cube
from ensemble_bench.strategies.base import Strategy


def beaten(scores: Tensor) -> Tensor:
    """How many classes each class stands above, float32 [..., c], from 0 to c - 1; an equal one counts half."""
    scores = scores.contiguous()
    ordered = scores.sort(-1).values
    below = torch.searchsorted(ordered, scores)
    level = torch.searchsorted(ordered, scores, right=True)
    return (below + level - 1) / 2


@dataclass(eq=False)
class Borda(Strategy):
    """Each backbone ranks all classes: c - 1 points for its best, c - 2 for the next, none for its last; points are summed.

    Equal probabilities within a backbone share the points of their places.
    """

    family: ClassVar[str] = "static"
    needs: ClassVar[tuple[str, ...]] = ("probabilities",)
    gives: ClassVar[str] = "votes"

    def predict(self, query: Cube) -> Tensor:
        return beaten(query.logits if "logits" in query.has else query.probabilities).sum(0)
