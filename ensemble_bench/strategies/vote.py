"""Backbones vote for classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ensemble_bench.cube import Cube
from ensemble_bench.strategies.base import Strategy
from ensemble_bench.strategies.single import ballots


@dataclass(eq=False)
class VoteTop1(Strategy):
    """Each backbone gives one vote to its best class; a backbone without an answer gives none."""

    family: ClassVar[str] = "static"
    needs: ClassVar[tuple[str, ...]] = ("decisions",)
    gives: ClassVar[str] = "votes"

    def predict(self, query: Cube) -> Tensor:
        return ballots(query).sum(0)


@dataclass(eq=False)
class VoteTop3(Strategy):
    """Each backbone votes for its k = min(3, C - 1) best classes: one vote each, or with ``borda`` k, k - 1, ..., 1.

    With two classes the same as ``vote-top1``. Equal probabilities within a backbone rank by class index.
    """

    borda: bool = False
    family: ClassVar[str] = "static"
    needs: ClassVar[tuple[str, ...]] = ("probabilities",)
    gives: ClassVar[str] = "votes"

    def predict(self, query: Cube) -> Tensor:
        left = (query.logits if "logits" in query.has else query.probabilities).clone()
        votes = torch.zeros_like(left)
        k = min(3, left.shape[-1] - 1)
        for place in range(k):
            best = left.argmax(-1, keepdim=True)
            votes.scatter_(-1, best, float(k - place) if self.borda else 1.0)
            left.scatter_(-1, best, -torch.inf)
        return votes.sum(0)
