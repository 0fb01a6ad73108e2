"""What is wrong with a data set, found by pure checks; each has its rogue and its innocent."""

from __future__ import annotations

import dataclasses

import pytest
from scipy.stats import binomtest

from ensemble_bench import health, sources
from ensemble_bench.errors import BadData
from ensemble_bench.health import Finding
from ensemble_bench.task import Catalogue


def said(findings: list[Finding]) -> list[tuple[str, str]]:
    return [(finding.severity, str(finding)) for finding in findings]


def one(findings: list[Finding], severity: str, part: str) -> None:
    ((found, text),) = said(findings)
    assert found == severity and part in text, text


def test_class_names() -> None:
    assert health.classes(["cat", "dog"]) == []
    one(health.classes(["cat"]), "error", "there are 1 class names")
    one(health.classes(["cat", " ", "dog", ""]), "error", "class names are empty: number 2, 4.")
    one(health.classes(["cat", "dog", "cat"]), "error", "'cat' is number 1 and 3")
    one(health.classes(["cat", "Cat", "dog"]), "warning", "differ only in case or blanks: Cat, cat.")


def test_names_that_a_card_knows_of() -> None:
    """CLIP_benchmark's fourth class of CLEVR's distances has an empty name: so be it, and it is said."""
    one(health.classes(["cat", "", "dog"], empty="warning"), "warning", "number 2. Their prompts name nothing")
    clevr = Catalogue().task("vtab/clevr_closest_object_distance")
    one(sources.wording(clevr), "warning", "class names are empty: number 4.")
    one(sources.wording(dataclasses.replace(clevr, names={})), "error", "class names are empty: number 4. Remove empty lines")
    twice = dataclasses.replace(clevr, classes=("a", "a", "b"))
    one(sources.wording(twice), "warning", "'a' is number 1 and 2")
    one(sources.wording(dataclasses.replace(twice, card_digest="")), "error", "'a' is number 1 and 2")


@pytest.mark.parametrize("name", Catalogue().paths)
def test_no_card_has_names_that_stop_a_run(name: str) -> None:
    task = Catalogue().task(name)
    if task.complete:
        health.demand(name, sources.wording(task))


def test_templates() -> None:
    assert health.templates(["a {c}", "{c}"]) == []
    one(health.templates([]), "error", "there are no prompt templates")
    one(health.templates(["a {c}", "a photo", "of {}"])[:1], "error", "without the placeholder \"{c}\": 'a photo', 'of {}'")
    one(health.templates(["a {c} of {d}"]), "warning", "other braces: 'a {c} of {d}'")
    one(health.templates(["a {c}", "a {c}"]), "warning", "more than once")


def test_ids_counts_and_labels() -> None:
    assert health.ids(["a", "b"], "test") == health.count(2, 2, "test") == health.count(2, None, "test") == []
    one(health.ids(["a", "b", "a"], "test"), "error", "the same sample id more than once: a.")
    one(health.count(3, 4, "train"), "error", "the train split has 3 images; its card says 4.")
    one(health.count(0, None, "test"), "error", "has no images")
    names = [str(number) for number in range(6)]
    assert health.labels([*range(6), 0], names, "test") == []
    one(health.labels([*range(7), 6], names, "test"), "error", "has the label 6 (2 images")
    one(health.labels([0, -1], names, "test"), "error", "has the label -1")
    one(health.labels([0, 1, 2], names, "test"), "warning", "3 of 6 classes have no test image: 3, 4, 5.")


def test_images() -> None:
    assert health.undecodable([], 5, "test") == health.overlap({"a": "1"}, {"b": "2"}) == []
    one(health.undecodable(["a.png is no picture."], 5, "test"), "error", "1 of 5 test images cannot be decoded: a.png is no")
    many = [f"{number}.png is no picture." for number in range(20)]
    one(health.undecodable(many, 30, "train"), "error", "7.png is no picture. And 12 more.")
    one(health.overlap({"a": "1", "b": "2"}, {"x": "2", "y": "3"}), "error", "1 of 2 test images are train images too: x = b.")
    one(health.overlap({}, {"x": "2", "y": "2", "z": "2"}), "warning", "2 of 3 test images are copies")


@pytest.mark.parametrize(("n", "classes"), [(1000, 10), (400, 8), (1000, 2), (150, 100)])
def test_the_alarm_is_the_binomial_test(n: int, classes: int) -> None:
    """It goes off at exactly those numbers of right answers at which scipy's test sees no difference from chance."""
    for hits in range(0, n + 1, 7):
        above = binomtest(hits, n, 1 / classes, "greater").pvalue < 0.01
        right = [True] * hits + [False] * (n - hits)
        assert (health.chance(right, classes, "RN50") == []) == above, hits


def test_the_alarm_counts_the_first_thousand() -> None:
    late = [False] * 900 + [True] * 5000
    one(health.chance(late, 10, "openai/RN50"), "warning", "openai/RN50 is not above chance: 100 of the first 1000 images")
    assert health.chance([True] * 200 + [False] * 5000, 10, "x") == []
    assert health.chance([False] * 99, 10, "x") == [], "too few to tell"


def test_an_error_is_raised_and_a_warning_is_not() -> None:
    health.demand("mine", health.classes(["cat", "Cat"]))
    with pytest.raises(BadData, match=r"^mine: 1 class names come more than once: 'cat' is number 1 and 2\. No answer can"):
        health.demand("mine", health.classes(["cat", "cat"]))
