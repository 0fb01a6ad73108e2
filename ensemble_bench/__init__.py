"""How much do CLIP backbones complement each other, and which way of combining them deserves it?"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ensemble_bench.cube import Cube as Cube
    from ensemble_bench.face import evaluate as evaluate
    from ensemble_bench.face import load_cube as load_cube
    from ensemble_bench.face import run as run
    from ensemble_bench.strategies.base import Strategy as Strategy

__version__ = "0.1.0"

# What ``import ensemble_bench as eb`` offers, loaded when it is touched: importing the package costs nothing.
_FACE = {
    "run": "ensemble_bench.face",
    "load_cube": "ensemble_bench.face",
    "evaluate": "ensemble_bench.face",
    "Cube": "ensemble_bench.cube",
    "Strategy": "ensemble_bench.strategies.base",
}
__all__ = ["Cube", "Strategy", "evaluate", "load_cube", "run"]


def __getattr__(name: str) -> Any:
    if name in _FACE:
        return getattr(importlib.import_module(_FACE[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
