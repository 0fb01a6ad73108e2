"""Where a number comes from: code, versions, machine."""

from __future__ import annotations

import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_PACKAGES = (
    "ensemble-bench",
    "torch",
    "torchvision",
    "open_clip_torch",
    "timm",
    "numpy",
    "scipy",
    "scikit-image",
    "scikit-learn",
    "pillow",
    "opencv-python",
    "opencv-python-headless",
    "numba",
    "imagecorruptions",
)


def _git(*words: str) -> str | None:
    here = Path(__file__).resolve().parent
    try:
        done = subprocess.run(["git", "-C", str(here), *words], capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


@cache
def code() -> dict[str, Any]:
    """``commit`` and ``dirty`` of the checkout that runs; both None where it is no checkout of this project."""
    top = _git("rev-parse", "--show-toplevel")
    if top is None or Path(top) != Path(__file__).resolve().parents[1]:
        return {"commit": None, "dirty": None}
    status = _git("status", "--porcelain", "--untracked-files=no", "--", "ensemble_bench", "tasks", "corruptions")
    return {"commit": _git("rev-parse", "HEAD"), "dirty": None if status is None else bool(status)}


@cache
def versions() -> dict[str, str | None]:
    """Version of Python and of every package and library that a number may depend on."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    found["libjpeg-turbo"] = _jpeg_library()
    return found


def _jpeg_library() -> str | None:
    """Version of the library that Pillow makes and reads JPEG files with."""
    from PIL import features

    known: str | None = features.version("libjpeg_turbo")
    return known


def machine() -> dict[str, str]:
    """Kind of machine."""
    return {"system": platform.system(), "processor": platform.machine()}
