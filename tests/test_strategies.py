"""Each strategy by numbers worked out by hand, against an independent optimiser where it fits, and on real models' answers."""

from __future__ import annotations

import math
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import scipy.optimize
import torch
from torch import Tensor
from torch.optim.adamw import adamw

from ensemble_bench.cube import Cube
from ensemble_bench.errors import BadOption, Lacking
from ensemble_bench.metrics import decide
from ensemble_bench.strategies import READINGS, registry
from ensemble_bench.strategies.adamw import AdamW
from ensemble_bench.strategies.base import Strategy
from ensemble_bench.strategies.build import named
from ensemble_bench.strategies.calibrated import CalibratedLogAvg, temperatures
from ensemble_bench.strategies.controller import Layers
from ensemble_bench.strategies.evidence import evidence
from ensemble_bench.strategies.fitness import unfitness
from ensemble_bench.strategies.genetic import Genetic
from ensemble_bench.strategies.nlc import NeuralLogitController, cross_entropy_slope, slope_of, start, weights_of
from ensemble_bench.strategies.oracle import Oracle, best_subset
from ensemble_bench.strategies.super_learner import SuperLearner
from ensemble_bench.testing.toy import poorer, toy

# Three backbones, two samples, four classes. First sample: classes 0, 1, 1 with .5, .4, .7. Second: 2, 2, 3 with .4, .45, .9.
HAND = torch.tensor(
    [
        [[0.50, 0.30, 0.15, 0.05], [0.20, 0.30, 0.40, 0.10]],
        [[0.35, 0.40, 0.15, 0.10], [0.10, 0.05, 0.45, 0.40]],
        [[0.10, 0.70, 0.05, 0.15], [0.02, 0.03, 0.05, 0.90]],
    ],
    dtype=torch.float64,
)


def hand(probabilities: Tensor = HAND, labels: list[int] | None = None, *, scale: float = 1.0, shift: float = 0.0) -> Cube:
    """A cube whose logits are ``scale`` x log-probabilities + ``shift``."""
    b, s, c = probabilities.shape
    return Cube(
        backbones=[f"b{i}" for i in range(b)],
        classes=[f"c{i}" for i in range(c)],
        ids=[f"s{i}" for i in range(s)],
        logits=(scale * probabilities.log() + shift).float(),
        labels=None if labels is None else torch.tensor(labels),
    )


def scores(text: str, query: Cube, support: Cube | None = None) -> Tensor:
    strategy = named(text)
    return (strategy if support is None else strategy.fit(support)).predict(query).double()


def near(found: Tensor, wanted: Tensor | list[list[float]]) -> None:
    assert torch.allclose(found.double(), torch.as_tensor(wanted, dtype=torch.float64), atol=2e-6), found


# --- static ---------------------------------------------------------------------------------------------------------


def test_single() -> None:
    query = hand()
    assert torch.equal(named("single:b1").predict(query), query.logits[1])
    near(named("single:b1").predict(poorer(query, "probabilities")), HAND[1].log())
    near(named("single:b1").predict(poorer(query, "decisions")), [[0, 1, 0, 0], [0, 0, 1, 0]])
    assert named("single:b1").used(query).tolist() == [[False, False], [True, True], [False, False]]
    with pytest.raises(BadOption, match="single:ID with ID one of b0, b1, b2"):
        named("single").predict(query)


def test_single_without_an_answer_gives_zeros() -> None:
    silent = Cube(backbones=["a"], classes=["x", "y"], ids=["1"], decisions=torch.tensor([[-1]]))
    assert named("single").predict(silent).tolist() == [[0.0, 0.0]]
    assert named("vote-top1").predict(silent).tolist() == [[0.0, 0.0]]


def test_votes() -> None:
    near(scores("vote-top1", hand()), [[1, 2, 0, 0], [0, 0, 2, 1]])
    # best three of each: first sample 0 1 2, 1 0 2, 1 3 0; second 2 1 0, 2 3 0, 3 2 1
    near(scores("vote-top3", hand()), [[3, 3, 2, 1], [2, 2, 3, 2]])
    near(scores("vote-top3:borda=true", hand()), [[3 + 2 + 1, 2 + 3 + 3, 1 + 1, 2], [1 + 1, 2 + 1, 3 + 3 + 2, 2 + 3]])
    assert decide(named("vote-top3").predict(hand()), hand()).tolist() == [1, 2]  # 3 : 3 goes to the mean .467 over .317


