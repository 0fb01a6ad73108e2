"""Strategies that weigh, choose or stop image by image: by hand, against scikit-learn, torch and loops in numpy."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pytest
import scipy.optimize
import scipy.special
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor
from torch.optim.sgd import sgd

from ensemble_bench import evaluation
from ensemble_bench.cube import Cube
from ensemble_bench.errors import BadOption
from ensemble_bench.metrics import decide, log_posteriors, posteriors
from ensemble_bench.strategies.build import named
from ensemble_bench.strategies.cascade import NEVER, Cascade, by_cost, depths, threshold
from ensemble_bench.strategies.controller import inputs
from ensemble_bench.strategies.cues import CUES, cues
from ensemble_bench.strategies.lessons import CLASSES, lesson, scale_of, shapes, together
from ensemble_bench.strategies.meta_nlc import MetaController
from ensemble_bench.strategies.mixture_of_experts import MixtureOfExperts, mixture_slope
from ensemble_bench.strategies.router import Router, design
from ensemble_bench.strategies.swig import SampleWiseGenerator, faithful_slope, rate_of
from ensemble_bench.testing.toy import poorer, toy

# Three backbones, two samples, four classes.
HAND = torch.tensor(
    [
        [[0.50, 0.30, 0.15, 0.05], [0.20, 0.30, 0.40, 0.10]],
        [[0.35, 0.40, 0.15, 0.10], [0.10, 0.05, 0.45, 0.40]],
        [[0.10, 0.70, 0.05, 0.15], [0.02, 0.03, 0.05, 0.90]],
    ],
    dtype=torch.float64,
)


def hand(probabilities: Tensor = HAND, labels: list[int] | None = None, gflops: list[float] | None = None) -> Cube:
    b, s, c = probabilities.shape
    return Cube(
        backbones=[f"b{i}" for i in range(b)],
        classes=[f"c{i}" for i in range(c)],
        ids=[f"s{i}" for i in range(s)],
        probabilities=probabilities,
        labels=None if labels is None else torch.tensor(labels),
        gflops=None if gflops is None else torch.tensor(gflops),
    )


def near(found: Tensor, wanted: Tensor | list[list[float]], room: float = 1e-6) -> None:
    assert torch.allclose(found.double(), torch.as_tensor(wanted, dtype=torch.float64), rtol=0, atol=room), found


def nll(text: str, support: Cube, query: Cube) -> float:
    scores = named(text).fit(support).predict(query).double()
    log = scores.log_softmax(-1) if named(text).gives == "logits" else scores.log()
    return float(-log.gather(1, query.labels.unsqueeze(1)).mean())


def split_experts(samples: int, seed: int) -> Cube:
    """Two backbones, each right on its half of the images and wrong on the other; the first feature says which half."""
    draw = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 3, (samples,), generator=draw)
    first = torch.rand(samples, generator=draw) < 0.5
    hot = torch.nn.functional.one_hot(labels, 3).float()
    wrong = torch.nn.functional.one_hot((labels + 1) % 3, 3).float()
    one = torch.where(first.unsqueeze(1), hot, wrong)
    features = torch.cat([torch.where(first, 1.0, -1.0).unsqueeze(1), 0.3 * torch.randn(samples, 3, generator=draw)], 1)
    return Cube(
        backbones=["a", "b"],
        classes=["x", "y", "z"],
        ids=[f"{seed}-{i:03}" for i in range(samples)],
        logits=2 * torch.stack([one, hot + wrong - one]),
        features=[features, features.flip(1)],
        labels=labels,
    )


# --- mixture-of-experts ---------------------------------------------------------------------------------------------


def test_untrained_experts_are_the_mean_probability(support: Cube, query: Cube) -> None:
    found = named("mixture-of-experts:epochs=0").fit(support).predict(query)
    near(found.exp(), named("mean-probability").predict(query))


def test_the_slope_of_a_mixture_against_autograd() -> None:
    draw = torch.Generator().manual_seed(0)
    probabilities = torch.randn(5, 9, 4, generator=draw, dtype=torch.float64).softmax(-1)
    labels = torch.arange(9) % 4
    t = torch.randn(9, 5, generator=draw, dtype=torch.float64).requires_grad_()
    mixed = torch.einsum("sb,bsc->sc", t.softmax(-1), probabilities)
    (wanted,) = torch.autograd.grad(-mixed[torch.arange(9), labels].log().mean(), t)
    own = probabilities[:, torch.arange(9), labels].log().T
    assert torch.allclose(mixture_slope(t.detach(), own), wanted, atol=1e-14)


def test_experts_divide_the_images() -> None:
    support, query = split_experts(200, 1), split_experts(300, 2)
    strategy = MixtureOfExperts().fit(support)
    right = (decide(strategy.predict(query), query) == query.labels).double().mean()
    fixed = (decide(named("super-learner").fit(support).predict(query), query) == query.labels).double().mean()
    assert right > 0.95 and fixed < 0.8
    gates = strategy.log_gates(query).exp()
    near(gates.sum(0), torch.ones(300))
    by_hand = (gates.unsqueeze(-1) * posteriors(query)).sum(0)
    near(strategy.predict(query).exp(), by_hand)


# --- swig -----------------------------------------------------------------------------------------------------------


def test_its_learning_rate_by_hand() -> None:
    assert [rate_of(epoch, 5, 5e-3) for epoch in range(5)] == pytest.approx(
        [1e-5, 5e-3, 5e-3 * 0.9045085, 5e-3 * 0.6545085, 5e-3 * 0.3454915]
    )


def test_the_faithful_loss_is_cross_entropy_of_probabilities() -> None:
    draw = torch.Generator().manual_seed(0)
    probabilities = torch.randn(4, 9, 6, generator=draw, dtype=torch.float64).softmax(-1)
    labels = torch.arange(9) % 6
    t = torch.randn(9, 4, generator=draw, dtype=torch.float64).requires_grad_()
    mixed = torch.einsum("sb,bsc->sc", t.softmax(-1), probabilities) / 4
    (wanted,) = torch.autograd.grad(torch.nn.functional.cross_entropy(mixed, labels), t)
    assert torch.allclose(faithful_slope(t.detach(), probabilities, labels), wanted, atol=1e-14)


@pytest.mark.parametrize("loss", ["faithful", "nll"])
def test_its_training_against_torch(loss: str) -> None:
    """Autograd and torch's own SGD, from the same start: 300 samples are three batches, drawn alike."""
    support = toy(300, 1).canonical()
    strategy = SampleWiseGenerator(loss=loss, learning_rate=0.05).fit(support)
    layers = SampleWiseGenerator(loss=loss).start(support)
    leaves = [part.clone().requires_grad_() for part in layers.tensors()]
    speeds: list[Tensor | None] = [None] * 4
    x, probabilities, labels = inputs(support, unit=False), support.logits.softmax(-1), support.labels
    from ensemble_bench.strategies.controller import generator

    shuffle = generator(0, "batches")
    for epoch in range(5):
        for rows in torch.randperm(300, generator=shuffle).split(128):
            hidden = torch.nn.functional.linear(x[rows], leaves[0], leaves[1]).relu()
            weight = torch.nn.functional.linear(hidden, leaves[2], leaves[3]).softmax(-1)
            mixed = torch.einsum("sb,bsc->sc", weight, probabilities[:, rows])
            value = torch.nn.functional.cross_entropy(mixed / 4 if loss == "faithful" else mixed.log(), labels[rows])
            slopes = list(torch.autograd.grad(value, leaves))
            with torch.no_grad():
                sgd(
                    leaves,
                    slopes,
                    speeds,
                    foreach=False,
                    weight_decay=5e-4,
                    momentum=0.9,
                    lr=rate_of(epoch, 5, 0.05),
                    dampening=0.0,
                    nesterov=False,
                    maximize=False,
                )
    found = (strategy.into_, strategy.bias_, strategy.out_, strategy.last_)
    for mine, theirs, first in zip(found, leaves, layers.tensors(), strict=True):
        assert torch.allclose(mine, theirs.detach(), atol=1e-5)
        assert not torch.allclose(mine, first, atol=1e-4)


