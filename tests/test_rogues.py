"""Deliberately wrong strategies, each caught by name by its own check."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
import pytest
import torch
from torch import Tensor

from ensemble_bench.cube import Cube
from ensemble_bench.registry import Row
from ensemble_bench.strategies.base import Strategy
from ensemble_bench.testing.strategies import CheckFailed, Subject, check_strategy, strategy_checks, subject

CHECKS = {check.__name__: check for check in strategy_checks()}
ROGUES: list[tuple[str, type[Strategy]]] = []


def caught_by(check: str) -> Callable[[type[Strategy]], type[Strategy]]:
    """Note which check must catch the class."""

    def noted(kind: type[Strategy]) -> type[Strategy]:
        ROGUES.append((check, kind))
        return kind

    return noted


@dataclass(eq=False)
class Mean(Strategy):
    """An honest mean of log-probabilities, to go wrong from."""

    family: ClassVar[str] = "static"
    needs: ClassVar[tuple[str, ...]] = ("probabilities",)

    def predict(self, query: Cube) -> Tensor:
        return query.log_probabilities.double().mean(0)


@dataclass(eq=False)
class Weighted(Strategy):
    """An honest learner, to go wrong from: log-average weighted by support accuracy."""

    family: ClassVar[str] = "calibrated"

    def fit(self, support: Cube) -> Self:
        support = support.canonical()
        self.backbones_ = support.backbones
        self.weight_ = (support.logits.argmax(-1) == support.labels).double().mean(1) + 0.1
        return self

    def predict(self, query: Cube) -> Tensor:
        self.fitted()
        return torch.einsum("b,bsc->sc", self.weight_, query.only(self.backbones_).log_probabilities.double())


@caught_by("check_declares_what_it_is")
class SeesTooMuch(Mean):
    """A static strategy that asks for labels of the support."""

    labels: ClassVar[str] = "support"


@caught_by("check_declares_what_it_is")
class NotConvexForNoReason(Mean):
    """Says that it may break unanimity and not why."""

    convex: ClassVar[bool] = False


@caught_by("check_parameters_round_trip")
@dataclass(eq=False)
class CommaInside(Mean):
    """A parameter that the command line cannot spell."""

    which: str = "all"

    def __post_init__(self) -> None:
        self.which = "a,b"


@caught_by("check_parameters_round_trip")
@dataclass(eq=False)
class WorksInItsConstructor(Mean):
    """A constructor that does not store what it was given."""

    sharpness: float = 1.0

    def __post_init__(self) -> None:
        self.sharpness = self.sharpness * 2


@caught_by("check_fit_returns_self")
class FitsToNothing(Weighted):
    """``fit`` returns nothing."""

    def fit(self, support: Cube) -> Self:
        super().fit(support)
        return None  # type: ignore[return-value]


@caught_by("check_scores_are_finite_and_shaped")
class Transposed(Mean):
    """Scores [c, s]."""

    def predict(self, query: Cube) -> Tensor:
        return super().predict(query).T


@caught_by("check_scores_are_finite_and_shaped")
class NotANumber(Mean):
    """One score is NaN."""

    def predict(self, query: Cube) -> Tensor:
        scores = super().predict(query)
        scores[0, 0] = torch.nan
        return scores


@caught_by("check_scores_are_finite_and_shaped")
class Decides(Mean):
    """Whole numbers: decisions dressed as scores."""

    def predict(self, query: Cube) -> Tensor:
        return torch.nn.functional.one_hot(super().predict(query).argmax(-1), len(query.classes))


@caught_by("check_says_it_is_not_fitted")
class SilentlyUnfitted(Weighted):
    """Answers with uniform weights before it has learnt any."""

    def predict(self, query: Cube) -> Tensor:
        return super().predict(query) if self.learnt() else query.log_probabilities.double().mean(0)


@caught_by("check_leaves_its_inputs_alone")
class SharpensInPlace(Mean):
    """Changes the caller's logits."""

    def predict(self, query: Cube) -> Tensor:
        return query.logits.mul_(2).log_softmax(-1).mean(0)


@caught_by("check_leaves_its_inputs_alone")
class ShufflesTheSupport(Weighted):
    """Changes the labels of the support."""

    def fit(self, support: Cube) -> Self:
        super().fit(support)
        support.labels.sub_(support.labels)
        return self


@caught_by("check_predict_remembers_nothing")
class Accumulates(Mean):
    """Scores depend on the queries that came before."""

    def predict(self, query: Cube) -> Tensor:
        self._seen = getattr(self, "_seen", 0) + 1
        return super().predict(query) * self._seen


@caught_by("check_refit_forgets")
class RemembersFits(Weighted):
    """A second fit adds to the first."""

    def fit(self, support: Cube) -> Self:
        before = self.learnt().get("weight_", 0.0)
        super().fit(support)
        self.weight_ = self.weight_ + before
        return self


