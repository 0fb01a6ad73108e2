"""What can be told from a backbone's answer to one image, whatever the backbone and the classes are."""

from __future__ import annotations

import torch
from torch import Tensor

from ensemble_bench.cube import Cube
from ensemble_bench.metrics import posteriors
from ensemble_bench.strategies.entropy_weighted import sureness

CUES = ("confidence", "sureness", "margin", "agreement", "backing")


def cues(query: Cube) -> Tensor:
    """CUES of each backbone and sample, float64 [b, s, 5], backbones in the order of their ids, all between 0 and 1.

    Confidence is the highest probability, sureness one minus the entropy over log c, margin the highest less the second,
    agreement the share of the other backbones with the same decision, backing the mean probability that the others give to that
    decision. With one class the margin is 1; with one backbone agreement and backing are 1.
    """
    probabilities = posteriors(query)
    probabilities = probabilities / probabilities.sum(-1, keepdim=True)  # an archive's rounded rows need not sum to one
    b, _, c = probabilities.shape
    top, answer = probabilities.topk(min(2, c), dim=-1)
    confidence = top[..., 0]
    margin = confidence - top[..., 1] if c > 1 else torch.ones_like(confidence)
    answer = answer[..., 0]
    if b > 1:
        given = probabilities.gather(-1, answer.T.expand(b, -1, -1)).sum(0).T  # by all, to the answer of each
        backing = (given - confidence) / (b - 1)
        agreement = ((answer.unsqueeze(1) == answer.unsqueeze(0)).double().sum(1) - 1) / (b - 1)
    else:
        backing = agreement = torch.ones_like(confidence)
    log = probabilities.clamp_min(torch.finfo(torch.float64).tiny).log()
    return torch.stack([confidence, sureness(log), margin, agreement, backing.clamp(0, 1)], dim=-1)
