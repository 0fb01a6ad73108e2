"""Backbones weigh as much as they are sure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ensemble_bench.cube import Cube
from ensemble_bench.metrics import log_posteriors
from ensemble_bench.strategies.base import TINY, Strategy


def sureness(log: Tensor) -> Tensor:
    """One minus the entropy over its largest value log c, in [0, 1], [..., s]: 0 for uniform rows; ``log`` [..., s, c]."""
    entropy: Tensor = torch.special.entr(log.exp()).sum(-1)
    return (1 - entropy / max(math.log(log.shape[-1]), TINY)).clamp(0, 1)


@dataclass(eq=False)
class EntropyWeighted(Strategy):
    """Mean of the log-probabilities in which a backbone weighs 1 - H / log c, with H the entropy of what it says of the image.

    The weights of an image are scaled to sum to one; where nobody knows anything they are equal.
    """

    family: ClassVar[str] = "static"
    needs: ClassVar[tuple[str, ...]] = ("probabilities",)
    gives: ClassVar[str] = "logits"

    def predict(self, query: Cube) -> Tensor:
        log = log_posteriors(query).log_softmax(-1)  # an archive's rounded rows need not sum to one
        weight = sureness(log) + TINY
        return torch.einsum("bs,bsc->sc", weight / weight.sum(0), log)