def test_vote_top3_of_two_classes_is_vote_top1() -> None:
    query = toy(40, 3, classes=2)
    assert torch.equal(named("vote-top3").predict(query), named("vote-top1").predict(query))
    three = hand(torch.tensor([[[0.2, 0.5, 0.3]]]))
    assert named("vote-top3").predict(three).tolist() == [[0.0, 1.0, 1.0]]  # k = C - 1 = 2
    level = hand(torch.full((1, 1, 4), 0.25))
    assert named("vote-top3").predict(level).tolist() == [[1.0, 1.0, 1.0, 0.0]]


def test_confidence() -> None:
    near(scores("confidence", hand()), [HAND[2, 0].tolist(), HAND[2, 1].tolist()])
    even = torch.tensor([[[0.75, 0.25]], [[0.25, 0.75]], [[0.6, 0.4]]], dtype=torch.float64)
    near(scores("confidence", poorer(hand(even), "probabilities")), [[0.5, 0.5]])


def test_mean_probability_and_log_avg_differ() -> None:
    near(scores("mean-probability", hand()), HAND.mean(0))
    near(scores("log-avg", hand()), HAND.log().mean(0))
    # two lukewarm votes for the first class, one firm veto: the arithmetic mean keeps it, the geometric one does not
    veto = torch.tensor([[[0.90, 0.10]], [[0.90, 0.10]], [[0.001, 0.999]]], dtype=torch.float64)
    assert decide(scores("mean-probability", hand(veto)), hand(veto)).tolist() == [0]
    assert decide(scores("log-avg", hand(veto)), hand(veto)).tolist() == [1]


def test_archive_rows_that_are_rounded_still_give_probabilities() -> None:
    rounded = Cube(backbones=["a"], classes=["x", "y", "z"], ids=["1"], probabilities=torch.full((1, 1, 3), 0.333))
    for text in ("mean-probability", "confidence"):
        assert float(named(text).predict(rounded).sum()) == pytest.approx(1.0, abs=1e-9)


# --- invariants of the method's section 5 ---------------------------------------------------------------------------


def changed(query: Cube, logits: Tensor) -> Cube:
    return Cube(
        backbones=query.backbones,
        classes=query.classes,
        ids=query.ids,
        logits=logits,
        features=query.features,
        labels=query.labels,
    )


def test_vote_ignores_a_temperature_per_backbone(query: Cube) -> None:
    warmer = changed(query, query.logits / torch.tensor([0.3, 1.0, 2.0, 7.0])[:, None, None])
    for text in ("vote-top1", "vote-top3", "vote-top3:borda=true"):
        assert torch.equal(named(text).predict(query), named(text).predict(warmer))


def test_log_avg_ignores_a_constant_per_backbone_and_sample(query: Cube) -> None:
    constant = torch.randn(4, len(query), 1, generator=torch.Generator().manual_seed(0)) * 5
    near(scores("log-avg", changed(query, query.logits + constant)), scores("log-avg", query))
    assert torch.equal(decide(scores("log-avg", query), query), query.logits.double().mean(0).argmax(-1))


def test_an_untrained_controller_and_temperatures_of_one_are_log_avg(query: Cube, support: Cube) -> None:
    wanted = decide(scores("log-avg", query), query)
    for text in ("nlc:epochs=0", "nlc:form=weight:epochs=0"):
        near(scores(text, query, support), query.logits.double().mean(0))
        assert torch.equal(decide(scores(text, query, support), query), wanted)
    lukewarm = CalibratedLogAvg()
    lukewarm.backbones_, lukewarm.temperature_ = query.backbones, torch.ones(4, dtype=torch.float64)
    near(lukewarm.predict(query), scores("log-avg", query))


def test_a_common_factor_leaves_the_controllers_decisions(query: Cube, support: Cube) -> None:
    fitted = named("nlc").fit(support)
    factor = torch.rand(len(query), 1, generator=torch.Generator().manual_seed(0)) + 0.5
    assert torch.equal(decide(fitted.predict(query) * factor, query), decide(fitted.predict(query), query))


