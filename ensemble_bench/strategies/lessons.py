"""What a labelled task teaches about when to trust a backbone, in terms that mean the same for every task and pool."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from ensemble_bench.cube import Cube
from ensemble_bench.strategies.cues import CUES, cues
from ensemble_bench.strategies.evidence import evidence

INPUTS = len(CUES) + 2
CLASSES = 32  # the likeliest of each sample: the others hardly move a likelihood
ABSENT = -1e4


def shapes(cube: Cube) -> Tensor:
    """Log of the length of each feature and how evenly it is spread over its dimensions (0 to 1), float64 [b, s, 2]."""
    found = []
    for part in cube.by_backbone().features:
        length = part.double().norm(dim=1).clamp_min(1e-12)
        found.append(torch.stack([length.log(), part.double().abs().sum(1) / length / part.shape[1] ** 0.5], dim=-1))
    return torch.stack(found)


def scale_of(shape: Tensor) -> tuple[Tensor, Tensor]:
    """Mean of each backbone's shapes [b, 1, 2], and their deviation over all backbones [2], one where it is nothing."""
    centre = shape.mean(1, keepdim=True)
    spread = (shape - centre).square().mean((0, 1)).sqrt()
    return centre, torch.where(spread > 1e-6, spread, 1.0)


def signs(query: Cube, centre: Tensor, scale: Tensor) -> Tensor:
    """What a network looks at, float64 [b, s, INPUTS], backbones by id: cues, and the features' shapes against a support's."""
    return torch.cat([cues(query), (shapes(query) - centre) / scale], dim=-1)


@dataclass(frozen=True, eq=False)
class Lesson:
    """Signs ``x`` [b, s, INPUTS], log-probabilities ``log`` [b, s, CLASSES] with the label's first, weights of samples [s]."""

    backbones: tuple[str, ...]
    x: Tensor
    log: Tensor
    weight: Tensor


def lesson(support: Cube, share: float = 1.0) -> Lesson:
    """The lesson of a labelled cube, its weights summing to ``share``; classes that it has not are next to impossible."""
    seen = evidence(support)
    log = seen.logits.log_softmax(-1)
    own = torch.nn.functional.one_hot(seen.labels, log.shape[-1]).bool()
    best = log.mean(0).masked_fill(own, torch.inf).topk(min(CLASSES, log.shape[-1])).indices
    log = log.gather(-1, best.expand(len(log), -1, -1))
    log = torch.nn.functional.pad(log, (0, CLASSES - log.shape[-1]), value=ABSENT)
    weight = torch.full((len(seen.cube),), share / len(seen.cube), dtype=torch.float64)
    return Lesson(seen.backbones, signs(seen.cube, *scale_of(shapes(seen.cube))), log, weight)


def together(lessons: Iterable[Lesson]) -> list[Lesson]:
    """The same with those of equal backbones as one, in which sums are quicker."""
    alike: dict[tuple[str, ...], list[Lesson]] = {}
    for one in lessons:
        alike.setdefault(one.backbones, []).append(one)
    return [
        Lesson(
            backbones,
            torch.cat([one.x for one in same], 1),
            torch.cat([one.log for one in same], 1),
            torch.cat([one.weight for one in same]),
        )
        for backbones, same in alike.items()
    ]
