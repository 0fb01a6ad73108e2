"""One backbone by itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ensemble_bench.cube import Cube
from ensemble_bench.errors import BadOption
from ensemble_bench.strategies.base import Strategy


def alone(query: Cube, backbone: str) -> Tensor:
    """Scores of one backbone, [s, c]: the richest it has of logits, log-probabilities, or a one-hot decision."""
    query = query.only([backbone])
    if "logits" in query.has:
        return query.logits[0]
    if "probabilities" in query.has:
        return query.log_probabilities[0]
    return ballots(query)[0]


def picked(query: Cube, chosen: Tensor) -> Tensor:
    """Scores [s, c] of the backbone that is chosen for each sample, by its number, int64 [s], as ``alone`` gives them."""
    scores = alone(query.take([]), query.backbones[0]).new_empty(len(query), len(query.classes))
    for number in chosen.unique().tolist():  # one after the other, so that not all scores are needed at once
        rows = (chosen == number).nonzero().squeeze(1)
        scores[rows] = alone(query.take(rows), query.backbones[number])
    return scores


def ballots(query: Cube) -> Tensor:
    """One-hot decisions, float32 [b, s, c]; a row of zeros for no answer."""
    decisions = query.decisions
    hot = torch.nn.functional.one_hot(decisions.clamp_min(0), len(query.classes))
    return (hot * (decisions >= 0).unsqueeze(-1)).float()


def tally(query: Cube) -> Tensor:
    """Number of backbones that decide for each class, float32 [s, c]."""
    decisions = query.decisions
    votes = torch.zeros(len(query), len(query.classes))
    return votes.scatter_add_(1, decisions.clamp_min(0).T, (decisions >= 0).float().T)


def only_used(query: Cube, backbone: str) -> Tensor:
    """Bool [b, s], true in the row of one backbone."""
    own = torch.tensor([name == backbone for name in query.backbones])
    return own.unsqueeze(1).expand(-1, len(query)).clone()


@dataclass(eq=False)
class Single(Strategy):
    """One backbone by itself; ``backbone`` is its id, and may be left out where there is only one."""

    backbone: str = ""
    family: ClassVar[str] = "static"
    needs: ClassVar[tuple[str, ...]] = ("decisions",)
    gives: ClassVar[str] = "logits"

    def _own(self, query: Cube) -> str:
        if self.backbone:
            return self.backbone
        if len(query.backbones) > 1:
            raise BadOption(f"say which single backbone is meant: single:ID with ID one of {', '.join(query.backbones)}.")
        return query.backbones[0]

    def predict(self, query: Cube) -> Tensor:
        return alone(query, self._own(query))

    def used(self, query: Cube) -> Tensor:
        return only_used(query, self._own(query))