@pytest.mark.parametrize(
    "text", [text for text in sorted(registry.table) if text != "single" and named(text).keeps_unanimous()]
)
def test_one_backbone_is_that_backbone(text: str) -> None:
    support, query = toy(18, 1, backbones=1), toy(60, 3, backbones=1)
    strategy = named(text).fit(support)
    assert torch.equal(decide(strategy.predict(query), query), query.decisions[0])


# --- calibrated -----------------------------------------------------------------------------------------------------


def test_best_single_takes_the_most_accurate_then_the_surest(support: Cube, query: Cube) -> None:
    # right: b0 first sample, b1 both, b2 first (label 1) and not second
    assert named("best-single").fit(hand(labels=[1, 2])).learnt() == {"backbone_": "b1"}
    # labels 0 and 3: b0 right once with log .5 + log .1, b2 right once with log .1 + log .9
    assert named("best-single").fit(hand(labels=[0, 3])).learnt() == {"backbone_": "b2"}
    assert named("best-single").fit(poorer(hand(labels=[0, 3]), "decisions")).learnt() == {"backbone_": "b0"}
    fitted = named("best-single").fit(hand(labels=[1, 2]))
    assert torch.equal(fitted.predict(hand()), hand().logits[1])
    assert fitted.used(hand()).sum(0).tolist() == [1, 1] and fitted.used(hand())[1].all()
    accuracy = (support.decisions == support.labels).sum(1)
    assert (
        query.backbones.index(named("best-single").fit(support).learnt()["backbone_"]) in (accuracy == accuracy.max()).nonzero()
    )


@pytest.mark.parametrize("samples", [6, 18, 120])
def test_temperature_against_scipy(samples: int) -> None:
    seen = evidence(toy(samples, 6))
    found = temperatures(seen.logits, seen.labels)
    for b, temperature in enumerate(found.tolist()):

        def loss(v: float, b: int = b) -> float:
            log = (seen.logits[b] * math.exp(v)).log_softmax(-1)
            return float(-log.gather(1, seen.labels.unsqueeze(1)).sum() + v * v / 2)

        wanted = scipy.optimize.minimize_scalar(loss, bounds=(-math.log(100), math.log(100)), options={"xatol": 1e-10})
        assert -math.log(temperature) == pytest.approx(wanted.x, abs=1e-6)


def test_the_prior_holds_a_separable_support_back() -> None:
    """One sample, logits (1, 0), label 0: u = 1/T solves u / (1 + e^u) = log u, which is 1.2785 (and not the bound, 100)."""
    u = 1 / float(temperatures(torch.tensor([[[1.0, 0.0]]], dtype=torch.float64), torch.tensor([0])))
    assert u / (1 + math.exp(u)) == pytest.approx(math.log(u), abs=1e-9)
    assert 1.2 < u < 1.4


def test_a_known_temperature_is_recovered() -> None:
    draw = torch.Generator().manual_seed(3)
    logits = torch.randn(4000, 5, generator=draw, dtype=torch.float64) * 2
    labels = torch.multinomial(logits.softmax(-1), 1, generator=draw).squeeze(1)
    found = temperatures(torch.stack([logits, logits * 3, logits / 2]), labels)
    assert found.tolist() == pytest.approx([1.0, 3.0, 0.5], rel=0.06)
    assert float(found[1] / found[0]) == pytest.approx(3.0, rel=0.01)


def test_calibrated_scores_by_hand(support: Cube) -> None:
    for text in ("calibrated-log-avg", "calibrated-confidence"):
        strategy = named(text).fit(support)
        strategy.backbones_, strategy.temperature_ = ("b0", "b1", "b2"), torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
        warm = HAND ** torch.tensor([2.0, 1.0, 0.5], dtype=torch.float64)[:, None, None]
        warm = warm / warm.sum(-1, keepdim=True)
        if text == "calibrated-log-avg":
            near(strategy.predict(hand()), warm.log().mean(0))
        else:
            surest = warm.amax(-1).argmax(0)
            assert surest.tolist() == [0, 2]  # .25 / .365 = .685 against .70 before; .9 stays the surest
            near(strategy.predict(hand()), warm[surest, torch.arange(2)])


