"""Sample-wise weights from a small network, as published and with its loss mended."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Self

import torch
from torch import Tensor

from ensemble_bench.cube import Cube
from ensemble_bench.errors import BadOption
from ensemble_bench.metrics import posteriors
from ensemble_bench.strategies.base import Strategy
from ensemble_bench.strategies.controller import Layers, Rows, batches, drawn, generator, inputs, uniform
from ensemble_bench.strategies.evidence import evidence
from ensemble_bench.strategies.mixture_of_experts import log_own, mixture_slope

LOSSES = ("faithful", "nll")
BATCH = 128
NARROWING = 32
WARM = 1e-5
MOMENTUM = 0.9
DECAY = 5e-4


def faithful_slope(t: Tensor, probabilities: Tensor, labels: Tensor) -> Tensor:
    """Derivative by t [s, b] of the mean cross-entropy of softmax(mean_b w_b P_b), w = softmax(t); ``probabilities`` [b, s, c].

    The softmax takes the mixture for logits, though its entries lie between 0 and 1 / b.
    """
    weight = t.softmax(-1)
    off = (torch.einsum("sb,bsc->sc", weight, probabilities) / len(probabilities)).softmax(-1)
    off[torch.arange(len(labels)), labels] -= 1
    by_weight = torch.einsum("sc,bsc->sb", off, probabilities) / (len(probabilities) * len(labels))
    return weight * (by_weight - (weight * by_weight).sum(-1, keepdim=True))


def rate_of(epoch: int, epochs: int, top: float) -> float:
    """Learning rate: one epoch at 1e-5, then half a cosine over ``epochs`` from ``top``."""
    return WARM if epoch == 0 else top * (1 + math.cos(math.pi * (epoch - 1) / epochs)) / 2


@dataclass(eq=False)
class SampleWiseGenerator(Strategy):
    """Sum over backbones of w_b(x) P_b, with w the softmax of a small network of the raw features.

    Lu et al., ICML 2024 (SWIG): Linear(D, D / 32), ReLU, Linear(D / 32, b) on features that are not normalised, SGD with
    momentum in batches of 128 for ``epochs``. ``loss=faithful`` takes the mixture's probabilities for logits, as theirs does:
    the loss can fall by a fraction of a nat only, and weights stay near where they start. ``loss=nll`` is the mixture's NLL.
    They divide the sum by b, which changes no decision and is no distribution. Deviations: no augmentation, no fp16.
    """

    loss: str = "faithful"
    epochs: int = 5
    learning_rate: float = 5e-3
    seed: int = 0
    family: ClassVar[str] = "adaptive"
    labels: ClassVar[str] = "support"
    needs: ClassVar[tuple[str, ...]] = ("probabilities", "features")
    gives: ClassVar[str] = "probabilities"

    def __post_init__(self) -> None:
        if self.loss not in LOSSES:
            raise BadOption(f"swig: loss is faithful or nll, not {self.loss!r}.")
        if self.epochs < 0:
            raise BadOption(f"swig: epochs must be at least 0, not {self.epochs}.")

    def start(self, cube: Cube) -> Layers:
        """Both layers as torch's Linear draws them, seeded per backbone id."""
        width = max(1, sum(part.shape[1] for part in cube.features) // NARROWING)
        rows = [uniform((width,), width**-0.5, self.seed, f"output {name}") for name in cube.backbones]
        lifts = [uniform((1,), width**-0.5, self.seed, f"output bias {name}") for name in cube.backbones]
        first = drawn(cube, width, self.seed)
        return Layers(first.into, first.bias, torch.stack(rows), torch.cat(lifts))

    @torch.no_grad()
    def fit(self, support: Cube) -> Self:
        seen = evidence(support)
        x, probabilities, own = inputs(seen.cube, unit=False), seen.logits.softmax(-1).float(), log_own(seen)

        def slope(rows: Rows, t: Tensor) -> Tensor:
            if self.loss == "nll":
                return mixture_slope(t, own[rows])
            return faithful_slope(t, probabilities[:, rows], seen.labels[rows])

        (vector, layers), (along, slopes) = (self.start(seen.cube).beside() for _ in range(2))
        speed, shuffle = torch.zeros_like(vector), generator(self.seed, "batches")
        for epoch in range(self.epochs):
            for rows in batches(len(x), BATCH, shuffle):
                layers.gradients(x[rows], partial(slope, rows), slopes)
                speed.mul_(MOMENTUM).add_(along).add_(vector, alpha=DECAY)
                vector.sub_(speed, alpha=rate_of(epoch, self.epochs, self.learning_rate))
        self.backbones_ = seen.backbones
        self.into_, self.bias_, self.out_, self.last_ = (part.clone() for part in layers.tensors())
        return self

    def weights(self, query: Cube) -> Tensor:
        """The share of each backbone, float64 [b, s], in the order of ``backbones_``."""
        self.fitted()
        x = inputs(query.only(self.backbones_), unit=False)
        return Layers(self.into_, self.bias_, self.out_, self.last_)(x).double().softmax(-1).T

    def predict(self, query: Cube) -> Tensor:
        scores = torch.einsum("bs,bsc->sc", self.weights(query), posteriors(query.only(self.backbones_)))
        return scores / scores.sum(-1, keepdim=True)
