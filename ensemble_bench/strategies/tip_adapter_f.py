"""Tip-Adapter-F: the keys of the cache are trained."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from ensemble_bench.cube import Cube
from ensemble_bench.errors import BadOption
from ensemble_bench.strategies.adamw import AdamW
from ensemble_bench.strategies.controller import generator
from ensemble_bench.strategies.evidence import examples
from ensemble_bench.strategies.tip_adapter import TipAdapter, affinity, recalled

BATCH = 256
DECAY = 0.01
EPSILON = 1e-4


def slope(x: Tensor, logits: Tensor, labels: Tensor, keys: Tensor, values: Tensor, alpha: float, beta: float) -> Tensor:
    """Gradient of the mean cross-entropy of Z + alpha exp(-beta (1 - x K^T)) V in K, [n, d].

    ``x`` [s, d] unit features, ``logits`` [s, c], ``labels`` [s], ``keys`` [n, d], ``values`` [n] the classes of the keys.
    """
    near = affinity(x, keys, beta)
    off = (logits + alpha * recalled(near, values, logits.shape[1])).softmax(-1)
    off[torch.arange(len(labels)), labels] -= 1
    return (near * off[:, values]).T @ x * (alpha * beta / len(labels))


@dataclass(eq=False)
class TipAdapterF(TipAdapter):
    """As ``tip-adapter``, its keys then trained by cross-entropy on the support, with alpha and beta as they were chosen.

    AdamW (eps 1e-4, decay 0.01), ``learning_rate`` falling to zero along a cosine, ``epochs`` in batches of 256. The last keys
    are kept: the published code keeps those of the epoch that is best on the test set.
    """

    epochs: int = 20
    learning_rate: float = 1e-3
    seed: int = 0

    def __post_init__(self) -> None:
        if self.epochs < 0 or not self.learning_rate > 0:
            raise BadOption("tip-adapter-f: epochs must be at least 0 and learning_rate above 0.")

    @torch.no_grad()
    def fit(self, support: Cube) -> Self:
        super().fit(support)
        cube = self.own(examples(support))
        labels, trained = cube.labels, []
        for b, (x, logits) in enumerate(zip(self.keys(cube), cube.logits.float(), strict=True)):
            keys = x.clone()
            optimiser = AdamW([keys], self.learning_rate, DECAY, EPSILON)
            shuffle = generator(self.seed, f"batches of {cube.backbones[b]}")
            steps = self.epochs * -(-len(x) // BATCH)
            done = 0
            for _ in range(self.epochs):
                whole = len(x) <= BATCH
                order = torch.arange(len(x)) if whole else torch.randperm(len(x), generator=shuffle)
                for rows in order.split(BATCH):
                    optimiser.rate = self.learning_rate * (1 + math.cos(math.pi * done / steps)) / 2
                    optimiser.step([slope(x[rows], logits[rows], labels[rows], keys, labels, self.alpha_[b], self.beta_[b])])
                    done += 1
            trained.append(keys)
        self.keys_ = torch.cat(trained, dim=1)
        return self
