"""What oracles choose, and what they would score by chance: against enumeration, and on real models at chance."""

from __future__ import annotations

import time
from itertools import combinations, permutations, product
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ensemble_bench import ceilings, diversity
from ensemble_bench.cube import Cube
from ensemble_bench.errors import Lacking
from ensemble_bench.metrics import decide
from ensemble_bench.strategies.build import named
from ensemble_bench.testing.toy import poorer, toy


def random_decisions(b: int, s: int, c: int, seed: int = 0) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Decisions [b, s], some of them "no answer", and labels [s]."""
    rng = np.random.default_rng(seed)
    return rng.integers(-1, c, (b, s)), rng.integers(0, c, s)


@pytest.mark.parametrize(("b", "s"), [(1, 5), (4, 3), (6, 40), (9, 300)])
def test_the_best_subset_against_every_subset(b: int, s: int) -> None:
    right = np.random.default_rng(b).random((b, s)) < 0.3
    for k in range(1, b + 1):
        every = {subset: int(right[list(subset)].any(0).sum()) for subset in combinations(range(b), k)}
        assert ceilings.best_subset(right, k) == max(every, key=every.__getitem__)  # the first of equal ones


def test_the_best_subset_of_many_is_quick() -> None:
    """All sizes of nine backbones on 50,000 samples, and the 184,756 tens of twenty; in this process's own time."""
    right = np.random.default_rng(0).random((20, 50_000)) < np.linspace(0.1, 0.4, 20)[:, None]
    start = time.process_time()
    found = [ceilings.best_subset(right[:9], k) for k in range(1, 10)]
    assert time.process_time() - start < 2  # 0.1 s on one 2020s core
    assert found[0] == (8,) and found[-1] == tuple(range(9))
    few = right[:, :500]
    chosen = ceilings.best_subset(few, 10)
    count = few[list(chosen)].any(0).sum()
    for out, new in product(chosen, set(range(20)) - set(chosen)):
        assert few[[*(set(chosen) - {out}), new]].any(0).sum() <= count


def test_what_is_not_sought_says_so() -> None:
    with pytest.raises(Lacking, match="the best 2 of 63 backbones are not sought: at most 62 are"):
        ceilings.best_subset(np.zeros((63, 1), dtype=bool), 2)
    assert ceilings.best_subset(np.eye(62, dtype=bool), 1) == (0,)
    assert ceilings.best_subset(np.arange(62)[:, None] == 61, 1) == (61,)


@pytest.mark.parametrize("seed", range(5))
def test_by_chance_is_the_mean_over_all_orders_of_the_labels(seed: int) -> None:
    decisions, labels = random_decisions(3, 6, 4, seed)
    orders = [np.array(order) for order in permutations(labels)]
    hoped = ceilings.oracle_by_chance(decisions, labels)
    assert hoped == pytest.approx(np.mean([(decisions == order).any(0) for order in orders], axis=0), abs=1e-12)
    best = ceilings.best_by_class(decisions == labels, labels, 4)
    sample = np.arange(6)
    wanted = np.mean([decisions[best[order], sample] == order for order in orders], axis=0)
    assert ceilings.oracle_per_class_by_chance(decisions, labels, best) == pytest.approx(wanted, abs=1e-12)


def test_by_chance_by_hand() -> None:
    labels = np.array([0, 0, 0, 1])
    decisions = np.array([[0, 1, -1, 2], [0, 0, -1, 1]])
    assert ceilings.oracle_by_chance(decisions, labels).tolist() == [0.75, 1.0, 0.0, 0.25]
    assert ceilings.oracle_by_chance(decisions[:1], labels).tolist() == [0.75, 0.25, 0.0, 0.0]


def test_chance_of_guessers_and_of_parrots() -> None:
    """Nine that guess have the oracle of guessers; nine that answer alike have that of one, and one class that of its share."""
    rng = np.random.default_rng(1)
    labels = np.arange(50_000) % 8
    guesses = rng.integers(0, 8, (9, 50_000))
    assert float(ceilings.oracle_by_chance(guesses, labels).mean()) == pytest.approx(diversity.guessing(9, 8), abs=0.005)
    assert float(ceilings.oracle_by_chance(guesses[[0] * 9], labels).mean()) == pytest.approx(1 / 8)
    assert ceilings.oracle_by_chance(np.full((9, 4), 3), np.array([3, 3, 3, 0])).tolist() == [0.75] * 4


def test_the_oracle_per_class_against_every_assignment() -> None:
    """No way of giving each class one backbone is better; what it scores lies between the best single and the oracle."""
    cube = toy(120, 5, backbones=3, classes=4)
    decisions, labels = cube.decisions.numpy(), cube.labels.numpy()
    sample = np.arange(len(labels))
    counts = [int((decisions[np.array(pick)[labels], sample] == labels).sum()) for pick in product(range(3), repeat=4)]
    for form in (cube, poorer(cube, "probabilities"), poorer(cube, "decisions")):
        strategy = named("oracle-per-class")
        answers = decide(strategy.predict(form), form)
        assert int((answers == cube.labels).sum()) == max(counts)
        used = strategy.used(form)
        assert used.sum(0).eq(1).all() and torch.equal(cube.decisions.T[used.T], answers)
        for label in range(4):
            assert used[:, cube.labels == label].any(1).sum() == 1
        settled = strategy.settled(form)
        parts = torch.cat([settled.predict(part) for part in form.chunks(50)])
        assert torch.equal(parts, strategy.predict(form))
    assert (decisions == labels).sum(1).max() < max(counts) < (decisions == labels).any(0).sum()


def test_three_real_clips_at_chance(real_predictions: Path) -> None:
    """Uniform noise of width 0.90: three CLIPs are right on 10 of 160 each, and their oracle on 30. Chance explains 29.8.

    Nearly always the three say three different classes of sixteen. At 0.35 they know something: chance explains 25 of 80.
    """
    path = real_predictions / "mvh_uniform-noise.npz"
    if not path.is_file():
        pytest.skip(f"the real predictions under uniform noise are not here: {path}")
    with np.load(path, allow_pickle=False) as held:
        models, condition = held["models"].tolist(), held["condition"]
        clips = [models.index(name) for name in ("clip", "clip-16", "clip-14")]
        said, labels, classes = held["pred"][clips].astype(np.int64), held["label"].astype(np.int64), held["classes"].tolist()

    def counts(width: str) -> tuple[list[int], int, float, float]:
        here = condition == width
        decisions, label = said[:, here], labels[here]
        cube = Cube(
            backbones=("clip", "clip-14", "clip-16"),
            classes=classes,
            ids=[str(place) for place in range(len(label))],
            decisions=torch.from_numpy(decisions),
            labels=torch.from_numpy(label),
        )
        oracle = int((decide(named("oracle").predict(cube), cube) == cube.labels).sum())
        independent = len(label) * float(diversity.Joint.of(decisions, label).independent())
        right = (decisions == label).sum(1).tolist()
        return right, oracle, float(ceilings.oracle_by_chance(decisions, label).sum()), independent

    right, oracle, chance, independent = counts("0.90")
    assert (right, oracle) == ([10, 10, 10], 30)
    assert chance == pytest.approx(29.8125) and independent == pytest.approx(28.1640625)
    assert 160 * diversity.guessing(3, 16) == pytest.approx(independent)
    right, oracle, chance, _ = counts("0.35")
    assert (right, oracle) == ([25, 37, 61], 80) and chance == pytest.approx(24.875)
