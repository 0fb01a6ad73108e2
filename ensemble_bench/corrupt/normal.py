"""Standard normal draws for compiled kernels: the ziggurat of Marsaglia and Tsang (2000), 256 layers, on counted hash words."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ensemble_bench.corrupt.compiled import compiled, mixed

LAYERS = 256
TAIL = 3.6541528853610088  # where the lowest layer ends
AREA = 0.00492867323399  # of each layer, below exp(-x*x/2)
UNIT = 2.0**-53


def _layers() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Right edges [257] of the layers, the lowest first and widened to hold the tail, and exp(-x*x/2) there."""
    edges = np.zeros(LAYERS + 1)
    edges[1] = TAIL
    edges[0] = AREA / math.exp(-TAIL * TAIL / 2)
    for layer in range(2, LAYERS):
        edges[layer] = math.sqrt(-2 * math.log(AREA / edges[layer - 1] + math.exp(-(edges[layer - 1] ** 2) / 2)))
    heights = np.exp(-edges * edges / 2)
    return edges, heights


EDGES, HEIGHTS = _layers()


@compiled
def normal(key: np.uint64, out: NDArray[np.float64], edges: NDArray[np.float64], heights: NDArray[np.float64]) -> None:
    """Into ``out`` [n] standard normal draws of the sequence ``key``; ``edges`` and ``heights`` are this module's."""
    count = 0
    for i in range(out.size):
        while True:
            word = mixed(key, count)
            count += 1
            layer = np.int64(word & np.uint64(0xFF))
            sign = 1.0 if word & np.uint64(0x100) else -1.0
            x = np.float64(np.int64(word >> np.uint64(11))) * UNIT * edges[layer]
            if x < edges[layer + 1]:
                break
            if layer == 0:  # the tail (Marsaglia 1964)
                while True:
                    a = (np.float64(np.int64(mixed(key, count) >> np.uint64(11))) + 0.5) * UNIT
                    b = (np.float64(np.int64(mixed(key, count + 1) >> np.uint64(11))) + 0.5) * UNIT
                    count += 2
                    beyond = -math.log(a) / TAIL
                    if -2.0 * math.log(b) > beyond * beyond:
                        break
                x = TAIL + beyond
                break
            unit = np.float64(np.int64(mixed(key, count) >> np.uint64(11))) * UNIT
            count += 1
            if heights[layer] + unit * (heights[layer + 1] - heights[layer]) < math.exp(-x * x / 2):
                break
        out[i] = sign * x
