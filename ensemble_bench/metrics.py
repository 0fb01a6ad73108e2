"""Pure functions from scores, decisions and labels to numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ensemble_bench.cube import Cube, best
from ensemble_bench.errors import BadCube, BadPlugin

ECE_BINS = 15
_EPS = 2.0**-23
CLOSE = 1e-11  # highest probabilities that are closer may count as equal
_UNDERFLOW = 1e-30  # probabilities below are not to be told apart in float32


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
    return query.mean_probability if query.rough else posteriors(query).mean(0)


def mean_logit(query: Cube) -> Tensor:
    """Mean over backbones of their logits, float64 [s, c], summed in the order of the backbones' ids."""
    return query.sums.mean_logit if query.rough else query.by_backbone().logits.double().mean(0)


def mean_log_probability(query: Cube) -> Tensor:
    """Mean over backbones of their log-probabilities, float64 [s, c], summed in the order of the backbones' ids."""
    if not query.rough or "logits" not in query.has:
        return log_posteriors(query).mean(0)
    top = query.logits.gather(-1, query.decisions.unsqueeze(-1)).squeeze(-1)
    same = (top + query.sums.rest.log1p()).mean(0)  # what all logits of a sample have too much
    return query.sums.mean_logit - same.unsqueeze(-1).to(query.sums.mean_logit)


def posteriors(query: Cube) -> Tensor:
    """Probabilities float64 [b, s, c], backbones in the order of their ids; from logits by a softmax in float64.

    Of a rough cube in its own precision, float32: computed once for all who ask. So are the other means and logarithms here.
    """
    query = query.by_backbone()
    if query.rough:
        return query.probabilities
    return query.logits.double().softmax(-1) if "logits" in query.has else query.probabilities.double()


def log_posteriors(query: Cube) -> Tensor:
    """Log-probabilities float64 [b, s, c], backbones in the order of their ids; from logits by a log-softmax in float64."""
    query = query.by_backbone()
    if query.rough:
        return query.log_probabilities
    return query.logits.double().log_softmax(-1) if "logits" in query.has else query.log_probabilities.double()


def confidences(query: Cube) -> Tensor:
    """Highest probability of each backbone, float64 [b, s], backbones in the order of their ids.

    Of a rough cube in its own precision, but where the two highest of a sample are too close for that.
    """
    if not query.rough or "logits" not in query.has:
        query = query.by_backbone()
        return posteriors(query).amax(-1).double() if "probabilities" in query.has else query.confidence.double()
    order = sorted(range(len(query.backbones)), key=query.backbones.__getitem__)
    found = 1 / (1 + query.sums.rest[order])
    if len(found) > 1:
        first, second = found.topk(2, dim=0).values
        loose = Slack.of(query).relative * (first * (1 - first) + second * (1 - second))
        close = (second >= first - loose - CLOSE).nonzero().squeeze(1)
        if len(close):
            found[:, close] = confidences(query.take(close).exactly())
    return found


def posteriors_of(query: Cube, chosen: Tensor) -> Tensor:
    """Probabilities [s, c] of one backbone per sample, by its place in the order of their ids, int64 [s]; as ``posteriors``."""
    query = query.by_backbone()
    scores = query.logits if "logits" in query.has else query.probabilities
    picked = torch.from_numpy(_array(scores)[chosen.numpy(), np.arange(len(query))])  # by numpy, several times faster at it
    picked = picked if query.rough else picked.double()
    return picked.softmax(-1) if "logits" in query.has else picked


@dataclass(frozen=True)
class Slack:
    """How far scores that were made in float32 from a rough cube may lie from those made in float64.

    ``absolute`` bounds the error of mean log-probabilities but for what is the same for all classes of a sample, ``relative``
    that of probabilities: a bound on the rounding of c exponentials and their sum, then of a mean over b backbones.
    """

    absolute: float
    relative: float

    @classmethod
    def of(cls, query: Cube) -> Slack:
        """The slack of a rough cube; from the size of its logits."""
        b, _, c = query.shape
        return cls(_EPS * (b + 4) * query.extent, _EPS * (2 * query.extent + b + 8 + c / 8))


