"""How an image tower is run: what changes its speed and not, beyond rounding, its features."""

from __future__ import annotations

from dataclasses import dataclass

import torch

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
WAYS = ("plain", "lean", "onednn")


@dataclass(frozen=True)
class Setting:
    """``way``: plain (as open_clip built it), lean (shortcuts), onednn (shortcuts, and oneDNN for what it can do).

    ``layout`` is of the weights and pictures; ``arithmetic`` the type that is computed in, which is wider than that of the
    weights where the processor has no instructions for theirs; ``batch`` the images at a time, 0 for all that come.
    """

    way: str = "plain"
    layout: str = "contiguous"
    arithmetic: str = "fp32"
    compiled: bool = False
    batch: int = 0

    def __post_init__(self) -> None:
        if self.way not in WAYS or self.layout not in ("contiguous", "channels_last") or self.arithmetic not in DTYPES:
            raise TypeError(f"no setting of ours: {self}")

    @property
    def format(self) -> torch.memory_format:
        """The layout as torch calls it."""
        return torch.channels_last if self.layout == "channels_last" else torch.contiguous_format
