"""What one image costs in an image tower."""

from __future__ import annotations

import copy
from typing import Any


def gflops(visual: Any, size: tuple[int, int]) -> float:
    """10^9 floating-point operations (a multiply-add counts two) of an image tower for one picture of [height, width].

    Counted on a copy without data, with gradients enabled: otherwise attention is one fused call that the counter misses.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    tower = copy.deepcopy(visual).float().to("meta").eval()
    for parameter in tower.parameters():
        parameter.requires_grad_(True)
    with torch.enable_grad(), FlopCounterMode(display=False) as counted:
        tower(torch.empty(1, 3, *size, device="meta"))
    return float(counted.get_total_flops()) / 1e9


def parameters(model: Any) -> int:
    """Number of parameters of a model, both towers."""
    return sum(parameter.numel() for parameter in model.parameters())
