"""Which backbones were right near a sample: what dynamic selection goes by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from ensemble_bench.cube import Cube
from ensemble_bench.errors import BadOption
from ensemble_bench.strategies.base import Strategy
from ensemble_bench.strategies.evidence import examples
from ensemble_bench.strategies.heads import unit

CELLS = 1 << 22


def nearest(x: Tensor, keys: Tensor, k: int) -> Tensor:
    """Numbers of the ``k`` keys nearest to each row, int64 [s, k], nearest first; equally near ones in the order of the keys.

    Euclidean distance of float32 ``x`` [s, d] to ``keys`` [n, d].
    """
    half = keys.square().sum(1) / 2
    later = torch.arange(len(keys), dtype=torch.float64) * 1e-13  # beyond float32, so that it orders only what is equal
    size = max(1, CELLS // len(keys))
    return torch.cat([((rows @ keys.T - half).double() - later).topk(k, dim=1).indices for rows in x.split(size)])


def voted(query: Cube, weights: Tensor) -> Tensor:
    """Votes for each class, float32 [s, c]: every backbone's decision counts ``weights`` [s, b], "no answer" nothing."""
    decisions = query.decisions.T
    votes = torch.zeros(len(query), len(query.classes))
    return votes.scatter_add_(1, decisions.clamp_min(0), weights.float() * (decisions >= 0))


@dataclass(eq=False)
class Neighbourhood(Strategy):
    """A strategy that goes by the ``k`` support samples (all, if fewer) that are nearest in the concatenated unit features."""

    k: int = 7
    family: ClassVar[str] = "adaptive"
    labels: ClassVar[str] = "support"
    needs: ClassVar[tuple[str, ...]] = ("decisions", "features")

    def __post_init__(self) -> None:
        if self.k < 1:
            raise BadOption(f"dynamic selection: k must be at least 1 neighbour, not {self.k}.")

    def fit(self, support: Cube) -> Self:
        cube = examples(support)
        self.backbones_ = cube.backbones
        self.right_ = (cube.decisions == cube.labels).T.contiguous()
        self.keys_ = unit(cube)
        return self

    def right_near(self, query: Cube) -> Tensor:
        """Whether each backbone is right on each neighbour, bool [s, k, b], the nearest first; backbones as ``backbones_``."""
        self.fitted()
        k = min(self.k, len(self.keys_))
        return self.right_[nearest(unit(query.only(self.backbones_)), self.keys_, k)]