def test_its_shape_and_start_are_torchs() -> None:
    draw = torch.Generator().manual_seed(0)
    cube = Cube(
        backbones=["a", "b"],
        classes=["x", "y"],
        ids=["1", "2"],
        logits=torch.zeros(2, 2, 2),
        features=[torch.randn(2, 256, generator=draw), torch.randn(2, 384, generator=draw)],
    )
    layers = SampleWiseGenerator().start(cube)
    assert [tuple(part.shape) for part in layers.tensors()] == [(20, 640), (20,), (2, 20), (2,)]  # D / 32
    for part, fan in zip(layers.tensors(), (640, 640, 20, 20), strict=True):
        assert float(part.abs().max()) <= fan**-0.5
    assert float(layers.into.std()) == pytest.approx((3 * 640) ** -0.5, rel=0.05)  # uniform, as torch's Linear


def test_the_faithful_loss_hardly_moves_the_weights() -> None:
    """The trap: after the same steps the mended loss has learnt more, and the published one cannot fall by much."""
    support, query = split_experts(400, 1), split_experts(200, 2)
    start, faithful, mended = (
        nll(text, support, query) for text in ("mean-probability", "swig:epochs=200", "swig:loss=nll:epochs=200")
    )
    assert mended < 0.5 * start
    assert abs(start - faithful) < (start - mended) / 5


