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
        scores = query.logits if "logits" in query.has else query.probabilities
        votes = scores.new_zeros(scores.shape[1:])
        k = min(3, scores.shape[-1] - 1)
        left = torch.empty_like(votes)
        for own, first in zip(scores, query.decisions.unsqueeze(-1), strict=True):
            left.copy_(own)
            for place in range(k):
                if place:
                    left.scatter_(1, first, -torch.inf)
                    first = best(left).unsqueeze(1)
                votes.scatter_add_(1, first, votes.new_full(first.shape, k - place if self.borda else 1))
        return votes
