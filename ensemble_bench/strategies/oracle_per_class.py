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

    def _chosen(self, query: Cube) -> Tensor:
        """Number of the backbone that answers each sample, int64 [s]."""
        right = (query.decisions == query.labels).numpy()
        best = best_by_class(right, query.labels.numpy(), len(query.classes))
        return torch.from_numpy(best)[query.labels]

    def predict(self, query: Cube) -> Tensor:
        query = query.by_backbone()
        return picked(query, self._chosen(query))

    def used(self, query: Cube) -> Tensor:
        cube = query.by_backbone()
        place = torch.tensor([cube.backbones.index(name) for name in query.backbones])
        return place.unsqueeze(1) == self._chosen(cube)
