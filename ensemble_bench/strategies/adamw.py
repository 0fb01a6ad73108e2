"""Adam with decoupled weight decay, for a network that a hundred short fits train.

``torch.optim`` does the same, but its first use loads torch's compiler, which takes longer than all of those fits; a test
compares the two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

FADE = (0.9, 0.999)
EPSILON = 1e-8


@dataclass(eq=False)
class AdamW:
    """Loshchilov and Hutter 2019, algorithm 2, on tensors that it changes in place."""

    tensors: Sequence[Tensor]
    rate: float
    decay: float
    epsilon: float = EPSILON
    _steps: int = 0
    _state: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._state = [(torch.zeros_like(tensor), torch.zeros_like(tensor)) for tensor in self.tensors]

    def step(self, gradients: Sequence[Tensor]) -> None:
        """One update with the gradient of each tensor."""
        self._steps += 1
        one, two = (1 - fade**self._steps for fade in FADE)
        for tensor, gradient, (mean, square) in zip(self.tensors, gradients, self._state, strict=True):
            mean.lerp_(gradient, 1 - FADE[0])
            square.mul_(FADE[1]).addcmul_(gradient, gradient, value=1 - FADE[1])
            spread = square.sqrt().mul_(two**-0.5).add_(self.epsilon)
            tensor.mul_(1 - self.rate * self.decay).addcdiv_(mean, spread, value=-self.rate / one)
