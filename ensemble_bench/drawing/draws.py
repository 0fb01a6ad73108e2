"""Random numbers from a counter and a hash, one independent stream per picture."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


def _mixed(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64's output function (Steele, Lea and Flood, OOPSLA 2014)."""
    state = (state ^ (state >> np.uint64(30))) * _MIX_1
    state = (state ^ (state >> np.uint64(27))) * _MIX_2
    return state ^ (state >> np.uint64(31))


class Draws:
    """Streams of random numbers, one per picture: picture ``index[i]`` of ``domain`` always gets the same ones.

    No stream depends on which other pictures are drawn in the same batch, and nothing here uses numpy's ``Generator``
    (whose distributions may change between versions).
    """

    def __init__(self, domain: str, index: NDArray[np.int64]) -> None:
        digest = hashlib.blake2b(domain.encode(), digest_size=8).digest()
        start = np.uint64(int.from_bytes(digest, "little"))
        self._key = _mixed(start + index.astype(np.uint64) * _GOLDEN)
        self._used = 0

    def __len__(self) -> int:
        return len(self._key)

    def _bits(self, size: tuple[int, ...]) -> NDArray[np.uint64]:
        count = int(np.prod(size, dtype=np.int64))
        step = np.arange(self._used + 1, self._used + count + 1, dtype=np.uint64) * _GOLDEN
        self._used += count
        return _mixed(self._key[:, None] + step[None, :]).reshape(len(self), *size)

    def uniform(self, low: float = 0.0, high: float = 1.0, size: tuple[int, ...] = ()) -> NDArray[np.float32]:
        """Uniform in [low, high), float32 [n, *size]."""
        unit = (self._bits(size) >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24)
        return np.float32(low) + np.float32(high - low) * unit

    def integers(self, high: int, size: tuple[int, ...] = ()) -> NDArray[np.int64]:
        """Integers in [0, high), int64 [n, *size] (bias below high / 2**53)."""
        return ((self._bits(size) >> np.uint64(11)) % np.uint64(high)).astype(np.int64)

    def flips(self, chance: float) -> NDArray[np.bool_]:
        """True with probability ``chance``, bool [n]."""
        return self.uniform() < np.float32(chance)

    def permutation(self, length: int) -> NDArray[np.int64]:
        """A random order of 0 .. length-1 for each picture, int64 [n, length]."""
        return np.argsort(self._bits((length,)), axis=1, kind="stable")
