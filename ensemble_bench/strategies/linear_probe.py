"""Logistic regression on features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor

from ensemble_bench.errors import BadOption
from ensemble_bench.strategies.heads import LinearHead, span

STEPS = 1000


@dataclass(eq=False)
class LinearProbe(LinearHead):
    """Multinomial logistic regression on the concatenated unit features of the pool, or of one backbone.

    Minimises the summed cross-entropy + ``penalty`` / 2 x |W|^2 (the intercept goes free) by L-BFGS from zero; ``penalty`` is
    the 1 / C of scikit-learn. By the representer theorem W lies in the span of the support, where the search takes place.
    """

    penalty: float = 0.1
    gives: ClassVar[str] = "logits"

    def __post_init__(self) -> None:
        if not self.penalty > 0:
            raise BadOption(f"linear-probe: penalty must be above 0, not {self.penalty}.")

    def solved(self, x: Tensor, labels: Tensor, classes: int) -> tuple[Tensor, Tensor]:
        middle = x.mean(0)
        coordinates, basis = span(x - middle)  # the intercept makes up for the shift
        left, size, right = torch.linalg.svd(coordinates, full_matrices=False)
        curve = (self.penalty + size.square() * (classes - 1) / classes**2).sqrt()  # of the loss at zero, along each direction
        inside, pull = left * (size / curve), self.penalty / curve.square()
        rows = torch.arange(len(labels))

        def value_and_slope(free: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
            head = torch.from_numpy(free).view(classes, -1)
            weight, bias = head[:, :-1], head[:, -1]
            log = torch.addmm(bias, inside, weight.T).log_softmax(-1)
            off = log.exp()
            off[rows, labels] -= 1
            value = -log[rows, labels].sum() + (pull * weight.square()).sum() / 2
            slope = torch.cat([off.T @ inside + pull * weight, off.sum(0).unsqueeze(1)], dim=1)
            return float(value), slope.flatten().numpy()

        start = np.zeros(classes * (len(size) + 1))
        options = {"maxiter": STEPS, "maxfun": 2 * STEPS, "ftol": 1e-13, "gtol": 1e-6}
        found = minimize(value_and_slope, start, jac=True, method="L-BFGS-B", options=options)
        head = torch.from_numpy(found.x).view(classes, -1)
        weight = head[:, :-1] / curve @ right @ basis.T
        return weight, head[:, -1] - weight @ middle
