"""Every promise of a strategy as a check that built-ins and plug-ins run alike.

    from ensemble_bench.testing.strategies import parametrize_with_checks

    @parametrize_with_checks([MyStrategy, "nlc:form=weight"])
    def test_promises(strategy, check):
        check(strategy)

Without pytest: ``check_strategy(MyStrategy)``. A strategy is given as registered text, class, or instance.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ensemble_bench.cube import NEEDS, Cube
from ensemble_bench.errors import Lacking
from ensemble_bench.metrics import decide
from ensemble_bench.registry import Row
from ensemble_bench.strategies import registry
from ensemble_bench.strategies.base import FAMILIES, GIVES, LABELS, Strategy, built, written
from ensemble_bench.strategies.build import named
from ensemble_bench.strategies.spelling import kebab, parsed
from ensemble_bench.testing.toy import BACKBONES, CLASSES, poorer, reordered, toy

Check = Callable[[Any], None]
TOLERANCE = 1e-3
"""Relative to the largest score: room for sums in another order, none for another answer."""


class CheckFailed(AssertionError):
    """A strategy broke a promise; the sentence names strategy, check and promise."""


@dataclass(frozen=True)
class Subject:
    """A strategy under test: how to make it afresh, its registry row where the project brings it."""

    label: str
    kind: type[Strategy]
    values: Mapping[str, Any]
    row: Row | None = None

    def make(self, seed: int = 3) -> Strategy:
        """A fresh, unfitted instance."""
        values = dict(self.values)
        if any(field.name == "seed" for field in dataclasses.fields(self.kind)):
            values["seed"] = seed
        return self.kind(**values)

    def fitted(self, support: Cube, seed: int = 3) -> Strategy:
        """A fresh instance, fitted on what it may see."""
        strategy = self.make(seed)
        prepare = getattr(strategy, "prepare", None)
        if prepare is not None:
            prepare({"other": toy(30, 20)})
        return strategy.fit(support if self.kind.labels == "support" else support.blind())

    def view(self, query: Cube) -> Cube:
        """The query as the runner hands it over: blind, except to oracles."""
        return query if self.kind.labels == "query" else query.blind()

    def scores(self, support: Cube, query: Cube) -> Tensor:
        """Scores of a fresh instance, [s, c]."""
        return self.fitted(support).predict(self.view(query))


def subject(thing: str | Strategy | type[Strategy] | Subject) -> Subject:
    """The thing as a subject. A parameter called ``backbone`` that is left empty becomes the toy's first backbone."""
    if isinstance(thing, Subject):
        return thing
    row = None
    if isinstance(thing, str):
        strategy, label = named(thing), thing
        name = parsed(thing)[0]
        row = registry.row(name) if registry.builtin(name) else None
    elif isinstance(thing, Strategy):
        strategy, label = thing, written(kebab(type(thing).__name__), thing)
    else:
        strategy, label = thing(), thing.name or kebab(thing.__name__)
    values = {field.name: getattr(strategy, field.name) for field in dataclasses.fields(strategy) if field.init}
    if values.get("backbone") == "":
        values["backbone"] = BACKBONES[0]
    return Subject(label, type(strategy), values, row)


_CHECKS: list[Check] = []


def check(function: Callable[[Subject], None]) -> Check:
    """The function as a check that takes any form of strategy and fails with a sentence naming strategy and check."""

    @functools.wraps(function)
    def checked(thing: Any) -> None:
        under_test = subject(thing)
        try:
            function(under_test)
        except CheckFailed as error:
            raise CheckFailed(f"{under_test.label}: {function.__name__}: {error}") from None
        except Exception as error:
            sentence = f"{under_test.label}: {function.__name__}: it raised {type(error).__name__}: {error}"
            raise CheckFailed(sentence) from error

    _CHECKS.append(checked)
    return checked


def strategy_checks() -> list[Check]:
    """Every check, in the order of this file; each takes a registered text, a class or an instance, and has a ``__name__``."""
    return list(_CHECKS)


def check_strategy(thing: str | Strategy | type[Strategy]) -> None:
    """Run every check; raises ``CheckFailed`` at the first broken promise."""
    for one in strategy_checks():
        one(thing)


