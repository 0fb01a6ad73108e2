"""Backbones vote for classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ensemble_bench.cube import Cube, best
from ensemble_bench.strategies.base import Strategy
from ensemble_bench.strategies.single import tally


@dataclass(eq=False)
class VoteTop1(Strategy):
    """Each backbone gives one vote to its best class; a backbone without an answer gives none."""

    family: ClassVar[str] = "static"
    needs: ClassVar[tuple[str, ...]] = ("decisions",)
    gives: ClassVar[str] = "votes"

    def predict(self, query: Cube) -> Tensor:
        return tally(query)


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
        votes = left.new_zeros(left.shape[1:])
        k = min(3, left.shape[-1] - 1)
        for place in range(k):
            first = best(left) if place else query.decisions
            worth = torch.full_like(first, k - place if self.borda else 1, dtype=votes.dtype)
            votes.scatter_add_(1, first.T, worth.T)
            left.scatter_(-1, first.unsqueeze(-1), -torch.inf)
        return votes
