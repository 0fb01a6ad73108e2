"""The reference's distributions from the reference's stream, faster: numpy's ``RandomState`` replayed in compiled code.

``RandomState`` makes one value at a time behind a lock. Its algorithms are frozen (NEP 19), so they are repeated here: the
Mersenne Twister (Matsumoto and Nishimura 1998), the polar method, and the two Poisson methods with what depends on the mean
alone computed once per grey level.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from ensemble_bench.corrupt.compiled import compiled

Doubles = NDArray[np.float64]
Words = NDArray[np.uint32]
WORDS = 624


@compiled
def _twist(high: Words, low: Words, far: Words, out: Words) -> None:
    for i in range(out.size):
        word = (high[i] & np.uint32(0x80000000)) | (low[i] & np.uint32(0x7FFFFFFF))
        odd = np.uint32(0) - (low[i] & np.uint32(1))
        out[i] = far[i] ^ (word >> np.uint32(1)) ^ (odd & np.uint32(0x9908B0DF))


@compiled
def _tempered(words: Words, out: Words) -> None:
    for i in range(out.size):
        word = words[i]
        word ^= word >> np.uint32(11)
        word ^= (word << np.uint32(7)) & np.uint32(0x9D2C5680)
        word ^= (word << np.uint32(15)) & np.uint32(0xEFC60000)
        out[i] = word ^ (word >> np.uint32(18))


@compiled
def _doubles(state: Words, at: int, out: Doubles) -> int:
    """Into ``out`` the next uniform draws; ``state`` [624] goes along, and its new place is returned. ``at`` is even."""
    new = np.empty_like(state)
    ready = np.empty_like(state)
    _tempered(state, ready)
    done = 0
    while done < out.size:
        if at == WORDS:
            _twist(state[:227], state[1:228], state[397:], new[:227])
            _twist(state[227:454], state[228:455], new[:227], new[227:454])
            _twist(state[454:623], state[455:], new[227:396], new[454:623])
            _twist(state[623:], new[:1], new[396:397], new[623:])
            state[:] = new
            _tempered(state, ready)
            at = 0
        size = min((WORDS - at) // 2, out.size - done)
        part, words = out[done : done + size], ready[at : at + 2 * size]
        for i in range(size):
            part[i] = (
                np.float64(words[2 * i] >> np.uint32(5)) * 67108864.0 + np.float64(words[2 * i + 1] >> np.uint32(6))
            ) * 2.0**-53
        done += size
        at += 2 * size
    return at


@compiled
def _polar(units: Doubles, out: Doubles, done: int) -> tuple[int, int]:
    """Into ``out``, from place ``done``, normal draws as far as ``units`` go; how many there are now, how many units went."""
    at = 0
    while done < out.size and at + 2 <= units.size:
        x, y = 2.0 * units[at] - 1.0, 2.0 * units[at + 1] - 1.0
        at += 2
        square = x * x + y * y
        if square < 1.0 and square != 0.0:
            factor = math.sqrt(-2.0 * math.log(square) / square)
            out[done] = factor * y
            if done + 1 < out.size:
                out[done + 1] = factor * x
            done += 2
    return min(done, out.size), at


@compiled
def _counts(
    greys: NDArray[np.uint8], means: Doubles, facts: Doubles, gammas: Doubles, units: Doubles, out: NDArray[np.uint8], done: int
) -> tuple[int, int]:
    """Into ``out``, from place ``done``, Poisson draws as far as ``units`` go; how many there are now, how many units went."""
    used = 0
    while done < out.size:
        grey = greys[done]
        mean = means[grey]
        at = used
        count = 0
        if mean >= 10.0:  # transformed rejection (Hörmann 1993)
            a, b, quick, scale, log_mean = facts[grey, 0], facts[grey, 1], facts[grey, 2], facts[grey, 3], facts[grey, 4]
            while True:
                if at + 2 > units.size:
                    return done, used
                u, v = units[at] - 0.5, units[at + 1]
                at += 2
                middle = 0.5 - abs(u)
                count = math.floor((2 * a / middle + b) * u + mean + 0.43)
                if middle >= 0.07 and v <= quick:
                    break
                if count < 0 or (middle < 0.013 and v > middle):
                    continue
                left = math.log(v) + scale - math.log(a / (middle * middle) + b)
                if left <= -mean + count * log_mean - gammas[count + 1]:
                    break
        elif mean > 0.0:  # multiplication
            product = 1.0
            limit = facts[grey, 5]
            while True:
                if at == units.size:
                    return done, used
                product *= units[at]
                at += 1
                if product <= limit:
                    break
                count += 1
        out[done] = np.uint8(min(count, 255))
        done += 1
        used = at
    return done, used


class Replay:
    """The draws that a ``RandomState`` would make next, in the order asked for; it stays itself where it is."""

    def __init__(self, random: np.random.RandomState) -> None:
        state: Any = random.get_state(legacy=True)
        self._words: Words = np.array(state[1], dtype=np.uint32)
        self._at = int(state[2])
        self._left = np.empty(0)

    def uniform(self, count: int) -> Doubles:
        """``random.random_sample(count)``."""
        more = np.empty(max(count - self._left.size, 0))
        self._at = _doubles(self._words, self._at, more)
        found = np.concatenate((self._left[:count], more)) if self._left.size else more
        self._left = self._left[count:]
        return found

    def normal(self, count: int) -> Doubles:
        """``random.normal(size=count)``, of which an odd last one is not kept for the next call."""
        out = np.empty(count)
        done = 0
        while done < count:  # of a square's area, pi / 4 lies in its circle
            units = self.uniform(2 * (int((count - done) / 2 * 4 / math.pi * 1.01) + 64))
            done, used = _polar(units, out, done)
            self._left = np.concatenate((units[used:], self._left))
        return out

    def poisson(self, greys: NDArray[np.uint8], means: Doubles) -> NDArray[np.uint8]:
        """``random.poisson(means[greys])``, cut to 255: uint8 [n], for ``greys`` [n] and ``means`` [256] of up to 500."""
        large = np.maximum(means, 10.0)
        b = 0.931 + 2.53 * np.sqrt(large)
        a = -0.059 + 0.02483 * b
        scale = np.log(1.1239 + 1.1328 / (b - 3.4))
        facts = np.stack((a, b, 0.9277 - 3.6224 / (b - 2), scale, np.log(large), np.exp(-means)), axis=1)
        gammas = gammaln(np.arange(2000.0))
        needs = np.where(means < 10, means + (means > 0), 2.6)
        out = np.empty(greys.size, dtype=np.uint8)
        done = 0
        while done < greys.size:
            rest = np.bincount(greys[done:], minlength=256)
            units = self.uniform(int((needs * rest).sum() * 1.01) + 1000)
            done, used = _counts(greys, means, facts, gammas, units, out, done)
            self._left = np.concatenate((units[used:], self._left))
        return out
