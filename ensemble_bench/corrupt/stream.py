"""The source of randomness of one corrupted picture: our own draws, or those the reference library would make."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property
from hashlib import blake2b
from typing import Self, overload

import numpy as np
from numpy.typing import NDArray

HALF = np.uint64(11)  # shifted by so much, a raw word fills the 53 bits of a double


class _Identical:
    """``Stream.identical(seed)`` makes a stream; ``stream.identical`` says whether it is one of those."""

    @overload
    def __get__(self, stream: None, kind: type[Stream]) -> Callable[[int], Stream]: ...
    @overload
    def __get__(self, stream: Stream, kind: type[Stream]) -> bool: ...
    def __get__(self, stream: Stream | None, kind: type[Stream]) -> bool | Callable[[int], Stream]:
        return stream.is_identical if stream is not None else lambda seed: kind(seed, is_identical=True)


class Stream:
    """Draws for one picture, in one of two modes.

    - ``Stream.native(...)``: draws of our own, from the raw words of an SFC64 generator that is seeded by what the
      picture is and what is done to it: order, worker and numpy's distributions, which may change, have no part in them.
    - ``Stream.identical(seed)``: ``legacy`` is the ``RandomState`` that the reference library would draw from.

    ``uniform`` and ``integers`` serve both modes; a kernel asks ``identical`` only where its random part differs.
    """

    identical = _Identical()

    def __init__(self, key: int, is_identical: bool) -> None:
        self._key = key
        self.is_identical = is_identical

    @classmethod
    def native(cls, sample: str, corruption: str, severity: int, seed: int = 0) -> Self:
        """Our own draws for this sample id, corruption, severity and seed: the same wherever and whenever it is asked."""
        text = "\0".join((sample, corruption, str(severity), str(seed)))
        return cls(int.from_bytes(blake2b(text.encode(), digest_size=16).digest(), "little"), is_identical=False)

    @cached_property
    def legacy(self) -> np.random.RandomState:
        """The reference's stream (identical mode only)."""
        assert self.identical, "a native stream has no legacy generator"
        return np.random.RandomState(self._key)

    @cached_property
    def _bits(self) -> np.random.SFC64:
        assert not self.identical, "an identical stream draws from its legacy generator"
        return np.random.SFC64(self._key)

    def raw(self, count: int) -> NDArray[np.uint64]:
        """The next ``count`` raw words of 64 bits (native mode only)."""
        words: NDArray[np.uint64] = self._bits.random_raw(count)
        return words

    def key(self) -> np.uint64:
        """One raw word, to start a counter hash inside compiled code with (native mode only)."""
        return np.uint64(self._bits.random_raw())

    def uniform(self, low: float = 0.0, high: float = 1.0, shape: tuple[int, ...] = ()) -> NDArray[np.float64]:
        """Uniform draws in [low, high), float64 of ``shape`` (0-d for the empty shape)."""
        if self.identical:
            return np.asarray(self.legacy.uniform(low, high, shape))
        unit: NDArray[np.float64] = (self.raw(math.prod(shape)) >> HALF) * np.float64(2.0**-53)
        return (low + (high - low) * unit).reshape(shape)

    def integers(self, low: int, high: int, shape: tuple[int, ...] = ()) -> NDArray[np.int64]:
        """Whole numbers from ``low`` to ``high - 1``, int64 of ``shape``; for native draws high - low must be below 2**32."""
        if self.identical:
            return np.asarray(self.legacy.randint(low, high, shape), dtype=np.int64)
        assert 0 < high - low < 2**32, "an empty or too wide range"
        scaled = (self.raw(math.prod(shape)) >> np.uint64(32)) * np.uint64(high - low) >> np.uint64(32)
        return (scaled.astype(np.int64) + low).reshape(shape)
