"""How badly fixed weightings of the backbones do on labelled samples."""

from __future__ import annotations

import torch
from torch import Tensor

CELLS = 1 << 22
SMALLEST = float(torch.finfo(torch.float64).tiny)


def unfitness(weights: Tensor, parts: Tensor, labels: Tensor, *, mixture: bool = False) -> Tensor:
    """Wrong answers of each weighting plus NLL / (1 + NLL), float64 [n]: fewer errors first, then the lower mean NLL.

    ``weights`` [n, b], ``parts`` [b, s, c] are logits, or with ``mixture`` probabilities whose weighted sum is a distribution
    up to a factor; ``labels`` [s]. A tie for the best score counts as wrong.
    """
    size = max(1, CELLS // max(1, parts[0].numel()))
    found = []
    for some in weights.split(size):
        scores = torch.einsum("nb,bsc->nsc", some, parts)
        index = labels.expand(len(some), -1).unsqueeze(-1)
        own = scores.gather(-1, index)
        wrong = (scores >= own).sum(-1) > 1
        if mixture:
            total, own = (part.clamp_min(SMALLEST).log() for part in (scores.sum(-1), own))
        else:
            total = scores.logsumexp(-1)
        nll = (total - own.squeeze(-1)).mean(-1).clamp_min(0)
        found.append(wrong.sum(-1) + nll / (1 + nll))
    return torch.cat(found)
