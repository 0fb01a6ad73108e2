"""The most confident backbone answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ensemble_bench.cube import Cube
from ensemble_bench.metrics import posteriors
from ensemble_bench.strategies.base import Strategy


def most_confident(probabilities: Tensor) -> Tensor:
    """Of [b, s, c], for each sample the row with the highest maximum, [s, c]; exactly equal ones share by their mean."""
    top = probabilities.amax(-1)
    chosen = (top == top.amax(0)).to(probabilities)
    return torch.einsum("bs,bsc->sc", chosen / chosen.sum(0), probabilities)


@dataclass(eq=False)
class Confidence(Strategy):
    """Probabilities of the backbone whose highest probability is highest; exactly equal ones share by their mean."""

    family: ClassVar[str] = "static"
    needs: ClassVar[tuple[str, ...]] = ("probabilities",)
    gives: ClassVar[str] = "probabilities"

    def predict(self, query: Cube) -> Tensor:
        scores = most_confident(posteriors(query))
        return scores / scores.sum(-1, keepdim=True)  # an archive's rounded rows need not sum to one
