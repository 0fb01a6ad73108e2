"""Answers in pieces: the same as whole and exact, each score read once, each failure that of one strategy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from ensemble_bench import evaluation, metrics, strategies
from ensemble_bench.cube import Cube
from ensemble_bench.errors import BadArchive, BadPlugin, Lacking
from ensemble_bench.evaluation import Answer, Asked, said
from ensemble_bench.strategies.base import Strategy
from ensemble_bench.strategies.build import named
from ensemble_bench.testing.toy import toy

STATIC = (
    *("log-avg", "mean-probability", "mean-logit", "confidence"),
    *("vote-top1", "vote-top3", "vote-top3:borda=true", "single:b2"),
)
ORACLES = ("oracle", "oracle:k=2", "oracle-best-single")


def hard(kind: str, samples: int = 400, classes: int = 16) -> Cube:
    """A labelled cube of three backbones whose posteriors are hard to tell apart in single precision."""
    draw = torch.Generator().manual_seed(5)
    logits = torch.randn(3, samples, classes, generator=draw)
    labels = torch.randint(classes, (samples,), generator=draw)
    logits[:, torch.arange(samples), labels] += 1.5
    if kind == "saturated":  # like cosines x 100: most maxima are 1 in single precision
        logits *= 30
    if kind == "tied":  # half of the classes repeat the others, exactly or nearly
        logits[..., classes // 2 :] = logits[..., : classes // 2] * (1 + 1e-7 * torch.randint(-2, 3, (3, 1, 1), generator=draw))
    if kind == "alike":  # backbones repeat each other with classes in another order, so that their maxima nearly tie
        logits[1] = logits[0][:, torch.randperm(classes, generator=draw)]
        logits[2] = logits[0][:, torch.randperm(classes, generator=draw)] + 1e-6
    if kind == "far":  # far from zero: single precision has no room for the differences
        logits = logits * 0.01 + 300
    if kind == "coarse":  # few different values: exact ties everywhere
        logits = logits.round()
    return Cube(
        backbones=["b1", "b2", "b3"],
        classes=[f"c{number}" for number in range(classes)],
        ids=[f"s{number}" for number in range(samples)],
        logits=logits,
        labels=labels,
    )


KINDS = ("plain", "saturated", "tied", "alike", "far", "coarse")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces of 64 samples of ``hard``."""
    monkeypatch.setattr(evaluation, "WHOLE", 1)
    monkeypatch.setattr(evaluation, "PIECE", 64 * 3 * 16)


def answered(asked: list[Asked], query: Cube) -> list[Answer]:
    found, _ = said(asked, query)
    return [one for one in found if isinstance(one, Answer) or _raised(one)]  # type: ignore[misc]


def _raised(error: Exception) -> bool:
    raise error


