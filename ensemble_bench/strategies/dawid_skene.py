"""Backbones weigh as much as their agreement with one another says, without a label."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ensemble_bench.cube import Cube
from ensemble_bench.errors import BadOption
from ensemble_bench.strategies.base import Strategy

SURE = 1 - 1e-6
SETTLED = 1e-10


def patterns(decisions: Tensor) -> tuple[Tensor, Tensor]:
    """Who agrees with whom, int64 [b, p], and how many samples show it, float64 [p]; ``decisions`` [b, s].

    An entry is the number of the first backbone with the same decision, -1 for no answer. Which class they agree on says
    nothing about their accuracy, and five backbones can agree in 52 ways only: these are what the fit goes over.
    """
    same = decisions.unsqueeze(1) == decisions.unsqueeze(0)
    first = same.int().argmax(0).masked_fill(decisions < 0, -1)
    found, count = first.unique(dim=1, return_counts=True)
    return found, count.double()


def log_odds(accuracy: Tensor, c: int) -> Tensor:
    """What a decision is worth against each other class: log of a (c - 1) / (1 - a), never below 0."""
    others = max(c - 1, 1)
    return (accuracy * others / (1 - accuracy)).log().clamp_min(0)


def accuracies(decisions: Tensor, c: int, prior: float, rounds: int) -> Tensor:
    """Accuracy of each backbone by expectation maximisation, float64 [b], between 1 / c and 1; ``decisions`` int [b, s].

    Every class is as likely as another, a backbone is right with probability a_b and otherwise says any wrong class alike, and
    they err independently given the class. ``prior`` counts as that many samples at half way between chance and always right.
    It starts from shares of votes.
    """
    agree, count = patterns(decisions)
    answered = (agree >= 0).double()
    same = (agree.unsqueeze(1) == agree.unsqueeze(0)) * answered  # [b, b, p]
    size = same.sum(0).clamp_min(1)  # how many say what b says
    silent = c - (answered / size).sum(0)  # classes that nobody says
    worth = size / answered.sum(0).clamp_min(1)
    chance = 1 / max(c, 2)
    shown = (answered * count).sum(1) + prior
    accuracy = torch.ones(len(agree), dtype=torch.float64)
    for _ in range(rounds):
        before = accuracy
        right = (worth * answered * count).sum(1) + prior * (1 + chance) / 2
        accuracy = (right / shown.clamp_min(SETTLED)).clamp(chance, SURE)
        if float((accuracy - before).abs().max()) < SETTLED:
            break
        scores = torch.einsum("a,abp->bp", log_odds(accuracy, c), same)
        top = scores.amax(0).clamp_min(0)
        own = (scores - top).exp()
        worth = own / ((own * answered / size).sum(0) + silent * (-top).exp())
    return accuracy


@dataclass(eq=False)
class DawidSkene(Strategy):
    """Weighted vote: a backbone weighs its log-odds of being right, learnt from how the backbones agree on the whole query.

    One accuracy per backbone (the one-coin model), not the confusion matrix of Dawid and Skene 1979: with c classes a matrix
    has c (c - 1) numbers per backbone, more than a query has images from a few dozen classes on. Accuracies stay at or above
    chance, so no backbone is voted against. The scores are log-posteriors up to a constant, and far too sure where backbones
    err together.

    ``prior`` (samples at half way between chance and certainty) decides where agreement says nothing, as with two backbones.
    """

    prior: float = 2.0
    rounds: int = 1000
    family: ClassVar[str] = "static"
    needs: ClassVar[tuple[str, ...]] = ("decisions",)
    gives: ClassVar[str] = "logits"
    transductive: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not self.prior > 0 or self.rounds < 1:
            raise BadOption("dawid-skene: prior must be above 0 and rounds at least 1.")

    def weights(self, query: Cube) -> Tensor:
        """Log-odds of each backbone, float64 [b], in the order of their ids."""
        query = query.by_backbone()
        return log_odds(accuracies(query.decisions, len(query.classes), self.prior, self.rounds), len(query.classes))

    def settled(self, query: Cube) -> Strategy:
        return _Settled(self.prior, self.rounds, worth=tuple(self.weights(query).tolist()))

    def predict(self, query: Cube) -> Tensor:
        query = query.by_backbone()
        decisions, weights = query.decisions, self.weights(query)
        scores = torch.zeros(len(query), len(query.classes), dtype=torch.float64)
        cast = weights.unsqueeze(1) * (decisions >= 0)
        return scores.scatter_add_(1, decisions.clamp_min(0).T, cast.T)


@dataclass(eq=False)
class _Settled(DawidSkene):
    """The vote with weights that a whole query has given."""

    worth: tuple[float, ...] = ()

    def weights(self, query: Cube) -> Tensor:
        return torch.tensor(self.worth, dtype=torch.float64)
