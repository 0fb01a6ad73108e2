"""The best backbone of each class, chosen on the query."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ensemble_bench.ceilings import best_by_class
from ensemble_bench.cube import Cube
from ensemble_bench.strategies.base import Strategy
from ensemble_bench.strategies.single import picked


@dataclass(eq=False)
class OraclePerClass(Strategy):
    """Each image is answered by the backbone that is right most often on images of its class: the ceiling of any rule that
    picks a backbone by class. Of equal ones, the first by id."""

    family: ClassVar[str] = "oracle"
    labels: ClassVar[str] = "query"
    needs: ClassVar[tuple[str, ...]] = ("decisions",)
    gives: ClassVar[str] = "logits"
    transductive: ClassVar[bool] = True

    def _answering(self, query: Cube) -> tuple[str, ...]:
        """The backbone that answers each class."""
        query = query.by_backbone()
        right = (query.decisions == query.labels).numpy()
        return tuple(query.backbones[b] for b in best_by_class(right, query.labels.numpy(), len(query.classes)))

    def settled(self, query: Cube) -> Strategy:
        return _Settled(answering=self._answering(query))

    def _chosen(self, query: Cube) -> Tensor:
        """Number of the backbone that answers each sample, int64 [s]."""
        place = {name: number for number, name in enumerate(query.backbones)}
        return torch.tensor([place[name] for name in self._answering(query)])[query.labels]

    def predict(self, query: Cube) -> Tensor:
        return picked(query, self._chosen(query))

    def used(self, query: Cube) -> Tensor:
        return torch.arange(len(query.backbones)).unsqueeze(1) == self._chosen(query)


@dataclass(eq=False)
class _Settled(OraclePerClass):
    """The oracle of which it has been found out who answers which class."""

    answering: tuple[str, ...] = ()

    def _answering(self, query: Cube) -> tuple[str, ...]:
        return self.answering
