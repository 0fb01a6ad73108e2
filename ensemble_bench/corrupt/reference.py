"""The reference: imagecorruptions 1.1.2 itself, made to run on current libraries, seeded, and without a mark outside.

The library's one module of corruptions is read into a module of our own that nobody else sees, and its ``import`` statements
are answered here: neither ``sys.modules`` nor numpy nor scikit-image is touched, and whoever imports imagecorruptions himself
finds it as it was. What it asks for and current libraries lack:

==================================  ==================================================================================
``pkg_resources``                   gone from setuptools 82: ``resource_filename`` is a path beside the library's file
``scipy.ndimage.interpolation``     deprecated: ``map_coordinates`` of ``scipy.ndimage``
``skimage.filters.gaussian``        its ``multichannel`` became ``channel_axis``
``np.float_``                       gone from numpy 2
``np.random``                       this thread's ``RandomState``, so that every call is seeded and threads do not meet
``sk.util.random_noise``            draws from a generator of its own now: the salt and pepper of scikit-image 0.15 to 0.18
``print``                           silent: zoom_blur and snow report a caught error on standard output
==================================  ==================================================================================
"""

from __future__ import annotations

import builtins
import importlib
import importlib.util
import threading
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensemble_bench.errors import BadData, BadOption, Missing

VERSION = "1.1.2"
SMALLEST = 32  # pixels a side

_thread = threading.local()


def _file(name: str) -> Path:
    """Where a file of imagecorruptions lies, without importing it."""
    try:
        found = distribution("imagecorruptions")
    except PackageNotFoundError:
        raise Missing(f"imagecorruptions is not installed: pip install imagecorruptions=={VERSION}.") from None
    if found.version != VERSION:
        raise Missing(f"the reference is imagecorruptions {VERSION}, not {found.version}: install that version.")
    return Path(str(found.locate_file(f"imagecorruptions/{name}")))


class _Instead:
    """A module with some of its names replaced."""

    def __init__(self, module: ModuleType, **names: Any) -> None:
        self._module = module
        self.__dict__.update(names)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


class _Numpy(_Instead):
    """numpy with ``float_``, and with this thread's legacy generator for ``random``."""

    @property
    def random(self) -> np.random.RandomState:
        state: np.random.RandomState = _thread.state
        return state


def _gaussian(image: NDArray[Any], sigma: Any = 1, multichannel: bool = False, **more: Any) -> NDArray[Any]:
    from skimage.filters import gaussian

    blurred: NDArray[Any] = gaussian(image, sigma=sigma, channel_axis=-1 if multichannel else None, **more)
    return blurred


def _random_noise(image: NDArray[np.float64], mode: str, amount: float) -> NDArray[np.float64]:
    """Salt and pepper in equal parts, drawn as scikit-image 0.15 to 0.18 did."""
    assert mode == "s&p", mode
    state: np.random.RandomState = _thread.state
    flipped = state.choice([True, False], size=image.shape, p=[amount, 1 - amount])
    salted = state.choice([True, False], size=image.shape, p=[0.5, 0.5])
    out = image.copy()
    out[flipped & salted] = 1
    out[flipped & ~salted] = 0
    return out


@cache
def _library() -> ModuleType:
    """The library's corruptions, in a module that is in no table of modules."""
    import scipy.ndimage
    import skimage

    path = _file("corruptions.py")
    instead = {
        "numpy": _Numpy(np, float_=np.float64),
        "skimage": _Instead(skimage, util=_Instead(importlib.import_module("skimage.util"), random_noise=_random_noise)),
        "skimage.filters": SimpleNamespace(gaussian=_gaussian),
        "scipy.ndimage.interpolation": SimpleNamespace(map_coordinates=scipy.ndimage.map_coordinates),
        "pkg_resources": SimpleNamespace(resource_filename=lambda _, name: str(path.parent / name)),
    }

    def answered(name: str, *how: Any) -> Any:
        return instead[name] if name in instead else builtins.__import__(name, *how)

    spec = importlib.util.spec_from_file_location("imagecorruptions.corruptions", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    silent = {"__import__": answered, "print": lambda *_: None}
    module.__dict__["__builtins__"] = {**builtins.__dict__, **silent}
    spec.loader.exec_module(module)
    return module


def corrupted(picture: NDArray[np.uint8], name: str, severity: int, seed: int) -> NDArray[np.uint8]:
    """What imagecorruptions makes of ``picture`` (uint8 [h, w, 3]) after ``np.random.seed(seed)``: uint8 [h, w, 3].

    Threads do not disturb one another. Pictures below 32 pixels a side and severities outside 1 to 5 are refused, as there.
    """
    from PIL import Image

    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        raise BadData(f"imagecorruptions takes uint8 [h, w, 3], not {picture.dtype} {list(picture.shape)}: convert to RGB.")
    height, width = picture.shape[:2]
    if min(height, width) < SMALLEST:
        raise BadData(
            f"imagecorruptions takes pictures of at least {SMALLEST} pixels a side, not {height} x {width}: "
            'enlarge them, or use engine = "native".'
        )
    if severity not in (1, 2, 3, 4, 5):
        raise BadOption(f"a severity is a whole number from 1 to 5, not {severity!r}.")
    library = _library()
    _thread.state = np.random.RandomState(seed)
    return np.array(getattr(library, name)(Image.fromarray(picture), severity), dtype=np.uint8)
