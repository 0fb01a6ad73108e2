"""One backbone answers each image: the one that looks most likely to be right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor

from ensemble_bench.cube import Cube
from ensemble_bench.errors import BadOption
from ensemble_bench.metrics import posteriors
from ensemble_bench.strategies.base import Strategy
from ensemble_bench.strategies.confidence import most_confident
from ensemble_bench.strategies.cues import cues
from ensemble_bench.strategies.evidence import evidence


def design(cube: Cube) -> Tensor:
    """A row per backbone and sample, float64 [b, s, b + 1 + cues]: which backbone it is, a one, and its cues."""
    seen = cues(cube)
    b, s, _ = seen.shape
    which = torch.eye(b, dtype=torch.float64).unsqueeze(1).expand(b, s, b)
    return torch.cat([which, torch.ones(b, s, 1, dtype=torch.float64), seen], dim=-1)


def logistic(rows: NDArray[np.float64], right: NDArray[np.float64], ridge: float) -> NDArray[np.float64]:
    """Coefficients [k] of a logistic regression of ``right`` [n] (0 or 1) on ``rows`` [n, k]; ridge / 2 x their squares."""

    def value_and_slope(w: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        z = rows @ w
        off = np.exp(-np.logaddexp(0, -z)) - right
        value = (np.logaddexp(0, z) - right * z).sum() + ridge / 2 * (w @ w)
        return float(value), off @ rows + ridge * w

    start = np.zeros(rows.shape[1])
    found = minimize(value_and_slope, start, jac=True, method="L-BFGS-B", options={"ftol": 1e-15, "gtol": 1e-8})
    return np.asarray(found.x)


@dataclass(eq=False)
class Router(Strategy):
    """The answer of the backbone that is most likely to be right on the image, by a logistic regression on the support.

    Whether a backbone is right is regressed on which backbone it is and on five cues of its answer (see ``cues``), the same for
    all backbones; ``ridge`` / 2 times the squared coefficients holds them back. So it stands between ``best-single`` and
    ``confidence``. Every backbone must run before one is chosen. Equal ones share by their mean.
    """

    ridge: float = 1.0
    family: ClassVar[str] = "adaptive"
    labels: ClassVar[str] = "support"
    needs: ClassVar[tuple[str, ...]] = ("probabilities",)
    gives: ClassVar[str] = "probabilities"

    def __post_init__(self) -> None:
        if not self.ridge > 0:
            raise BadOption(f"router: ridge must be above 0, not {self.ridge}.")

    def fit(self, support: Cube) -> Self:
        cube = evidence(support).cube
        rows = design(cube)
        right = (cube.decisions == cube.labels).double()
        found = logistic(rows.flatten(0, 1).numpy(), right.flatten().numpy(), self.ridge)
        self.backbones_ = cube.backbones
        self.coefficient_ = torch.from_numpy(found)
        return self

    def worth(self, query: Cube) -> Tensor:
        """Log-odds that each backbone is right, float64 [b, s], in the order of ``backbones_``."""
        self.fitted()
        return design(query.only(self.backbones_)) @ self.coefficient_

    def predict(self, query: Cube) -> Tensor:
        scores = most_confident(posteriors(query.only(self.backbones_)), self.worth(query))
        return scores / scores.sum(-1, keepdim=True)
