"""Weights of the backbones, found by evolutionary search."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import differential_evolution
from torch import Tensor

from ensemble_bench.cube import Cube
from ensemble_bench.errors import BadOption
from ensemble_bench.strategies.base import Strategy
from ensemble_bench.strategies.evidence import evidence

BOUND = 4.0
CELLS = 1 << 22
_SEED = "rng" if "rng" in inspect.signature(differential_evolution).parameters else "seed"


def unfitness(weights: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
    """Wrong answers of each weighting plus NLL / (1 + NLL), float64 [n]: fewer errors first, then the lower mean NLL.

    ``weights`` [n, b], ``logits`` [b, s, c], ``labels`` [s]. A tie for the best score counts as wrong.
    """
    size = max(1, CELLS // max(1, logits[0].numel()))
    found = []
    for part in weights.split(size):
        scores = torch.einsum("nb,bsc->nsc", part, logits)
        index = labels.expand(len(part), -1).unsqueeze(-1)
        own = scores.gather(-1, index)
        wrong = (scores >= own).sum(-1) > 1
        nll = (scores.logsumexp(-1) - own.squeeze(-1)).mean(-1).clamp_min(0)
        found.append(wrong.sum(-1) + nll / (1 + nll))
    return torch.cat(found)


@dataclass(eq=False)
class Genetic(Strategy):
    """Sum of logits with weights >= 0 that differential evolution finds on support accuracy (ties: lower NLL).

    The search runs over log-weights in [-4, 4] with ``members`` per backbone (at least eight in all) for ``generations``; its
    first member is the uniform weighting. It is no tournament-and-crossover GA: a recorded deviation.
    """

    members: int = 15
    generations: int = 50
    seed: int = 0
    family: ClassVar[str] = "calibrated"
    labels: ClassVar[str] = "support"
    needs: ClassVar[tuple[str, ...]] = ("logits",)
    gives: ClassVar[str] = "logits"

    def __post_init__(self) -> None:
        if self.members < 1 or self.generations < 0:
            raise BadOption("genetic: members must be at least 1 and generations at least 0.")

    def fit(self, support: Cube) -> Self:
        seen = evidence(support)

        def energy(log_weights: NDArray[np.float64]) -> NDArray[np.float64]:
            weights = torch.from_numpy(np.ascontiguousarray(log_weights.T)).exp()
            return np.asarray(unfitness(weights, seen.logits, seen.labels).numpy())

        b = len(seen.backbones)
        found = differential_evolution(
            energy,
            [(-BOUND, BOUND)] * b,
            x0=np.zeros(b),
            popsize=max(self.members, -(-8 // b)),
            maxiter=self.generations,
            vectorized=True,
            updating="deferred",
            tol=0,
            polish=False,
            **{_SEED: self.seed},
        )
        self.backbones_ = seen.backbones
        self.weight_ = torch.from_numpy(np.exp(found.x))
        return self

    def predict(self, query: Cube) -> Tensor:
        self.fitted()
        return torch.einsum("b,bsc->sc", self.weight_, query.only(self.backbones_).logits.double())