def test_swig_scores_by_hand(support: Cube, query: Cube) -> None:
    strategy = SampleWiseGenerator().fit(support)
    x = torch.cat(list(query.features), 1)  # as they are, not at unit length
    t = (x @ strategy.into_.T + strategy.bias_).relu() @ strategy.out_.T + strategy.last_
    wanted = (t.softmax(-1).T.unsqueeze(-1) * query.logits.softmax(-1)).sum(0)
    near(strategy.predict(query), wanted)
    for text, sentence in (("swig:loss=mse", "loss is faithful or nll"), ("swig:epochs=-1", "epochs must be at least 0")):
        with pytest.raises(BadOption, match=sentence):
            named(text)


# --- cascade --------------------------------------------------------------------------------------------------------


def test_a_cascade_by_hand() -> None:
    """Cheap to dear b2, b0, b1. The first image: b2 is sure enough (.70). The second: at .95 it goes on to all three."""
    query = hand(gflops=[2.0, 3.0, 1.0])
    assert by_cost(query) == ("b2", "b0", "b1")
    strategy = Cascade()
    strategy.backbones_ = by_cost(query)
    for limit, stops in ((0.0, (1, 1)), (0.69, (1, 1)), (0.8, (3, 1)), (0.95, (3, 3)), (NEVER, (3, 3))):
        strategy.threshold_ = limit
        assert strategy.used(query).sum(0).tolist() == list(stops), limit
        wanted = [HAND[[2, 0, 1]][:n, s].log().mean(0).tolist() for s, n in enumerate(stops)]
        near(strategy.predict(query), wanted)
    strategy.threshold_ = 0.8
    assert strategy.used(query).tolist() == [[True, False], [True, False], [True, True]]


def test_stopping_by_agreement_by_hand() -> None:
    """In the order b0, b1, b2 the first image gets 0, 1, 1 and the second 2, 2, 3."""
    query = hand(gflops=[1.0, 2.0, 3.0])
    strategy = Cascade(by="agreement")
    strategy.backbones_ = by_cost(query)
    for limit, stops in ((0.4, (2, 2)), (0.6, (3, 2)), (1.0, (3, 2)), (NEVER, (3, 3))):
        strategy.threshold_ = limit
        assert strategy.used(query).sum(0).tolist() == list(stops), limit


def test_the_threshold_by_hand() -> None:
    """Three backbones, five samples; stopping after the first loses the sample of reason .6 first, then that of .3."""
    reason = torch.tensor([[0.9, 0.8, 0.6, 0.5, 0.3]] + [[-1.0] * 5] * 2)
    right = torch.tensor([[True, False, False, True, False], [True, False, True, True, True], [True, False, True, True, True]])
    assert threshold(reason, right, 1.0) == pytest.approx(0.8)  # the second is wrong anyway, the third would be lost
    assert threshold(reason, right, 0.75) == pytest.approx(0.5)  # one of four may be lost
    assert threshold(reason, right, 0.5) == pytest.approx(0.3)
    assert threshold(reason[:1], right[:1], 0.5) == NEVER  # one backbone has nowhere to stop early
    assert depths(reason, 0.8).tolist() == [0, 0, 2, 2, 2] and depths(reason, NEVER).tolist() == [2] * 5


@pytest.mark.parametrize("by", ["confidence", "agreement"])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_it_keeps_what_it_was_told_to_on_its_support(by: str, seed: int) -> None:
    support = toy(60, seed)
    whole = decide(named("log-avg").predict(support), support) == support.labels
    spent = []
    for target in (1.0, 0.9, 0.5, 0.0):
        strategy = Cascade(by=by, target=target).fit(support)
        kept = decide(strategy.predict(support), support) == support.labels
        assert int((kept & whole).sum()) >= target * int(whole.sum()) - 1e-9
        spent.append(float((strategy.used(support).double() * support.gflops.unsqueeze(1)).sum()))
    assert spent == sorted(spent, reverse=True) and spent[0] > spent[-1]
    first = 1 if by == "confidence" else 2  # one backbone cannot agree with itself
    assert strategy.used(support).sum(0).tolist() == [first] * 60


