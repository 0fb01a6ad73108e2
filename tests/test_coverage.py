"""Do 95 of 100 intervals hold what they should? By simulation; prints what docs/statistics.md says (pytest -s)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from ensemble_bench import diversity
from ensemble_bench.cka import LinearCKA
from ensemble_bench.diversity import MEASURES, Joint
from ensemble_bench.statistics import Floats, Resamples, interval, ratio

pytestmark = pytest.mark.slow
TIMES = 400  # standard error of a coverage of .95: 1.1 points


def covered(name: str, bounds: list[tuple[float, float] | None], truth: float) -> float:
    known = [one for one in bounds if one is not None]
    found = float(np.mean([low <= truth <= high for low, high in known]))
    print(f"{name}: {100 * found:.1f} % of {len(known)}")
    return found


def answers(rng: np.random.Generator, images: int, offsets: list[float]) -> tuple[np.ndarray, np.ndarray]:
    """Decisions of backbones that fail together: a difficulty of the image, and luck of their own."""
    hard = rng.normal(size=images)
    right = hard + rng.normal(size=(len(offsets), images)) < np.array(offsets)[:, None]
    return np.where(right, 0, rng.integers(1, 4, right.shape)), np.zeros(images, int)


POOL = [1.0, 0.6, 0.4, 0.1]
NUMBERS: dict[str, Callable[[Joint], Floats]] = {
    "complementarity": Joint.headline,
    "oracle": Joint.oracle,
    "oracle gap": lambda joint: joint.oracle() - joint.accuracy[..., joint.best],
    "unique-correct": lambda joint: joint.unique[..., 1],
    "Shapley value": lambda joint: joint.shapley[..., 2],
    **{name: (lambda joint, measure=measure: measure.of(joint.cells)[..., 3]) for name, measure in MEASURES.items()},
}


@pytest.mark.parametrize("images", [150, 600])
def test_numbers_of_pools_and_pairs(images: int) -> None:
    rng = np.random.default_rng(images)
    truth = Joint.of(*answers(rng, 1_000_000, POOL))
    bounds: dict[str, list[tuple[float, float] | None]] = {name: [] for name in NUMBERS}
    for time in range(TIMES):
        joint = Joint.of(*answers(rng, images, POOL)).resampled(f"coverage {time}", 600)
        for name, number in NUMBERS.items():
            bounds[name].append(interval(number(joint)[1:]))
    for name, number in NUMBERS.items():
        found = covered(f"{name}, {images} images", bounds[name], float(number(truth)))
        low = 0.88 if images == 150 else 0.91
        assert low <= found <= 0.985, name


@pytest.mark.parametrize("draws", [5, 20])
def test_a_difference_over_draws_and_images(draws: int) -> None:
    """A learner whose accuracy moves by 3 points from draw to draw, against one that sees no labels, on six tasks."""
    rng = np.random.default_rng(draws)
    images, tasks, moves, gain = 120, 6, 0.03, 0.02
    one_task, all_tasks = [], []
    for time in range(TIMES // 2):
        columns = []
        for task in range(tasks):
            hard = rng.random(images)
            base = hard < 0.7
            accuracy = 0.7 + gain + moves * rng.normal(size=draws)
            flip = rng.random((draws, images))
            learnt = np.where(flip < 0.8, hard < accuracy[:, None], rng.random((draws, images)) < accuracy[:, None])
            resampled = Resamples(images, f"task {task}, time {time}", 500).means([learnt, base[None]])
            columns.append(resampled[:, 0] - resampled[:, 1])
        one_task.append(interval(columns[0]))
        all_tasks.append(interval(np.mean(columns, axis=0)))
    assert 0.84 <= covered(f"difference on one task, {draws} draws", one_task, gain) <= 0.99
    assert 0.84 <= covered(f"difference over {tasks} tasks, {draws} draws", all_tasks, gain) <= 0.99


def test_a_share_of_the_gap() -> None:
    rng = np.random.default_rng(3)
    images = 400

    def drawn(n: int) -> list[np.ndarray]:
        decisions, labels = answers(rng, n, POOL)
        right = decisions == labels
        average = (right.sum(0) + rng.random(n) > 2.5) | (right[0] & (rng.random(n) < 0.7))
        return [average[None], right[0][None], right.any(0)[None]]

    average, base, oracle = (float(one.mean()) for one in drawn(1_000_000))
    bounds = []
    for time in range(TIMES):
        columns = Resamples(images, f"gap {time}", 600).means(drawn(images)).T
        bounds.append(interval(ratio(columns[0] - columns[1], columns[2] - columns[1])))
    assert 0.91 <= covered("gap closed, 400 images", bounds, (average - base) / (oracle - base)) <= 0.985


def test_likeness_of_features() -> None:
    def views(n: int, rng: np.random.Generator) -> list[np.ndarray]:
        hidden = rng.normal(size=(n, 8)) * np.linspace(2, 0.5, 8)
        mixed = [hidden @ np.random.default_rng(width).normal(size=(8, width)) for width in (64, 96)]
        return [one + 3 * rng.normal(size=one.shape) for one in mixed]

    rng = np.random.default_rng(4)
    sums = LinearCKA(2)
    for _ in range(20):
        sums.add(views(2000, rng))
    truth = float(sums.alike().debiased[0, 1])
    for images in (160, 400):
        bounds = []
        for _ in range(TIMES // 4):
            own = LinearCKA(2)
            own.add(views(images, rng))
            low, high = own.alike().intervals()
            bounds.append((float(low[0, 1]), float(high[0, 1])))
        assert 0.91 <= covered(f"CKA, {images} images of 64 and 96 features", bounds, truth) <= 1.0


def test_few_errors_make_intervals_too_narrow() -> None:
    """Why the docs say to look at the number of errors: with a handful, all rescued, the interval is a point."""
    decisions = np.zeros((2, 100), int)
    decisions[0, :3] = 1
    decisions[1, 3:60] = 1
    joint = Joint.of(decisions, np.zeros(100, int)).resampled("few")
    shares = diversity.rescues(joint.accuracy, joint.oracle(), joint.best)
    low, high = interval(ratio(shares[1], shares[0])[1:]) or (0, 0)
    assert low == high == 1