class Means:
    """Mean probabilities of the samples of one cube, which decide ties: computed for those asked for, each once."""

    def __init__(self, query: Cube) -> None:
        self.query = query
        self._found: Tensor | None = None
        self._done = torch.zeros(len(query), dtype=torch.bool)

    def of(self, rows: Tensor) -> Tensor:
        """Float64 [len(rows), c]."""
        if len(rows) == len(self.query):  # as in most queries of few classes: nothing to gather
            rows = torch.arange(len(rows))
        missing = rows[~self._done[rows]]
        if len(missing):
            if self._found is None:
                self._found = torch.empty(len(self.query), len(self.query.classes), dtype=torch.float64)
            self._found[missing] = mean_probability(self.query.take(missing).exactly())
            self._done[missing] = True
        assert self._found is not None
        return self._found[rows]

    def take(self, index: Tensor) -> Means:
        """Those of some samples, numbered anew."""
        return _Part(self, index)


class _Part(Means):
    """Some of the means of another cube, which keeps them."""

    def __init__(self, whole: Means, index: Tensor) -> None:
        self.whole, self.index = whole, index

    def of(self, rows: Tensor) -> Tensor:
        return self.whole.of(self.index[rows])


def decide(scores: Tensor, query: Cube, means: Means | None = None) -> Tensor:
    """The answer for each sample, int64 [s]: the class with the highest score.

    Ties go to the class with the higher mean probability over the backbones, in float64, then to the lower class index; on a
    cube that has no probabilities to the lower class index alone. There, a row of nothing but zeros (nobody voted: every
    decision asked was "no answer") is no answer, -1, which is never right. ``means`` of the query are shared between calls.
    """
    scores = checked(scores, query)
    answer = best(scores)
    if "probabilities" not in query.has:
        return torch.where((scores == 0).all(-1), -1, answer)
    tied = _array(scores) == _array(scores.gather(1, answer.unsqueeze(1)))
    rows = _where(_count(tied) > 1)
    if len(rows):
        mean = (means or Means(query)).of(rows)
        answer[rows] = torch.where(torch.from_numpy(tied[rows.numpy()]), mean, -1.0).argmax(-1)
    return answer


def _array(tensor: Tensor) -> NDArray[Any]:
    array: NDArray[Any] = tensor.numpy()
    return array