def same(pieces: Answer, whole: Answer, size: float = 100.0) -> None:
    """Answers and places to the last one, calibration within what single precision allows for logits of this size."""
    assert set(pieces.samples) == set(whole.samples)
    for key, values in whole.samples.items():
        if key in ("decisions", "top5"):
            assert torch.equal(pieces.samples[key], values), key
        else:
            assert torch.allclose(pieces.samples[key], values, atol=2e-7 * size, rtol=2e-6), key
    assert torch.equal(pieces.used, whole.used) and pieces.labels == whole.labels


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", ["logits", "probabilities"])
def test_pieces_answer_as_the_whole(kind: str, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    query = hard(kind)
    if form == "probabilities":
        held = {"probabilities": query.probabilities}
        query = Cube(backbones=query.backbones, classes=query.classes, ids=query.ids, labels=query.labels, **held)
    asked = [Asked(named(text), text) for text in (*STATIC, *ORACLES) if form == "logits" or text != "mean-logit"]
    whole = answered(asked, query)
    monkeypatch.setattr(evaluation, "WHOLE", 1)
    monkeypatch.setattr(evaluation, "PIECE", 64 * 3 * 16)
    for one, pieces, exact in zip(asked, answered(asked, query), whole, strict=True):
        try:
            same(pieces, exact, query.extent)
        except AssertionError as error:
            raise AssertionError(f"{one.name}: {error}") from error


def test_single_precision_alone_would_answer_otherwise() -> None:
    """What the doubtful samples are asked again for: without that, these cubes get other answers."""
    wrong = 0
    for kind in ("saturated", "alike", "far"):
        query = hard(kind)
        for text in ("confidence", "mean-probability", "log-avg"):
            strategy = named(text)
            exact = metrics.decide(strategy.predict(query), query)
            wrong += int((strategy.predict(query.roughly()).argmax(-1) != exact).sum())
    assert wrong > 20


@pytest.mark.parametrize("name", sorted(strategies.registry))
def test_every_strategy_answers_in_pieces_as_whole(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    support, query = toy(18, 1), toy(240, 2)
    text = f"single:{query.backbones[0]}" if name == "single" else name
    fitted = next(evaluation.fitted(lambda: named(text), text, [support], 3, {"other": toy(30, 20)}))
    (whole,) = answered([fitted], query)
    monkeypatch.setattr(evaluation, "WHOLE", 1)
    monkeypatch.setattr(evaluation, "PIECE", 50 * 4 * 6)
    same(answered([fitted], query)[0], whole)


@pytest.mark.parametrize("bare", [False, True])
@pytest.mark.usefixtures("small")
def test_decisions_go_through_in_pieces_too(bare: bool) -> None:
    query = hard("plain")
    more = {} if bare else {"confidence": query.confidence}
    poor = Cube(
        backbones=query.backbones,
        classes=query.classes,
        ids=query.ids,
        labels=query.labels,
        decisions=query.decisions,
        **more,
    )
    texts = ["vote-top1", "oracle", "oracle-best-single"] + ([] if bare else ["confidence"])
    answers = dict(zip(texts, answered([Asked(named(text), text) for text in texts], poor), strict=True))
    right = (query.decisions == query.labels).double()
    assert metrics.acc1(answers["oracle"].samples["decisions"], query.labels) == float(right.amax(0).mean())
    assert metrics.acc1(answers["oracle-best-single"].samples["decisions"], query.labels) == float(right.mean(1).max())
    if not bare:
        sure = query.decisions.gather(0, query.confidence.argmax(0, keepdim=True))[0]
        assert torch.equal(answers["confidence"].samples["decisions"], sure)


class Counting:
    """Logits that lie elsewhere; counts how many scores are read."""

    form, featured = "logits", False
    read = 0

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits

    def take(self, index: Tensor) -> Counting:
        return Counting(self.logits[:, index])

    def only(self, places: list[int]) -> Counting:
        return Counting(self.logits[list(places)])

    def scores(self, buffer: Tensor | None = None) -> tuple[Tensor, float]:
        Counting.read += self.logits.numel()
        out = self.logits.clone() if buffer is None else buffer[: self.logits.numel()].view(self.logits.shape)
        return out.copy_(self.logits), float(self.logits.abs().max())

    def features(self) -> tuple[Tensor, ...]:
        raise AssertionError("there are none")


def on_disk(cube: Cube) -> Cube:
    Counting.read = 0
    names = {"backbones": cube.backbones, "classes": cube.classes, "ids": cube.ids}
    return Cube(**names, labels=cube.labels, on_disk=Counting(cube.logits))


@pytest.mark.usefixtures("small")
def test_scores_on_disk_are_read_once_for_all_strategies() -> None:
    cube = hard("plain")
    query = on_disk(cube)
    asked = [Asked(named(text), text) for text in (*STATIC, "oracle")]
    found, known = said(asked, query)
    assert Counting.read == cube.logits.numel()
    assert torch.equal(known.decisions, cube.decisions) and Counting.read == cube.logits.numel()
    for pieces, whole in zip(found, answered(asked, cube), strict=True):
        assert isinstance(pieces, Answer)
        same(pieces, whole)


@pytest.mark.usefixtures("small")
def test_what_hangs_on_the_whole_is_asked_again_for_what_it_needs() -> None:
    cube = hard("plain")
    asked = [Asked(named(text), text) for text in ("vote-top1", "oracle-best-single", "oracle:k=2")]
    query = on_disk(cube)
    found, _ = said(asked, query)
    assert Counting.read < 1.8 * cube.logits.numel()  # a third of it again, and what ties need
    for pieces, whole in zip(found, answered(asked, cube), strict=True):
        assert isinstance(pieces, Answer)
        same(pieces, whole)
    best = f"single:{cube.backbones[int((cube.decisions == cube.labels).sum(1).argmax())]}"
    asked = [Asked(named(best), best), Asked(named("oracle-best-single"), "oracle-best-single")]
    Counting.read = 0
    said(asked, query)
    assert Counting.read == cube.logits.numel()  # the same backbone has answered already


@dataclass(eq=False)
class Whole(Strategy):
    """Votes weighted by agreement with the rest on the whole query: cannot be settled."""

    family: ClassVar[str] = "static"
    needs: ClassVar[tuple[str, ...]] = ("decisions",)
    transductive: ClassVar[bool] = True

    def predict(self, query: Cube) -> Tensor:
        hot = torch.nn.functional.one_hot(query.decisions, len(query.classes)).double()
        weight = (hot.sum(0) * hot).sum((1, 2))
        return torch.einsum("b,bsc->sc", weight, hot)


@pytest.mark.usefixtures("small")
def test_what_cannot_be_settled_gets_the_whole() -> None:
    cube = hard("plain")
    (found,) = answered([Asked(Whole(), "whole")], cube)
    assert torch.equal(found.samples["decisions"], metrics.decide(Whole().predict(cube), cube))


@dataclass(eq=False)
class Rogue(Strategy):
    """Does one thing wrong."""

    what: str = ""
    family: ClassVar[str] = "static"
    needs: ClassVar[tuple[str, ...]] = ("probabilities",)

    def predict(self, query: Cube) -> Tensor:
        if self.what == "raises":
            return query.probabilities[99].mean(0)
        if self.what == "is late" and "s350" in query.ids:
            raise ValueError("not this one")
        if self.what == "peeks":
            return query.labels.float()
        if self.what == "wants more":
            return query.features[0]
        if self.what == "spoils":
            query.logits.zero_()
            query.probabilities.zero_()
        scores = query.probabilities.mean(0)
        if self.what == "shape":
            return scores[:, 1:]
        if self.what == "nan":
            return scores / 0
        return scores.tolist() if self.what == "list" else scores  # type: ignore[return-value]


ROGUES = {
    "raises": (IndexError, "out of bounds"),
    "is late": (ValueError, "not this one"),
    "peeks": (Lacking, "this cube is blind"),
    "wants more": (Lacking, "this cube has no features"),
    "shape": (BadPlugin, r"must be \[s, c\]"),
    "nan": (BadPlugin, "must be finite"),
    "list": (BadPlugin, "must return a tensor of scores"),
}


@pytest.mark.parametrize("pieces", [False, True])
def test_a_failure_is_one_strategys_and_the_others_go_on(pieces: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if pieces:
        monkeypatch.setattr(evaluation, "WHOLE", 1)
        monkeypatch.setattr(evaluation, "PIECE", 64 * 3 * 16)
    query = hard("plain")
    asked = [Asked(Rogue(what), what) for what in (*ROGUES, "spoils")]
    asked += [Asked(named(text), text) for text in ("log-avg", "vote-top1")]
    found, _ = said(asked, query)
    for answer, (kind, sentence) in zip(found, ROGUES.values(), strict=False):
        assert isinstance(answer, kind)
        with pytest.raises(kind, match=sentence):
            raise answer
    logavg, vote = found[-2:]
    assert isinstance(logavg, Answer) and isinstance(vote, Answer)
    fresh = hard("plain")
    assert torch.equal(query.logits, fresh.logits), "the query itself was spoilt"
    same(logavg, answered([Asked(named("log-avg"), "log-avg")], fresh)[0])
    same(vote, answered([Asked(named("vote-top1"), "vote-top1")], fresh)[0])


def test_whose_fault_a_failure_is() -> None:
    assert evaluation.excuse("mine", ValueError("no")) == "mine: ValueError: no"
    assert evaluation.excuse("mine", BadPlugin("mine: no tensor")) == "mine: no tensor"
    assert evaluation.excuse("oracle:k=9", Lacking("there are only 3")) == "oracle:k=9: there are only 3"
    with pytest.raises(ZeroDivisionError):
        evaluation.excuse("log-avg", ZeroDivisionError())
    with pytest.raises(BadArchive):
        evaluation.excuse("mine", BadArchive("the file ends"))


@pytest.fixture
def answer() -> Iterator[Answer]:
    query = toy(12, 1)
    yield evaluation.answer(named("oracle"), query, "oracle")


def test_an_answer_about_some_of_the_samples(answer: Answer) -> None:
    part = answer.of(torch.tensor([3, 5]), 2)
    assert part.labels == 2 and part.used.shape == (4, 2)
    assert torch.equal(part.samples["decisions"], answer.samples["decisions"][[3, 5]])
    assert (part.gflops, part.backbones) == (10.0, 4)
