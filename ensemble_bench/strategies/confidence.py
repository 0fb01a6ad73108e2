"""The most confident backbone answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ensemble_bench.cube import Cube
from ensemble_bench.metrics import confidences, posteriors, posteriors_of
from ensemble_bench.strategies.base import Strategy
from ensemble_bench.strategies.single import ballots

ROUNDING = 1e-12  # a sum over classes in another order differs by as much, and on some processors by nothing


def highest(top: Tensor) -> Tensor:
    """Which of b numbers are the highest of each sample, up to rounding: bool [b, s]."""
    return top >= top.amax(0) - ROUNDING


def most_confident(probabilities: Tensor, top: Tensor | None = None) -> Tensor:
    """Of [b, s, c], for each sample the row with the highest maximum, [s, c]; those equal up to rounding share by their mean.

    ``top`` [b, s] is another reason to choose.
    """
    chosen = highest(probabilities.amax(-1) if top is None else top)
    scores = probabilities[chosen.int().argmax(0), torch.arange(chosen.shape[1])]
    shared = (chosen.sum(0) > 1).nonzero().squeeze(1)
    if len(shared):
        share = chosen[:, shared].to(probabilities)
        scores[shared] = torch.einsum("bs,bsc->sc", share / share.sum(0), probabilities[:, shared])
    return scores


@dataclass(eq=False)
class Confidence(Strategy):
    """Probabilities of the backbone whose highest probability is highest; equal ones share by their mean.

    Where only decisions and their confidence are known, the decision of that backbone; equal ones share the vote.
    """

    family: ClassVar[str] = "static"
    needs: ClassVar[tuple[str, ...]] = ("confidence",)
    gives: ClassVar[str] = "probabilities"
    rough: ClassVar[bool] = True

    def predict(self, query: Cube) -> Tensor:
        if "probabilities" not in query.has:
            return most_confident(ballots(query.by_backbone()), confidences(query))
        chosen = highest(confidences(query))
        scores = posteriors_of(query, chosen.int().argmax(0))
        shared = (chosen.sum(0) > 1).nonzero().squeeze(1)
        if len(shared):
            scores[shared] = most_confident(posteriors(query.take(shared)), chosen[:, shared].to(scores))
        return scores / scores.sum(-1, keepdim=True)  # an archive's rounded rows need not sum to one