def parametrize_with_checks(strategies: Iterable[str | Strategy | type[Strategy]]) -> Any:
    """A pytest mark that gives a test ``strategy`` and ``check`` for every pair; ids name both. An empty list is an error."""
    import pytest

    subjects = [subject(thing) for thing in strategies]
    if not subjects:
        raise ValueError("parametrize_with_checks was given no strategy: nothing would be tested.")
    pairs = [pytest.param(one, each, id=f"{one.label}-{each.__name__}") for one in subjects for each in strategy_checks()]
    return pytest.mark.parametrize(("strategy", "check"), pairs)


def must(condition: object, promise: str) -> None:
    """Fail with the promise unless the condition holds."""
    if not condition:
        raise CheckFailed(promise)


def _same(one: Tensor, other: Tensor, promise: str) -> None:
    """Both hold the same bytes."""
    must(one.shape == other.shape and one.dtype == other.dtype and torch.equal(one, other), promise)


def _near(one: Tensor, other: Tensor, promise: str) -> None:
    """Both hold the same scores, up to the order of sums."""
    must(one.shape == other.shape, promise)
    one, other = one.double(), other.double()
    room = TOLERANCE * max(1e-12, float(one.abs().max()))
    must(bool(((one - other).abs() <= room).all()), promise)


def _well_formed(scores: Any, query: Cube, where: str) -> None:
    _, s, c = query.shape
    must(isinstance(scores, Tensor), f"predict must return a tensor{where}, not {type(scores).__name__}.")
    must(tuple(scores.shape) == (s, c), f"scores must be [s, c] = {[s, c]}{where}, not {list(scores.shape)}.")
    must(scores.is_floating_point(), f"scores must be floating point{where}, not {scores.dtype}.")
    must(bool(torch.isfinite(scores).all()), f"scores must be finite{where}.")


@check
def check_declares_what_it_is(strategy: Subject) -> None:
    kind = strategy.kind
    must(getattr(kind, "family", None) in FAMILIES, f"family must be one of {', '.join(FAMILIES)}.")
    must(kind.labels in LABELS, f"labels must be one of {', '.join(LABELS)}.")
    must(kind.gives in GIVES, f"gives must be one of {', '.join(GIVES)}.")
    must(isinstance(kind.needs, tuple) and set(kind.needs) <= set(NEEDS), f"needs must be a tuple of {', '.join(NEEDS)}.")
    must(kind.needs, "needs must name at least one thing; the least is decisions.")
    must((kind.family == "oracle") == (kind.labels == "query"), "oracles, and only they, see the labels of the query.")
    must(kind.family != "static" or kind.labels == "none", "a static strategy sees no labels.")
    must(kind.family not in ("calibrated", "adaptive") or kind.labels == "support", "a learner sees the labels of the support.")
    must((kind.__doc__ or "").strip(), "its docstring must say what it is.")
    must(strategy.make().keeps_unanimous() or kind.convex_reason, "where it is not convex, convex_reason must say why.")


@check
def check_row_equals_class(strategy: Subject) -> None:
    if strategy.row is None:
        return
    facts = {key: getattr(strategy.kind, key) for key in ("family", "labels", "needs")}
    must(dict(strategy.row.facts) == facts, f"its table row says {dict(strategy.row.facts)}, its class {facts}.")
    must(strategy.row.summary.endswith("."), "its table row needs a sentence of summary.")


@check
def check_parameters_round_trip(strategy: Subject) -> None:
    made = strategy.make()
    parameters = made.parameters()
    must(json.loads(json.dumps(parameters)) == parameters, f"its parameters {parameters} do not survive JSON.")
    name = parsed(strategy.label)[0]
    text = written(name, made)
    must("," not in text, f"{text!r} holds a comma, which separates strategies on the command line.")
    again = built(strategy.kind, parsed(text)[1], name)
    must(again.parameters() == parameters, f"{text!r} reads back as {again.parameters()}, not {parameters}.")


