"""Right wherever any backbone is right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ensemble_bench.ceilings import best_subset
from ensemble_bench.cube import Cube
from ensemble_bench.errors import BadOption
from ensemble_bench.strategies.base import Strategy
from ensemble_bench.strategies.single import tally


@dataclass(eq=False)
class Oracle(Strategy):
    """Right wherever a backbone of the pool is right, else the plurality vote: the ceiling of every rule that picks a backbone.

    With ``k`` the best pool of k backbones, chosen on the query by trying all of them; 0 means all. k = 1 is
    ``oracle-best-single``. An average of backbones may be right where none of them is, and so exceed it.
    """

    k: int = 0
    family: ClassVar[str] = "oracle"
    labels: ClassVar[str] = "query"
    needs: ClassVar[tuple[str, ...]] = ("decisions",)
    gives: ClassVar[str] = "votes"
    transductive: ClassVar[bool] = True  # which k are best depends on the whole query

    def __post_init__(self) -> None:
        if self.k < 0:
            raise BadOption(f"oracle: k is a number of backbones (0 for all of them), not {self.k}.")

    def _subset(self, query: Cube) -> Cube:
        if self.k in (0, len(query.backbones)):
            return query
        query = query.by_backbone()
        chosen = best_subset(query.decisions == query.labels, self.k)
        return query.only([query.backbones[i] for i in chosen])

    def wants_whole(self) -> bool:
        return self.k != 0

    def settled(self, query: Cube) -> Strategy:
        members = self._subset(query).backbones
        return self if len(members) == len(query.backbones) else _Within(k=self.k, members=members)

    def predict(self, query: Cube) -> Tensor:
        labels = query.labels
        pool = self._subset(query)
        right = (pool.decisions == labels).any(0)
        crown = right.unsqueeze(1) * float(len(pool.backbones) + 1)
        return tally(pool).scatter_add_(1, labels.unsqueeze(1), crown)

    def used(self, query: Cube) -> Tensor:
        members = self._subset(query).backbones
        row = torch.tensor([name in members for name in query.backbones])
        return row.unsqueeze(1).expand(-1, len(query)).clone()


@dataclass(eq=False)
class _Within(Oracle):
    """The oracle of the backbones that have been found to be best."""

    members: tuple[str, ...] = ()

    def _subset(self, query: Cube) -> Cube:
        return query.only(self.members)
