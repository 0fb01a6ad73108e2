"""Classifiers of features and Tip-Adapters: against scikit-learn, autograd and plain loops."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.covariance import ledoit_wolf as their_ledoit_wolf
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestCentroid
from torch import Tensor
from torch.optim.adamw import adamw

from ensemble_bench import fits
from ensemble_bench.cube import Cube
from ensemble_bench.errors import BadCube, BadOption, Lacking
from ensemble_bench.metrics import decide
from ensemble_bench.plan import planned
from ensemble_bench.request import Request
from ensemble_bench.strategies.adamw import AdamW
from ensemble_bench.strategies.base import Strategy, written
from ensemble_bench.strategies.build import named
from ensemble_bench.strategies.heads import UNSEEN, means, span, unit
from ensemble_bench.strategies.lda import ledoit_wolf
from ensemble_bench.strategies.nlc import NeuralLogitController
from ensemble_bench.strategies.spelling import parsed
from ensemble_bench.strategies.tip_adapter import ALPHA, BETA, chosen, grid
from ensemble_bench.strategies.tip_adapter_f import slope
from ensemble_bench.strategies.tip_adapter_nlc import TipAdapterNLC
from ensemble_bench.testing.toy import BACKBONES, poorer, toy

LINEAR = ("linear-probe", "nearest-centroid", "lda")
TIPS = ("tip-adapter", "tip-adapter-f", "tip-adapter-nlc")
HEADS = (*LINEAR, *TIPS)


def arrays(cube: Cube) -> tuple[Any, Any]:
    """Features and labels as scikit-learn takes them."""
    return np.asarray(unit(cube).double()), np.asarray(cube.labels)


# --- what they share ------------------------------------------------------------------------------------------------


def test_features_stand_side_by_side_at_unit_length(support: Cube) -> None:
    x = unit(support)
    assert x.shape == (18, 9 + 6 + 8 + 7) and x.dtype == torch.float32
    assert x.square().sum(1).tolist() == pytest.approx([4.0] * 18, abs=1e-5)
    assert torch.allclose(x[:, 9:15], support.features[1] / support.features[1].norm(dim=1, keepdim=True), atol=1e-6)


@pytest.mark.parametrize(("n", "d"), [(5, 30), (30, 5), (4, 4)])
def test_a_span_keeps_lengths_and_angles(n: int, d: int) -> None:
    x = torch.randn(n, d, generator=torch.Generator().manual_seed(n), dtype=torch.float64)
    x[1] = x[0]  # examples may repeat
    inside, basis = span(x)
    assert inside.shape == (n, min(n, d)) and basis.shape == (d, min(n, d))
    assert torch.allclose(inside @ inside.T, x @ x.T) and torch.allclose(inside @ basis.T, x)
    assert torch.allclose(basis.T @ basis, torch.eye(min(n, d), dtype=torch.float64))


def test_means_by_hand() -> None:
    found = means(torch.tensor([[1.0, 0.0], [3.0, 2.0], [5.0, 5.0]]), torch.tensor([1, 1, 0]), 2)
    assert found.tolist() == [[5.0, 5.0], [2.0, 1.0]]


@pytest.mark.parametrize("name", HEADS)
def test_one_backbone_looks_at_nothing_else(name: str, support: Cube, query: Cube) -> None:
    """As if the pool held that backbone alone; the cost is its own."""
    one = BACKBONES[2]
    strategy = named(f"{name}:backbone={one}").fit(support)
    alone = named(name).fit(support.only([one]))
    assert torch.equal(strategy.predict(query), alone.predict(query.only([one])))
    assert strategy.used(query).tolist() == [[backbone == one] * len(query) for backbone in query.backbones]
    assert named(name).fit(support).used(query).all()
    with pytest.raises(BadCube, match="has no backbone 'each', only toy/a-wide"):
        named(f"{name}:backbone=each").fit(support)


@pytest.mark.parametrize("name", HEADS)
def test_an_empty_a_blind_or_a_poor_support_is_a_sentence(name: str, support: Cube) -> None:
    with pytest.raises(Lacking, match="blind"):
        named(name).fit(support.blind())
    with pytest.raises(Lacking, match="at least one labelled example"):
        named(name).fit(support.take([]))
    with pytest.raises(Lacking, match="no features"):
        named(name).fit(poorer(support, "logits"))


@pytest.mark.parametrize("name", HEADS)
def test_a_fit_can_be_saved(name: str, support: Cube, query: Cube, tmp_path: Path) -> None:
    strategy = named(name).fit(support)
    _, learnt = fits.load(tmp_path, fits.save(tmp_path, strategy.learnt(), {}))
    again = named(name)
    for key, value in learnt.items():
        setattr(again, key, value)
    assert torch.equal(again.predict(query), strategy.predict(query))


@pytest.mark.parametrize("name", LINEAR)
def test_a_class_without_an_example_is_never_the_answer(name: str, support: Cube, query: Cube) -> None:
    part = support.take(support.labels != 2)
    scores = named(name).fit(part).predict(query)
    others = scores[:, [0, 1, 3, 4, 5]]
    assert torch.allclose(scores[:, 2], others.amin(1) - UNSEEN)
    lonely = named(name).fit(support.take([0]))
    assert (decide(lonely.predict(query), query) == support.labels[0]).all()


# --- one row per backbone -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("identity", ["openai/RN50", "mini/vit-a", "file:0123456789ab/ViT-B-32", "laion2b_s34b_b79k/ViT-B-32"])
@pytest.mark.parametrize("name", HEADS)
def test_a_backbones_id_is_a_parameter(name: str, identity: str) -> None:
    text = f"{name}:backbone={identity}"
    assert parsed(text) == (name, {"backbone": identity})
    assert written(name, named(text)) == text and named(text).parameters() == {"backbone": identity}
    assert written(name, named(f"{name}:backbone=all")) == name


def test_each_is_a_row_per_backbone() -> None:
    asked = ("linear-probe:backbone=each,lda", "tip-adapter-f:epochs=5:backbone=each", "single:each,single")
    plan = planned(Request(tasks=("mini/digits",), strategies=asked))
    ids = [backbone.id for backbone in plan.backbones]
    assert len(ids) == 5
    assert plan.strategies == (
        *(f"linear-probe:backbone={name}" for name in ids),
        "lda",
        *(f"tip-adapter-f:epochs=5:backbone={name}" for name in ids),
        *(f"single:{name}" for name in ids),
    )


# --- linear heads against scikit-learn ------------------------------------------------------------------------------


@pytest.mark.parametrize(("samples", "penalty"), [(6, 0.1), (18, 0.1), (18, 3.0), (240, 0.5)])
def test_linear_probe_against_scikit_learn(samples: int, penalty: float, query: Cube) -> None:
    support = toy(samples, 1)
    x, y = arrays(support)
    theirs = LogisticRegression(C=1 / penalty, tol=1e-10, max_iter=20_000).fit(x, y)
    found = named(f"linear-probe:penalty={penalty}").fit(support).predict(query).double().softmax(1)
    assert np.abs(found.numpy() - theirs.predict_proba(arrays(query)[0])).max() < 2e-4


def test_nearest_centroid_against_scikit_learn(support: Cube, query: Cube) -> None:
    x, y = arrays(support)
    theirs = NearestCentroid().fit(x, y)
    strategy = named("nearest-centroid").fit(support)
    scores = strategy.predict(query)
    assert np.array_equal(scores.argmax(1).numpy(), theirs.predict(arrays(query)[0]))
    distance = (unit(query).unsqueeze(1) - torch.tensor(theirs.centroids_).float()).square().sum(-1)
    assert torch.allclose(scores - scores[:, :1], (distance[:, :1] - distance) / 2, atol=1e-5)


@pytest.mark.parametrize("samples", [13, 20, 241])
@pytest.mark.parametrize("shrinkage", [0.1, 0.6, 1.0])
def test_lda_against_scikit_learn(samples: int, shrinkage: float, query: Cube) -> None:
    support = toy(samples, 1)  # classes of different sizes
    x, y = arrays(support)
    theirs = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage).fit(x, y)
    found = named(f"lda:shrinkage={shrinkage}").fit(support).predict(query).double().softmax(1)
    assert np.abs(found.numpy() - theirs.predict_proba(arrays(query)[0])).max() < 1e-3


@pytest.mark.parametrize("samples", [12, 60, 600])
def test_lda_shrinks_as_ledoit_and_wolf(samples: int, query: Cube) -> None:
    """The shrinkage is scikit-learn's for the residuals within classes, also after they were rotated into their span."""
    support = toy(samples, 1)
    x, y = arrays(support)
    centre = np.stack([x[y == label].mean(0) for label in range(6)])
    covariance, share = their_ledoit_wolf(x - centre[y], assume_centered=True)
    inside, _ = span(torch.tensor(x))
    rest = inside - means(inside, support.labels, 6)[support.labels]
    assert ledoit_wolf(rest, x.shape[1]) == pytest.approx(share, rel=1e-9) and 0 < share < 1
    inverse = np.linalg.inv(covariance)
    wanted = arrays(query)[0] @ inverse @ centre.T - np.einsum("cd,de,ce->c", centre, inverse, centre) / 2
    found = named("lda").fit(support).predict(query).double()
    assert np.abs(found.log_softmax(1).numpy() - torch.tensor(wanted).log_softmax(1).numpy()).max() < 2e-3


