"""The compiled passes beside torch in double precision, and where they must say that they do not know."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss, top_k_accuracy_score
from torch import Tensor

from ensemble_bench.cube import Cube
from ensemble_bench.passes import LOGITS, PROBABILITIES, VOTES, judged, sums, times
from ensemble_bench.statistics import _picks, _words


def logits(b: int = 3, s: int = 50, c: int = 17, size: float = 5.0, seed: int = 0) -> Tensor:
    return torch.randn(b, s, c, generator=torch.Generator().manual_seed(seed)) * size


@pytest.mark.parametrize("size", [0.0, 1.0, 20.0, 300.0])
@pytest.mark.parametrize("c", [1, 2, 8, 100])
def test_sums_are_those_of_double_precision(c: int, size: float) -> None:
    scores = logits(c=c, size=size)
    found = sums(scores, [2, 0, 1])
    exact = scores.double().softmax(-1)
    assert torch.equal(found.decisions, torch.from_numpy(scores.numpy().argmax(-1)))
    assert torch.allclose(1 / (1 + found.rest), exact.amax(-1), rtol=1e-6, atol=0)
    others = (scores.double() - scores.double().amax(-1, keepdim=True)).exp()
    others.scatter_(-1, found.decisions.unsqueeze(-1), 0)
    assert torch.allclose(found.rest, others.sum(-1), rtol=2e-5, atol=1e-34)
    assert torch.allclose(found.mean_probability.double(), exact.mean(0), rtol=2e-5, atol=1e-34)
    assert torch.allclose(found.mean_logit.double(), scores.double().mean(0), atol=1e-6 * max(size, 1))


def test_the_rest_is_known_where_the_highest_probability_is_nearly_one() -> None:
    """In single precision all of these are 1, and the most confident backbone could not be told."""
    scores = torch.tensor([[[20.0, 0.0]], [[20.5, 0.0]], [[40.0, 0.0]]])
    assert scores.softmax(-1).amax(-1).unique().numel() == 1
    expected = (-torch.tensor([20.0, 20.5, 40.0], dtype=torch.float64)).exp()
    assert torch.allclose(sums(scores, [0, 1, 2]).rest[:, 0], expected, rtol=1e-6, atol=0)


def test_equal_logits_go_to_the_first_class() -> None:
    assert sums(torch.tensor([[[1.0, 3.0, 3.0, 2.0, 3.0, 0.0, 0.0, 0.0, 0.0]]]), [0]).decisions.tolist() == [[1]]


def test_judged_logits_are_what_scikit_learn_measures() -> None:
    scores = logits(1, 200, 12)[0]
    labels = torch.arange(200) % 12
    found = judged(scores, labels, scores.softmax(-1), LOGITS, None, (1e-30, 1e-5))
    exact = scores.double().softmax(-1)
    assert not found.doubtful.any() and torch.equal(found.decisions, scores.argmax(-1))
    assert float(found.nll.mean()) == pytest.approx(log_loss(labels, exact), rel=1e-6)
    assert float(found.top5.double().mean()) == top_k_accuracy_score(labels, scores, k=5)
    wanted = torch.nn.functional.one_hot(labels, 12)
    assert torch.allclose(found.brier, (exact - wanted).square().sum(-1), atol=1e-6)
    assert torch.allclose(found.confidence, exact.amax(-1), atol=1e-6)
    again = judged(exact, labels, exact, PROBABILITIES, None, (1e-30, 1e-5))
    assert torch.allclose(again.nll, found.nll, rtol=1e-5) and torch.equal(again.top5, found.top5)
    assert torch.allclose(again.total, torch.ones(200, dtype=torch.float64)) and torch.equal(again.least, exact.amin(-1))


def test_equal_votes_go_by_the_mean_and_are_doubtful_where_that_is_near() -> None:
    votes = torch.tensor([[2.0, 2, 1, 0, 0, 0, 0]] * 4)
    mean = torch.tensor([[0.3, 0.4, 0.3, 0, 0, 0, 0], [0.4, 0.3, 0.3, 0, 0, 0, 0]] * 2)
    mean[2, :2] = torch.tensor([0.35, 0.35 + 1e-7])  # not to be told apart
    labels = torch.tensor([1, 0, 0, 0])
    found = judged(votes, labels, mean, VOTES, None, (1e-30, 1e-4))
    assert found.decisions.tolist()[:2] == [1, 0] and found.decisions[3] == 0
    assert found.doubtful.tolist() == [False, False, True, False] and found.top5.all()
    assert judged(votes, labels, None, VOTES, None, (1e-30, 1e-4)).doubtful.all()


def test_the_fifth_place_among_classes_without_a_vote() -> None:
    votes = torch.tensor([[3.0, 0, 0, 0, 0, 0, 0, 0]] * 3)
    mean = torch.tensor([[0.5, 0.14, 0.12, 0.1, 0.08, 0.03, 0.02, 0.01]] * 3)
    mean[2, 4] = mean[2, 5] * (1 + 1e-6)
    found = judged(votes, torch.tensor([4, 5, 5]), mean, VOTES, None, (1e-30, 1e-4))
    assert found.top5.tolist()[:2] == [True, False]
    assert found.doubtful.tolist() == [False, False, True]


def test_rough_scores_that_are_near_are_doubtful() -> None:
    scores = torch.tensor(
        [[1.0, 1.0 - 1e-6, 0, 0, 0, 0], [1.0, 0.9, 0.8, 0.7, 0.6, 0.6 - 1e-6], [1.0, 0.9, 0.8, 0.7, 0.6, 0.5]]
    )
    labels = torch.tensor([0, 4, 4])
    found = judged(scores, labels, scores, LOGITS, (1e-5, 0.0), (1e-30, 1e-4))
    assert found.doubtful.tolist() == [True, True, False]
    assert not judged(scores, labels, scores, LOGITS, (1e-8, 0.0), (1e-30, 1e-4)).doubtful.any()


def test_the_order_of_the_pool_changes_nothing() -> None:
    scores = logits()
    one = Cube(backbones=["a", "b", "c"], classes=list(map(str, range(17))), ids=list(map(str, range(50))), logits=scores)
    other = one.only(["c", "a", "b"])
    for name in ("mean_logit", "mean_probability"):
        assert torch.equal(getattr(one.sums, name), getattr(other.sums, name))
    assert torch.equal(one.sums.decisions, other.sums.decisions[[1, 2, 0]])


def test_picks_are_counted_as_numpy_counts_them() -> None:
    (words,), (picked,) = _words("a name", 20, 300), _picks("a name", 20, 300)
    found = times(words, 300, 300)
    assert found.dtype == np.uint8 and found.sum() == 20 * 300
    for row, expected in zip(found, picked, strict=True):
        assert np.array_equal(row, np.bincount(expected, minlength=300))
    with pytest.raises(OverflowError, match="more than 255 times"):
        times(np.zeros(256, np.uint64), 2, 256)
