"""Pure functions from scores, decisions and labels to numbers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ensemble_bench.cube import Cube
from ensemble_bench.errors import BadCube, BadPlugin

ECE_BINS = 15


@dataclass(frozen=True)
class Metric:
    """What a number says: ``direction`` is +1 where more is better and -1 where less is, ``needs`` what must be declared."""

    name: str
    direction: int
    low: float | None
    high: float | None
    needs: str
    summary: str


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("acc1", +1, 0.0, 1.0, "decisions", "share of right answers"),
        Metric("acc5", +1, 0.0, 1.0, "scores", "share of labels among the five best classes; needs five classes"),
        Metric(
            "mean_per_class_recall",
            +1,
            0.0,
            1.0,
            "decisions",
            "mean over the classes that occur of their share of right answers",
        ),
        Metric("nll", -1, 0.0, None, "probabilities", "mean negative log-probability of the label, in nats"),
        Metric(
            "ece", -1, 0.0, 1.0, "probabilities", f"expected calibration error of the answer, {ECE_BINS} bins of equal width"
        ),
        Metric("brier", -1, 0.0, 2.0, "probabilities", "mean squared distance of the probabilities from the one-hot label"),
        Metric("gap_closed", +1, None, None, "decisions", "share of the way from the best single backbone to the oracle"),
    )
}


def mean_probability(query: Cube) -> Tensor:
    """Mean over backbones of their probabilities, float64 [s, c], summed in the order of the backbones' ids."""
    return posteriors(query).mean(0)


def posteriors(query: Cube) -> Tensor:
    """Probabilities float64 [b, s, c], backbones in the order of their ids; from logits by a softmax in float64."""
    query = query.by_backbone()
    return query.logits.double().softmax(-1) if "logits" in query.has else query.probabilities.double()


def log_posteriors(query: Cube) -> Tensor:
    """Log-probabilities float64 [b, s, c], backbones in the order of their ids; from logits by a log-softmax in float64."""
    query = query.by_backbone()
    return query.logits.double().log_softmax(-1) if "logits" in query.has else query.log_probabilities.double()


def decide(scores: Tensor, query: Cube) -> Tensor:
    """The answer for each sample, int64 [s]: the class with the highest score.

    Ties, in float64, go to the class with the higher mean probability over the backbones, then to the lower class index; on a
    cube that has no probabilities to the lower class index alone. There, a row of nothing but zeros (nobody voted: every
    decision asked was "no answer") is no answer, -1, which is never right.
    """
    scores = checked(scores, query)
    tied = scores == scores.max(-1, keepdim=True).values
    answer = tied.int().argmax(-1)
    if "probabilities" not in query.has:
        return torch.where((scores == 0).all(-1), -1, answer)
    rows = (tied.sum(-1) > 1).nonzero().squeeze(1)
    if len(rows):
        mean = mean_probability(query.take(rows))
        answer[rows] = torch.where(tied[rows], mean, -1.0).argmax(-1)
    return answer


def checked(scores: Tensor, query: Cube) -> Tensor:
    """The scores in float64, if they are finite and [s, c]; otherwise the strategy that gave them broke its promise."""
    _, s, c = query.shape
    if tuple(scores.shape) != (s, c):
        raise BadPlugin(f"the scores of a strategy must be [s, c] = {[s, c]}, not {list(scores.shape)}.")
    if not bool(torch.isfinite(scores).all()):
        raise BadPlugin("the scores of a strategy must be finite; some are NaN or infinite.")
    return scores.double()


def place(scores: Tensor, labels: Tensor, query: Cube) -> Tensor:
    """How many classes stand before the label, int64 [s], 0 to c - 1, ties resolved as in ``decide``: 0 where it is right."""
    scores = checked(scores, query)
    label = labels.long().unsqueeze(1)
    own = scores.gather(1, label)
    before = (scores > own).sum(-1)
    tied = scores == own
    rows = (tied.sum(-1) > 1).nonzero().squeeze(1)
    if len(rows):
        label, tied = label[rows], tied[rows]
        lower = torch.arange(scores.shape[1]) < label
        if "probabilities" in query.has:
            mean = mean_probability(query.take(rows))
            mine = mean.gather(1, label)
            lower = (mean > mine) | ((mean == mine) & lower)
        before[rows] += (tied & lower).sum(-1)
    return before


def order(scores: Tensor, query: Cube) -> Tensor:
    """The classes of each sample from best to worst, int64 [s, c], ties resolved as in ``decide``: its answer comes first."""
    scores = checked(scores, query)
    found = scores.sort(dim=-1, descending=True, stable=True)
    place = found.indices
    rows = (found.values.diff(dim=-1) == 0).any(-1).nonzero().squeeze(1)
    if len(rows) and "probabilities" in query.has:
        by_mean = mean_probability(query.take(rows)).argsort(dim=-1, descending=True, stable=True)
        again = scores[rows].gather(1, by_mean).argsort(dim=-1, descending=True, stable=True)
        place[rows] = by_mean.gather(1, again)
    return place


