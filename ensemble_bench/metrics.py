"""Pure functions from scores, decisions and labels to numbers."""

from __future__ import annotations

import torch
from torch import Tensor

from ensemble_bench.cube import Cube


def decide(scores: Tensor, query: Cube) -> Tensor:
    """The answer for each sample, int64 [s]: the class with the highest score.

    Ties, in float64, go to the class with the higher mean probability over the backbones, then to the lower class index; on a
    cube that has no probabilities to the lower class index alone.
    """
    scores = scores.double()
    tied = scores == scores.max(-1, keepdim=True).values
    several = tied.sum(-1) > 1
    answer = tied.int().argmax(-1)
    if bool(several.any()) and "probabilities" in query.has:
        rows = several.nonzero().squeeze(1)
        mean = query.take(rows).by_backbone().probabilities.double().mean(0)
        answer[rows] = torch.where(tied[rows], mean, -1.0).argmax(-1)
    return answer
