"""Linear discriminant analysis of features, with a shrunk covariance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ensemble_bench.errors import BadOption
from ensemble_bench.strategies.heads import LinearHead, means, span

AUTO = "auto"


def ledoit_wolf(x: Tensor, width: int) -> float:
    """Share in [0, 1] of the sphere that Ledoit and Wolf 2004 mix into the covariance of centred rows x [n, r].

    ``width`` is the number of dimensions in which the rows were given before they were rotated into their span.
    """
    n = len(x)
    covariance = x.T @ x / n
    square = covariance.square().sum()
    spread = square - covariance.trace().square() / width
    noise = (x.square().sum(1).square().sum() / n - square) / n
    if not spread > 0:
        return 1.0
    return float((noise / spread).clamp(0, 1))


@dataclass(eq=False)
class LDA(LinearHead):
    """The Gaussian class most likely to have made the concatenated unit features, all classes sharing one shrunk covariance.

    Covariance of the support within its classes, (1 - g) S + g mean-variance I, with g by Ledoit and Wolf (``shrinkage=auto``)
    or given (in (0, 1]). One example per class has no spread within: the covariance is then the sphere that has the spread of
    the whole support, and the answer is that of ``nearest-centroid``.
    """

    shrinkage: str = AUTO
    gives: ClassVar[str] = "logits"

    def __post_init__(self) -> None:
        self._share()

    def _share(self) -> float | None:
        """The given shrinkage, None for ``auto``."""
        if self.shrinkage == AUTO:
            return None
        try:
            share = float(self.shrinkage)
        except ValueError:
            share = 0.0
        if not 0 < share <= 1:
            raise BadOption(f"lda: shrinkage is auto or a number above 0 and at most 1, not {self.shrinkage!r}.")
        return share

    def solved(self, x: Tensor, labels: Tensor, classes: int) -> tuple[Tensor, Tensor]:
        inside, basis = span(x)
        centre = means(inside, labels, classes)
        rest = inside - centre[labels]
        share = self._share()
        if len(x) == classes:  # no class has two examples
            rest, share = inside - inside.mean(0), 1.0
        covariance = rest.T @ rest / len(x)
        sphere = float(covariance.trace()) / x.shape[1]
        if share is None:
            share = ledoit_wolf(rest, x.shape[1])
        value, vector = torch.linalg.eigh(covariance)
        value = (1 - share) * value.clamp_min(0) + share * sphere
        floor = torch.finfo(x.dtype).eps * float(value.max())
        inverse = torch.where(value > floor, value, 1.0).reciprocal() * (value > floor)
        weight = (centre @ vector * inverse) @ vector.T
        prior = labels.bincount(minlength=classes) / len(labels)
        return weight @ basis.T, prior.double().log() - (weight * centre).sum(1) / 2
