"""Cheap backbones first; dearer ones only where those are not sure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from ensemble_bench.cube import Cube
from ensemble_bench.errors import BadOption
from ensemble_bench.metrics import log_posteriors
from ensemble_bench.strategies.base import Strategy
from ensemble_bench.strategies.evidence import evidence
from ensemble_bench.strategies.single import ballots

MODES = ("confidence", "agreement")
NEVER, ALONE = 2.0, -1.0
LEVELS = 256


def by_cost(cube: Cube) -> tuple[str, ...]:
    """Backbones from cheap to dear, ties by id."""
    return tuple(name for _, name in sorted(zip(cube.gflops.tolist(), cube.backbones, strict=True)))


def steps(query: Cube, order: tuple[str, ...], by: str) -> tuple[Tensor, Tensor]:
    """After each backbone in ``order``: its log-probabilities, float64 [b, s, c], and a reason to stop, [b, s], in [0, 1].

    The reason is the confidence of the log-average so far, or the share of the backbones so far with the commonest decision (-1
    for the first, which can agree with nobody).
    """
    cube = query.by_backbone()
    place = torch.tensor([cube.backbones.index(name) for name in order])
    log = log_posteriors(cube)[place]
    count = torch.arange(1, len(order) + 1, dtype=torch.float64)
    if by == "agreement":
        reason = ballots(cube)[place].double().cumsum(0).amax(-1) / count.unsqueeze(1)
        reason[0] = ALONE
    else:
        sofar = log.cumsum(0) / count[:, None, None]
        reason = sofar.softmax(-1).amax(-1)
    return log, reason


def depths(reason: Tensor, threshold: float) -> Tensor:
    """How many backbones come before the one after which each sample stops, int64 [s]."""
    enough = reason >= threshold
    enough[-1] = True
    return enough.int().argmax(0)


def threshold(reason: Tensor, right: Tensor, target: float) -> float:
    """The lowest reason to stop at that, like every higher one, loses at most 1 - ``target`` of what the whole pool has right.

    ``reason`` and ``right`` (bool) [b, s]; lost is a sample that the pool has right and the cascade has not. Tried are the
    reasons seen, 256 of them at most, from never stopping downwards.
    """
    levels = reason[:-1].unique().flip(0)
    levels = levels[levels > ALONE]
    if len(levels) > LEVELS:
        levels = levels[torch.linspace(0, len(levels) - 1, LEVELS).long()]
    chosen, most = NEVER, (1 - target) * int(right[-1].sum()) + 1e-9
    for level in levels.tolist():
        kept = right.gather(0, depths(reason, level).unsqueeze(0))[0]
        if int((right[-1] & ~kept).sum()) > most:
            break
        chosen = level
    return chosen


@dataclass(eq=False)
class Cascade(Strategy):
    """Log-average of the cheapest backbones, one more at a time, until the answer is sure enough.

    ``by=confidence`` stops when the log-average so far is confident, ``by=agreement`` when enough of the backbones so far
    decide alike (two at least). The threshold is the lowest that still keeps, of the support samples that the whole pool has
    right, the share ``target``; a few samples say little of that, and what is kept on the query is less. Cheap means few
    GFLOPs, ties by id. ``used`` says what each image needed. Wang et al. 2020 (confidence), Kolawole et al. 2024 (agreement).
    """

    by: str = "confidence"
    target: float = 1.0
    family: ClassVar[str] = "adaptive"
    labels: ClassVar[str] = "support"
    needs: ClassVar[tuple[str, ...]] = ("probabilities",)
    gives: ClassVar[str] = "logits"

    def __post_init__(self) -> None:
        if self.by not in MODES:
            raise BadOption(f"cascade: by is confidence or agreement, not {self.by!r}.")
        if not 0 <= self.target <= 1:
            raise BadOption(f"cascade: target is a share of the pool's accuracy, 0 to 1, not {self.target}.")

    def fit(self, support: Cube) -> Self:
        cube = evidence(support).cube
        order = by_cost(cube)
        log, reason = steps(cube, order, self.by)
        self.threshold_ = threshold(reason, log.cumsum(0).argmax(-1) == cube.labels, self.target)
        self.backbones_ = order
        return self

    def predict(self, query: Cube) -> Tensor:
        self.fitted()
        log, reason = steps(query.only(self.backbones_), self.backbones_, self.by)
        depth = depths(reason, self.threshold_)
        needed = torch.arange(len(log)).unsqueeze(1) <= depth
        return torch.einsum("bs,bsc->sc", needed / (depth.double() + 1), log)

    def used(self, query: Cube) -> Tensor:
        self.fitted()
        _, reason = steps(query.only(self.backbones_), self.backbones_, self.by)
        depth = depths(reason, self.threshold_)
        place = torch.tensor([self.backbones_.index(name) for name in query.backbones])
        return place.unsqueeze(1) <= depth