@check
def check_fit_returns_self(strategy: Subject) -> None:
    made = strategy.make()
    if hasattr(made, "prepare"):
        made.prepare({"other": toy(30, 20)})
    support = toy(18, 1)
    must(made.fit(support if made.labels == "support" else support.blind()) is made, "fit must return self.")


@check
def check_scores_are_finite_and_shaped(strategy: Subject) -> None:
    query = toy()
    _well_formed(strategy.scores(toy(18, 1), query), query, "")


@check
def check_says_it_is_not_fitted(strategy: Subject) -> None:
    if strategy.kind.labels != "support":
        return
    try:
        strategy.make().predict(toy().blind())
    except Lacking:
        return
    except Exception as error:
        raise CheckFailed(f"asked before fit it must raise Lacking, not {type(error).__name__}: {error}") from error
    raise CheckFailed("asked before fit it must raise Lacking, not answer.")


def _content(cube: Cube) -> dict[str, Any]:
    arrays = {name: getattr(cube, name) for name in ("logits", "probabilities", "log_probabilities", "decisions", "gflops")}
    arrays |= {f"features of {name}": part for name, part in zip(cube.backbones, cube.features, strict=True)}
    if cube.labelled:
        arrays["labels"] = cube.labels
    return {name: array.clone() for name, array in arrays.items()}


@check
def check_leaves_its_inputs_alone(strategy: Subject) -> None:
    labelled = strategy.kind.labels == "support"
    support, query = toy(18, 1), strategy.view(toy())
    support = support if labelled else support.blind()
    before = {"support": _content(support), "query": _content(query)}
    made = strategy.fitted(support)
    made.predict(query)
    made.used(query)
    for role, cube in (("support", support), ("query", query)):
        for name, array in _content(cube).items():
            _same(array, before[role][name], f"it changed the {name} of the {role}.")


@check
def check_predict_remembers_nothing(strategy: Subject) -> None:
    made = strategy.fitted(toy(18, 1))
    first, second = strategy.view(toy()), strategy.view(toy(20, 2))
    once = made.predict(first).clone()
    made.predict(second)
    _same(made.predict(first), once, "the same query, asked again after another one, got another answer.")


@check
def check_refit_forgets(strategy: Subject) -> None:
    query, one, other = strategy.view(toy()), toy(18, 1), toy(24, 2)
    if strategy.kind.labels != "support":
        one, other = one.blind(), other.blind()
    again = strategy.fitted(one).fit(other)
    _same(again.predict(query), strategy.fitted(other).predict(query), "a second fit must forget the first.")


@check
def check_same_seed_same_bytes(strategy: Subject) -> None:
    found = []
    for outside in (1, 2):
        state = _global_state()
        _seed_all(outside)
        try:
            found.append(strategy.scores(toy(18, 1), toy()))
        finally:
            _restore(state)
    _same(found[0], found[1], "the same seed must give the same bytes, whatever the global random numbers are.")


def _global_state() -> tuple[Tensor, Any, Any]:
    return torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002


def _seed_all(seed: int) -> None:
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    random.seed(seed)


def _restore(state: tuple[Tensor, Any, Any]) -> None:
    torch.set_rng_state(state[0])
    np.random.set_state(state[1])  # noqa: NPY002
    random.setstate(state[2])


@check
def check_leaves_global_random_numbers_alone(strategy: Subject) -> None:
    found = _global_state()
    try:
        _seed_all(987654321)  # a state that no strategy would set by chance
        before = _global_state()
        strategy.scores(toy(18, 1), toy())
        after = _global_state()
    finally:
        _restore(found)
    must(torch.equal(before[0], after[0]), "it drew from torch's global random numbers: use a generator of its own.")
    numpy_same = all(np.array_equal(one, other) for one, other in zip(before[1], after[1], strict=True))
    must(numpy_same, "it drew from numpy's global random numbers: use a generator of its own.")
    must(before[2] == after[2], "it drew from Python's global random numbers: use a generator of its own.")


@check
def check_without_labels_ignores_support(strategy: Subject) -> None:
    if strategy.kind.labels == "support":
        return
    query = strategy.view(toy())
    unfitted = strategy.make().predict(query)
    for support in (toy(18, 1), toy(24, 2)):
        _same(
            strategy.make().fit(support).predict(query), unfitted, "a strategy without support labels must ignore the support."
        )