@caught_by("check_same_seed_same_bytes")
@dataclass(eq=False)
class IgnoresItsSeed(Weighted):
    """Has a seed and draws from the global random numbers, which it puts back."""

    seed: int = 0

    def fit(self, support: Cube) -> Self:
        super().fit(support)
        state = torch.get_rng_state()
        self.weight_ = torch.rand(len(self.weight_), dtype=torch.float64) + 0.1
        torch.set_rng_state(state)
        return self


class Seeded(Weighted):
    """Right answers; what it draws goes nowhere."""

    def draw(self) -> None:
        raise NotImplementedError

    def fit(self, support: Cube) -> Self:
        self.draw()
        return super().fit(support)


@caught_by("check_leaves_global_random_numbers_alone")
class SeedsTorch(Seeded):
    """Seeds torch for everybody."""

    def draw(self) -> None:
        torch.manual_seed(0)


@caught_by("check_leaves_global_random_numbers_alone")
class SeedsNumpy(Seeded):
    """Seeds numpy for everybody."""

    def draw(self) -> None:
        np.random.seed(0)  # noqa: NPY002


@caught_by("check_leaves_global_random_numbers_alone")
class DrawsFromPython(Seeded):
    """Uses up Python's random numbers."""

    def draw(self) -> None:
        random.random()


@caught_by("check_without_labels_ignores_support")
class StaticThatLearns(Mean):
    """Static by name, weighted by the support where it is handed over with labels."""

    def fit(self, support: Cube) -> Self:
        if support.labelled:
            self.weight_ = (support.decisions == support.labels).double().mean(1)
        return self

    def predict(self, query: Cube) -> Tensor:
        weight = self.learnt().get("weight_", torch.ones(len(query.backbones), dtype=torch.float64))
        return torch.einsum("b,bsc->sc", weight, query.log_probabilities.double())


@caught_by("check_sees_no_query_labels")
class Peeks(Mean):
    """Takes the labels of the query where it can get them."""

    def predict(self, query: Cube) -> Tensor:
        scores = super().predict(query)
        if query.labelled:
            scores[torch.arange(len(query)), query.labels] += 100
        return scores


@caught_by("check_sees_no_query_labels")
class BlindOracle(Mean):
    """An oracle that does not notice that it has no labels."""

    family: ClassVar[str] = "oracle"


@caught_by("check_sample_order_does_not_matter")
class FirstComeFirstServed(Mean):
    """Later samples get flatter scores."""

    transductive: ClassVar[bool] = True

    def predict(self, query: Cube) -> Tensor:
        return super().predict(query) / torch.arange(1, len(query) + 1).unsqueeze(1)


