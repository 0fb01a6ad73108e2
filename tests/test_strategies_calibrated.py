"""Fixed weights learnt on the support: by accuracy, from a growing bag, from a grid; by hand and by exhaustive search."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss
from torch import Tensor

from ensemble_bench.cube import Cube
from ensemble_bench.errors import BadOption
from ensemble_bench.metrics import decide
from ensemble_bench.plan import planned
from ensemble_bench.request import Request
from ensemble_bench.strategies import READINGS, registry
from ensemble_bench.strategies.build import named
from ensemble_bench.strategies.fitness import unfitness
from ensemble_bench.strategies.greedy_selection import GreedySelection
from ensemble_bench.strategies.tf_en import TrainingFreeEnsemble, grid
from ensemble_bench.strategies.weighted_log_avg import WeightedLogAvg
from ensemble_bench.testing.toy import poorer, toy

# Three backbones, two samples, four classes; with labels 1 and 2, b1 is right twice, b0 and b2 once each.
HAND = torch.tensor(
    [
        [[0.50, 0.30, 0.15, 0.05], [0.20, 0.30, 0.40, 0.10]],
        [[0.35, 0.40, 0.15, 0.10], [0.10, 0.05, 0.45, 0.40]],
        [[0.10, 0.70, 0.05, 0.15], [0.02, 0.03, 0.05, 0.90]],
    ],
    dtype=torch.float64,
)


def hand(labels: list[int] | None = None, probabilities: Tensor = HAND) -> Cube:
    b, s, c = probabilities.shape
    return Cube(
        backbones=[f"b{i}" for i in range(b)],
        classes=[f"c{i}" for i in range(c)],
        ids=[f"s{i}" for i in range(s)],
        probabilities=probabilities,
        labels=None if labels is None else torch.tensor(labels),
    )


def near(found: Tensor, wanted: Tensor, room: float = 1e-9) -> None:
    assert torch.allclose(found.double(), wanted.double(), rtol=0, atol=room), found


def by_id(cube: Cube) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities [b, s, c] and labels; the toy's backbones are in the order of their ids already."""
    return cube.logits.double().softmax(-1).numpy(), cube.labels.numpy()


# --- weighted-log-avg -----------------------------------------------------------------------------------------------


def test_weights_are_support_accuracies() -> None:
    strategy = WeightedLogAvg().fit(hand([1, 2]))
    assert strategy.weight_.tolist() == [0.25, 0.5, 0.25]
    near(strategy.predict(hand()), 0.25 * HAND[0].log() + 0.5 * HAND[1].log() + 0.25 * HAND[2].log())
    assert WeightedLogAvg(sharpness=2.0).fit(hand([1, 2])).weight_.tolist() == pytest.approx([1 / 6, 2 / 3, 1 / 6])
    # only b2 is ever right
    assert WeightedLogAvg().fit(hand([3, 3])).weight_.tolist() == [0.0, 0.0, 1.0]


def test_without_a_right_answer_or_without_sharpness_it_is_log_avg(support: Cube, query: Cube) -> None:
    wanted = named("log-avg").predict(query)
    near(WeightedLogAvg(sharpness=0.0).fit(support).predict(query), wanted)
    assert WeightedLogAvg().fit(hand([2, 1])).weight_.tolist() == pytest.approx([1 / 3] * 3)
    with pytest.raises(BadOption, match="sharpness must be at least 0"):
        named("weighted-log-avg:sharpness=-1")


# --- greedy-selection -----------------------------------------------------------------------------------------------


def test_the_bag_grows_by_what_helps() -> None:
    """b1 has no error; of its bags with one more, the one with the lower NLL; b2 pulls the second answer to class 3."""
    one = GreedySelection(rounds=1).fit(hand([1, 2]))
    assert one.weight_.tolist() == [0.0, 1.0, 0.0]
    two = GreedySelection(rounds=2).fit(hand([1, 2]))
    # NLL of b1 twice -(log .40 + log .45), with b0 -(log .35 + log .425), with b2 -(log .55 + log .25): the first stays best
    assert two.weight_.tolist() == [0.0, 1.0, 0.0]
    near(two.predict(hand()), HAND[1])
    # labels 0 and 3: b0 and b2 are right once each, b2 gives more (.1 x .9 against .5 x .1); together they are right once too,
    # with .3 x .5
    pair = GreedySelection(rounds=2).fit(hand([0, 3]))
    assert pair.weight_.tolist() == [0.5, 0.0, 0.5]


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_selection_against_a_plain_loop(seed: int) -> None:
    probabilities, labels = by_id(toy(30, seed))
    bag: list[int] = []
    best: tuple[tuple[int, float], list[int]] | None = None
    for _ in range(12):
        scored = []
        for b in range(4):
            mean = probabilities[[*bag, b]].mean(0)
            scored.append(((int((mean.argmax(1) != labels).sum()), round(log_loss(labels, mean, labels=range(6)), 12)), b))
        value, chosen = min(scored)
        bag = [*bag, chosen]
        if best is None or value < best[0]:
            best = value, bag
    assert best is not None
    wanted = np.bincount(best[1], minlength=4) / len(best[1])
    assert GreedySelection(rounds=12).fit(toy(30, seed)).weight_.tolist() == pytest.approx(wanted.tolist())


