"""Mixture weights of the backbones, fitted by likelihood."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor

from ensemble_bench.cube import Cube
from ensemble_bench.errors import BadOption
from ensemble_bench.strategies.base import Strategy
from ensemble_bench.strategies.evidence import evidence

FORMS = ("convex", "linear")


def pooled(weight: Tensor, logits: Tensor, form: str) -> Tensor:
    """Log of the mixture sum_b w_b P_b (``convex``) or the sum of logits sum_b w_b Z_b (``linear``), float64 [s, c]."""
    if form == "linear":
        return torch.einsum("b,bsc->sc", weight, logits)
    return (logits.log_softmax(-1) + weight.log()[:, None, None]).logsumexp(0)


def objective(u: Tensor, logits: Tensor, labels: Tensor, form: str, pull: float) -> tuple[float, Tensor]:
    """Mean NLL of the combination with w = softmax(u), plus ``pull`` x KL(w, uniform), nats; and its derivative by u [b].

    ``logits`` float64 [b, s, c]; log-probabilities where ``form`` is convex.
    """
    weight, log_weight = u.softmax(0), u.log_softmax(0)
    rows = torch.arange(len(labels))
    if form == "linear":
        scores = torch.einsum("b,bsc->sc", weight, logits).log_softmax(-1)
        off = scores.exp()
        off[rows, labels] -= 1
        nll, slope = -scores[rows, labels].mean(), torch.einsum("bsc,sc->b", logits, off) / len(labels)
    else:
        said = logits[:, rows, labels]  # a mixture's likelihood hangs on the labels' probabilities alone
        mixed = (said + log_weight[:, None]).logsumexp(0)
        nll, slope = -mixed.mean(), -(said - mixed).exp().mean(1)
    spread = log_weight + math.log(len(u))
    slope = slope + pull * spread
    return float(nll + pull * (weight * spread).sum()), weight * (slope - weight @ slope)


@dataclass(eq=False)
class SuperLearner(Strategy):
    """Weights on the simplex that make the support most likely: of the probabilities, or with ``form=linear`` of the logits.

    ``form=convex`` (default) mixes the backbones' distributions, log sum_b w_b P_b (the linear pool of opinions);
    ``form=linear`` is a linear combination of their logits, sum_b w_b Z_b (the logarithmic pool). The weights minimise mean
    NLL + ``pull`` x KL(w, uniform), by L-BFGS from the uniform ones; ``weight_`` float64 [b].
    """

    form: str = "convex"
    pull: float = 0.01
    family: ClassVar[str] = "calibrated"
    labels: ClassVar[str] = "support"
    needs: ClassVar[tuple[str, ...]] = ("logits",)
    gives: ClassVar[str] = "logits"

    def __post_init__(self) -> None:
        if self.form not in FORMS:
            raise BadOption(f"super-learner: form is convex or linear, not {self.form!r}.")
        if not self.pull >= 0:
            raise BadOption(f"super-learner: pull must be at least 0, not {self.pull}.")

    def fit(self, support: Cube) -> Self:
        seen = evidence(support)
        logits = seen.logits if self.form == "linear" else seen.logits.log_softmax(-1)

        def value_and_slope(u: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
            value, slope = objective(torch.from_numpy(u.copy()), logits, seen.labels, self.form, self.pull)
            return value, slope.numpy()

        start = np.zeros(len(seen.backbones))
        found = minimize(value_and_slope, start, jac=True, method="L-BFGS-B", options={"ftol": 1e-15, "gtol": 1e-9})
        self.backbones_ = seen.backbones
        self.weight_ = torch.from_numpy(found.x).softmax(0)
        return self

    def predict(self, query: Cube) -> Tensor:
        self.fitted()
        return pooled(self.weight_, query.only(self.backbones_).logits.double(), self.form)
