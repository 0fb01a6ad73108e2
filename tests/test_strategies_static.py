"""Static strategies that rank, weigh by sureness, lean on an anchor or on agreement: by hand and counted in other ways."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import scipy.optimize
import scipy.stats
import torch
from torch import Tensor

from ensemble_bench.cube import Cube
from ensemble_bench.errors import BadOption
from ensemble_bench.metrics import decide
from ensemble_bench.strategies.borda import beaten
from ensemble_bench.strategies.build import named
from ensemble_bench.strategies.dawid_skene import DawidSkene, accuracies, log_odds, patterns
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


def hand(probabilities: Tensor = HAND, gflops: list[float] | None = None) -> Cube:
    b, s, c = probabilities.shape
    return Cube(
        backbones=[f"b{i}" for i in range(b)],
        classes=[f"c{i}" for i in range(c)],
        ids=[f"s{i}" for i in range(s)],
        probabilities=probabilities,
        gflops=None if gflops is None else torch.tensor(gflops),
    )


def ballot(decisions: Tensor, classes: int) -> Cube:
    b, s = decisions.shape
    return Cube(
        backbones=[f"b{i}" for i in range(b)],
        classes=[f"c{i}" for i in range(classes)],
        ids=[f"s{i:05}" for i in range(s)],
        decisions=decisions,
    )


def near(found: Tensor, wanted: Tensor | list[list[float]], room: float = 1e-9) -> None:
    assert torch.allclose(found.double(), torch.as_tensor(wanted, dtype=torch.float64), rtol=0, atol=room), found


# --- borda ----------------------------------------------------------------------------------------------------------


def test_borda_by_hand() -> None:
    # first sample 3210, 2310, 1302; second 1230, 1032, 0123
    near(named("borda").predict(hand()), [[6, 8, 2, 2], [2, 3, 8, 5]])


def test_equal_ones_share_their_places_as_scipy_ranks_them() -> None:
    draw = torch.Generator().manual_seed(0)
    scores = torch.randint(0, 4, (3, 50, 7), generator=draw).float()
    near(beaten(scores), torch.from_numpy(scipy.stats.rankdata(scores.numpy(), axis=-1) - 1))
    assert beaten(torch.zeros(1, 1, 4)).tolist() == [[[1.5, 1.5, 1.5, 1.5]]]


def test_borda_of_two_classes_is_a_vote() -> None:
    query = toy(40, 3, classes=2)
    assert torch.equal(named("borda").predict(query), named("vote-top1").predict(query))


# --- entropy-weighted, mean-logit -----------------------------------------------------------------------------------


def test_entropy_weights_by_hand() -> None:
    """A fair coin among four classes knows half of what there is to know; who knows nothing does not count."""
    coin = torch.tensor([0.5, 0.5 - 3e-9, 1e-9, 2e-9], dtype=torch.float64)
    sure = torch.tensor([1 - 6e-9, 1e-9, 2e-9, 3e-9], dtype=torch.float64)
    even = torch.full((4,), 0.25, dtype=torch.float64)
    query = hand(torch.stack([coin, sure, even]).unsqueeze(1))
    near(named("entropy-weighted").predict(query), ((0.5 * coin.log() + sure.log()) / 1.5).unsqueeze(0), 1e-5)
    near(named("entropy-weighted").predict(hand(even.expand(2, 1, 4))), even.log().unsqueeze(0))


def test_entropy_weights_against_scipy(query: Cube) -> None:
    probabilities = query.logits.double().softmax(-1).numpy()
    found = named("entropy-weighted").predict(query)
    for s in range(0, len(query), 17):
        weights = [1 - scipy.stats.entropy(row) / math.log(6) for row in probabilities[:, s]]
        wanted = sum(w * np.log(row) for w, row in zip(weights, probabilities[:, s], strict=True)) / sum(weights)
        near(found[s], torch.from_numpy(wanted))


def test_mean_logit_is_log_avg(query: Cube) -> None:
    one, other = named("mean-logit").predict(query), named("log-avg").predict(query)
    near(one.log_softmax(-1), other.log_softmax(-1))
    near(one[7], query.logits[:, 7].double().sum(0) / 4)
    assert torch.equal(decide(one, query), decide(other, query))


# --- zs-en ----------------------------------------------------------------------------------------------------------


def test_zs_en_by_hand() -> None:
    query = hand(gflops=[1.0, 3.0, 2.0])  # b1 is the anchor
    wanted = []
    for s, (one, other) in enumerate([(0.5, 0.7), (0.4, 0.9)]):
        w = math.exp(one) / (math.exp(one) + math.exp(other))
        wanted.append(((HAND[1, s] + w * HAND[0, s] + (1 - w) * HAND[2, s]) / 2).tolist())
    near(named("zs-en").predict(query), wanted)
    assert torch.equal(named("zs-en:anchor=b1").predict(hand(gflops=[9.0, 0.0, 0.0])), named("zs-en").predict(query))
    assert not torch.equal(named("zs-en:anchor=b0").predict(query), named("zs-en").predict(query))


def test_equally_dear_anchors_go_by_id() -> None:
    tied = named("zs-en").predict(hand(gflops=[1.0, 2.0, 2.0]))
    near(tied, named("zs-en:anchor=b1").predict(hand()))
    swapped = hand(gflops=[1.0, 2.0, 2.0]).only(["b2", "b1", "b0"])
    near(named("zs-en").predict(swapped), tied)


def test_an_anchor_that_is_not_there_is_a_sentence() -> None:
    with pytest.raises(BadOption, match="zs-en: anchor must be one of the backbones b0, b1, b2, not 'b9'"):
        named("zs-en:anchor=b9").predict(hand())
    assert named("zs-en:anchor=file:0123/ViT-B-32").parameters() == {"anchor": "file:0123/ViT-B-32"}


# --- dawid-skene ----------------------------------------------------------------------------------------------------


def simulated(accuracy: list[float], samples: int, classes: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Decisions [b, s] and labels of backbones that err independently, every wrong class alike."""
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, classes, samples)
    wrong = (labels + draw.integers(1, classes, (len(accuracy), samples))) % classes
    right = draw.random((len(accuracy), samples)) < np.array(accuracy)[:, None]
    return torch.from_numpy(np.where(right, labels, wrong)), torch.from_numpy(labels)


