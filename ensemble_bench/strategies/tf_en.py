"""A strong backbone, and the others beside it with weights tried one by one."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import ClassVar, Self

import torch
from torch import Tensor

from ensemble_bench.cube import Cube
from ensemble_bench.metrics import posteriors
from ensemble_bench.strategies.base import Strategy
from ensemble_bench.strategies.evidence import evidence
from ensemble_bench.strategies.fitness import unfitness
from ensemble_bench.strategies.zs_en import anchor_of

STEPS = tuple(step / 10 for step in range(1, 10))
MOST = 4
SWEEPS = 10


def grid(b: int, anchor: int) -> Tensor:
    """Every weighting with 0.1 to 0.9 for all but the anchor, which has 1: float64 [9^(b - 1), b]."""
    rows = torch.tensor(list(product(STEPS, repeat=b - 1)), dtype=torch.float64).reshape(len(STEPS) ** (b - 1), b - 1)
    return torch.cat([rows[:, :anchor], torch.ones(len(rows), 1, dtype=torch.float64), rows[:, anchor:]], dim=1)


@dataclass(eq=False)
class TrainingFreeEnsemble(Strategy):
    """Sum of probabilities with the anchor at 1 and the others at 0.1 to 0.9, whichever has the fewest errors on the support.

    Ties go to the lower NLL, then to the smaller weights of the first backbones by id. With up to four others every combination
    is tried (9^4 = 6,561), with more one weight at a time, from 0.5 each, until a sweep over all of them changes nothing: a
    deviation from Lu et al., ICML 2024 (TF-En), who have three others. ``anchor`` as in ``zs-en``.
    """

    anchor: str = ""
    family: ClassVar[str] = "calibrated"
    labels: ClassVar[str] = "support"
    needs: ClassVar[tuple[str, ...]] = ("probabilities",)
    gives: ClassVar[str] = "probabilities"

    def fit(self, support: Cube) -> Self:
        seen = evidence(support)
        b, anchor = len(seen.backbones), anchor_of(seen.cube, self.anchor, "tf-en")
        probabilities = seen.logits.softmax(-1)

        def best(weights: Tensor) -> Tensor:
            return weights[int(unfitness(weights, probabilities, seen.labels, mixture=True).argmin())]

        if b - 1 <= MOST:
            weight = best(grid(b, anchor))
        else:
            weight = torch.full((b,), 0.5, dtype=torch.float64).index_fill(0, torch.tensor(anchor), 1)
            for _ in range(SWEEPS):
                before = weight
                for other in (place for place in range(b) if place != anchor):
                    trials = weight.repeat(len(STEPS), 1)
                    trials[:, other] = torch.tensor(STEPS, dtype=torch.float64)
                    weight = best(trials)
                if torch.equal(weight, before):
                    break
        self.backbones_ = seen.backbones
        self.weight_ = weight.clone()
        return self

    def predict(self, query: Cube) -> Tensor:
        self.fitted()
        scores = torch.einsum("b,bsc->sc", self.weight_, posteriors(query.only(self.backbones_)))
        return scores / scores.sum(-1, keepdim=True)
