"""A bag of backbones that grows by whichever helps most."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from ensemble_bench.cube import Cube
from ensemble_bench.errors import BadOption
from ensemble_bench.metrics import posteriors
from ensemble_bench.strategies.base import Strategy
from ensemble_bench.strategies.evidence import evidence
from ensemble_bench.strategies.fitness import unfitness


@dataclass(eq=False)
class GreedySelection(Strategy):
    """Mean probability over a bag of backbones, to which the one that helps most on the support is added, ``rounds`` times.

    A backbone may be added again (selection with replacement), so its weight is its share of the bag. What helps: fewer errors
    on the support, then the lower NLL, then the lower id. The best bag on the way is kept, the smaller where two are equal.
    Caruana et al., ICML 2004, without their sorted start and their bagging of models. ``weight_`` float64 [b].
    """

    rounds: int = 25
    family: ClassVar[str] = "calibrated"
    labels: ClassVar[str] = "support"
    needs: ClassVar[tuple[str, ...]] = ("probabilities",)
    gives: ClassVar[str] = "probabilities"

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise BadOption(f"greedy-selection: rounds must be at least 1, not {self.rounds}.")

    def fit(self, support: Cube) -> Self:
        seen = evidence(support)
        probabilities = seen.logits.softmax(-1)
        one_more = torch.eye(len(seen.backbones), dtype=torch.float64)
        bag, least = torch.zeros(len(one_more), dtype=torch.float64), torch.inf
        for _ in range(self.rounds):
            bags = bag + one_more
            faults = unfitness(bags / bags.sum(1, keepdim=True), probabilities, seen.labels, mixture=True)
            bag = bags[int(faults.argmin())]
            if float(faults.min()) < least:
                least, self.weight_ = float(faults.min()), bag / bag.sum()
        self.backbones_ = seen.backbones
        return self

    def predict(self, query: Cube) -> Tensor:
        self.fitted()
        scores = torch.einsum("b,bsc->sc", self.weight_, posteriors(query.only(self.backbones_)))
        return scores / scores.sum(-1, keepdim=True)
