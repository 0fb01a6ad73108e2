"""Backbones made comparable by one temperature each, fitted on the support."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from ensemble_bench.cube import Cube
from ensemble_bench.strategies.base import Strategy
from ensemble_bench.strategies.confidence import most_confident
from ensemble_bench.strategies.evidence import evidence

BOUND = math.log(100.0)
GRID = 37
HALVINGS = 50


def temperatures(logits: Tensor, labels: Tensor) -> Tensor:
    """T_b = argmin of NLL(labels; Z_b / T) + (log T)^2 / 2, float64 [b], between 0.01 and 100.

    ``logits`` float64 [b, s, c]. The NLL is summed over samples, so the prior (log T normal around 0 with deviation 1) decides
    where one example per class would run to the bound and fades with more. A grid over log(1/T) finds the valley, halving the
    slope's sign change its floor to 1e-15.
    """
    index = labels.expand(len(logits), -1).unsqueeze(-1)
    own = logits.gather(-1, index).squeeze(-1)

    def loss(v: Tensor) -> Tensor:
        u = v.exp()
        return ((logits * u[:, None, None]).logsumexp(-1) - own * u[:, None]).sum(-1) + v.square() / 2

    def slope(v: Tensor) -> Tensor:
        u = v.exp()
        probability = (logits * u[:, None, None]).softmax(-1)
        return u * ((probability * logits).sum(-1) - own).sum(-1) + v

    grid = torch.linspace(-BOUND, BOUND, GRID, dtype=torch.float64)
    losses = torch.stack([loss(point.expand(len(logits))) for point in grid])
    valley = losses.argmin(0)
    low, high = grid[(valley - 1).clamp_min(0)], grid[(valley + 1).clamp_max(GRID - 1)]
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        rising = slope(middle) > 0
        low, high = torch.where(rising, low, middle), torch.where(rising, middle, high)
    return (-(low + high) / 2).exp()


@dataclass(eq=False)
class Calibrated(Strategy):
    """A combiner of logits divided by a temperature per backbone, ``temperature_`` float64 [b], ordered as ``backbones_``."""

    family: ClassVar[str] = "calibrated"
    labels: ClassVar[str] = "support"
    needs: ClassVar[tuple[str, ...]] = ("logits",)

    def fit(self, support: Cube) -> Self:
        seen = evidence(support)
        self.backbones_ = seen.backbones
        self.temperature_ = temperatures(seen.logits, seen.labels)
        return self

    def log_probabilities(self, query: Cube) -> Tensor:
        """Calibrated log-probabilities, float64 [b, s, c], backbones in the order of ``backbones_``."""
        self.fitted()
        logits = query.only(self.backbones_).logits.double()
        return (logits / self.temperature_[:, None, None]).log_softmax(-1)


@dataclass(eq=False)
class CalibratedConfidence(Calibrated):
    """As ``confidence`` on logits divided by one temperature per backbone (``temperature_``), fitted on the support."""

    gives: ClassVar[str] = "probabilities"

    def predict(self, query: Cube) -> Tensor:
        return most_confident(self.log_probabilities(query).exp())


@dataclass(eq=False)
class CalibratedLogAvg(Calibrated):
    """As ``log-avg`` on logits divided by one temperature per backbone (``temperature_``), fitted on the support."""

    gives: ClassVar[str] = "logits"

    def predict(self, query: Cube) -> Tensor:
        return self.log_probabilities(query).mean(0)