def test_patterns_of_agreement() -> None:
    decisions = torch.tensor([[3, 1, 2, -1, -1], [3, 0, 0, 1, 1], [1, 0, 0, 1, 0]])
    found, count = patterns(decisions)
    seen = {tuple(column): int(n) for column, n in zip(found.T.tolist(), count.tolist(), strict=True)}
    assert seen == {(0, 0, 2): 1, (0, 1, 1): 2, (-1, 1, 1): 1, (-1, 1, 2): 1}


@pytest.mark.parametrize(("classes", "accuracy"), [(2, [0.95, 0.8, 0.7, 0.65]), (10, [0.9, 0.7, 0.5, 0.3, 0.15])])
def test_accuracies_are_recovered_without_a_label(classes: int, accuracy: list[float]) -> None:
    decisions, labels = simulated(accuracy, 20000, classes)
    found = accuracies(decisions, classes, 2.0, 1000)
    assert found.tolist() == pytest.approx(accuracy, abs=0.02)
    query = ballot(decisions, classes)
    ours, vote = (int((decide(named(text).predict(query), query) == labels).sum()) for text in ("dawid-skene", "vote-top1"))
    assert ours > vote


def plain(decisions: np.ndarray, classes: int, prior: float, rounds: int) -> np.ndarray:
    """The same by the book, sample after sample with a posterior over every class."""
    b, s = decisions.shape
    posterior = np.zeros((s, classes))
    for i in range(s):
        for k in range(b):
            if decisions[k, i] >= 0:
                posterior[i, decisions[k, i]] += 1
        posterior[i] = posterior[i] / posterior[i].sum() if posterior[i].any() else 1 / classes
    chance = 1 / max(classes, 2)
    for _ in range(rounds):
        a = np.zeros(b)
        for k in range(b):
            shown = [i for i in range(s) if decisions[k, i] >= 0]
            right = sum(posterior[i, decisions[k, i]] for i in shown)
            a[k] = (right + prior * (1 + chance) / 2) / (len(shown) + prior)
        a = np.clip(a, chance, 1 - 1e-6)
        for i in range(s):
            for c in range(classes):
                likelihood = 1.0
                for k in range(b):
                    if decisions[k, i] >= 0:
                        likelihood *= a[k] if decisions[k, i] == c else (1 - a[k]) / (classes - 1)
                posterior[i, c] = likelihood
            posterior[i] /= posterior[i].sum()
    return a


def test_expectation_maximisation_against_the_book() -> None:
    decisions, _ = simulated([0.8, 0.6, 0.5, 0.4], 60, 5, seed=4)
    decisions[1, :9] = -1
    decisions[:, 20] = -1
    for rounds in (1, 2, 25):
        found = accuracies(decisions, 5, 2.0, rounds)
        assert found.tolist() == pytest.approx(plain(decisions.numpy(), 5, 2.0, rounds).tolist(), abs=1e-9)


