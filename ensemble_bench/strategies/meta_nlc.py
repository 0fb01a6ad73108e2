"""A controller that has learnt on other tasks when to trust a backbone, before it sees the task at hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor

from ensemble_bench.cube import Cube
from ensemble_bench.errors import BadOption
from ensemble_bench.metrics import log_posteriors
from ensemble_bench.strategies.base import Strategy
from ensemble_bench.strategies.controller import generator
from ensemble_bench.strategies.lessons import INPUTS, Lesson, lesson, scale_of, shapes, signs, together

SAMPLES = 64  # of each other task: a few say what there is to say, and every draw learns anew


def trust(theta: Tensor, offset: Tensor, x: Tensor) -> Tensor:
    """Weight of each backbone, [b, s], summing to one: softmax of Linear, tanh, Linear of ``x`` plus ``offset`` [b].

    The network ``theta`` is the same for all backbones.
    """
    width = len(theta) // (INPUTS + 2)
    into, bias, out = theta.split([width * INPUTS, width, width])
    t: Tensor = torch.tanh(x @ into.view(INPUTS, width) + bias) @ out
    return (t + offset.unsqueeze(1)).softmax(0)


def loss(theta: Tensor, offset: Tensor, one: Lesson) -> Tensor:
    """Weighted NLL of softmax(sum_b w_b L_b) over a lesson's samples."""
    mixed = torch.einsum("bs,bsc->sc", trust(theta, offset, one.x), one.log)
    return ((mixed.logsumexp(-1) - mixed[:, 0]) * one.weight).sum()


@dataclass(eq=False)
class MetaController(Strategy):
    """Weighted log-average whose weights, one per backbone and image, come from a small network learnt on other tasks first.

    One network for all backbones looks at what depends on neither pool nor classes: five cues of the answer (see ``cues``) and
    the length and evenness of the feature, against those of the support. Its outputs, plus one number per backbone, go through
    a softmax over backbones. ``prepare`` finds the network and the numbers that serve all other tasks alike, each task counting
    the same (a multi-task prior); ``fit`` moves both on the support. Both minimise the NLL summed over samples plus half the
    squared distance moved, times ``stiffness`` for the network and ``pull`` for the numbers; ``prepare`` starts at a last layer
    of zeros and numbers of zero, which is ``log-avg``, ``fit`` where ``prepare`` ended, or there if it was not called.

    9 x ``width`` + b numbers in all, by L-BFGS with at most ``steps`` iterations.
    """

    width: int = 8
    stiffness: float = 30.0
    pull: float = 4.0
    steps: int = 60
    seed: int = 0
    family: ClassVar[str] = "adaptive"
    labels: ClassVar[str] = "support"
    needs: ClassVar[tuple[str, ...]] = ("probabilities", "features")
    gives: ClassVar[str] = "logits"

    def __post_init__(self) -> None:
        if self.width < 1 or self.steps < 0:
            raise BadOption("meta-nlc: width must be at least 1 and steps at least 0.")
        if not (self.stiffness > 0 and self.pull > 0):
            raise BadOption("meta-nlc: stiffness and pull must be above 0.")

    def _untaught(self) -> Tensor:
        """The network before any task: a last layer of zeros."""
        into = torch.randn(INPUTS * self.width, generator=generator(self.seed, "first layer"), dtype=torch.float64)
        return torch.cat([into / INPUTS**0.5, torch.zeros(2 * self.width, dtype=torch.float64)])

    def _moved(self, theta: Tensor, offsets: Mapping[str, float], lessons: Sequence[Lesson]) -> tuple[Tensor, Tensor]:
        """Network and numbers by backbone, in the order of ``offsets``, where the objective is least."""
        names, offset = list(offsets), torch.tensor(list(offsets.values()), dtype=torch.float64)
        places = [torch.tensor([names.index(name) for name in one.backbones]) for one in lessons]
        hold = torch.cat([torch.full_like(theta, self.stiffness), torch.full_like(offset, self.pull)])
        hold = hold / sum(len(one.weight) for one in lessons)

        def value_and_slope(moves: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
            with torch.enable_grad():
                free = torch.from_numpy(moves.copy()).requires_grad_()
                network, numbers = theta + free[: len(theta)], offset + free[len(theta) :]
                value = (hold * free.square()).sum() / 2
                for place, one in zip(places, lessons, strict=True):
                    value = value + loss(network, numbers[place], one)
                (slope,) = torch.autograd.grad(value, free)
            return float(value.detach()), slope.numpy()

        nothing = np.zeros(len(hold))
        if not self.steps:  # scipy would take one all the same
            return theta, offset
        found = minimize(value_and_slope, nothing, jac=True, method="L-BFGS-B", options={"maxiter": self.steps})
        moved = torch.from_numpy(found.x)
        return theta + moved[: len(theta)], offset + moved[len(theta) :]

    def prepare(self, others: Mapping[str, Cube]) -> None:
        if not others:
            return
        lessons = []
        for name in sorted(others):
            order = torch.randperm(len(others[name]), generator=generator(self.seed, f"task {name}"))
            lessons.append(lesson(others[name].canonical().take(order[:SAMPLES]), 1 / len(others)))
        known = sorted({name for one in lessons for name in one.backbones})
        self.prior_, self.prior_offset_ = self._moved(self._untaught(), dict.fromkeys(known, 0.0), together(lessons))
        self.prior_backbones_ = tuple(known)

    def fit(self, support: Cube) -> Self:
        taught = "prior_" in vars(self)
        known = dict(zip(self.prior_backbones_, self.prior_offset_.tolist(), strict=True)) if taught else {}
        self.backbones_ = tuple(sorted(support.backbones))
        offsets = {name: known.get(name, 0.0) for name in self.backbones_}
        self.theta_, self.offset_ = self._moved(self.prior_ if taught else self._untaught(), offsets, [lesson(support)])
        self.centre_, self.scale_ = scale_of(shapes(support.canonical()))
        return self

    def weights(self, query: Cube) -> Tensor:
        """Weight of each backbone, float64 [b, s], in the order of ``backbones_``, summing to one."""
        self.fitted()
        return trust(self.theta_, self.offset_, signs(query.only(self.backbones_), self.centre_, self.scale_))

    def predict(self, query: Cube) -> Tensor:
        return torch.einsum("bs,bsc->sc", self.weights(query), log_posteriors(query.only(self.backbones_)))