def test_lda_with_one_example_of_each_class_is_the_nearest_centroid(query: Cube) -> None:
    support = toy(6, 1)
    lda, centroid = (named(name).fit(support).predict(query) for name in ("lda", "nearest-centroid"))
    assert torch.equal(decide(lda, query), decide(centroid, query))
    x, _ = arrays(support)
    sphere = float(((x - x.mean(0)) ** 2).sum()) / 6 / x.shape[1]
    assert torch.allclose(lda - lda[:, :1], (centroid - centroid[:, :1]) / sphere, rtol=1e-3, atol=1e-3)
    assert ledoit_wolf(torch.zeros(3, 2), 5) == 1.0


def test_features_add_to_what_zero_shot_heads_know(query: Cube) -> None:
    """The toy's features hold more than its heads: from 20 examples a class every control is better than log-avg."""
    support = toy(120, 1)
    right = {
        name: float((decide(named(name).fit(support).predict(query), query) == query.labels).double().mean())
        for name in ("log-avg", *LINEAR, "tip-adapter")
    }
    assert min(right[name] for name in ("linear-probe", "lda", "tip-adapter")) > right["log-avg"]


# --- Tip-Adapter ----------------------------------------------------------------------------------------------------


def by_loops(cube: Cube, b: int, keys: Tensor, values: Sequence[int], alpha: float, beta: float, out: bool = False) -> Tensor:
    """Z + alpha x the sum over keys of exp(-beta (1 - f k)), for the class of each; with ``out``, own keys are left out."""
    x = torch.nn.functional.normalize(cube.features[b].double(), dim=1)
    found = cube.logits[b].double().clone()
    for s in range(len(x)):
        for n, value in enumerate(values):
            if out and s == n:
                continue
            found[s, value] += alpha * math.exp(-beta * (1 - float(x[s] @ keys[n].double())))
    return found