@caught_by("check_sample_order_does_not_matter")
class LearnsFromTheFirst(Weighted):
    """Fits on the first half of the support as it comes."""

    def fit(self, support: Cube) -> Self:
        return super().fit(support.take(range((len(support) + 1) // 2)))


@caught_by("check_halves_make_the_whole")
class CentresTheBatch(Mean):
    """Subtracts the mean over the samples that happen to be asked together."""

    def predict(self, query: Cube) -> Tensor:
        scores = super().predict(query)
        return scores - scores.mean(0)


@caught_by("check_class_order_does_not_matter")
class PrefersEarlyClasses(Mean):
    """Adds a bonus to classes with a low index."""

    def predict(self, query: Cube) -> Tensor:
        return super().predict(query) - 0.3 * torch.arange(len(query.classes))


@caught_by("check_backbone_order_does_not_matter")
class TrustsTheFirst(Mean):
    """The first backbone of the pool counts double."""

    def predict(self, query: Cube) -> Tensor:
        return super().predict(query) + query.log_probabilities[0]


@caught_by("check_unanimous_stays_unanimous")
class VotesAgainst(Mean):
    """Subtracts the least confident backbone twice, and says that it is convex."""

    def predict(self, query: Cube) -> Tensor:
        log = query.log_probabilities.double()
        least = log.amax(-1).argmin(0)
        return log.sum(0) - 4 * log[least, torch.arange(len(query))]


@caught_by("check_one_backbone_stays_itself")
class TurnsOnItself(Mean):
    """Subtracts the mean over the others twice, which leaves a lone backbone upside down."""

    def predict(self, query: Cube) -> Tensor:
        return super().predict(query) * (len(query.backbones) - 1.5)


@caught_by("check_ties_are_left_to_the_rule")
class BreaksTiesItself(Mean):
    """Takes the argmax of votes, so that a tie can no longer be seen."""

    def predict(self, query: Cube) -> Tensor:
        c = len(query.classes)
        votes = torch.nn.functional.one_hot(query.decisions, c).sum(0)
        return torch.nn.functional.one_hot(votes.argmax(-1), c).double()


@caught_by("check_works_with_what_it_needs")
class NeedsMoreThanItSays(Mean):
    """Says probabilities and wants logits."""

    def predict(self, query: Cube) -> Tensor:
        return query.logits.double().mean(0)


@caught_by("check_gives_what_it_declares")
class SumsToTheNumberOfBackbones(Mean):
    """Sums probabilities and calls that probabilities."""

    gives: ClassVar[str] = "probabilities"

    def predict(self, query: Cube) -> Tensor:
        return query.probabilities.double().sum(0)


@caught_by("check_gives_what_it_declares")
class NegativeProbabilities(Mean):
    """Rows sum to one, and some entries are negative."""

    gives: ClassVar[str] = "probabilities"

    def predict(self, query: Cube) -> Tensor:
        mean = query.probabilities.double().mean(0)
        c = len(query.classes)
        return 2 * mean - 1 / c


@caught_by("check_says_which_backbones_it_used")
class UsedUpsideDown(Mean):
    """``used`` is [s, b]."""

    def used(self, query: Cube) -> Tensor:
        return super().used(query).T


@caught_by("check_says_which_backbones_it_used")
class UsedInNumbers(Mean):
    """``used`` holds floating-point numbers."""

    def used(self, query: Cube) -> Tensor:
        return super().used(query).double()


@caught_by("check_says_which_backbones_it_used")
class AnswersForFree(Mean):
    """Claims to have used no backbone at all."""

    def used(self, query: Cube) -> Tensor:
        return ~super().used(query)


@caught_by("check_learnt_state_can_be_saved")
class KeepsAModule(Weighted):
    """Learns a module, which only pickle can save."""

    def fit(self, support: Cube) -> Self:
        super().fit(support)
        self.net_ = torch.nn.Identity()
        return self


@caught_by("check_learnt_state_can_be_saved")
class HidesItsState(Weighted):
    """Learns into an attribute that no fit file will hold."""

    def fit(self, support: Cube) -> Self:
        super().fit(support)
        self._bonus = 1.5
        return self

    def predict(self, query: Cube) -> Tensor:
        return super().predict(query) * getattr(self, "_bonus", 1.0)


@caught_by("check_survives_small_cubes")
class WantsEveryClass(Weighted):
    """Fails when a class is absent from the support."""

    def fit(self, support: Cube) -> Self:
        if len(support.labels.unique()) < len(support.classes):
            raise ValueError("classes are absent")
        return super().fit(support)


@caught_by("check_survives_small_cubes")
class DividesByTheOthers(Mean):
    """Divides by the number of classes but one."""

    def predict(self, query: Cube) -> Tensor:
        return super().predict(query) / torch.tensor(len(query.classes) - 1.0)


@caught_by("check_an_oracle_bounds_every_backbone")
class OracleInName(Mean):
    """An oracle that looks at the labels and answers with the mean all the same."""

    family: ClassVar[str] = "oracle"

    def predict(self, query: Cube) -> Tensor:
        assert len(query.labels) == len(query)
        return super().predict(query)


@pytest.mark.parametrize(("check", "rogue"), ROGUES, ids=[rogue.__name__ for _, rogue in ROGUES])
def test_rogue_is_caught_by_its_check(check: str, rogue: type[Strategy]) -> None:
    with pytest.raises(CheckFailed, match=rf"^{subject(rogue).label}: {check}: "):
        CHECKS[check](rogue)
    with pytest.raises(CheckFailed):
        check_strategy(rogue)


@pytest.mark.parametrize("honest", [Mean, Weighted])
def test_the_honest_pass(honest: type[Strategy]) -> None:
    """What the rogues go wrong from is right: they are caught for what they changed."""
    check_strategy(honest)


def test_a_row_that_differs_from_its_class_is_caught() -> None:
    row = Row("tests:Mean", "Mean.", {"family": "static", "labels": "none", "needs": ("logits",)})
    with pytest.raises(CheckFailed, match=r"^mean: check_row_equals_class: its table row says .*logits"):
        CHECKS["check_row_equals_class"](Subject("mean", Mean, {}, row))


def test_every_check_has_its_rogue() -> None:
    assert {check for check, _ in ROGUES} | {"check_row_equals_class"} == set(CHECKS)


def test_an_unexpected_crash_names_strategy_and_check() -> None:
    class Crashes(Mean):
        """Crashes."""

        def predict(self, query: Cube) -> Tensor:
            raise RuntimeError("boom")

    with pytest.raises(CheckFailed, match=r"crashes: check_scores_are_finite_and_shaped: it raised RuntimeError: boom"):
        CHECKS["check_scores_are_finite_and_shaped"](Crashes)