def test_fitness_counts_errors_first_and_then_nll() -> None:
    logits = torch.tensor([[[2.0, 0.0], [2.0, 0.0]], [[0.0, 1.0], [0.0, 1.0]]], dtype=torch.float64)
    labels = torch.tensor([1, 1])
    # weights (1, 1): scores 2 : 1, both wrong, NLL log(1 + e); (0, 1): both right, NLL log(1 + 1/e); (0, 0) ties, wrong
    found = unfitness(torch.tensor([[1.0, 1.0], [0.0, 1.0], [0.0, 0.0]], dtype=torch.float64), logits, labels)
    one, two, three = math.log(1 + math.e), math.log(1 + 1 / math.e), math.log(2)
    assert found.tolist() == pytest.approx([2 + one / (1 + one), two / (1 + two), 2 + three / (1 + three)])


def test_genetic_finds_the_backbone_that_knows() -> None:
    """One backbone is always right and quiet, two are wrong together and loud: only a heavy first weight has no error."""
    labels = torch.arange(8) % 4
    right = torch.nn.functional.one_hot(labels, 4).double()
    wrong = torch.nn.functional.one_hot((labels + 1) % 4, 4).double()
    cube = Cube(
        backbones=["quiet", "loud", "louder"],
        classes=list("wxyz"),
        ids=[str(i) for i in range(8)],
        logits=torch.stack([right, 2 * wrong, 3 * wrong]).float(),
        labels=labels,
    )
    assert (decide(scores("log-avg", cube), cube) == labels).sum() == 0
    strategy = Genetic().fit(cube)
    assert torch.equal(decide(strategy.predict(cube), cube), labels)
    assert torch.all(strategy.weight_ >= math.exp(-4)) and torch.all(strategy.weight_ <= math.exp(4))
    assert strategy.backbones_[int(strategy.weight_.argmax())] == "quiet"


def test_genetic_is_at_least_as_good_as_uniform_on_its_support() -> None:
    for seed in (1, 2, 3):
        seen = evidence(toy(24, seed))
        strategy = Genetic(generations=5).fit(seen.cube)
        pair = torch.stack([strategy.weight_, torch.ones(4, dtype=torch.float64)])
        fitted, uniform = unfitness(pair, seen.logits, seen.labels).tolist()
        assert fitted <= uniform


@pytest.mark.parametrize("form", ["convex", "linear"])
def test_super_learner_against_slsqp(form: str, support: Cube) -> None:
    """The optimum on the simplex itself, found by a constrained method in w instead of ours in softmax(u)."""
    strategy = SuperLearner(form=form).fit(support)
    logits = np.asarray(evidence(support).logits)
    labels = np.asarray(evidence(support).labels)
    log = logits - scipy.special.logsumexp(logits, -1, keepdims=True)
    rows = np.arange(len(labels))

    def loss(w: np.ndarray) -> float:
        if form == "convex":
            nll = -np.log(np.einsum("b,bs->s", w, np.exp(log)[:, rows, labels])).mean()
        else:
            mixed = np.einsum("b,bsc->sc", w, logits)
            nll = -(mixed[rows, labels] - scipy.special.logsumexp(mixed, -1)).mean()
        return float(nll + 0.01 * (w * np.log(w * len(w))).sum())

    wanted = scipy.optimize.minimize(
        loss,
        np.full(4, 0.25),
        method="SLSQP",
        bounds=[(1e-9, 1)] * 4,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
        options={"ftol": 1e-14, "maxiter": 500},
    )
    assert loss(strategy.weight_.numpy()) <= wanted.fun + 1e-8
    assert strategy.weight_.tolist() == pytest.approx(wanted.x.tolist(), abs=1e-3)
    assert float(strategy.weight_.sum()) == pytest.approx(1.0)


def test_super_learner_forms_by_hand() -> None:
    for form in ("convex", "linear"):
        strategy = SuperLearner(form=form)
        strategy.backbones_, strategy.weight_ = ("b0", "b1", "b2"), torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
        if form == "convex":
            near(strategy.predict(hand()).exp(), 0.5 * HAND[0] + 0.3 * HAND[1] + 0.2 * HAND[2])
        else:
            near(strategy.predict(hand()), 0.5 * HAND[0].log() + 0.3 * HAND[1].log() + 0.2 * HAND[2].log())
    assert SuperLearner(pull=1e6).fit(toy(18, 1)).weight_.tolist() == pytest.approx([0.25] * 4, abs=1e-4)


