"""A small network gives each backbone a share of the answer, image by image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from ensemble_bench.cube import Cube
from ensemble_bench.errors import BadOption
from ensemble_bench.metrics import log_posteriors
from ensemble_bench.strategies.base import Strategy
from ensemble_bench.strategies.controller import Layers, Rows, drawn, inputs, trained
from ensemble_bench.strategies.evidence import Evidence, evidence


def log_own(seen: Evidence) -> Tensor:
    """Log-probability that each backbone gives to the label, float32 [s, b]."""
    index = seen.labels.expand(len(seen.logits), -1).unsqueeze(-1)
    return seen.logits.log_softmax(-1).gather(-1, index).squeeze(-1).T.float()


def mixture_slope(t: Tensor, own: Tensor) -> Tensor:
    """Derivative by t [s, b] of the mean NLL of sum_b g_b P_b with g = softmax(t): what each has, less what it deserves."""
    return (t.softmax(-1) - (t.log_softmax(-1) + own).softmax(-1)) / len(t)


@dataclass(eq=False)
class MixtureOfExperts(Strategy):
    """Sum over backbones of g_b(x) P_b, with g the softmax of a small network of the concatenated features.

    Network and optimiser are those of ``nlc``; the last layer starts at zero, so that epoch 0 is ``mean-probability``; the loss
    is the NLL of the mixture. Jacobs et al. 1991, with the backbones and their heads frozen.
    """

    epochs: int = 300
    width: int = 128
    learning_rate: float = 2e-4
    weight_decay: float = 0.01
    seed: int = 0
    family: ClassVar[str] = "adaptive"
    labels: ClassVar[str] = "support"
    needs: ClassVar[tuple[str, ...]] = ("probabilities", "features")
    gives: ClassVar[str] = "logits"

    def __post_init__(self) -> None:
        if self.epochs < 0 or self.width < 1:
            raise BadOption("mixture-of-experts: epochs must be at least 0 and width at least 1.")

    @torch.no_grad()
    def fit(self, support: Cube) -> Self:
        seen = evidence(support)
        own = log_own(seen)

        def slope(rows: Rows, t: Tensor) -> Tensor:
            return mixture_slope(t, own[rows])

        layers = trained(
            drawn(seen.cube, self.width, self.seed),
            inputs(seen.cube),
            slope,
            epochs=self.epochs,
            rate=self.learning_rate,
            decay=self.weight_decay,
            seed=self.seed,
        )
        self.backbones_ = seen.backbones
        self.into_, self.bias_, self.out_, self.last_ = layers.tensors()
        return self

    def log_gates(self, query: Cube) -> Tensor:
        """Log of each backbone's share, float64 [b, s], in the order of ``backbones_``."""
        self.fitted()
        t = Layers(self.into_, self.bias_, self.out_, self.last_)(inputs(query.only(self.backbones_)))
        return t.double().log_softmax(-1).T

    def predict(self, query: Cube) -> Tensor:
        return (self.log_gates(query).unsqueeze(-1) + log_posteriors(query.only(self.backbones_))).logsumexp(0)
