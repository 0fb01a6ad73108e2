"""The Neural Logit Controller over Tip-Adapters instead of zero-shot heads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from torch import Tensor

from ensemble_bench.cube import Cube
from ensemble_bench.strategies.evidence import examples
from ensemble_bench.strategies.nlc import NeuralLogitController
from ensemble_bench.strategies.tip_adapter import TipAdapter, without_itself


def answered(cube: Cube, logits: Tensor) -> Cube:
    """The same cube with other logits [b, s, c]."""
    return Cube(
        backbones=cube.backbones,
        classes=cube.classes,
        ids=cube.ids,
        logits=logits,
        features=cube.features,
        labels=cube.labels if cube.labelled else None,
        gflops=cube.gflops,
    )


@dataclass(eq=False)
class TipAdapterNLC(TipAdapter, NeuralLogitController):
    """As ``nlc``, with the logits of each backbone's Tip-Adapter in place of its zero-shot logits.

    A support image is its own key, which flatters the cache: the controller is therefore fitted on leave-one-out caches. Where
    a class has a single example these lack the class, and the zero-shot logits stand in for them.
    """

    def keeps_unanimous(self) -> bool:
        return False

    def fit(self, support: Cube) -> Self:
        TipAdapter.fit(self, support)
        cube = self.own(examples(support))
        logits = cube.logits.float().clone()
        if int(cube.labels.unique(return_counts=True)[1].min()) > 1:
            for b, keys in enumerate(self.keys(cube)):
                cached = without_itself(keys, cube.labels, len(cube.classes), self.beta_[b])
                logits[b] += self.alpha_[b] * cached
        return NeuralLogitController.fit(self, answered(cube, logits))

    def predict(self, query: Cube) -> Tensor:
        self.fitted()
        logits = self.adapted(query)
        return NeuralLogitController.predict(self, answered(query.only(self.backbones_), logits))