# --- the controller -------------------------------------------------------------------------------------------------


def test_the_controller_starts_where_the_method_says() -> None:
    assert start(9, "temperature") == pytest.approx(8.99988, abs=1e-5)
    for form in ("temperature", "weight"):
        a = weights_of(torch.full((1, 9), start(9, form)), form)
        assert a.tolist()[0] == pytest.approx([1 / 9] * 9)
    assert weights_of(torch.tensor([-50.0, 1000.0]), "temperature").tolist() == pytest.approx([100.0, 0.01])
    assert weights_of(torch.tensor([-2.0]), "weight").tolist() == [-2.0]


def test_its_size_is_what_the_method_says() -> None:
    widths = [1024, 512, 640, 768, 1024, 512, 512, 768, 768]
    names = [f"b{i}" for i in range(9)]
    features = [torch.ones(2, width) for width in widths]
    labels = torch.tensor([0, 1])
    nine = Cube(
        backbones=names, classes=["x", "y"], ids=["1", "2"], logits=torch.zeros(9, 2, 2), features=features, labels=labels
    )
    strategy = NeuralLogitController(epochs=0).fit(nine)
    assert sum(value.numel() for value in strategy.learnt().values() if isinstance(value, Tensor)) == 836_873


@pytest.mark.parametrize("form", ["temperature", "weight"])
def test_its_gradient_against_autograd(form: str) -> None:
    draw = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=draw, dtype=torch.float64)

    layers = Layers(random(7, 5), random(7), random(3, 7), random(3))
    x, logits, labels = random(11, 5), random(11, 3, 4), torch.arange(11) % 4
    right = torch.nn.functional.one_hot(labels, 4).double()
    _, found = layers.beside()
    layers.gradients(x, lambda t: cross_entropy_slope(t + 0.7, logits, right, form), found)
    leaves = [tensor.clone().requires_grad_() for tensor in layers.tensors()]
    hidden = torch.relu(x @ leaves[0].T + leaves[1])
    t = 0.7 + hidden @ leaves[2].T + leaves[3]
    a = t if form == "weight" else (1 / torch.nn.functional.softplus(t)).clamp(1e-2, 1e2)
    loss = torch.nn.functional.cross_entropy(torch.einsum("sb,sbc->sc", a, logits), labels)
    for mine, wanted in zip(found.tensors(), torch.autograd.grad(loss, leaves), strict=True):
        assert torch.allclose(mine, wanted, atol=1e-12)
    far = torch.tensor([-50.0, 1000.0])
    assert slope_of(far, weights_of(far, "temperature"), "temperature").tolist() == [0.0, 0.0]


def test_its_optimiser_against_torch() -> None:
    """The function inside ``torch.optim.AdamW``, which does not load the compiler as the class does."""
    draw = torch.Generator().manual_seed(0)
    mine = [torch.randn(4, 3, generator=draw), torch.randn(3, generator=draw)]
    theirs = [tensor.clone() for tensor in mine]
    ours = AdamW(mine, 0.01, 0.1)
    means, squares = ([torch.zeros_like(tensor) for tensor in mine] for _ in range(2))
    steps = [torch.tensor(0.0) for _ in mine]
    for step in range(20):
        gradients = [torch.randn(tensor.shape, generator=draw) * (step % 3) for tensor in mine]
        ours.step(gradients)
        adamw(
            theirs,
            gradients,
            means,
            squares,
            [],
            steps,
            foreach=False,
            fused=False,
            amsgrad=False,
            beta1=0.9,
            beta2=0.999,
            lr=0.01,
            weight_decay=0.1,
            eps=1e-8,
            maximize=False,
        )
    for one, other in zip(mine, theirs, strict=True):
        assert torch.allclose(one, other, atol=1e-6)
        assert float(one.abs().max()) > 0


