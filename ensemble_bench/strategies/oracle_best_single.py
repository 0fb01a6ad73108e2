"""The backbone that turns out to be best on the query."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ensemble_bench.cube import Cube
from ensemble_bench.strategies.base import Strategy
from ensemble_bench.strategies.best_single import best
from ensemble_bench.strategies.single import Single, alone, only_used


@dataclass(eq=False)
class OracleBestSingle(Strategy):
    """The backbone with the highest accuracy on the query itself: the optimistic best single backbone, a ceiling."""

    family: ClassVar[str] = "oracle"
    labels: ClassVar[str] = "query"
    needs: ClassVar[tuple[str, ...]] = ("decisions",)
    gives: ClassVar[str] = "logits"
    transductive: ClassVar[bool] = True

    def settled(self, query: Cube) -> Strategy:
        return Single(backbone=best(query))

    def predict(self, query: Cube) -> Tensor:
        return alone(query, best(query))

    def used(self, query: Cube) -> Tensor:
        return only_used(query, best(query))