def log_of(scores: Tensor, gives: str) -> Tensor:
    """Log-probabilities float64 [s, c] of scores that are ``probabilities`` (rows sum to one within 1e-4) or ``logits``."""
    scores = scores.double()
    if gives == "logits":
        return scores.log_softmax(-1)
    if gives != "probabilities":
        raise BadCube(f"only probabilities and logits have log-probabilities, not {gives}.")
    off = (scores.sum(-1) - 1).abs()
    if bool((scores < 0).any()) or bool((off > 1e-4).any()):
        raise BadPlugin("a strategy that gives probabilities must give rows that are not negative and sum to one within 1e-4.")
    return scores.clamp_min(torch.finfo(torch.float64).tiny).log()


def per_sample(scores: Tensor, gives: str, labels: Tensor, query: Cube) -> dict[str, Tensor]:
    """What each sample contributes: ``decisions`` int64 [s], and where they mean something the others.

    ``top5`` bool [s] with at least five classes on a cube that has probabilities (among bare decisions, fifth places are not
    known). ``confidence`` (of the answer, in [0, 1]), ``nll`` (nats) and ``brier`` (0 to 2), float64 [s], where ``gives`` is
    probabilities or logits; on a decisions-only cube all scores are votes, whatever a strategy gives elsewhere.
    """
    decisions = decide(scores, query)
    found = {"decisions": decisions}
    if "probabilities" not in query.has:
        return found
    if scores.shape[1] >= 5:
        found["top5"] = place(scores, labels, query) < 5
    if gives != "votes":
        log = log_of(scores, gives)
        label = labels.long().unsqueeze(1)
        probability = log.exp()
        found["confidence"] = probability.gather(1, decisions.unsqueeze(1)).squeeze(1)
        found["nll"] = -log.gather(1, label).squeeze(1)
        own = probability.gather(1, label).squeeze(1)
        found["brier"] = probability.square().sum(-1) - 2 * own + 1
    return found


def measured(sample: dict[str, Tensor], labels: Tensor) -> dict[str, float | None]:
    """Every metric that ``per_sample`` allows, by name; ``acc5`` is None where it has no meaning."""
    right = sample["decisions"] == labels
    values: dict[str, float | None] = {
        "acc1": acc1(sample["decisions"], labels),
        "acc5": float(sample["top5"].double().mean()) if "top5" in sample else None,
        "mean_per_class_recall": mean_per_class_recall(sample["decisions"], labels),
    }
    if "nll" in sample:
        values["nll"] = float(sample["nll"].mean())
        values["ece"] = ece(sample["confidence"], right)
        values["brier"] = float(sample["brier"].mean())
    return values


def acc1(decisions: Tensor, labels: Tensor) -> float:
    """Share of right answers, in [0, 1], more is better.

    >>> acc1(torch.tensor([0, 1, -1, 2]), torch.tensor([0, 1, 1, 1]))
    0.5
    """
    return float((decisions == labels).double().mean())


def acc5(scores: Tensor, labels: Tensor, query: Cube) -> float | None:
    """Share of labels among the five best classes, in [0, 1], more is better; None with fewer than five classes."""
    if scores.shape[1] < 5 or "probabilities" not in query.has:
        return None
    return float((place(scores, labels, query) < 5).double().mean())


def mean_per_class_recall(decisions: Tensor, labels: Tensor) -> float:
    """Mean over the classes that occur among the labels of their share of right answers, in [0, 1], more is better.

    >>> mean_per_class_recall(torch.tensor([0, 0, 0, 1]), torch.tensor([0, 0, 1, 1]))
    0.75
    """
    labels = labels.long()
    count = labels.bincount()
    right = labels[decisions == labels].bincount(minlength=len(count))
    seen = count > 0
    return float((right[seen].double() / count[seen].double()).mean())


def nll(scores: Tensor, gives: str, labels: Tensor) -> float:
    """Mean negative log-probability of the label, in nats, at least 0, less is better."""
    return float(-log_of(scores, gives).gather(1, labels.long().unsqueeze(1)).mean())


def brier(scores: Tensor, gives: str, labels: Tensor) -> float:
    """Mean squared distance of the probabilities from the one-hot label, summed over classes: in [0, 2], less is better."""
    probability = log_of(scores, gives).exp()
    wanted = torch.nn.functional.one_hot(labels.long(), scores.shape[1])
    return float((probability - wanted).square().sum(-1).mean())


def ece(confidence: Tensor, right: Tensor, bins: int = ECE_BINS) -> float:
    """Expected calibration error of the answer, in [0, 1], less is better (Guo et al. 2017, equation 3).

    ``confidence`` [s] in [0, 1], ``right`` bool [s]; bins of equal width, each open below and closed above.

    >>> round(ece(torch.tensor([0.9, 0.9, 0.6, 0.6]), torch.tensor([True, False, True, True]), bins=10), 6)
    0.4
    """
    number = (confidence.double() * bins).ceil().long().clamp(1, bins) - 1
    off = torch.zeros(bins, dtype=torch.float64)
    off.index_add_(0, number, confidence.double() - right.double())
    return float(off.abs().sum() / len(confidence))


def gap_closed(accuracy: float, base: float, oracle: float) -> float | None:
    """Share of the way from ``base`` to ``oracle``: 0 at the base, 1 at the oracle, below and above allowed; None if no way.

    >>> gap_closed(0.75, 0.5, 1.0), gap_closed(0.5, 0.7, 0.7)
    (0.5, None)
    """
    return None if oracle == base else (accuracy - base) / (oracle - base)
