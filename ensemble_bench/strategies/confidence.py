"""The most confident backbone answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ensemble_bench.cube import Cube
from ensemble_bench.metrics import posteriors
from ensemble_bench.strategies.base import Strategy

ROUNDING = 1e-12


def picked(worth: Tensor, probabilities: Tensor) -> Tensor:
    """For each sample the row of [b, s, c] of the backbone worth most; those equal up to rounding share by their mean."""
    chosen = (worth >= worth.amax(0) - ROUNDING).to(probabilities)
    return torch.einsum("bs,bsc->sc", chosen / chosen.sum(0), probabilities)


def most_confident(probabilities: Tensor) -> Tensor:
    """Of [b, s, c], for each sample the row with the highest maximum, [s, c]; equal ones share by their mean."""
    return picked(probabilities.amax(-1), probabilities)


@dataclass(eq=False)
class Confidence(Strategy):
    """Probabilities of the backbone whose highest probability is highest; equal ones share by their mean."""

    family: ClassVar[str] = "static"
    needs: ClassVar[tuple[str, ...]] = ("probabilities",)
    gives: ClassVar[str] = "probabilities"

    def predict(self, query: Cube) -> Tensor:
        scores = most_confident(posteriors(query))
        return scores / scores.sum(-1, keepdim=True)  # an archive's rounded rows need not sum to one
