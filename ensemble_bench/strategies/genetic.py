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
from ensemble_bench.strategies.fitness import unfitness

BOUND = 4.0
_SEED = "rng" if "rng" in inspect.signature(differential_evolution).parameters else "seed"


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
