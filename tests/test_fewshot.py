"""The few-shot protocol: nested, seeded, independent of order; overlap and shortage are errors."""

from __future__ import annotations

import pytest

from ensemble_bench import fewshot
from ensemble_bench.errors import BadData, BadOption

IDS = [f"sample-{place}" for place in range(60)]
LABELS = [place % 3 for place in range(60)]
CLASSES = ["a", "b", "c"]


def _drawn(shots: int, number: int = 0, seed: int = 0) -> list[str]:
    return [IDS[place] for place in fewshot.draw(IDS, LABELS, CLASSES, shots, seed=seed, number=number)]


def test_as_many_of_each_class_as_asked() -> None:
    places = fewshot.draw(IDS, LABELS, CLASSES, 4, seed=0, number=0)
    assert [LABELS[place] for place in places] == [0] * 4 + [1] * 4 + [2] * 4
    assert len(set(places)) == 12


def test_more_shots_contain_fewer() -> None:
    for shots in range(2, 21):
        assert set(_drawn(shots - 1)) < set(_drawn(shots))


def test_draws_and_seeds_differ_and_repeat() -> None:
    assert _drawn(3) == _drawn(3)
    assert len({tuple(_drawn(3, number)) for number in range(8)}) == 8
    assert _drawn(3, seed=1) != _drawn(3, seed=0)


def test_the_order_of_the_data_does_not_matter() -> None:
    back = list(reversed(IDS)), list(reversed(LABELS))
    places = fewshot.draw(*back, CLASSES, 3, seed=0, number=0)
    assert [back[0][place] for place in places] == _drawn(3)


def test_too_many_shots_names_the_class() -> None:
    with pytest.raises(BadData, match=r"the class 'a' has 20 training examples, fewer than --shots 21: ask for 20 at most"):
        _drawn(21)
    with pytest.raises(BadOption, match="at least 1"):
        _drawn(0)


def test_overlap_is_an_error() -> None:
    fewshot.check_disjoint(["a"], ["b"], "mini/x")
    with pytest.raises(BadData, match="1 samples are both in support and query, 'a' for one"):
        fewshot.check_disjoint(["a", "c"], ["a", "b"], "mini/x")


def test_a_limit_takes_the_same_samples_from_any_order() -> None:
    places = fewshot.limited(IDS, 10)
    assert places == sorted(places)
    assert {IDS[place] for place in places} == {IDS[::-1][place] for place in fewshot.limited(IDS[::-1], 10)}
    assert set(fewshot.limited(IDS, 9)) < set(places)
    assert fewshot.limited(IDS, None) == fewshot.limited(IDS, 99) == list(range(60))