def test_what_it_settles_on_is_the_likeliest() -> None:
    """The mode of the posterior of the accuracies, found by another method from another start."""
    decisions, _ = simulated([0.85, 0.7, 0.55, 0.4], 400, 6, seed=1)
    classes, chance = 6, 1 / 6

    def loss(a: np.ndarray) -> float:
        right = decisions.numpy()[:, :, None] == np.arange(classes)
        log = np.where(right, np.log(a)[:, None, None], np.log((1 - a) / (classes - 1))[:, None, None]).sum(0)
        prior = 2 * ((1 + chance) / 2 * np.log(a) + (1 - chance) / 2 * np.log(1 - a)).sum()
        return float(-scipy.special.logsumexp(log - math.log(classes), axis=1).sum() - prior)

    wanted = scipy.optimize.minimize(loss, np.full(4, 0.5), bounds=[(chance, 0.999)] * 4, method="L-BFGS-B")
    found = accuracies(decisions, classes, 2.0, 1000)
    assert found.tolist() == pytest.approx(wanted.x.tolist(), abs=1e-3)


def test_scores_are_log_odds_of_who_says_so() -> None:
    decisions, _ = simulated([0.9, 0.7, 0.4], 300, 4)
    decisions[0, 0], decisions[1, 0], decisions[2, 0] = 2, -1, 2
    decisions[:, 1] = -1
    query = ballot(decisions, 4)
    a = accuracies(decisions, 4, 2.0, 1000)
    worth = torch.log(a * 3 / (1 - a))
    found = named("dawid-skene").predict(query)
    assert found[0].tolist() == pytest.approx([0, 0, float(worth[0] + worth[2]), 0])
    assert found[1].tolist() == [0, 0, 0, 0] and int(decide(found, query)[1]) == -1
    assert DawidSkene().weights(query).tolist() == pytest.approx(worth.tolist())
    assert worth[0] > worth[1] > worth[2] > 0


def test_agreement_says_nothing_of_two_and_less_than_chance_counts_nothing() -> None:
    one, two = DawidSkene().weights(ballot(torch.tensor([[0, 1, 2, 2], [0, 1, 1, 0]]), 3)).tolist()
    assert one == pytest.approx(two) and one > 0
    assert log_odds(torch.tensor([0.25, 0.1]), 4).tolist() == [0.0, 0.0]
    contrary = torch.stack([torch.arange(60) % 3] * 2 + [(torch.arange(60) + 1) % 3])
    weights = DawidSkene().weights(ballot(contrary, 3))
    assert weights[2] == 0 and weights[0] > 5
    with pytest.raises(BadOption, match="prior must be above 0"):
        named("dawid-skene:prior=0")


def test_settled_on_the_whole_it_answers_any_part() -> None:
    decisions, _ = simulated([0.9, 0.7, 0.5], 200, 4)
    query = ballot(decisions, 4)
    whole, settled = named("dawid-skene").predict(query), DawidSkene().settled(query)
    assert torch.equal(torch.cat([settled.predict(part) for part in query.chunks(7)]), whole)
    parts = torch.cat([DawidSkene().predict(part) for part in query.chunks(7)])
    assert not torch.allclose(parts, whole, atol=0.1)  # which is why it wants the whole


def test_it_weighs_probabilities_by_their_decisions_only(query: Cube) -> None:
    near(named("dawid-skene").predict(query), named("dawid-skene").predict(poorer(query, "decisions")))


def test_thirty_real_models_are_ranked_without_a_label(real_predictions: Path) -> None:
    """On every model-vs-human set agreement ranks the models nearly as labels do, and the weighted vote is not the worse."""
    paths = sorted(real_predictions.glob("mvh_*.npz"))
    if not paths:
        pytest.skip(f"the real predictions are not here: {real_predictions}")
    for path in paths:
        with np.load(path, allow_pickle=False) as data:
            decisions = torch.from_numpy(data["pred"].astype(np.int64))
            labels, classes = torch.from_numpy(data["label"].astype(np.int64)), len(data["classes"])
        assert len(decisions) >= 30
        guessed, true = accuracies(decisions, classes, 2.0, 1000), (decisions == labels).double().mean(1)
        assert scipy.stats.spearmanr(guessed, true).statistic >= 0.8
        query = ballot(decisions, classes)
        ours, vote = (int((decide(named(text).predict(query), query) == labels).sum()) for text in ("dawid-skene", "vote-top1"))
        assert ours >= vote
