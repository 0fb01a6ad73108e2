"""The replay makes the draws of numpy's RandomState, bit by bit and in any mixture."""

from __future__ import annotations

import numpy as np
import pytest

from ensemble_bench.corrupt.legacy import Replay


@pytest.mark.parametrize("seed", [0, 1, 12345, 2**32 - 1])
def test_draws_are_those_of_numpy(seed: int) -> None:
    random, replay = np.random.RandomState(seed), Replay(np.random.RandomState(seed))
    for count in (1, 311, 312, 313, 5000):
        assert np.array_equal(replay.uniform(count), random.random_sample(count))
        assert np.array_equal(replay.normal(2 * count), random.normal(size=2 * count))
    assert np.array_equal(replay.normal(30_001), random.normal(size=30_001))


def test_the_original_stays_where_it_is() -> None:
    random = np.random.RandomState(7)
    Replay(random).uniform(1000)
    assert np.array_equal(random.random_sample(10), np.random.RandomState(7).random_sample(10))


def test_a_replay_starts_in_the_middle() -> None:
    random = np.random.RandomState(7)
    random.random_sample(100)
    assert np.array_equal(Replay(random).uniform(700), random.random_sample(700))


@pytest.mark.parametrize("amount", [2.0, 10.0, 60.0, 200.0])
def test_counts_are_those_of_numpy(amount: float) -> None:
    """Both methods (means below and above 10), a mean of nothing, and draws afterwards."""
    greys = np.random.default_rng(3).integers(0, 256, 40_000, dtype=np.uint8)
    means = np.arange(256) / 255.0 * amount
    random, replay = np.random.RandomState(5), Replay(np.random.RandomState(5))
    counts = random.poisson(means[greys])
    assert np.array_equal(replay.poisson(greys, means), np.minimum(counts, 255))
    assert np.array_equal(replay.uniform(9), random.random_sample(9))
