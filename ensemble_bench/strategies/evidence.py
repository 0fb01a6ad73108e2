"""The labelled support as a fit wants it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ensemble_bench.cube import Cube
from ensemble_bench.errors import Lacking


@dataclass(frozen=True, eq=False)
class Evidence:
    """Support in an order that depends on names alone, so that no fit can depend on the order it was given.

    ``backbones`` and samples are in the order of their ids, classes in the order of their names: ``logits`` float64 [b, s, c]
    (log-probabilities where the support has no logits), ``labels`` int64 [s], ``cube`` the same support with its features (its
    classes in their own order).
    """

    cube: Cube
    logits: Tensor
    labels: Tensor

    @property
    def backbones(self) -> tuple[str, ...]:
        return self.cube.backbones


def examples(support: Cube) -> Cube:
    """The support with backbones and samples in the order of their ids; ``Lacking`` without a single example."""
    if not len(support):
        raise Lacking("a fit needs at least one labelled example; this support is empty.")
    return support.canonical()


def evidence(support: Cube) -> Evidence:
    """What a fit may learn from; ``Lacking`` without labels or without a single example."""
    cube = examples(support)
    order = sorted(range(len(cube.classes)), key=cube.classes.__getitem__)
    rank = torch.empty(len(order), dtype=torch.long)
    rank[order] = torch.arange(len(order))
    logits = cube.logits if "logits" in cube.has else cube.log_probabilities
    return Evidence(cube, logits[..., order].double(), rank[cube.labels])
