"""Dynamic selection by hand, on neighbours whose order can be seen; DESlib is asked in test_deslib.py."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from ensemble_bench.cube import Cube
from ensemble_bench.errors import BadOption, Lacking
from ensemble_bench.strategies.build import named
from ensemble_bench.strategies.neighbours import nearest
from ensemble_bench.testing.toy import poorer, toy


def circle(degrees: Sequence[float], decisions: list[list[int]], labels: list[int] | None = None, ids: str = "") -> Cube:
    """Three backbones that answer as told; the first sees each sample as a direction, of any length, the others see nothing."""
    angle = torch.tensor([math.radians(one) for one in degrees])
    seen = torch.stack([angle.cos(), angle.sin()], 1) * torch.arange(1, len(angle) + 1).unsqueeze(1)
    same = torch.ones(len(angle), 1)
    return Cube(
        backbones=("b0", "b1", "b2"),
        classes=("x", "y", "z"),
        ids=list(ids) or [f"{place}" for place in range(len(angle))],
        decisions=torch.tensor(decisions),
        features=(seen, same, same),
        labels=None if labels is None else torch.tensor(labels),
    )


@pytest.fixture
def support() -> Cube:
    """Label x everywhere; b0 errs at 20 degrees, b1 at 10, b2 at 0."""
    return circle([0, 10, 20, 30], [[0, 0, 1, 0], [0, 1, 0, 0], [1, 0, 0, 0]], [0, 0, 0, 0])


@pytest.fixture
def query() -> Cube:
    """At 0 and at 30 degrees; b0 says x, b1 y, b2 z."""
    return circle([0, 30], [[0, 0], [1, 1], [2, 2]])


@pytest.mark.parametrize(
    ("text", "votes"),
    [
        ("knora-e", [[1, 0, 0], [0, 0, 1]]),  # runs of right answers: 2, 1, 0 from 0 degrees up, 1, 2, 3 from 30 down
        ("knora-e:k=1", [[1, 1, 0], [1, 1, 1]]),
        ("knora-u", [[3, 3, 3], [3, 3, 3]]),
        ("knora-u:k=2", [[2, 1, 1], [1, 2, 2]]),
        ("knora-u:k=3", [[2, 2, 2], [2, 2, 3]]),
        ("ola", [[1, 0, 0], [1, 0, 0]]),  # three right each: the first by id
        ("ola:k=2", [[1, 0, 0], [0, 1, 0]]),
        ("ola:k=3", [[1, 0, 0], [0, 0, 1]]),
    ],
)
def test_votes_by_hand(text: str, votes: list[list[int]], support: Cube, query: Cube) -> None:
    assert named(text).fit(support).predict(query).tolist() == votes


def test_where_nobody_is_right_all_vote(query: Cube) -> None:
    hopeless = circle([0, 10], [[1, 1], [1, 1], [1, 1]], [2, 2])
    for text in ("knora-e", "knora-u"):
        assert named(text).fit(hopeless).predict(query).tolist() == [[1, 1, 1]] * 2
    assert named("ola").fit(hopeless).predict(query).tolist() == [[1, 0, 0]] * 2


def test_no_answer_is_no_vote(support: Cube) -> None:
    silent = circle([0], [[-1], [1], [2]])
    assert named("knora-u:k=2").fit(support).predict(silent).tolist() == [[0, 1, 1]]
    assert named("ola:k=1").fit(support).predict(silent).tolist() == [[0, 0, 0]]


def test_equally_near_samples_come_in_the_order_of_their_ids(query: Cube) -> None:
    twins = circle([0, 0, 30], [[1, 0, 0], [0, 1, 0], [1, 1, 1]], [0, 0, 0], ids="bac")
    assert named("knora-e:k=1").fit(twins).predict(query).tolist()[0] == [1, 0, 0]  # a before b: b0 is right on it
    index = nearest(torch.ones(3, 2), torch.ones(5, 2), 4)
    assert index.tolist() == [[0, 1, 2, 3]] * 3


def test_neighbours_against_a_sort_of_distances(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = torch.Generator().manual_seed(0)
    x, keys = torch.randn(50, 6, generator=draw), torch.randn(30, 6, generator=draw)
    wanted = torch.cdist(x.double(), keys.double()).argsort(1)[:, :7]
    assert torch.equal(nearest(x, keys, 7), wanted)
    monkeypatch.setattr("ensemble_bench.strategies.neighbours.CELLS", 100)  # three rows at a time
    assert torch.equal(nearest(x, keys, 7), wanted)


def test_ola_gives_the_richest_scores_there_are(support: Cube) -> None:
    cube, query = toy(30, 1), toy(60, 2)
    whole = named("ola").fit(cube).predict(query)
    rows = (whole == query.logits).all(-1)
    assert rows.any(0).all() and rows.any(1).sum() > 1  # every sample has the logits of a backbone, and not of one only
    mine = Cube(
        backbones=query.backbones,
        classes=query.classes,
        ids=query.ids,
        probabilities=query.probabilities,
        features=query.features,
    )
    chosen = rows.int().argmax(0)
    expected = query.log_probabilities[chosen, torch.arange(len(query))]
    assert torch.allclose(named("ola").fit(cube).predict(mine), expected, atol=1e-6)


def test_they_say_what_is_missing(support: Cube) -> None:
    for name in ("knora-e", "knora-u", "ola"):
        with pytest.raises(Lacking, match="no features"):
            named(name).fit(poorer(toy(18, 1), "logits"))
        with pytest.raises(Lacking, match="blind"):
            named(name).fit(support.blind())
        with pytest.raises(Lacking, match="at least one labelled example"):
            named(name).fit(support.take([]))
        with pytest.raises(BadOption, match="k must be at least 1 neighbour, not 0"):
            named(f"{name}:k=0")


def _large() -> tuple[Cube, Cube]:
    draw = torch.Generator().manual_seed(0)

    def cube(ids: str, samples: int, labels: Tensor | None) -> Cube:
        return Cube(
            backbones=[f"b{number}" for number in range(10)],
            classes=[str(number) for number in range(1000)],
            ids=[f"{ids}{number:05d}" for number in range(samples)],
            decisions=torch.randint(0, 1000, (10, samples), generator=draw),
            features=[torch.randn(samples, 64, generator=draw) for _ in range(10)],
            labels=labels,
        )

    return cube("s", 2000, torch.arange(2000) % 1000), cube("q", 10_000, None)


@pytest.mark.slow
def test_many_samples_and_classes_are_quick() -> None:
    """10,000 samples, 2,000 of support, 10 backbones, 1,000 classes; in this process's own time."""
    support, query = _large()
    for text in ("knora-e", "knora-u", "ola"):
        strategy = named(text).fit(support)
        took = []
        for _ in range(3):
            start = time.process_time()
            assert strategy.predict(query).shape == (10_000, 1000)
            took.append(time.process_time() - start)
        assert min(took) < 3  # 0.8 s on one 2020s core