def test_tip_adapter_by_loops(support: Cube) -> None:
    query = toy(10, 2)
    strategy: Any = named("tip-adapter").fit(support)
    adapted = strategy.adapted(query)
    canonical = support.canonical()
    for b in range(4):
        keys = unit(canonical.only([BACKBONES[b]]))
        wanted = by_loops(query, b, keys, canonical.labels.tolist(), strategy.alpha_[b], strategy.beta_[b])
        assert torch.allclose(adapted[b].double(), wanted, atol=1e-4)
    assert torch.allclose(strategy.predict(query), adapted.double().log_softmax(-1).mean(0))
    assert len(set(strategy.alpha_)) > 1 or len(set(strategy.beta_)) > 1  # each backbone has its own


def test_one_example_of_a_class_keeps_the_defaults(support: Cube) -> None:
    for cube in (
        toy(6, 1),
        support.take([*(support.labels != 2).nonzero().flatten(), int((support.labels == 2).nonzero()[0])]),
    ):
        strategy: Any = named("tip-adapter").fit(cube)
        assert strategy.alpha_ == (ALPHA,) * 4 and strategy.beta_ == (BETA,) * 4


def test_alpha_and_beta_against_every_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewest leave-one-out errors, then the lowest leave-one-out cross-entropy, by loops over images and keys."""
    monkeypatch.setattr("ensemble_bench.strategies.tip_adapter.GRID", 4)
    support = toy(12, 3).canonical()
    values = support.labels.tolist()
    for b in range(4):
        keys = unit(support.only([BACKBONES[b]]))
        found = {}
        for alpha in grid().tolist():
            for beta in grid().tolist():
                scores = by_loops(support, b, keys, values, alpha, beta, out=True)
                errors = int((scores.argmax(1) != support.labels).sum())
                found[alpha, beta] = errors, float(torch.nn.functional.cross_entropy(scores, support.labels))
        best = chosen(support.logits[b], keys, support.labels)
        errors, nll = found[best]
        assert errors == min(found.values())[0] and nll == pytest.approx(min(found.values())[1], abs=1e-5)
    assert grid().tolist() == pytest.approx([0.1, 0.1 * 500 ** (1 / 3), 0.1 * 500 ** (2 / 3), 50.0])


def test_rows_at_a_time_choose_the_same(monkeypatch: pytest.MonkeyPatch, support: Cube) -> None:
    whole: Any = named("tip-adapter").fit(support)
    monkeypatch.setattr("ensemble_bench.strategies.tip_adapter.CELLS", 20 * 6 * 5)
    part: Any = named("tip-adapter").fit(support)
    assert (part.alpha_, part.beta_) == (whole.alpha_, whole.beta_)


def test_the_gradient_of_the_keys_against_autograd() -> None:
    draw = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=draw, dtype=torch.float64)

    x, keys = (torch.nn.functional.normalize(random(rows, 5), dim=1) for rows in (7, 9))
    logits, labels, values = random(7, 4), torch.arange(7) % 4, torch.arange(9) % 4
    leaf = keys.clone().requires_grad_()
    cached = torch.exp(-2.5 * (1 - x @ leaf.T)) @ torch.nn.functional.one_hot(values, 4).double()
    loss = torch.nn.functional.cross_entropy(logits + 1.7 * cached, labels)
    (wanted,) = torch.autograd.grad(loss, leaf)
    assert torch.allclose(slope(x, logits, labels, keys, values, 1.7, 2.5), wanted, atol=1e-12)


def test_its_optimiser_against_torch() -> None:
    """With the epsilon of the published code, and a rate that changes."""
    draw = torch.Generator().manual_seed(0)
    mine = torch.randn(4, 3, generator=draw)
    theirs = mine.clone()
    ours = AdamW([mine], 0.1, 0.01, 1e-4)
    mean, square, step = torch.zeros(4, 3), torch.zeros(4, 3), torch.tensor(0.0)
    for number in range(10):
        gradient = torch.randn(4, 3, generator=draw) * 1e-4
        ours.rate = rate = 0.1 / (number + 1)
        ours.step([gradient])
        options = {"foreach": False, "fused": False, "amsgrad": False, "maximize": False}
        betas = {"beta1": 0.9, "beta2": 0.999, "lr": rate, "weight_decay": 0.01, "eps": 1e-4}
        adamw([theirs], [gradient], [mean], [square], [], [step], **options, **betas)
    assert torch.allclose(mine, theirs, atol=1e-6) and float(mine.abs().max()) > 0


def loss(strategy: Strategy, cube: Cube) -> float:
    return float(torch.nn.functional.cross_entropy(strategy.predict(cube), cube.labels))


def test_training_the_keys(support: Cube, query: Cube) -> None:
    untrained = named("tip-adapter-f:epochs=0").fit(support)
    assert torch.equal(untrained.predict(query), named("tip-adapter").fit(support).predict(query))
    trained = named("tip-adapter-f:epochs=100:learning_rate=0.01").fit(support)
    assert loss(trained, support) < loss(untrained, support)
    moved: Any = named("tip-adapter-f").fit(support)
    still: Any = untrained
    assert 0 < float((moved.keys_ - still.keys_).abs().max()) < 20 * 1e-3  # twenty steps of at most the rate each
    assert (moved.alpha_, moved.beta_) == (still.alpha_, still.beta_)


def test_large_supports_go_in_batches(monkeypatch: pytest.MonkeyPatch, support: Cube, query: Cube) -> None:
    monkeypatch.setattr("ensemble_bench.strategies.tip_adapter_f.BATCH", 10)
    one, two = (named("tip-adapter-f").fit(support).predict(query) for _ in range(2))
    assert torch.equal(one, two)
    monkeypatch.setattr("ensemble_bench.strategies.tip_adapter_f.BATCH", 18)
    assert not torch.equal(named("tip-adapter-f").fit(support).predict(query), one)


def test_the_controller_over_adapters(monkeypatch: pytest.MonkeyPatch, support: Cube, query: Cube) -> None:
    """Untrained it is the mean of the adapters' logits; it learns from caches that lack the image itself."""
    tip: Any = named("tip-adapter").fit(support)
    strategy: Any = named("tip-adapter-nlc:epochs=0").fit(support)
    assert torch.allclose(strategy.predict(query), tip.adapted(query).mean(0), atol=1e-4)
    assert torch.equal(decide(strategy.predict(query), query), decide(tip.predict(query), query))
    shown: list[Cube] = []
    fit = NeuralLogitController.fit
    monkeypatch.setattr(NeuralLogitController, "fit", lambda self, cube: shown.append(cube) or fit(self, cube))
    TipAdapterNLC(epochs=1).fit(support)
    canonical = support.canonical()
    for b in range(4):
        keys = unit(canonical.only([BACKBONES[b]]))
        wanted = by_loops(canonical, b, keys, canonical.labels.tolist(), tip.alpha_[b], tip.beta_[b], out=True)
        assert torch.allclose(shown[0].logits[b].double(), wanted, atol=1e-4)
    few = toy(6, 1)
    TipAdapterNLC(epochs=1).fit(few)
    assert torch.equal(shown[1].logits, few.canonical().logits)
    trained = named("tip-adapter-nlc").fit(toy(240, 1))
    untrained = named("tip-adapter-nlc:epochs=0").fit(toy(240, 1))
    assert loss(trained, query) < loss(untrained, query)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("linear-probe:penalty=0", "penalty must be above 0, not 0.0"),
        ("linear-probe:penalty=nan", "penalty must be above 0, not nan"),
        ("lda:shrinkage=0", "shrinkage is auto or a number above 0 and at most 1, not '0'"),
        ("lda:shrinkage=most", "not 'most'"),
        ("tip-adapter-f:epochs=-1", "epochs must be at least 0"),
        ("tip-adapter-nlc:form=sideways", "form is temperature or weight"),
        ("tip-adapter:seed=1", "has no parameter 'seed'"),
    ],
)
def test_a_head_that_cannot_be_is_a_sentence(text: str, sentence: str) -> None:
    with pytest.raises(BadOption, match=sentence):
        named(text)
