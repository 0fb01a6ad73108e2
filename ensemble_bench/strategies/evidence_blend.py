"""Zero-shot heads and labelled examples, each trusted as far as the support bears it out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor
from torch.nn.functional import normalize, one_hot

from ensemble_bench.cube import Cube
from ensemble_bench.errors import BadOption, Lacking
from ensemble_bench.strategies.base import Strategy

COLDEST, HOTTEST = 0.05, 2.0
STEPS, ENOUGH = 50, 1e-10
NOTHING = 1e-30
UNSEEN = 0.9
"""The agreement that is assumed where fewer than four examples show none."""
SURE = 10
"""How many examples it takes until heads may move half of the way (in variance) that they may move with very many."""


def map_weights(terms: Tensor, labels: Tensor, centre: Tensor, spread: Tensor) -> Tensor:
    """Non-negative weights w [m] that maximise sum_s log softmax(terms @ w)[label] - sum ((w - centre) / spread)^2 / 2.

    ``terms`` float64 [s, c, m]. Concave, so there is one answer; Newton's method on the weights that are not held at zero.
    """
    rows, tight = torch.arange(len(labels)), spread.pow(-2)

    def value(w: Tensor) -> Tensor:
        return (terms @ w).log_softmax(1)[rows, labels].sum() - ((w - centre).square() * tight).sum() / 2

    w, best = centre.clone(), value(centre)
    for _ in range(STEPS):
        p = (terms @ w).softmax(1)
        mean = torch.einsum("sc,scm->sm", p, terms)
        slope = (terms[rows, labels] - mean).sum(0) - (w - centre) * tight
        bend = torch.einsum("sc,scm,scn->mn", p, terms, terms) - mean.T @ mean + tight.diag()
        free = ((w > 0) | (slope > 0)).nonzero().squeeze(1)
        step = torch.zeros_like(w)
        step[free] = torch.linalg.solve(bend[free][:, free], slope[free])
        tried = [(w + step * 0.5**halving).clamp_min(0) for halving in range(12)]
        new = next((one for one in tried if value(one) >= best), w)
        gain, w, best = value(new) - best, new, value(new)
        if gain <= ENOUGH:
            break
    return w


def class_means(x: Tensor, labels: Tensor, prior: Tensor, pseudo: float) -> tuple[Tensor, Tensor]:
    """Class means [c, d] of examples x [s, d] and ``pseudo`` more at ``prior`` [c, d], and the same of each example's own class
    without it [s, d]; where nothing is left the mean of a class is ``prior``."""
    hot = one_hot(labels, len(prior)).to(x)
    count, total = hot.sum(0).unsqueeze(1) + pseudo, hot.T @ x + pseudo * prior
    rest, others = count[labels] - 1, total[labels] - x
    here = torch.where(count > 0, total / count.clamp_min(1e-9), prior)
    return here, torch.where(rest > 0, others / rest.clamp_min(1e-9), prior[labels])


@dataclass(frozen=True, eq=False)
class Linear:
    """A score linear in x: ``weight`` [d, c] and ``bias`` [c]; ``loo`` [s, c] is that of each example by a fit without it."""

    weight: Tensor
    bias: Tensor
    loo: Tensor


def nearest(x: Tensor, labels: Tensor, prior: Tensor, pseudo: float) -> Linear:
    """Minus the squared distance to class means, without the part that all classes share."""
    mean, own = class_means(x, labels, prior, pseudo)
    weight, bias = 2 * mean.T, -mean.square().sum(1)
    loo = x @ weight + bias
    loo[torch.arange(len(x)), labels] = 2 * (x * own).sum(1) - own.square().sum(1)
    return Linear(weight, bias, loo)


def ridge(x: Tensor, labels: Tensor, classes: int, penalty: float) -> Linear:
    """Ridge regression on one-hot labels less 1 / c; leaving one out has a closed form."""
    wanted = one_hot(labels, classes).to(x) - 1 / classes
    inverse = torch.linalg.inv(x @ x.T + penalty * torch.eye(len(x), dtype=x.dtype))
    dual = inverse @ wanted
    return Linear(x.T @ dual, torch.zeros(classes, dtype=x.dtype), wanted - dual / inverse.diagonal().unsqueeze(1))


def agreement(x: Tensor, y: Tensor) -> float:
    """How alike two spaces [s, d] place the same samples, 0 to 1: linear CKA with unbiased HSIC (Song et al. 2012).

    Less than nothing counts as 0. Needs no labels. UNSEEN for fewer than four samples, for which it is not defined.
    """
    n = len(x)
    if n < 4:
        return UNSEEN
    x, y = x - x.mean(0), y - y.mean(0)  # changes nothing but rounding
    one, two = (gram - gram.diag().diag() for gram in (x @ x.T, y @ y.T))

    def hsic(a: Tensor, b: Tensor) -> float:
        return float((a * b).sum() + a.sum() * b.sum() / ((n - 1) * (n - 2)) - 2 * (a.sum(0) @ b.sum(0)) / (n - 2))

    below = hsic(one, one) * hsic(two, two)
    return min(1.0, max(0.0, hsic(one, two)) / math.sqrt(below)) if below > NOTHING else 0.0


@dataclass(eq=False)
class EvidenceBlend(Strategy):
    """The backbones' heads, weighted, plus three readings of the labelled examples, each as far as evidence bears it out.

    ``heads``: sum_b u_b Z_b / B, u most likely on the support under a normal prior around 1 (log-avg) of variance s / (s + 10).
    ``profiles``: the root probabilities of all backbones side by side (u_b is their temperature too), against class means of
    the examples and ``pseudo`` perfect ones (certain of the class in every backbone). A confusion that heads repeat is learnt.
    ``means``: unit features and centred logits against the class means of the examples.
    ``ridge``: a ridge regression on all of them.

    With one example a class nothing can be left out. The first reading then weighs ``profiles``. The second weighs ``means``
    times the root of the heads' loss on the support (1 = no better than guessing) times the 12th power of the agreement between
    features and logits on where the examples lie: what features follow that heads do not see is rarely the class. The third
    weighs 0. With K, all weights are most likely on left-out examples, under the same prior for heads, and for readings
    under one around the above with deviation ``freedom`` x (1 - 1/K)^4.

    Each part of the space is scaled so that two examples are at a squared distance of 1 on average. The time of a fit grows
    with the third power of the support.
    """

    profiles: float = 8.0
    means: float = 12.0
    pseudo: float = 1.0
    freedom: float = 16.0
    penalty: float = 0.5
    family: ClassVar[str] = "adaptive"
    labels: ClassVar[str] = "support"
    needs: ClassVar[tuple[str, ...]] = ("logits", "features")
    gives: ClassVar[str] = "logits"
    convex: ClassVar[bool] = False
    convex_reason: ClassVar[str] = "labelled examples may overrule heads that agree"

    def __post_init__(self) -> None:
        for key in ("profiles", "means", "pseudo", "freedom"):
            if not 0 <= getattr(self, key) < math.inf:
                raise BadOption(f"evidence-blend: {key} must be at least 0, not {getattr(self, key)}.")
        if not 0 < self.penalty < math.inf:
            raise BadOption(f"evidence-blend: penalty must be above 0, not {self.penalty}.")

    @torch.no_grad()
    def fit(self, support: Cube) -> Self:
        seen = support.canonical()
        (b, s, c), labels = seen.shape, seen.labels
        if not s:
            raise Lacking("a fit needs at least one labelled example; this support is empty.")
        logits = seen.logits.double()
        terms = logits.permute(1, 2, 0) / b
        one = torch.ones(b, dtype=torch.float64)
        loose = one * math.sqrt(s / (s + SURE))
        heads = map_weights(terms, labels, one, loose)
        loss = -(terms @ heads).log_softmax(1)[torch.arange(s), labels].mean()
        doubt = min(1.0, float(loss) / math.log(c)) if c > 1 else 0.0

        self.backbones_, self.heat_ = seen.backbones, heads.clamp(COLDEST, HOTTEST)
        parts = self._parts(seen)
        self.centre_ = torch.cat([part.mean(0) for part in parts])
        apart = [2 * (part - part.mean(0)).square().sum() / max(s - 1, 1) for part in parts]
        self.scale_ = torch.cat(
            [(a if a > 0 else torch.ones_like(a)).rsqrt().expand(part.shape[1]) for a, part in zip(apart, parts, strict=True)]
        )
        x = self._placed(parts)
        d, perfect = b * c, torch.eye(c, dtype=torch.float64).repeat(1, b) / math.sqrt(b)
        readings = [nearest(x[:, :d], labels, (perfect - self.centre_[:d]) * self.scale_[:d], self.pseudo)]
        readings.append(nearest(x[:, d:], labels, torch.zeros(c, x.shape[1] - d, dtype=x.dtype), 0.0))
        weights = torch.tensor([self.profiles, self.means * doubt**0.5 * agreement(*parts[1:]) ** 12, 0.0], dtype=torch.float64)
        spread = self.freedom * (1 - len(labels.unique()) / s) ** 4
        if spread > 0:
            readings.append(ridge(x, labels, c, self.penalty))
            every = torch.cat([terms, torch.stack([reading.loo for reading in readings], dim=2)], dim=2)
            found = map_weights(every, labels, torch.cat([one, weights]), torch.cat([loose, torch.full((3,), spread).double()]))
            heads, weights = found[:b], found[b:]
        self.heads_, self.weights_ = heads / b, weights
        self.into_, self.bias_ = torch.zeros(x.shape[1], c, dtype=x.dtype), torch.zeros(c, dtype=x.dtype)
        for reading, weight, rows in zip(readings, weights, (slice(0, d), slice(d, None), slice(None)), strict=False):
            self.into_[rows] += weight * reading.weight
            self.bias_ += weight * reading.bias
        return self

    def _parts(self, cube: Cube) -> list[Tensor]:
        """Root probabilities, unit features and centred logits, float64 [s, d]: each of all backbones side by side."""
        logits = cube.logits.double()
        profile = (logits * self.heat_[:, None, None]).softmax(-1).sqrt() / math.sqrt(len(logits))
        feature = torch.cat([normalize(part.double(), dim=1) for part in cube.features], dim=1)
        centred = logits - logits.mean(-1, keepdim=True)
        return [torch.cat(list(profile), dim=1), feature, torch.cat(list(centred), dim=1)]

    def _placed(self, parts: list[Tensor]) -> Tensor:
        return (torch.cat(parts, dim=1) - self.centre_) * self.scale_

    def predict(self, query: Cube) -> Tensor:
        self.fitted()
        query = query.only(self.backbones_)
        heads = torch.einsum("b,bsc->sc", self.heads_, query.logits.double())
        return heads + self._placed(self._parts(query)) @ self.into_ + self.bias_