def test_what_it_spends_is_what_the_runner_counts(support: Cube, query: Cube) -> None:
    strategy = Cascade(target=0.8).fit(support)
    used = strategy.used(query.only(query.backbones[::-1]))
    answer = evaluation.answer(strategy, query, "cascade")
    assert answer.gflops == pytest.approx(float((used.flip(0) * query.gflops.unsqueeze(1)).sum() / len(query)))
    assert float(query.gflops.min()) < answer.gflops < float(query.gflops.sum())
    never = Cascade()
    never.backbones_, never.threshold_ = by_cost(query), NEVER
    near(never.predict(query), named("log-avg").predict(query))
    with pytest.raises(BadOption, match="by is confidence or agreement"):
        named("cascade:by=luck")
    with pytest.raises(BadOption, match="target is a share"):
        named("cascade:target=1.5")


# --- cues and router ------------------------------------------------------------------------------------------------


def test_cues_by_hand() -> None:
    found = cues(hand())
    entropy = -float((HAND[0, 0] * HAND[0, 0].log()).sum()) / math.log(4)
    # b0 on the first image: .5 for class 0, .2 above the next; nobody agrees; the others give class 0 .35 and .10
    near(found[0, 0], [0.5, 1 - entropy, 0.2, 0.0, 0.225])
    # b1 on the second: .45 for class 2, .05 above; b0 agrees; the others give it .40 and .05
    near(found[1, 1][[0, 2, 3, 4]], [0.45, 0.05, 0.5, 0.225])
    assert len(CUES) == found.shape[-1] == 5


def test_cues_against_loops(query: Cube) -> None:
    found = cues(query).numpy()
    p = query.logits.double().softmax(-1).numpy()
    for s in range(0, len(query), 23):
        for b in range(4):
            best = int(p[b, s].argmax())
            others = [other for other in range(4) if other != b]
            wanted = [
                p[b, s, best],
                1 + (p[b, s] * np.log(p[b, s])).sum() / np.log(6),
                p[b, s, best] - np.sort(p[b, s])[-2],
                np.mean([p[other, s].argmax() == best for other in others]),
                np.mean([p[other, s, best] for other in others]),
            ]
            assert found[b, s].tolist() == pytest.approx(wanted)


def test_cues_where_there_is_nothing_to_compare() -> None:
    assert cues(hand(HAND[:1]))[0, 0, 3:].tolist() == [1.0, 1.0]
    near(cues(hand(torch.ones(2, 1, 1, dtype=torch.float64)))[0, 0], [1.0, 1.0, 1.0, 1.0, 1.0])


@pytest.mark.parametrize("ridge", [0.1, 1.0, 20.0])
def test_the_router_against_scikit_learn(ridge: float, support: Cube) -> None:
    strategy = Router(ridge=ridge).fit(support)
    rows = design(support).flatten(0, 1).numpy()
    right = (support.decisions == support.labels).flatten().numpy()
    theirs = LogisticRegression(C=1 / ridge, fit_intercept=False, tol=1e-10, max_iter=10000).fit(rows, right)
    assert strategy.coefficient_.tolist() == pytest.approx(theirs.coef_[0].tolist(), abs=1e-4)


def test_the_router_gives_the_backbone_it_trusts(support: Cube, query: Cube) -> None:
    strategy = Router().fit(support)
    worth, probabilities = strategy.worth(query), posteriors(query)
    chosen = worth.argmax(0)
    assert len(chosen.unique()) > 1
    near(strategy.predict(query), probabilities[chosen, torch.arange(len(query))])
    assert bool(strategy.used(query).all())  # all must run before one is chosen
    with pytest.raises(BadOption, match="ridge must be above 0"):
        named("router:ridge=0")