@check
def check_sees_no_query_labels(strategy: Subject) -> None:
    support, query = toy(18, 1), toy()
    if strategy.kind.labels == "query":
        try:
            strategy.make().predict(query.blind())
        except Lacking:
            return
        raise CheckFailed("an oracle asked with a blind query must raise Lacking.")
    made = strategy.fitted(support)
    _same(made.predict(query), made.predict(query.blind()), "it answers differently when the query carries labels.")


@check
def check_sample_order_does_not_matter(strategy: Subject) -> None:
    support, query = toy(18, 1), toy()
    there = torch.randperm(len(query), generator=torch.Generator().manual_seed(5))
    shuffled = torch.randperm(len(support), generator=torch.Generator().manual_seed(6))
    scores = strategy.scores(support, query)
    _near(strategy.scores(support, query.take(there)), scores[there], "the order of the query must not matter.")
    _near(strategy.scores(support.take(shuffled), query), scores, "the order of the support must not matter.")


@check
def check_halves_make_the_whole(strategy: Subject) -> None:
    if strategy.kind.transductive:
        return
    query = toy()
    made = strategy.fitted(toy(18, 1))
    whole = made.predict(strategy.view(query))
    for size in (len(query) // 2, 1):
        parts = torch.cat([made.predict(strategy.view(part)) for part in query.chunks(size)])
        _near(parts, whole, f"the query in parts of {size} must give what it gives whole; else declare transductive.")


@check
def check_class_order_does_not_matter(strategy: Subject) -> None:
    order = [4, 2, 5, 0, 3, 1]
    support, query = toy(18, 1), toy()
    scores = strategy.scores(support, query)
    other = strategy.scores(reordered(support, order), reordered(query, order))
    _near(other, scores[:, order], "the order of the classes must not matter.")


@check
def check_backbone_order_does_not_matter(strategy: Subject) -> None:
    support, query = toy(18, 1), toy()
    scores = strategy.scores(support, query)
    for order in ([2, 0, 3, 1], [3, 2, 1, 0]):
        names = [BACKBONES[i] for i in order]
        other = strategy.scores(support.only(names), query.only(names))
        _near(other, scores, "the order of the backbones must not matter: sort and seed by backbone id.")


@check
def check_unanimous_stays_unanimous(strategy: Subject) -> None:
    if not strategy.make().keeps_unanimous():
        return
    query = toy(600, 4)
    agreed = (query.decisions == query.decisions[0]).all(0).nonzero().squeeze(1)
    query = query.take(agreed)
    answers = decide(strategy.scores(toy(18, 1), query), query)
    must(torch.equal(answers, query.decisions[0]), "where all backbones agree it must agree too; else declare convex = False.")


@check
def check_one_backbone_stays_itself(strategy: Subject) -> None:
    if not strategy.make().keeps_unanimous():
        return
    support, query = toy(18, 1, backbones=1), toy(120, 4, backbones=1)
    try:
        scores = strategy.scores(support, query)
    except Lacking:
        return
    must(torch.equal(decide(scores, query), query.decisions[0]), "one backbone alone must keep its decisions.")


@check
def check_ties_are_left_to_the_rule(strategy: Subject) -> None:
    if strategy.kind.labels != "none":
        return
    one = torch.tensor([[0.6, 0.1, 0.05, 0.1, 0.1, 0.05], [0.5, 0.2, 0.1, 0.1, 0.05, 0.05]], dtype=torch.float64)
    logits = torch.stack([one, one[:, [1, 0, 2, 3, 4, 5]]]).log().float()

    def mirrored(names: tuple[str, ...]) -> Cube:
        features = [torch.ones(2, 5)] * 2
        return Cube(backbones=names, classes=CLASSES, ids=["m-0", "m-1"], logits=logits, features=features)

    scores = strategy.make().predict(mirrored(BACKBONES[:2]))
    renamed = strategy.make().predict(mirrored(BACKBONES[1::-1]))
    if not torch.allclose(scores.double(), renamed.double(), atol=1e-6):
        return  # it tells backbones apart by name, so that mirrored classes need not tie
    _near(scores[:, 0], scores[:, 1], "classes with mirrored support must tie: ties are metrics.decide's to break.")


@check
def check_works_with_what_it_needs(strategy: Subject) -> None:
    for form in ("logits", "probabilities", "decisions"):
        support, query = poorer(toy(18, 1), form), poorer(toy(), form)
        if set(strategy.kind.needs) <= query.has:
            try:
                scores = strategy.scores(support, query)
            except Lacking as error:
                needs = ", ".join(strategy.kind.needs)
                raise CheckFailed(f"it says that it needs only {needs}, and asked for more: {error}") from error
            _well_formed(scores, query, f" on a cube of {form} only")


@check
def check_gives_what_it_declares(strategy: Subject) -> None:
    if strategy.kind.gives != "probabilities":
        return
    cubes = [(toy(18, 1), toy())]
    if set(strategy.kind.needs) <= {"probabilities", "decisions"}:
        cubes.append((poorer(toy(18, 1), "probabilities"), poorer(toy(), "probabilities")))
    for support, query in cubes:
        scores = strategy.scores(support, query).double()
        must(bool((scores >= 0).all()), "it gives probabilities, and some are negative.")
        off = float((scores.sum(-1) - 1).abs().max())
        must(off <= 1e-4, f"it gives probabilities, and rows miss a sum of one by up to {off:.3g}.")


@check
def check_says_which_backbones_it_used(strategy: Subject) -> None:
    query = toy()
    used = strategy.fitted(toy(18, 1)).used(strategy.view(query))
    b, s, _ = query.shape
    must(isinstance(used, Tensor) and used.dtype == torch.bool, "used must return a bool tensor.")
    must(tuple(used.shape) == (b, s), f"used must be [b, s] = {[b, s]}, not {list(used.shape)}.")
    must(bool(used.any(0).all()), "every sample needs at least one backbone.")


_PLAIN = (Tensor, str, bool, int, float)


def _plain(value: Any) -> bool:
    return isinstance(value, _PLAIN) or (isinstance(value, tuple) and all(_plain(item) for item in value))


@check
def check_learnt_state_can_be_saved(strategy: Subject) -> None:
    query = strategy.view(toy())
    made = strategy.fitted(toy(18, 1))
    again = strategy.make()
    for name, value in made.learnt().items():
        must(_plain(value), f"{name} must be a tensor, a number, a string or a tuple of them, not {type(value).__name__}.")
        copy = value.clone() if isinstance(value, Tensor) else value
        setattr(again, name, copy)
    _same(again.predict(query), made.predict(query), "what it learnt must be in attributes whose names end in one underscore.")


@check
def check_survives_small_cubes(strategy: Subject) -> None:
    support, query = toy(18, 1), toy()
    few = [i for i, label in enumerate(support.labels.tolist()) if label != 2]
    cubes = {
        "one class absent from the support": (support.take(few), query),
        "one example of support": (support.take([0]), query),
        "one sample of query": (support, query.take([0])),
        "two classes": (toy(6, 1, classes=2), toy(20, classes=2)),
        "one class": (toy(3, 1, classes=1), toy(5, classes=1)),
        "one backbone": (toy(18, 1, backbones=1), toy(backbones=1)),
    }
    for what, (learn, ask) in cubes.items():
        try:
            scores = strategy.scores(learn, ask)
        except Lacking:
            if what != "one backbone":
                raise
            continue  # an oracle of three backbones may ask for three
        _well_formed(scores, ask, f" with {what}")


@check
def check_an_oracle_bounds_every_backbone(strategy: Subject) -> None:
    if strategy.kind.family != "oracle":
        return
    query = toy(60, 4)
    for part in (query, *query.chunks(20), *query.chunks(1)):
        right = (decide(strategy.make().predict(part), part) == part.labels).sum()
        single = (part.decisions == part.labels).sum(1).max()
        must(bool(right >= single), f"on {len(part)} samples it has {int(right)} right, and one backbone {int(single)}.")
