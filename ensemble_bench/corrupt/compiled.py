"""What compiled kernels share: how they are compiled, and random words from a key and a count."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """The function as machine code: compiled when first called, kept on disk for later processes, free of the lock.

    A division by zero gives an infinity, as in numpy and in C: looking for it would keep loops from being vectorised.
    """
    return cast(Function, numba.njit(cache=True, nogil=True, error_model="numpy")(function))


@compiled
def mixed(key: np.uint64, count: int) -> np.uint64:
    """Random word number ``count`` of the sequence ``key``: the finaliser of splitmix64 (Steele, Lea, Flood 2014)."""
    word = key + np.uint64(count) * np.uint64(0x9E3779B97F4A7C15)
    word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return word ^ (word >> np.uint64(31))
