"""Metrics against scikit-learn, and by numbers worked out by hand."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import sklearn.metrics
import torch

from ensemble_bench import metrics
from ensemble_bench.cube import Cube
from ensemble_bench.errors import BadCube, BadPlugin
from ensemble_bench.testing.toy import poorer


def made(probabilities: list[list[list[float]]]) -> Cube:
    """A cube of these probabilities [b, s, c]."""
    array = torch.tensor(probabilities, dtype=torch.float64)
    b, s, c = array.shape
    names = [[f"{letter}{i}" for i in range(n)] for letter, n in (("b", b), ("c", c), ("s", s))]
    return Cube(backbones=names[0], classes=names[1], ids=names[2], probabilities=array)


def test_ties_go_to_the_higher_mean_probability_then_to_the_lower_index() -> None:
    tied = made([[[0.6, 0.3, 0.1], [0.5, 0.5, 0.0]], [[0.1, 0.8, 0.1], [0.5, 0.5, 0.0]]])
    votes = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0]])
    assert metrics.decide(votes, tied).tolist() == [1, 0]  # .35 against .55; then .5 against .5
    assert metrics.decide(votes, poorer(tied, "decisions")).tolist() == [0, 0]
    assert metrics.decide(torch.tensor([[0.0, 0.0, 2.0], [3.0, 1.0, 0.0]]), tied).tolist() == [2, 0]
    assert metrics.decide(torch.zeros(2, 3), tied).tolist() == [1, 0]


def test_a_tie_is_judged_in_float64() -> None:
    flat = made([[[0.4, 0.6]]])
    almost = torch.tensor([[1.0, 1.0 - 1e-12]], dtype=torch.float64)
    assert metrics.decide(almost, flat).tolist() == [0]
    assert metrics.decide(almost.float(), flat).tolist() == [1]


def test_the_tie_rule_reads_logits_in_float64() -> None:
    """Two saturated backbones: in float32 both are exactly 1, and the surer one is lost."""
    logits = torch.tensor([[[20.0, 0.0]], [[0.0, 25.0]]])
    assert logits.softmax(-1)[0, 0, 0] == 1.0 == logits.softmax(-1)[1, 0, 1]
    cube = Cube(backbones=["a", "b"], classes=["x", "y"], ids=["1"], logits=logits)
    assert metrics.decide(torch.ones(1, 2), cube).tolist() == [1]


def test_no_vote_at_all_is_no_answer_and_never_right() -> None:
    nobody = Cube(backbones=["a"], classes=["x", "y"], ids=["1", "2"], decisions=torch.tensor([[-1, 1]]))
    scores = torch.tensor([[0.0, 0.0], [0.0, 1.0]])
    answers = metrics.decide(scores, nobody)
    assert answers.tolist() == [-1, 1]
    assert metrics.acc1(answers, torch.tensor([0, 1])) == 0.5


@pytest.mark.parametrize(
    "wrong", [torch.zeros(3, 2), torch.zeros(2), torch.full((2, 3), torch.nan), torch.full((2, 3), torch.inf)]
)
def test_scores_that_are_none_are_refused(wrong: torch.Tensor) -> None:
    with pytest.raises(BadPlugin, match="scores of a strategy must be"):
        metrics.decide(wrong, made([[[0.2, 0.3, 0.5]] * 2]))


@pytest.mark.parametrize("gives", ["logits", "probabilities"])
def test_against_scikit_learn(query: Cube, gives: str) -> None:
    scores = query.log_probabilities.double().mean(0)
    scores = scores.softmax(-1) if gives == "probabilities" else scores
    sample = metrics.per_sample(scores, gives, query.labels, query)
    found = metrics.measured(sample, query.labels)
    true, probability = query.labels.numpy(), (scores.softmax(-1) if gives == "logits" else scores).numpy()
    decisions = sample["decisions"].numpy()
    classes = list(range(6))
    assert found["acc1"] == pytest.approx(sklearn.metrics.accuracy_score(true, decisions), abs=1e-12)
    top5 = sklearn.metrics.top_k_accuracy_score(true, probability, k=5, labels=classes)
    assert found["acc5"] == pytest.approx(top5, abs=1e-12)
    recall = sklearn.metrics.balanced_accuracy_score(true, decisions)
    assert found["mean_per_class_recall"] == pytest.approx(recall, abs=1e-12)
    assert found["nll"] == pytest.approx(sklearn.metrics.log_loss(true, probability, labels=classes), abs=1e-9)
    wanted = np.eye(6)[true]
    assert found["brier"] == pytest.approx(((probability - wanted) ** 2).sum(1).mean(), abs=1e-12)
    assert metrics.nll(scores, gives, query.labels) == pytest.approx(found["nll"], abs=1e-12)
    assert metrics.brier(scores, gives, query.labels) == pytest.approx(found["brier"], abs=1e-12)
    assert metrics.acc5(scores, query.labels, query) == found["acc5"]
    assert found["acc1"] is not None and 0.5 < found["acc1"] < 1 and found["acc5"] is not None and found["acc5"] > found["acc1"]


def test_brier_of_two_classes_against_scikit_learn() -> None:
    probability = torch.tensor([[0.9, 0.1], [0.4, 0.6], [0.3, 0.7]], dtype=torch.float64)
    labels = torch.tensor([0, 0, 1])
    one_sided = sklearn.metrics.brier_score_loss(labels.numpy(), probability[:, 1].numpy())
    assert metrics.brier(probability, "probabilities", labels) == pytest.approx(2 * one_sided, abs=1e-12)


def test_recall_leaves_out_classes_that_do_not_occur() -> None:
    labels, decisions = torch.tensor([0, 0, 2, 2, 2]), torch.tensor([0, 1, 2, 2, 3])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn warns of answers that are no label
        wanted = sklearn.metrics.balanced_accuracy_score(labels.numpy(), decisions.numpy())
    assert metrics.mean_per_class_recall(decisions, labels) == pytest.approx(wanted) == pytest.approx((1 / 2 + 2 / 3) / 2)


def test_place_ranks_as_decide_does(query: Cube) -> None:
    votes = torch.nn.functional.one_hot(query.decisions, 6).sum(0).double()
    place = metrics.place(votes, query.labels, query)
    decisions = metrics.decide(votes, query)
    assert torch.equal(place == 0, decisions == query.labels)
    every = torch.stack([metrics.place(votes, torch.full((len(query),), c), query) for c in range(6)], 1)
    assert torch.equal(every.sort(1).values, torch.arange(6).expand(len(query), -1))


def test_place_by_hand() -> None:
    cube = made([[[0.1, 0.2, 0.2, 0.2, 0.3]] * 5])
    scores = torch.tensor([[1.0, 1.0, 1.0, 1.0, 2.0]] * 5)
    assert metrics.place(scores, torch.arange(5), cube).tolist() == [4, 1, 2, 3, 0]
    assert metrics.place(scores, torch.arange(5), poorer(cube, "decisions")).tolist() == [1, 2, 3, 4, 0]


def test_top5_needs_five_classes_and_probabilities(query: Cube) -> None:
    few = made([[[0.2, 0.3, 0.1, 0.4]]])
    sample = metrics.per_sample(torch.zeros(1, 4), "votes", torch.tensor([0]), few)
    assert set(sample) == {"decisions"} and metrics.measured(sample, torch.tensor([0]))["acc5"] is None
    assert metrics.acc5(torch.zeros(1, 4), torch.tensor([0]), few) is None
    bare = poorer(query, "decisions")
    votes = torch.nn.functional.one_hot(bare.decisions, 6).sum(0)
    assert set(metrics.per_sample(votes, "logits", query.labels, bare)) == {"decisions"}  # whatever it gives elsewhere
    assert metrics.acc5(votes, query.labels, bare) is None


def test_ece_by_hand() -> None:
    """Each bin counts by the sum of confidence less the number right, over all samples."""
    confidence = torch.tensor([0.75, 0.75, 0.8, 0.5, 0.95, 0.85], dtype=torch.float64)
    right = torch.tensor([True, True, True, True, True, False])
    # bin (.7, .8]: 2.3 - 3 = -.7; bin (.4, .5]: .5 - 1 = -.5; bin (.9, 1]: .95 - 1 = -.05; bin (.8, .9]: .85 - 0 = .85
    assert metrics.ece(confidence, right, bins=10) == pytest.approx((0.7 + 0.5 + 0.05 + 0.85) / 6, abs=1e-6)
    assert metrics.ece(torch.tensor([1.0, 1.0]), torch.tensor([True, True])) == 0.0
    assert metrics.ece(torch.tensor([1.0, 1.0]), torch.tensor([False, False])) == 1.0
    assert metrics.ece(torch.tensor([0.0]), torch.tensor([False])) == 0.0
    # within one of the fifteen bins, errors of opposite sign cancel: .62 and .66 both lie in (9/15, 10/15]
    assert metrics.ece(torch.tensor([0.62, 0.66]), torch.tensor([True, False])) == pytest.approx(0.14, abs=1e-6)


def test_perfect_and_useless() -> None:
    labels = torch.tensor([0, 1])
    sure = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert metrics.brier(sure, "probabilities", labels) == 0.0
    assert metrics.nll(sure, "probabilities", labels) == 0.0
    assert metrics.brier(sure.flip(1), "probabilities", labels) == pytest.approx(2.0)
    assert metrics.nll(torch.zeros(2, 2), "logits", labels) == pytest.approx(np.log(2))


@pytest.mark.parametrize("scores", [[[0.5, 0.6]], [[0.5, 0.49]], [[1.1, -0.1]]])
def test_probabilities_must_sum_to_one(scores: list[list[float]]) -> None:
    with pytest.raises(BadPlugin, match=r"sum to one within 1e-4"):
        metrics.log_of(torch.tensor(scores), "probabilities")


def test_votes_are_no_probabilities() -> None:
    with pytest.raises(BadCube, match="not votes"):
        metrics.log_of(torch.ones(1, 2), "votes")


def test_gap_closed_by_hand() -> None:
    """Three CLIPs on uniform noise (785 the best, 764 by vote, 879 the oracle) and high-pass (1125, 1060, 1184)."""
    assert metrics.gap_closed(764, 785, 879) == pytest.approx(-0.2234, abs=5e-5)
    assert metrics.gap_closed(1060, 1125, 1184) == pytest.approx(-1.1017, abs=5e-5)
    assert metrics.gap_closed(0.5, 0.5, 0.5) is None


def test_the_table_says_direction_and_range(query: Cube) -> None:
    sample = metrics.per_sample(query.logits[0], "logits", query.labels, query)
    found = metrics.measured(sample, query.labels)
    assert {*found, "gap_closed"} == set(metrics.METRICS)
    for name, value in found.items():
        metric = metrics.METRICS[name]
        assert metric.name == name and metric.direction in (-1, 1) and value is not None
        assert (metric.low is None or value >= metric.low) and (metric.high is None or value <= metric.high)
