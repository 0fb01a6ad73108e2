"""Adam with decoupled weight decay, for networks that a hundred short fits train.

The class ``torch.optim.AdamW`` loads torch's compiler at its first use, which takes longer than all of those fits; the function
inside it does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch.optim.adamw import adamw


@dataclass(eq=False)
class AdamW:
    """Loshchilov and Hutter 2019, algorithm 2, on tensors that it changes in place; one pass over each tensor a step."""

    tensors: Sequence[torch.Tensor]
    rate: float
    decay: float
    epsilon: float = 1e-8
    _means: list[torch.Tensor] = field(default_factory=list)
    _squares: list[torch.Tensor] = field(default_factory=list)
    _steps: list[torch.Tensor] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._means = [torch.zeros_like(tensor) for tensor in self.tensors]
        self._squares = [torch.zeros_like(tensor) for tensor in self.tensors]
        self._steps = [torch.zeros(()) for _ in self.tensors]

    def step(self, gradients: Sequence[torch.Tensor]) -> None:
        """One update with the gradient of each tensor."""
        adamw(
            list(self.tensors),
            list(gradients),
            self._means,
            self._squares,
            [],
            self._steps,
            foreach=False,
            fused=True,
            amsgrad=False,
            beta1=0.9,
            beta2=0.999,
            lr=self.rate,
            weight_decay=self.decay,
            eps=self.epsilon,
            maximize=False,
        )