def _count(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """How many are true in each row of [s, c], int64 [s]: eight columns in one addition where they fit into a byte each."""
    _, c = mask.shape
    if c % 8 or c > 8 * 255 or not mask.flags.c_contiguous:
        return np.asarray(np.count_nonzero(mask, axis=1))
    counts: NDArray[np.int64] = mask.view(np.uint64).sum(1, keepdims=True).view(np.uint8).sum(1, dtype=np.int64)
    return counts


def _where(mask: NDArray[np.bool_]) -> Tensor:
    """Places, int64."""
    return torch.from_numpy(np.flatnonzero(mask))


def checked(scores: Tensor, query: Cube) -> Tensor:
    """The scores, if they are finite and [s, c]; otherwise the strategy that gave them broke its promise."""
    _, s, c = query.shape
    if tuple(scores.shape) != (s, c):
        raise BadPlugin(f"the scores of a strategy must be [s, c] = {[s, c]}, not {list(scores.shape)}.")
    scores = scores.detach().cpu()
    if scores.dtype not in (torch.float32, torch.float64):
        scores = scores.double()
    if s and not (float(scores.amax()) < torch.inf and float(scores.amin()) > -torch.inf):  # NaN is neither
        raise BadPlugin("the scores of a strategy must be finite; some are NaN or infinite.")
    return scores


def place(scores: Tensor, labels: Tensor, query: Cube, means: Means | None = None) -> Tensor:
    """How many classes stand before the label, int64 [s], 0 to c - 1, ties resolved as in ``decide``: 0 where it is right."""
    scores = checked(scores, query)
    label = labels.long().unsqueeze(1)
    array, own = _array(scores), _array(scores.gather(1, label))
    before = torch.from_numpy(_count(array > own))
    tied = array == own
    rows = _where(_count(tied) > 1)
    if len(rows):
        before[rows] += _before(torch.from_numpy(tied[rows.numpy()]), label[rows], rows, query, means)
    return before


def _before(tied: Tensor, label: Tensor, rows: Tensor, query: Cube, means: Means | None) -> Tensor:
    """How many of the classes that are tied with the label stand before it, int64 [r], in these rows of the query."""
    lower = torch.arange(tied.shape[1]) < label
    if "probabilities" in query.has:
        mean = (means or Means(query)).of(rows)
        mine = mean.gather(1, label)
        lower = (mean > mine) | ((mean == mine) & lower)
    return (tied & lower).sum(-1)


def among(scores: Tensor, labels: Tensor, query: Cube, most: int = 5, means: Means | None = None) -> Tensor:
    """Whether the label is among the ``most`` best classes, bool [s]: ``place`` below ``most``, ties only where they matter."""
    scores = checked(scores, query)
    label = labels.long().unsqueeze(1)
    array, own = _array(scores), _array(scores.gather(1, label))
    with_ties = _count(array >= own)
    found = with_ties <= most
    rows = _where(~found)
    if len(rows):
        some = rows.numpy()
        before = _count(array[some] > own[some])
        undecided = before < most
        found[some[~undecided]] = False
        rows, some = rows[torch.from_numpy(undecided)], some[undecided]
        if len(rows):
            tied = torch.from_numpy(array[some] == own[some])
            found[some] = before[undecided] + _array(_before(tied, label[rows], rows, query, means)) < most
    return torch.from_numpy(found)


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
    _check_probabilities(scores, scores.sum(-1))
    return scores.clamp_min(torch.finfo(torch.float64).tiny).log()


def _check_probabilities(scores: Tensor, total: Tensor) -> None:
    if len(total) and (float(scores.amin()) < 0 or float((total - 1).abs().amax()) > 1e-4):
        raise BadPlugin("a strategy that gives probabilities must give rows that are not negative and sum to one within 1e-4.")


def per_sample(scores: Tensor, gives: str, labels: Tensor, query: Cube, means: Means | None = None) -> dict[str, Tensor]:
    """What each sample contributes: ``decisions`` int64 [s], and where they mean something the others.

    ``top5`` bool [s] with at least five classes on a cube that has probabilities (among bare decisions, fifth places are not
    known). ``confidence`` (of the answer, in [0, 1]), ``nll`` (nats) and ``brier`` (0 to 2), float64 [s], where ``gives`` is
    probabilities or logits; on a decisions-only cube all scores are votes, whatever a strategy gives elsewhere. Of a rough cube
    these three are made in float32 (off by less than a millionth of the largest logit), the others are exact all the same.
    """
    means = means or Means(query)
    decisions = decide(scores, query, means)
    found = {"decisions": decisions}
    if "probabilities" not in query.has:
        return found
    if scores.shape[1] >= 5:
        found["top5"] = among(scores, labels, query, 5, means)
    if gives != "votes":
        found |= _exactly(scores.detach().cpu(), gives, decisions, labels)
    return found


def roughly(
    scores: Tensor, gives: str, labels: Tensor, query: Cube, *, exact: bool = False
) -> tuple[dict[str, Tensor], Tensor]:
    """``per_sample`` for a rough cube that has probabilities, and the samples (int64 [r]) of which something may be otherwise.

    Scores were made from the rough cube, or are ``exact``. Nothing is said of ties, exact or near, that the rough means do not
    settle beyond doubt, and of rough labels whose probability is next to nothing.
    """
    from ensemble_bench import passes  # for its weight

    slack = Slack(0, 0) if exact and not query.at_hand else Slack.of(query)
    near = _UNDERFLOW, 2 * slack.relative
    room = None if exact else (2 * slack.absolute, 0.0) if gives == "logits" else near
    mean = mean_probability(query) if query.at_hand else None  # not worth reading all scores for a few ties
    kind = {"votes": passes.VOTES, "probabilities": passes.PROBABILITIES, "logits": passes.LOGITS}[gives]
    seen = passes.judged(checked(scores, query), labels.long(), mean, kind, room, near)
    found = {"decisions": seen.decisions}
    if scores.shape[1] >= 5:
        found["top5"] = seen.top5
    if gives == "probabilities":
        _check_probabilities(seen.least, seen.total)
    if gives != "votes":
        found |= {"confidence": seen.confidence, "nll": seen.nll, "brier": seen.brier}
    return found, seen.doubtful.nonzero().squeeze(1)


def _exactly(scores: Tensor, gives: str, decisions: Tensor, labels: Tensor) -> dict[str, Tensor]:
    log = log_of(scores, gives)
    label = labels.long().unsqueeze(1)
    probability = log.exp()
    own = probability.gather(1, label).squeeze(1)
    return {
        "confidence": probability.gather(1, decisions.unsqueeze(1)).squeeze(1),
        "nll": -log.gather(1, label).squeeze(1),
        "brier": probability.square().sum(-1) - 2 * own + 1,
    }


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
