"""The Neural Logit Controller: a small network that gives each backbone a temperature per image."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from ensemble_bench.cube import Cube
from ensemble_bench.errors import BadOption
from ensemble_bench.strategies.adamw import AdamW
from ensemble_bench.strategies.base import Strategy
from ensemble_bench.strategies.evidence import evidence

FORMS = ("temperature", "weight")
LOW, HIGH = 1e-2, 1e2
BATCH = 4096


def generator(seed: int, what: str) -> torch.Generator:
    """A generator that depends on the seed and on a name, and on nothing else."""
    digest = hashlib.sha256(f"{seed}:{what}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def inputs(cube: Cube) -> Tensor:
    """Features of all backbones side by side, each at unit length, float32 [s, sum of d_b]."""
    return torch.cat([torch.nn.functional.normalize(part.float(), dim=1) for part in cube.features], dim=1)


def start(b: int, form: str) -> float:
    """The t at which every weight is 1 / b, so that an untrained controller is ``log-avg``."""
    return 1 / b if form == "weight" else math.log(math.expm1(b))


def weights_of(t: Tensor, form: str) -> Tensor:
    """The factor a of each backbone's logits: t itself, or 1 / softplus(t) kept between 0.01 and 100."""
    return t if form == "weight" else torch.nn.functional.softplus(t).reciprocal().clamp(LOW, HIGH)


def slope_of(t: Tensor, a: Tensor, form: str) -> Tensor:
    """Derivative of ``weights_of`` at t, where it gave a; zero beyond the bounds."""
    if form == "weight":
        return torch.ones_like(t)
    return -t.sigmoid() * a.square() * ((a > LOW) & (a < HIGH))


@dataclass(eq=False)
class Layers:
    """Linear, ReLU, Linear from concatenated features [s, d] to t [s, b], with the gradient written out: a fit takes 300 steps
    on a handful of samples, where autograd's bookkeeping would cost more than the sums."""

    into: Tensor
    bias: Tensor
    out: Tensor
    last: Tensor

    def tensors(self) -> tuple[Tensor, ...]:
        """Weights and biases, first layer first."""
        return self.into, self.bias, self.out, self.last

    def beside(self) -> tuple[Tensor, Layers]:
        """One vector of all weights, and the same layers as views into it: an optimiser then has one tensor to walk."""
        vector = torch.cat([part.flatten() for part in self.tensors()])
        parts = vector.split([part.numel() for part in self.tensors()])
        return vector, Layers(*(own.view_as(part) for own, part in zip(parts, self.tensors(), strict=True)))

    def hidden(self, x: Tensor) -> Tensor:
        """Output of the first layer, [s, width]."""
        return torch.addmm(self.bias, x, self.into.T).relu_()

    def __call__(self, x: Tensor) -> Tensor:
        return torch.addmm(self.last, self.hidden(x), self.out.T)

    def gradients(self, x: Tensor, logits: Tensor, labels: Tensor, t0: float, form: str) -> tuple[Tensor, ...]:
        """Of the mean cross-entropy of sum_b a_b Z_b, in the order of ``tensors``; ``logits`` [s, b, c], ``labels`` [s]."""
        hidden = self.hidden(x)
        t = torch.addmm(self.last + t0, hidden, self.out.T)
        a = weights_of(t, form)
        off = torch.bmm(a.unsqueeze(1), logits).squeeze(1).softmax(-1)
        off[torch.arange(len(labels)), labels] -= 1
        wanted = torch.bmm(logits, off.unsqueeze(2)).squeeze(2) * slope_of(t, a, form) / len(labels)
        back = (wanted @ self.out) * (hidden > 0)
        return back.T @ x, back.sum(0), wanted.T @ hidden, wanted.sum(0)


@dataclass(eq=False)
class NeuralLogitController(Strategy):
    """Sum over backbones of a_b(x) Z_b: a network of the concatenated features gives a temperature per backbone and image.

    ``form=temperature`` (default): a = 1 / softplus(t), a temperature that divides logits, as the word says. It stays positive,
    so no backbone can be voted against on the strength of two labelled images, a unanimous decision is kept, and near the start
    a answers to t with slope -1 / b^2 only. ``form=weight``: a = t, without constraint; ``weights`` shows how often it is
    negative. Either way the last layer starts at zero and a at 1 / b: epoch 0 is ``log-avg``, and decay pulls back to it.

    Linear(sum d_b, ``width``), ReLU, Linear(``width``, b), cross-entropy on the support, AdamW, full batch up to 4,096 samples
    for ``epochs``. Rodriguez-Opazo et al., ICLR 2025; start, decay's kind, epochs and batch are our choices.
    """

    form: str = "temperature"
    epochs: int = 300
    width: int = 128
    learning_rate: float = 2e-4
    weight_decay: float = 0.01
    seed: int = 0
    family: ClassVar[str] = "adaptive"
    labels: ClassVar[str] = "support"
    needs: ClassVar[tuple[str, ...]] = ("logits", "features")
    gives: ClassVar[str] = "logits"
    convex_reason: ClassVar[str] = "with form=weight a weight may become negative, and then votes against its backbone"

    def __post_init__(self) -> None:
        if self.form not in FORMS:
            raise BadOption(f"nlc: form is temperature or weight, not {self.form!r}.")
        if self.epochs < 0 or self.width < 1:
            raise BadOption("nlc: epochs must be at least 0 and width at least 1.")

    def keeps_unanimous(self) -> bool:
        return self.form == "temperature"

    def _layers(self, cube: Cube) -> Layers:
        """First weights and bias as torch's Linear draws them, seeded per backbone id; the last layer at zero."""
        b, bound = len(cube.backbones), sum(part.shape[1] for part in cube.features) ** -0.5

        def uniform(shape: tuple[int, ...], what: str) -> Tensor:
            return torch.empty(shape).uniform_(-bound, bound, generator=generator(self.seed, what))

        blocks = [
            uniform((self.width, part.shape[1]), f"backbone {name}")
            for name, part in zip(cube.backbones, cube.features, strict=True)
        ]
        return Layers(torch.cat(blocks, dim=1), uniform((self.width,), "bias"), torch.zeros(b, self.width), torch.zeros(b))

    @torch.no_grad()
    def fit(self, support: Cube) -> Self:
        seen = evidence(support)
        x, logits, labels = inputs(seen.cube), seen.logits.float().transpose(0, 1).contiguous(), seen.labels
        vector, layers = self._layers(seen.cube).beside()
        t0 = start(len(seen.backbones), self.form)
        shuffle = generator(self.seed, "batches")
        optimiser = AdamW([vector], self.learning_rate, self.weight_decay)
        for _ in range(self.epochs):
            whole = len(x) <= BATCH
            for rows in [slice(None)] if whole else torch.randperm(len(x), generator=shuffle).split(BATCH):
                slopes = layers.gradients(x[rows], logits[rows], labels[rows], t0, self.form)
                optimiser.step([torch.cat([slope.flatten() for slope in slopes])])
        self.backbones_ = seen.backbones
        self.into_, self.bias_, self.out_, self.last_ = (part.clone() for part in layers.tensors())
        return self

    def weights(self, query: Cube) -> Tensor:
        """The factor of each backbone's logits, float32 [b, s], in the order of ``backbones_``."""
        self.fitted()
        t = Layers(self.into_, self.bias_, self.out_, self.last_)(inputs(query.only(self.backbones_)))
        return weights_of(start(len(self.backbones_), self.form) + t, self.form).T

    def predict(self, query: Cube) -> Tensor:
        weights = self.weights(query)
        return torch.einsum("bs,bsc->sc", weights, query.only(self.backbones_).logits)
