"""A strong backbone, and the others beside it as far as they are sure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ensemble_bench.cube import Cube
from ensemble_bench.errors import BadOption
from ensemble_bench.metrics import posteriors
from ensemble_bench.strategies.base import Strategy


def anchor_of(cube: Cube, asked: str, name: str) -> int:
    """Place of the anchor among the backbones in the order of their ids: the one asked for, else the most expensive.

    Equally expensive ones go by id. One that is not there: ``BadOption`` in the name of the strategy.
    """
    cube = cube.by_backbone()
    if asked and asked not in cube.backbones:
        raise BadOption(f"{name}: anchor must be one of the backbones {', '.join(cube.backbones)}, not {asked!r}.")
    return cube.backbones.index(asked) if asked else int(cube.gflops.argmax())


@dataclass(eq=False)
class ZeroShotEnsemble(Strategy):
    """Probabilities of the anchor, plus those of the others weighted by a softmax over their confidences; sums to one.

    The anchor (``anchor``, an id; else the backbone with the most GFLOPs, ties by id) weighs 1, the others together 1, each in
    proportion to e^(its highest probability). Lu et al., ICML 2024 (ZS-En), divide by the number of backbones instead of by 2:
    the same decisions.
    """

    anchor: str = ""
    family: ClassVar[str] = "static"
    needs: ClassVar[tuple[str, ...]] = ("probabilities",)
    gives: ClassVar[str] = "probabilities"

    def predict(self, query: Cube) -> Tensor:
        probabilities = posteriors(query)
        confidence = probabilities.amax(-1)
        confidence[anchor_of(query, self.anchor, "zs-en")] = -torch.inf
        weight = confidence.softmax(0) if len(confidence) > 1 else torch.zeros_like(confidence)
        weight[anchor_of(query, self.anchor, "zs-en")] = 1
        scores = torch.einsum("bs,bsc->sc", weight, probabilities)
        return scores / scores.sum(-1, keepdim=True)
