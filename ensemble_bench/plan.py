"""From names to things: what a run will do, decided before anything is loaded."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ensemble_bench import backbones, fewshot, selection, sources, strategies
from ensemble_bench.condition import CLEAN, Condition
from ensemble_bench.corrupt import suite
from ensemble_bench.corrupt.suite import Suite
from ensemble_bench.errors import BadData, BadOption, BenchError, Missing, TooFew
from ensemble_bench.progress import Progress
from ensemble_bench.request import Request
from ensemble_bench.sources import hub
from ensemble_bench.sources.base import Candidates, Index, Source, Wanted, checked
from ensemble_bench.strategies.plugin import add_file
from ensemble_bench.task import Catalogue, Task

if TYPE_CHECKING:
    from ensemble_bench.backbones.base import Backbone


MULTILABEL = "several labels may be right for one image, and mean average precision is not measured yet"


@dataclass(frozen=True)
class Plan:
    """Tasks, backbones, strategies (canonical texts) and conditions of one run, in order; clean comes first.

    ``belongs`` says of each task which collections it is in, and over how many tasks a mean of each is.
    """

    request: Request
    tasks: tuple[Task, ...]
    belongs: Mapping[str, Mapping[str, int]]
    backbones: tuple[Backbone, ...]
    strategies: tuple[str, ...]
    conditions: tuple[Condition, ...]
    suites: Mapping[str, Suite]

    def suite(self, condition: Condition) -> Suite | None:
        """The suite of a condition, None for clean."""
        return self.suites.get(condition.suite)

    def said(self, source: Source, split: str, condition: Condition, ids: Sequence[str] | None = None) -> dict[str, Any]:
        """What changes these pictures of a split (None: all) under a condition and is not in its name: for keys, as plain JSON.

        Raises BadData where the condition's pictures should lie on disk and do not.
        """
        own = self.suite(condition)
        if own is None:
            return source.said(split, ids)
        shown = source.under(condition) if own.on_disk else source
        return {**shown.said(split, ids), **own.said(condition)}

    @property
    def output(self) -> Path:
        """Where the results go."""
        return self.request.output or Path("runs") / self.request.digest()

    def changed(self, **changes: Any) -> Plan:
        """The same plan with other values."""
        return dataclasses.replace(self, **changes)


def _conditions(request: Request) -> tuple[tuple[Condition, ...], dict[str, Suite]]:
    """Clean, which every comparison needs, then what the suites stand for; and the suites by name."""
    asked = selection.opened(request.corruptions)
    if not any(part.strip() for text in asked for part in text.split(",")):
        raise BadOption("no condition was chosen: give 'clean' or SUITE[:CORRUPTION[:SEVERITY]].")
    suites, conditions = suite.chosen(asked, request.cards, request.seed)
    return (CLEAN, *conditions), suites


def planned(request: Request) -> Plan:
    """The plan of a request; every name in it is looked up, nothing else is done."""
    for path in request.plugins:
        add_file(path)
    catalogue = Catalogue(request.cards)
    tasks = sources.chosen(request.tasks, catalogue)
    pool = sorted(backbones.find(selection.opened(request.backbones)), key=lambda backbone: backbone.id)
    conditions, suites = _conditions(request)
    return Plan(
        request=request,
        tasks=tuple(tasks),
        belongs={task.name: catalogue.belongs(task.name) if task.card_digest else {} for task in tasks},
        backbones=tuple(pool),
        strategies=strategies.chosen(request.strategies, [backbone.id for backbone in pool]),
        conditions=conditions,
        suites=suites,
    )


@dataclass(frozen=True)
class Samples:
    """Which samples of a task are shown: the query, and the support of each draw (none where nobody has labelled examples).

    The support is of the train split of ``lender`` (None: the task's own), and its labels are places in the classes of
    ``task``. Where there is none, ``unsupported`` says why nobody can give one, or ``withheld`` why it cannot be had now.
    """

    source: Source
    query: Index
    supports: tuple[Index, ...] = ()
    lender: Source | None = None
    candidates: Candidates | None = None
    unsupported: str = ""
    withheld: str = ""

    @property
    def task(self) -> Task:
        """The task, with the class names and templates that came with the data."""
        return self.source.task

    @property
    def support(self) -> Index:
        """Every training sample that some draw uses, each once."""
        found = dict(pair for part in self.supports for pair in zip(part.ids, part.labels, strict=True))
        return Index(tuple(found), tuple(found.values()))

    @property
    def lent(self) -> Task:
        """Whose train pictures the support is of, asked with the classes and templates of ``task``."""
        whose = self.task if self.lender is None else self.lender.task
        return dataclasses.replace(self.task, name=whose.name, version=whose.version)


def _taken(index: Index, places: Sequence[int]) -> Index:
    return Index(tuple(index.ids[place] for place in places), tuple(index.labels[place] for place in places))


def completed(task: Task) -> Source:
    """The source of a task that has its names; those that come with the data are read from there."""
    return sources.named(sources.of(task))


def samples(task: Task, request: Request) -> Samples:
    """The samples of a task that a request asks for; a class with too few of them, or an overlap of splits, is an error.

    A support that cannot be had because it is not fetched or is broken leaves the query alone: only learners lack it.
    """
    source = completed(task)
    task = source.task
    test = checked(source, "test")
    query = _taken(test, fewshot.limited(test.ids, request.limit))
    if "train" not in task.splits and task.support is None:
        return Samples(source, query, unsupported=task.unsupported)
    try:
        lender, candidates = _lent(task, source, test, request)
    except TooFew:
        raise
    except (Missing, BadData) as error:
        if "train" in task.splits and not isinstance(error, Missing):
            raise
        return Samples(source, query, withheld=str(error))
    train, supports = candidates.index, []
    for number in range(request.draws):
        try:
            places = fewshot.draw(
                *(train.ids, train.labels, task.classes, request.shots),
                seed=request.seed,
                number=number,
                stages=candidates.stages,
            )
        except BenchError as error:
            raise type(error)(f"{task.name}: {error}") from None
        supports.append(_taken(train, places))
    return Samples(source, query, tuple(supports), lender, candidates)


def fetched(plan: Plan, learns: bool, progress: Progress) -> dict[str, str]:
    """Bring what the tasks lack onto this machine, also for supports if something ``learns``; why that failed, by task name.

    Nothing is done where the network is forbidden.
    """
    failed: dict[str, str] = {}
    wanted = Wanted(shots=plan.request.shots if learns else 0, seed=plan.request.seed)
    catalogue = Catalogue(plan.request.cards)
    for task in plan.tasks:
        if hub.offline() or task.kind != "classification" or task.trouble:
            continue
        try:
            sources.fetch(task, wanted, catalogue, progress)
        except (BadData, Missing) as error:
            failed[task.name] = str(error) if task.name in str(error) else f"{task.name}: {error}"
    return failed


def gathered(
    plan: Plan, unfetched: Mapping[str, str] = MappingProxyType({})
) -> tuple[dict[str, Samples], dict[str, tuple[str, str]]]:
    """The samples of the tasks that have them, by name; and for the others whether they failed or do not apply, and why.

    Where something is missing that was ``unfetched``, the reason is why it could not be fetched.
    """
    found: dict[str, Samples] = {}
    absent: dict[str, tuple[str, str]] = {}
    for task in plan.tasks:
        if task.kind != "classification":
            absent[task.name] = "not-applicable", f"{task.name} is {task.kind}: {MULTILABEL}"
            continue
        try:
            shown = samples(task, plan.request)
            if shown.withheld and task.name in unfetched:
                shown = dataclasses.replace(shown, withheld=unfetched[task.name])
            found[task.name] = shown
        except TooFew:
            raise
        except (Missing, BadData) as error:
            said = str(error) if task.name in str(error) else f"{task.name}: {error}"
            absent[task.name] = "failed", unfetched.get(task.name, said)
    return found, absent


def _lent(task: Task, source: Source, test: Index, request: Request) -> tuple[Source | None, Candidates]:
    """The source of the support if it is another task's, and the training samples of our classes, labelled as ours."""
    if task.support is None:
        candidates = source.candidates(request.shots, request.seed)
        fewshot.check_disjoint(candidates.index.ids, test.ids, task.name)
        return None, candidates
    lender = completed(Catalogue(request.cards).task(task.support.task))
    theirs = lender.candidates(request.shots, request.seed, task.support.wanted)
    ours = task.support.labels(theirs.index.labels)
    places = [place for place, label in enumerate(ours) if label is not None]
    index = Index(tuple(theirs.index.ids[p] for p in places), tuple(label for label in ours if label is not None))
    stages = None if theirs.stages is None else tuple(theirs.stages[place] for place in places)
    return lender, Candidates(index, stages, {"lender": lender.task.name, **theirs.about})
