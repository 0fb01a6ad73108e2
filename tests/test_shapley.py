"""What members are worth: all orders tried out, a closed form, samples of orders."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import torch

from ensemble_bench import shapley
from ensemble_bench.cube import Cube
from ensemble_bench.diversity import Joint
from ensemble_bench.metrics import log_posteriors
from ensemble_bench.strategies.log_avg import LogAvg


def brute(worths: np.ndarray) -> np.ndarray:
    """Mean contribution over all orders, one after another."""
    b = len(worths).bit_length() - 1
    total = np.zeros(b)
    orders = list(permutations(range(b)))
    for order in orders:
        subset = 0
        for member in order:
            total[member] += worths[subset | 1 << member] - worths[subset]
            subset |= 1 << member
    return total / len(orders)


def test_a_game_of_three_by_hand() -> None:
    """Only 0 with 1 earns anything, 2 adds nothing: worth 0, 0, 0, 6, 0, 0, 0, 6."""
    worths = np.array([0, 0, 0, 6, 0, 0, 0, 6], float)
    assert shapley.shapley(worths).tolist() == pytest.approx([3, 3, 0])
    assert shapley.leave_one_out(worths).tolist() == [6, 6, 0]
    assert shapley.greedy(lambda subset: worths[subset], 3) == [0, 1, 2]  # of equals the first


def test_all_orders_tried_out() -> None:
    worths = np.random.default_rng(0).random((32, 2))
    found = shapley.shapley(worths)
    for column in range(2):
        assert found[:, column].tolist() == pytest.approx(brute(worths[:, column]).tolist())
    assert found.sum(0).tolist() == pytest.approx((worths[-1] - worths[0]).tolist())  # what there is to share, and no more


def test_equal_members_get_equal_shares_and_one_alone_gets_all() -> None:
    sizes = np.array([bin(subset).count("1") for subset in range(16)])
    assert shapley.shapley(sizes**2 / 1.0).tolist() == pytest.approx([4, 4, 4, 4])
    assert shapley.shapley(np.array([0.1, 0.6])).tolist() == pytest.approx([0.5])


def test_the_oracle_shares_each_image_among_those_who_have_it_right() -> None:
    """The closed form of the pool against enumeration; the leave-one-out value is what a backbone alone has right."""
    rng = np.random.default_rng(1)
    joint = Joint.of(rng.integers(0, 3, (6, 300)), rng.integers(0, 3, 300))
    worths = np.array([float(joint.oracle(subset)) for subset in range(64)])
    assert worths[0] == 0
    assert joint.shapley.tolist() == pytest.approx(shapley.shapley(worths).tolist())
    assert joint.unique.tolist() == pytest.approx(shapley.leave_one_out(worths).tolist())


def test_samples_of_orders_come_near_and_say_how_near() -> None:
    worths = np.random.default_rng(2).random(1 << 8)
    exact = shapley.shapley(worths)
    asked: list[int] = []

    def worth(subset: int) -> float:
        asked.append(subset)
        return float(worths[subset])

    found, error = shapley.sampled(worth, 8, permutations=400, seed=3)
    assert len(asked) == len(set(asked))
    assert found.sum() == pytest.approx(worths[-1] - worths[0])
    assert (np.abs(found - exact) < 4 * error).all() and (error < 0.05).all()
    again, _ = shapley.sampled(lambda subset: float(worths[subset]), 8, permutations=400, seed=3)
    other, _ = shapley.sampled(lambda subset: float(worths[subset]), 8, permutations=400, seed=4)
    assert (found == again).all() and (found != other).any()


def test_greedy_curves_go_through_their_prefixes() -> None:
    worths = {0: 0.0, 1: 0.5, 2: 0.6, 4: 0.2, 3: 0.7, 5: 0.6, 6: 0.8, 7: 0.9}
    order = shapley.greedy(worths.__getitem__, 3)
    assert order == [1, 2, 0] and shapley.prefixes(order) == [2, 6, 7]
    assert shapley.prefixes([]) == []


def test_the_log_average_of_every_subset(query: Cube) -> None:
    """Each subset beside the strategy itself on a cube of those backbones."""
    logs = log_posteriors(query).numpy()
    found = shapley.log_average_right(logs, query.labels.numpy())
    names = sorted(query.backbones)
    assert found.shape == (16, len(query)) and not found[0].any()
    for subset in range(1, 16):
        own = query.only([name for place, name in enumerate(names) if subset >> place & 1])
        answers = LogAvg().predict(own).argmax(-1)
        assert torch.equal(torch.tensor(found[subset]), answers == query.labels), subset


def test_enumeration_leaves_its_input_alone() -> None:
    logs = np.log(np.random.default_rng(4).dirichlet(np.ones(3), (2, 5)))
    before = logs.copy()
    shapley.log_average_right(logs, np.zeros(5, int))
    assert (logs == before).all()
