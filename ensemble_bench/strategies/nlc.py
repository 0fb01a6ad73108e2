"""The Neural Logit Controller: a small network that gives each backbone a temperature per image."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from ensemble_bench.cube import Cube
from ensemble_bench.errors import BadOption
from ensemble_bench.strategies.base import Strategy
from ensemble_bench.strategies.controller import Layers, Rows, drawn, inputs, trained
from ensemble_bench.strategies.evidence import evidence

FORMS = ("temperature", "weight")
LOW, HIGH = 1e-2, 1e2


def start(b: int, form: str) -> float:
    """The t at which every weight is 1 / b, so that an untrained controller is ``log-avg``."""
    return 1 / b if form == "weight" else math.log(math.expm1(b))


def weights_of(t: Tensor, form: str) -> Tensor:
    """The factor a of each backbone's logits: t itself, or 1 / softplus(t) kept between 0.01 and 100."""
    return t if form == "weight" else torch.nn.functional.softplus(t).reciprocal().clamp(LOW, HIGH)


def slope_of(t: Tensor, a: Tensor, form: str) -> Tensor:
    """Derivative of ``weights_of`` at t, where it gave a; zero beyond the bounds."""
    if form == "weight":
        return torch.ones_like(t)
    return -t.sigmoid() * a.square() * ((a > LOW) & (a < HIGH))


def cross_entropy_slope(t: Tensor, logits: Tensor, right: Tensor, form: str) -> Tensor:
    """Derivative by t [s, b] of the mean cross-entropy of sum_b a_b Z_b; ``logits`` [s, b, c], ``right`` [s, c] one-hot."""
    a = weights_of(t, form)
    off = torch.bmm(a.unsqueeze(1), logits).softmax(-1).squeeze_(1).sub_(right).div_(len(t))
    return torch.bmm(logits, off.unsqueeze(2)).squeeze_(2).mul_(slope_of(t, a, form))


@dataclass(eq=False)
class NeuralLogitController(Strategy):
    """Sum over backbones of a_b(x) Z_b: a network of the concatenated features gives a temperature per backbone and image.

    ``form=temperature`` (default): a = 1 / softplus(t), a temperature that divides logits, as the word says. It stays positive,
    so no backbone can be voted against on the strength of two labelled images, a unanimous decision is kept, and near the start
    a answers to t with slope -1 / b^2 only. ``form=weight``: a = t, without constraint; ``weights`` shows how often it is
    negative. Either way the last layer starts at zero and a at 1 / b: epoch 0 is ``log-avg``, and decay pulls back to it.

    Linear(sum d_b, ``width``), ReLU, Linear(``width``, b), cross-entropy on the support, AdamW, full batch up to 4,096 samples
    for ``epochs``. Rodriguez-Opazo et al., ICLR 2025; start, decay's kind, epochs and batch are our choices.
    """

    form: str = "temperature"
    epochs: int = 300
    width: int = 128
    learning_rate: float = 2e-4
    weight_decay: float = 0.01
    seed: int = 0
    family: ClassVar[str] = "adaptive"
    labels: ClassVar[str] = "support"
    needs: ClassVar[tuple[str, ...]] = ("logits", "features")
    gives: ClassVar[str] = "logits"
    convex_reason: ClassVar[str] = "with form=weight a weight may become negative, and then votes against its backbone"

    def __post_init__(self) -> None:
        if self.form not in FORMS:
            raise BadOption(f"nlc: form is temperature or weight, not {self.form!r}.")
        if self.epochs < 0 or self.width < 1:
            raise BadOption("nlc: epochs must be at least 0 and width at least 1.")

    def keeps_unanimous(self) -> bool:
        return self.form == "temperature"

    @torch.no_grad()
    def fit(self, support: Cube) -> Self:
        seen = evidence(support)
        logits, t0 = seen.logits.float().transpose(0, 1).contiguous(), start(len(seen.backbones), self.form)
        right = torch.nn.functional.one_hot(seen.labels, logits.shape[2]).float()

        def slope(rows: Rows, t: Tensor) -> Tensor:
            return cross_entropy_slope(t + t0, logits[rows], right[rows], self.form)

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

    def weights(self, query: Cube) -> Tensor:
        """The factor of each backbone's logits, float32 [b, s], in the order of ``backbones_``."""
        self.fitted()
        t = Layers(self.into_, self.bias_, self.out_, self.last_)(inputs(query.only(self.backbones_)))
        return weights_of(start(len(self.backbones_), self.form) + t, self.form).T

    def predict(self, query: Cube) -> Tensor:
        weights = self.weights(query)
        return torch.einsum("bs,bsc->sc", weights, query.only(self.backbones_).logits)
