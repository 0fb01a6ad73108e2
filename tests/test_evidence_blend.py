"""The blend of heads and labelled examples: its sums by hand, against an independent optimiser and against refits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor

from ensemble_bench.cube import Cube
from ensemble_bench.errors import BadOption, Lacking
from ensemble_bench.metrics import decide
from ensemble_bench.strategies.build import named
from ensemble_bench.strategies.evidence_blend import (
    UNSEEN,
    EvidenceBlend,
    agreement,
    class_means,
    map_weights,
    nearest,
    ridge,
)
from ensemble_bench.testing.toy import toy


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("seed", range(4))
def test_weights_are_those_of_an_independent_optimiser(seed: int) -> None:
    terms, labels = drawn(12, 4, 3, seed=seed), torch.arange(12) % 4
    centre, spread = torch.tensor([1.0, 0.5, 0.0]).double(), torch.tensor([1.0, 2.0, 0.5]).double()
    found = map_weights(terms, labels, centre, spread)

    def loss(w: np.ndarray) -> float:
        scores = terms.numpy() @ w
        log = scores - np.log(np.exp(scores).sum(1, keepdims=True))
        return float(-log[np.arange(12), labels].sum() + (((w - centre.numpy()) / spread.numpy()) ** 2).sum() / 2)

    wanted = minimize(loss, np.ones(3), bounds=[(0, None)] * 3, method="L-BFGS-B", options={"ftol": 1e-15, "gtol": 1e-10})
    assert found.tolist() == pytest.approx(wanted.x.tolist(), abs=1e-4)
    assert loss(found.numpy()) <= wanted.fun + 1e-9


def test_weights_stay_at_their_prior_without_evidence_and_at_zero_against_it() -> None:
    one = torch.ones(1, dtype=torch.float64)
    assert map_weights(torch.zeros(5, 3, 1).double(), torch.zeros(5).long(), one, one).tolist() == [1.0]
    against = torch.tensor([[0.0, 9.0]]).double().expand(40, 2).unsqueeze(2)
    assert map_weights(against, torch.zeros(40).long(), one, one).tolist() == [0.0]


def test_class_means_with_and_without_the_example_itself() -> None:
    x, labels = torch.tensor([[2.0], [4.0], [6.0]]).double(), torch.tensor([0, 0, 1])
    prior = torch.tensor([[0.0], [10.0], [7.0]]).double()
    mean, own = class_means(x, labels, prior, 1.0)
    assert mean.flatten().tolist() == [2.0, 8.0, 7.0]  # (2 + 4 + 0) / 3, (6 + 10) / 2, the prior alone
    assert own.flatten().tolist() == [2.0, 1.0, 10.0]  # (4 + 0) / 2, (2 + 0) / 2, the prior alone
    mean, own = class_means(x, labels, prior, 0.0)
    assert mean.flatten().tolist() == [3.0, 6.0, 7.0]
    assert own.flatten().tolist() == [4.0, 2.0, 10.0]


def without(index: int, *arrays: Tensor) -> list[Tensor]:
    keep = torch.arange(len(arrays[0])) != index
    return [array[keep] for array in arrays]


@pytest.mark.parametrize("pseudo", [0.0, 1.0])
def test_leaving_one_out_is_a_fit_without_it(pseudo: float) -> None:
    x, labels, prior = drawn(12, 5), torch.arange(12) % 4, drawn(4, 5, seed=1)
    near, line = nearest(x, labels, prior, pseudo), ridge(x, labels, 4, 0.5)
    for i in range(len(x)):
        rest, names = without(i, x, labels)
        again = nearest(rest, names, prior, pseudo)
        own = (x[i] @ again.weight + again.bias)[labels[i]]
        assert float(near.loo[i, labels[i]]) == pytest.approx(float(own), abs=1e-9)  # other classes keep all their examples
        again = ridge(rest, names, 4, 0.5)
        assert torch.allclose(line.loo[i], x[i] @ again.weight, atol=1e-9)


def test_nearest_ranks_as_squared_distance_does() -> None:
    x, labels = drawn(8, 3), torch.arange(8) % 4
    found = nearest(x, labels, torch.zeros(4, 3).double(), 0.0)
    query = drawn(20, 3, seed=2)
    mean = torch.stack([x[labels == c].mean(0) for c in range(4)])
    scores = query @ found.weight + found.bias - query.square().sum(1, keepdim=True)
    assert torch.allclose(scores, -(torch.cdist(query, mean) ** 2), atol=1e-9)


def test_agreement_is_of_geometry() -> None:
    x = drawn(30, 6)
    turn = torch.linalg.qr(drawn(6, 6, seed=3))[0]
    assert agreement(x, 3 * x @ turn + 1) == pytest.approx(1.0, abs=1e-9)
    strangers = [agreement(drawn(30, 6, seed=10 + i), drawn(30, 6, seed=50 + i)) for i in range(20)]
    assert np.mean(strangers) < 0.1  # the plain estimate would be near 0.3
    assert agreement(x[:3], x[:3]) == UNSEEN
    assert agreement(torch.full((8, 2), 0.1).double(), x[:8]) == 0.0


def blank(cube: Cube, logits: Tensor) -> Cube:
    return Cube(
        backbones=cube.backbones,
        classes=cube.classes,
        ids=cube.ids,
        logits=logits,
        features=cube.features,
        labels=cube.labels if cube.labelled else None,
    )


def test_without_evidence_and_readings_it_is_log_avg() -> None:
    support, query = toy(6, 1), toy()
    mute = blank(support, torch.zeros_like(support.logits))
    found = EvidenceBlend(profiles=0, means=0, freedom=0).fit(mute)
    assert found.heads_.tolist() == pytest.approx([0.25] * 4)
    assert torch.equal(decide(found.predict(query.blind()), query), decide(named("log-avg").predict(query), query))


def test_a_confusion_that_all_heads_repeat_is_learnt() -> None:
    def swapped(cube: Cube) -> Cube:
        return blank(cube, cube.logits[..., [1, 0, 2, 3, 4, 5]])

    support, query = swapped(toy(48, 1)), swapped(toy(120))
    pair = query.labels < 2

    def right(text: str) -> float:
        strategy = named(text)
        scores = strategy.fit(support).predict(query.blind())
        return float((decide(scores, query) == query.labels)[pair].double().mean())

    assert right("log-avg") < 0.2
    assert right("evidence-blend") > 0.7


def test_features_that_follow_something_else_get_no_weight() -> None:
    support = toy(6, 1)
    noise = [drawn(6, part.shape[1], seed=i).float() for i, part in enumerate(support.features)]
    other = Cube(
        backbones=support.backbones,
        classes=support.classes,
        ids=support.ids,
        logits=support.logits,
        features=noise,
        labels=support.labels,
    )
    own, strange = (EvidenceBlend().fit(cube).weights_[1] for cube in (support, other))
    assert float(own) > 1.0
    assert float(strange) < 0.05


def test_backbones_that_fail_on_the_support_lose_weight() -> None:
    support = toy(24, 1)
    logits = support.logits.clone()
    logits[2] = logits[2].flip(-1)
    weight = EvidenceBlend(profiles=0, means=0, freedom=0).fit(blank(support, logits)).heads_
    assert float(weight[2]) < 0.2 * float(weight.max())


@pytest.mark.parametrize("text", ["profiles=-1", "means=nan", "pseudo=inf", "freedom=-0.1", "penalty=0"])
def test_impossible_parameters(text: str) -> None:
    with pytest.raises(BadOption, match=text.partition("=")[0]):
        named(f"evidence-blend:{text}")


def test_an_empty_support() -> None:
    with pytest.raises(Lacking, match="at least one labelled example"):
        EvidenceBlend().fit(toy(6, 1).take([]))