def test_selection_wants_a_round() -> None:
    with pytest.raises(BadOption, match="rounds must be at least 1"):
        named("greedy-selection:rounds=0")


# --- tf-en ----------------------------------------------------------------------------------------------------------


def test_the_grid_has_every_weighting() -> None:
    rows = grid(3, 1)
    assert rows.shape == (81, 3) and bool((rows[:, 1] == 1).all())
    assert len({tuple(row) for row in rows.tolist()}) == 81
    assert rows[0].tolist() == pytest.approx([0.1, 1.0, 0.1]) and rows[-1].tolist() == pytest.approx([0.9, 1.0, 0.9])
    assert grid(1, 0).tolist() == [[1.0]] and len(grid(5, 4)) == 6561


@pytest.mark.parametrize("seed", [1, 5])
def test_tf_en_against_exhaustive_search(seed: int) -> None:
    support = toy(24, seed)  # the toy's last backbone is the dearest
    probabilities, labels = by_id(support)
    best = None
    for some in product(range(1, 10), repeat=3):
        weights = np.array([*some, 10]) / 10
        mean = np.tensordot(weights, probabilities, 1) / weights.sum()
        value = int((mean.argmax(1) != labels).sum()), round(log_loss(labels, mean, labels=range(6)), 12)
        if best is None or value < best[0]:
            best = value, weights
    assert best is not None
    strategy = TrainingFreeEnsemble().fit(support)
    assert strategy.weight_.tolist() == pytest.approx(best[1].tolist())
    mean = np.tensordot(best[1], by_id(toy(50, 9))[0], 1) / best[1].sum()
    near(strategy.predict(toy(50, 9).blind()), torch.from_numpy(mean))


def test_with_more_than_four_others_no_single_weight_helps() -> None:
    """Six backbones: where the search ends, every change of one weight to another of the nine is no better."""
    draw = torch.Generator().manual_seed(2)
    labels = torch.arange(40) % 5
    logits = torch.randn(6, 40, 5, generator=draw) + 1.2 * torch.nn.functional.one_hot(labels, 5)
    cube = Cube(
        backbones=[f"b{i}" for i in range(6)],
        classes=[f"c{i}" for i in range(5)],
        ids=[f"s{i:02}" for i in range(40)],
        logits=logits,
        labels=labels,
    )
    weight = named("tf-en:anchor=b2").fit(cube).weight_
    assert weight[2] == 1 and bool(((weight >= 0.1) & (weight <= 1)).all())
    probabilities = logits.double().softmax(-1)

    def value(trial: Tensor) -> float:
        return float(unfitness(trial.unsqueeze(0), probabilities, labels, mixture=True))

    start = torch.full((6,), 0.5, dtype=torch.float64)
    start[2] = 1
    assert value(weight) < value(start)
    for other, step in product((0, 1, 3, 4, 5), range(1, 10)):
        trial = weight.clone()
        trial[other] = step / 10
        assert value(trial) >= value(weight)


def test_fitness_of_mixtures_by_hand() -> None:
    """Weights (1, 0, 1), labels 0 and 3: means .30 against .50 for class 1, wrong; .50 against .225, right."""
    found = unfitness(torch.tensor([[1.0, 0.0, 1.0]], dtype=torch.float64), HAND, torch.tensor([0, 3]), mixture=True)
    nll = -(np.log(0.3) + np.log(0.5)) / 2
    assert found.tolist() == pytest.approx([1 + nll / (1 + nll)])


# --- what all of them share -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["weighted-log-avg", "greedy-selection", "tf-en"])
def test_probabilities_are_enough(text: str, support: Cube, query: Cube) -> None:
    """An archive without logits gives the same answers."""
    rich = named(text).fit(support).predict(query)
    poor = named(text).fit(poorer(support, "probabilities")).predict(poorer(query, "probabilities"))
    near(poor, rich, 1e-5)
    assert torch.equal(decide(rich, query), decide(poor, query))


def test_all_is_every_name_and_every_reading() -> None:
    asked = planned(Request(tasks=("mini/digits",), strategies=("all",))).strategies
    singles = [text for text in asked if text.startswith("single:")]
    assert set(asked) - set(singles) == {*registry.table, *READINGS} - {"single"}
    assert len(asked) == len(set(asked)) and singles
    assert {"nlc:form=weight", "super-learner:form=linear", "swig:loss=nll"} <= set(READINGS)