def test_the_router_learns_whom_to_believe() -> None:
    """Two backbones are sure in turn, and the sure one is right only if it is a: confidence alone has half right, here all."""
    labels = torch.arange(80) % 4
    hot = torch.nn.functional.one_hot(labels, 4).double()
    wrong = torch.nn.functional.one_hot((labels + 1) % 4, 4).double()
    loud = (torch.arange(80) // 4 % 2 == 0).unsqueeze(1)
    a = torch.where(loud, 5 * hot, 1 * hot).softmax(-1)
    b = torch.where(loud, 1 * wrong, 5 * wrong).softmax(-1)
    cube = hand(torch.stack([a, b]), labels.tolist())
    one, other = cube.take(torch.arange(40)), cube.take(torch.arange(40, 80))
    assert (decide(named("confidence").predict(other), other) == other.labels).sum() == 20
    assert (decide(Router().fit(one).predict(other), other) == other.labels).sum() == 40


# --- meta-nlc -------------------------------------------------------------------------------------------------------


def trustworthy(names: list[str], seed: int, samples: int = 40) -> Cube:
    """Backbones that are right exactly where they are sure: another one from image to image, whatever its name."""
    draw = torch.Generator().manual_seed(seed)
    labels = torch.arange(samples) % 4
    sure = torch.randint(0, len(names), (samples,), generator=draw)
    logits = []
    for b in range(len(names)):
        wrong = (labels + torch.randint(1, 4, (samples,), generator=draw)) % 4
        known = torch.nn.functional.one_hot(torch.where(sure == b, labels, wrong), 4).float()
        logits.append(torch.where((sure == b).unsqueeze(1), 2.5 * known, 2.0 * known))
    return Cube(
        backbones=names,
        classes=list("wxyz"),
        ids=[f"{seed}-{i:03}" for i in range(samples)],
        logits=torch.stack(logits),
        features=[torch.randn(samples, 5 + b, generator=draw) for b in range(len(names))],
        labels=labels,
    )


def accuracy(strategy: MetaController, query: Cube) -> float:
    return float((decide(strategy.predict(query.blind()), query) == query.labels).double().mean())


def test_untaught_and_unmoved_it_is_log_avg(support: Cube, query: Cube) -> None:
    strategy = MetaController(steps=0).fit(support)
    near(strategy.weights(query), torch.full((4, len(query)), 0.25), 1e-12)
    near(strategy.predict(query), named("log-avg").predict(query))
    named("meta-nlc").prepare({})  # nothing to learn from is no error
    assert not torch.allclose(MetaController().fit(support).weights(query), strategy.weights(query), atol=1e-3)


def test_what_other_tasks_teach_serves_a_pool_it_has_never_seen() -> None:
    """To trust who is sure, learnt on three backbones, helps four others of other widths from one image a class."""
    others = {f"task {seed}": trustworthy(["p", "q", "r"], seed) for seed in range(1, 9)}
    support, query = trustworthy(["k", "l", "m", "n"], 20, 4), trustworthy(["k", "l", "m", "n"], 21, 400)
    untaught = MetaController().fit(support)
    taught = MetaController()
    taught.prepare(others)
    taught.fit(support)
    plain = float((decide(named("log-avg").predict(query), query) == query.labels).double().mean())
    assert accuracy(taught, query) > plain + 0.05
    assert accuracy(taught, query) > accuracy(untaught, query) + 0.05
    assert taught.offset_.abs().max() < 0.5  # the names say nothing here


def test_what_is_known_of_a_backbone_goes_with_its_name() -> None:
    """On every other task ``a`` is right and ``b`` is not: it starts ahead in a task that has shown one image."""

    def task(seed: int, right: str, samples: int = 24) -> Cube:
        labels = torch.arange(samples) % 3
        hot, wrong = (torch.nn.functional.one_hot((labels + shift) % 3, 3).float() for shift in (0, 1))
        draw = torch.Generator().manual_seed(seed)
        noise = torch.randn(2, samples, 3, generator=draw) / 2
        return Cube(
            backbones=["a", "b"],
            classes=["x", "y", "z"],
            ids=[f"{seed}-{i:02}" for i in range(samples)],
            logits=torch.stack([hot if right == "a" else wrong, wrong if right == "a" else hot]) + noise,
            features=[torch.randn(samples, 4, generator=draw) for _ in range(2)],
            labels=labels,
        )

    strategy = MetaController(stiffness=1e6)
    strategy.prepare({f"t{seed}": task(seed, "a") for seed in range(1, 5)})
    known = dict(zip(strategy.prior_backbones_, strategy.prior_offset_.tolist(), strict=True))
    assert known["a"] > 0.5 > -0.5 > known["b"]
    query = task(10, "a")
    assert accuracy(strategy.fit(task(9, "a", 1)), query) > accuracy(MetaController(stiffness=1e6).fit(task(9, "a", 1)), query)
    strategy.fit(task(8, "b", 60))  # enough of its own says the opposite
    assert strategy.offset_[1] > strategy.offset_[0]
    renamed = Cube(
        backbones=["c", "d"],
        classes=query.classes,
        ids=query.ids,
        logits=query.logits,
        features=query.features,
        labels=query.labels,
    )
    strategy = MetaController(steps=0)
    strategy.prior_, strategy.prior_offset_, strategy.prior_backbones_ = (
        strategy._untaught(),
        torch.tensor([2.0, -2.0]),
        ("a", "c"),
    )
    assert strategy.fit(renamed).offset_.tolist() == [-2.0, 0.0]


def objective(moves: np.ndarray, start: np.ndarray, parts: Mapping[str, np.ndarray], stiffness: float, pull: float) -> float:
    """What ``fit`` minimises, in numpy: x [b, s, 7], log [b, s, c], labels."""
    x, log, labels = parts["x"], parts["log"], parts["labels"]
    k, width = len(start), len(start) // 9
    theta, offset = start + moves[:k], moves[k:]
    hidden = np.tanh(x @ theta[: 7 * width].reshape(7, width) + theta[7 * width : 8 * width])
    weight = scipy.special.softmax(hidden @ theta[8 * width :] + offset[:, None], axis=0)
    mixed = np.einsum("bs,bsc->sc", weight, log)
    value = (scipy.special.logsumexp(mixed, 1) - mixed[np.arange(len(labels)), labels]).sum()
    return float(value + stiffness / 2 * (moves[:k] ** 2).sum() + pull / 2 * (moves[k:] ** 2).sum())


def test_it_settles_where_its_objective_is_flat(support: Cube) -> None:
    strategy = MetaController(width=3, steps=2000, stiffness=0.5, pull=2.0).fit(support)
    shape = shapes(support)
    centre, scale = scale_of(shape)
    parts = {
        "x": torch.cat([cues(support), (shape - centre) / scale], -1).numpy(),
        "log": log_posteriors(support).numpy(),
        "labels": support.labels.numpy(),
    }
    start = strategy._untaught().numpy()
    found = np.concatenate([strategy.theta_.numpy() - start, strategy.offset_.numpy()])
    value = [objective(moves, start, parts, 0.5, 2.0) for moves in (np.zeros_like(found), found)]
    slope = scipy.optimize.approx_fprime(found, objective, 1e-6, start, parts, 0.5, 2.0)
    assert value[1] < value[0] - 0.1
    assert np.abs(slope).max() < 2e-2 and np.abs(found).max() > 0.05


def test_a_lesson_keeps_the_label_and_the_likeliest() -> None:
    draw = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 6, 50, generator=draw)
    labels = torch.tensor([49, 3, 0, 7, 7, 20])
    cube = Cube(
        backbones=["a", "b"],
        classes=[f"c{i:02}" for i in range(50)],
        ids=[str(i) for i in range(6)],
        logits=logits,
        features=[torch.randn(6, 4, generator=draw)] * 2,
        labels=labels,
    )
    one = lesson(cube, 0.5)
    log = logits.double().log_softmax(-1)
    assert one.log.shape == (2, 6, CLASSES) and float(one.weight.sum()) == pytest.approx(0.5)
    near(one.log[..., 0], log[:, torch.arange(6), labels])
    mean = log.mean(0).scatter(1, labels.unsqueeze(1), -torch.inf)
    near(one.log[:, 2, 1:], log[:, 2, mean[2].argsort(descending=True)[: CLASSES - 1]])
    assert bool((lesson(toy(6, 1)).log[..., 6:] == -1e4).all())
    merged = together([one, lesson(toy(6, 1)), one])
    assert [part.x.shape[1] for part in merged] == [12, 6]


def test_shapes_by_hand() -> None:
    features = [torch.tensor([[3.0, 4.0], [0.0, 2.0]]), torch.ones(2, 4)]
    cube = Cube(backbones=["a", "b"], classes=["x"], ids=["1", "2"], logits=torch.zeros(2, 2, 1), features=features)
    found = shapes(cube)
    near(found[0], [[math.log(5), 7 / 5 / 2**0.5], [math.log(2), 2**-0.5]])
    near(found[1], [[math.log(2), 1.0]] * 2)
    assert bool((scale_of(shapes(cube.take([0])))[1] == 1).all())  # one image has no spread


def test_poor_cubes_are_enough_where_no_feature_is_looked_at(support: Cube, query: Cube) -> None:
    for text in ("cascade", "cascade:by=agreement", "router"):
        rich = named(text).fit(support).predict(query)
        poor = named(text).fit(poorer(support, "probabilities")).predict(poorer(query, "probabilities"))
        near(poor, rich, 1e-4)