def test_fitting_does_not_load_a_compiler() -> None:
    """The first use of ``torch.optim`` imports torch._dynamo, which takes seconds: longer than every fit of a run together."""
    script = (
        "import sys; from ensemble_bench.strategies.build import named; from ensemble_bench.testing.toy import toy\n"
        "for text in ('nlc', 'super-learner', 'genetic', 'calibrated-log-avg'): named(text).fit(toy(6, 1)).predict(toy(6))\n"
        "sys.exit('torch._dynamo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], timeout=120).returncode == 0


@pytest.mark.parametrize("form", ["temperature", "weight"])
def test_the_controller_learns(form: str, query: Cube) -> None:
    """From 40 examples a class it lowers the loss there and on other images, and answers image by image."""
    support = toy(240, 1)
    untrained, trained = (NeuralLogitController(form=form, epochs=epochs).fit(support) for epochs in (0, 300))

    def nll(strategy: Strategy, cube: Cube) -> float:
        return float(torch.nn.functional.cross_entropy(strategy.predict(cube), cube.labels))

    assert nll(trained, support) < 0.8 * nll(untrained, support)
    assert nll(trained, query) < 0.9 * nll(untrained, query)
    weights = trained.weights(query)
    assert weights.shape == (4, len(query)) and float(weights.std(1).min()) > 1e-3
    assert form == "weight" or float(weights.min()) > 0


def test_batches_of_a_large_support(monkeypatch: pytest.MonkeyPatch, support: Cube, query: Cube) -> None:
    monkeypatch.setattr("ensemble_bench.strategies.controller.BATCH", 10)
    one, two = (NeuralLogitController(epochs=20).fit(support) for _ in range(2))
    assert torch.equal(one.predict(query), two.predict(query))
    monkeypatch.setattr("ensemble_bench.strategies.controller.BATCH", 18)
    assert not torch.equal(NeuralLogitController(epochs=20).fit(support).predict(query), one.predict(query))


def test_seeds_differ_and_follow_the_backbones_id(support: Cube) -> None:
    one, two = (NeuralLogitController(epochs=0, seed=seed).fit(support) for seed in (0, 1))
    assert not torch.equal(one.into_, two.into_)
    fewer = NeuralLogitController(epochs=0).fit(support.only(support.backbones[1:]))
    ours = one.into_[:, 9:] * math.sqrt(30) - fewer.into_ * math.sqrt(21)  # the same draws, scaled by the width of the input
    assert float(ours.abs().max()) < 1e-5


@pytest.mark.parametrize("text", [text for text in (*registry.table, *READINGS) if named(text).labels == "support"])
def test_an_empty_or_blind_support_is_a_sentence(text: str, support: Cube) -> None:
    with pytest.raises(Lacking, match="blind"):
        named(text).fit(support.blind())
    if text != "best-single":
        with pytest.raises(Lacking, match="at least one labelled example"):
            named(text).fit(support.take([]))


# --- oracles --------------------------------------------------------------------------------------------------------


def test_oracle_by_hand() -> None:
    labels = [0, 3]  # right: b0 the first, b2 the second, b1 neither
    near(scores("oracle", hand(labels=labels)), [[1 + 4, 2, 0, 0], [0, 0, 2, 1 + 4]])
    near(scores("oracle", hand(labels=[3, 0])), [[1, 2, 0, 0], [0, 0, 2, 1]])  # nobody is right: the vote
    assert Oracle(k=2)._subset(hand(labels=labels)).backbones == ("b0", "b2")
    assert named("oracle:k=2").used(hand(labels=labels)).tolist() == [[True, True], [False, False], [True, True]]
    assert decide(named("oracle:k=1").predict(hand(labels=labels)), hand()).eq(torch.tensor(labels)).sum() == 1


def test_oracle_best_single_is_the_best_on_the_query(query: Cube) -> None:
    accuracy = (query.decisions == query.labels).sum(1)
    found = decide(named("oracle-best-single").predict(query), query)
    assert int((found == query.labels).sum()) == int(accuracy.max())
    assert named("oracle-best-single").used(query).any(1).tolist() == (accuracy == accuracy.max()).tolist()
    assert torch.equal(found, decide(named("oracle:k=1").predict(query), query))


def test_oracle_of_k_against_every_subset() -> None:
    """Brute force in numpy over all subsets; the oracle never falls as k grows, and starts at the best single backbone."""
    cube = toy(200, 8)
    right = np.asarray(cube.decisions == cube.labels)
    counts = []
    for k in range(1, 5):
        wanted = max(right[list(subset)].any(0).sum() for subset in combinations(range(4), k))
        found = int((decide(Oracle(k=k).predict(cube), cube) == cube.labels).sum())
        assert found == wanted
        counts.append(found)
    assert counts == sorted(counts) and counts[0] == right.sum(1).max() and counts[0] < counts[-1]
    assert int((decide(Oracle().predict(cube), cube) == cube.labels).sum()) == counts[-1]
    assert best_subset(torch.tensor([[True, False], [True, False], [False, True]]), 2) == (0, 2)


def test_an_oracle_of_too_many_says_so() -> None:
    with pytest.raises(Lacking, match="oracle of 5 backbones needs as many, and there are only 3"):
        named("oracle:k=5").predict(hand(labels=[0, 3]))
    many = Cube(
        backbones=[str(i) for i in range(40)],
        classes=["x", "y"],
        ids=["1"],
        decisions=torch.zeros(40, 1, dtype=torch.long),
        labels=torch.tensor([0]),
    )
    with pytest.raises(Lacking, match="137,846,528,820 subsets of 20"):
        named("oracle:k=20").predict(many)


# --- real models' answers -------------------------------------------------------------------------------------------

CLIPS = ("clip", "clip-16", "clip-14")
REAL = {
    "contrast": (1280, (985, 1028, 1108), 1066, 1130),
    "high-pass": (1280, (772, 1019, 1125), 1060, 1184),
    "rotation": (1280, (1104, 1176, 1229), 1209, 1256),
    "silhouette": (160, (110, 117, 116), 118, 129),
    "stylized": (800, (439, 465, 471), 487, 588),
    "uniform-noise": (1280, (671, 706, 785), 764, 879),
}


@pytest.mark.parametrize("name", REAL)
def test_three_real_clips(name: str, real_predictions: Path) -> None:
    """Decisions of OpenAI's ViT-B/32, ViT-B/16 and ViT-L/14 on model-vs-human images; counts recounted independently."""
    path = real_predictions / f"mvh_{name}.npz"
    if not path.is_file():
        pytest.skip(f"the real predictions of {name} are not here: {path}")
    with np.load(path, allow_pickle=False) as held:
        models = held["models"].tolist()
        decisions = torch.from_numpy(held["pred"][[models.index(clip) for clip in CLIPS]].astype(np.int64))
        labels = torch.from_numpy(held["label"].astype(np.int64))
        classes = held["classes"].tolist()
    n, right, vote, oracle = REAL[name]
    cube = Cube(backbones=CLIPS, classes=classes, ids=[str(i) for i in range(n)], decisions=decisions, labels=labels)

    def count(text: str) -> int:
        return int((decide(named(text).predict(cube), cube) == labels).sum())

    assert tuple(count(f"single:{clip}") for clip in CLIPS) == right
    assert (count("oracle-best-single"), count("vote-top1"), count("oracle")) == (max(right), vote, oracle)
    assert max(right) <= count("oracle:k=2") <= oracle
    if name == "high-pass":
        assert [round(x / n, 3) for x in (max(right), vote, oracle)] == [0.879, 0.828, 0.925]


def test_real_probabilities_of_fifteen_encoders(real_predictions: Path) -> None:
    """Two classes, probabilities of three digits: mean probability .825, of which one image is an exact tie of 7.5 against 7.5.

    Sums are taken in thousandths, as published: in float32 the tie is lost by 2e-9.
    """
    path = real_predictions / "conformal_clip_extrusion.npz"
    if not path.is_file():
        pytest.skip(f"the real predictions are not here: {path}")
    with np.load(path, allow_pickle=False) as held:
        thousandths = np.round(held["prob_defective"].astype(np.float64) * 1000).astype(np.int64)
        labels = torch.from_numpy(held["label"].astype(np.int64))
        models = held["models"].tolist()
    defective = torch.from_numpy(thousandths / 1000)
    cube = Cube(
        backbones=models,
        classes=["sound", "defective"],
        ids=[str(i) for i in range(200)],
        probabilities=torch.stack([1 - defective, defective], -1),
        labels=labels,
    )
    right = decide(named("mean-probability").predict(cube), cube) == labels
    tied = torch.from_numpy(thousandths.sum(0) == 7500)
    assert int(tied.sum()) == 1 and labels[tied].tolist() == [0]
    assert int(right[~tied].sum()) + 1 == round(0.825 * 200)
    assert float((decide(named("oracle").predict(cube), cube) == labels).double().mean()) >= 0.98
