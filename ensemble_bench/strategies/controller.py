"""The small network that looks at the features of all backbones and weighs them image by image, and how it is trained."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from ensemble_bench.cube import Cube
from ensemble_bench.strategies.adamw import AdamW

BATCH = 4096
Rows = slice | Tensor
Slope = Callable[[Rows, Tensor], Tensor]
"""Of the samples ``rows`` and the outputs t [r, b] for them, the derivative of their mean loss by t, [r, b]."""


def generator(seed: int, what: str) -> torch.Generator:
    """A generator that depends on the seed and on a name, and on nothing else."""
    digest = hashlib.sha256(f"{seed}:{what}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def inputs(cube: Cube, *, unit: bool = True) -> Tensor:
    """Features of all backbones side by side, each at unit length unless told otherwise, float32 [s, sum of d_b]."""
    parts = [part.float() for part in cube.features]
    return torch.cat([torch.nn.functional.normalize(part, dim=1) for part in parts] if unit else parts, dim=1)


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

    def gradients(self, x: Tensor, slope: Callable[[Tensor], Tensor], found: Layers) -> None:
        """Puts those of a loss whose derivative by t is ``slope(t)`` into ``found``."""
        hidden = self.hidden(x)
        wanted = slope(torch.addmm(self.last, hidden, self.out.T))
        back = torch.mm(wanted, self.out).mul_(hidden > 0)
        torch.mm(back.T, x, out=found.into)
        torch.sum(back, 0, out=found.bias)
        torch.mm(wanted.T, hidden, out=found.out)
        torch.sum(wanted, 0, out=found.last)


def uniform(shape: tuple[int, ...], bound: float, seed: int, what: str) -> Tensor:
    """Numbers between -bound and bound that depend on seed and name alone."""
    return torch.empty(shape).uniform_(-bound, bound, generator=generator(seed, what))


def drawn(cube: Cube, width: int, seed: int) -> Layers:
    """First weights and bias as torch's Linear draws them, seeded per backbone id; the last layer at zero."""
    b, bound = len(cube.backbones), sum(part.shape[1] for part in cube.features) ** -0.5
    blocks = [
        uniform((width, part.shape[1]), bound, seed, f"backbone {name}")
        for name, part in zip(cube.backbones, cube.features, strict=True)
    ]
    return Layers(torch.cat(blocks, dim=1), uniform((width,), bound, seed, "bias"), torch.zeros(b, width), torch.zeros(b))


def batches(samples: int, size: int, shuffle: torch.Generator) -> Iterator[Rows]:
    """One pass over the samples: all at once where they fit, else in a drawn order."""
    yield from [slice(None)] if samples <= size else torch.randperm(samples, generator=shuffle).split(size)


def trained(layers: Layers, x: Tensor, slope: Slope, *, epochs: int, rate: float, decay: float, seed: int) -> Layers:
    """New layers after ``epochs`` of AdamW from the given ones; full batch up to BATCH samples."""
    (vector, layers), (along, slopes) = layers.beside(), layers.beside()
    shuffle = generator(seed, "batches")
    optimiser = AdamW([vector], rate, decay)
    for _ in range(epochs):
        for rows in batches(len(x), BATCH, shuffle):
            layers.gradients(x[rows], partial(slope, rows), slopes)
            optimiser.step([along])
    return Layers(*(part.clone() for part in layers.tensors()))
