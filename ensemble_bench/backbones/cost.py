"""What one image costs in an image tower."""

from __future__ import annotations

import copy
from collections.abc import Mapping
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


def prompt_gflops(text: Mapping[str, Any]) -> float | None:
    """10^9 operations of one prompt in open_clip's own text tower (``text_cfg``), padding included; None for another's.

    A layer of width w costs 24 w^2 a token (attention's four matrices and the two of four times the width) and 4 w for each
    token it looks at. That of ViT-B-32:

    >>> round(prompt_gflops({"width": 512, "layers": 12}), 2)
    5.96
    """
    if "hf_model_name" in text or not {"width", "layers"} <= set(text):
        return None
    width, layers, length = (int(text.get(key, 77)) for key in ("width", "layers", "context_length"))
    return 1e-9 * layers * length * (24 * width**2 + 4 * width * length)


def parameters(model: Any) -> int:
    """Number of parameters of a model, both towers."""
    return sum(parameter.numel() for parameter in model.parameters())
