"""From names to things: what a run will do, decided before anything is loaded."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ensemble_bench import backbones, fewshot, selection, sources, strategies
from ensemble_bench.condition import CLEAN, Condition
from ensemble_bench.corrupt import suite
from ensemble_bench.corrupt.suite import Suite
from ensemble_bench.errors import BadCard, BadData, BadOption, BenchError, Missing, TooFew
from ensemble_bench.request import Request
from ensemble_bench.sources.base import Index, Source, checked
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

    def said(self, source: Source, split: str, condition: Condition) -> dict[str, Any]:
        """What changes the pictures of a split under a condition and is not in its name: for keys, as plain JSON values.

        Raises BadData where the condition's pictures should lie on disk and do not.
        """
        own = self.suite(condition)
        if own is None:
            return source.said(split)
        shown = source.under(condition) if own.on_disk else source
        return {**shown.said(split), **own.said(condition)}

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
    groups = {**catalogue.collections, "all": list(catalogue.paths)}
    tasks = catalogue.tasks(selection.chosen(request.tasks, list(catalogue.paths), groups, "task"))
    pool = sorted(backbones.find(selection.opened(request.backbones)), key=lambda backbone: backbone.id)
    conditions, suites = _conditions(request)
    return Plan(
        request=request,
        tasks=tuple(tasks),
        belongs={task.name: catalogue.belongs(task.name) for task in tasks},
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
    source = sources.of(task)
    if task.trouble:
        raise BadData(task.trouble)
    if "source" not in (task.classes_from, task.templates_from):
        return source
    names = getattr(source, "names", None)
    found = names() if names is not None else None
    if found is None:
        raise BadCard(f"the card of {task.name}: its names come with the data, and its source {task.source!r} brings none.")
    return sources.of(task.with_names(*found))


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
        lender, train = _lent(task, source, test, request)
    except TooFew:
        raise
    except (Missing, BadData) as error:
        if "train" in task.splits and not isinstance(error, Missing):
            raise
        return Samples(source, query, withheld=str(error))
    supports = []
    for number in range(request.draws):
        try:
            places = fewshot.draw(train.ids, train.labels, task.classes, request.shots, seed=request.seed, number=number)
        except BenchError as error:
            raise type(error)(f"{task.name}: {error}") from None
        supports.append(_taken(train, places))
    return Samples(source, query, tuple(supports), lender)


def gathered(plan: Plan) -> tuple[dict[str, Samples], dict[str, tuple[str, str]]]:
    """The samples of the tasks that have them, by name; and for the others whether they failed or do not apply, and why."""
    found: dict[str, Samples] = {}
    absent: dict[str, tuple[str, str]] = {}
    for task in plan.tasks:
        if task.kind != "classification":
            absent[task.name] = "not-applicable", f"{task.name} is {task.kind}: {MULTILABEL}"
            continue
        try:
            found[task.name] = samples(task, plan.request)
        except TooFew:
            raise
        except (Missing, BadData) as error:
            absent[task.name] = "failed", str(error)
    return found, absent


def _lent(task: Task, source: Source, test: Index, request: Request) -> tuple[Source | None, Index]:
    """The source of the support if it is another task's, and the training samples of our classes, labelled as ours."""
    if task.support is None:
        train = checked(source, "train")
        fewshot.check_disjoint(train.ids, test.ids, task.name)
        return None, train
    lender = completed(Catalogue(request.cards).task(task.support.task))
    theirs = checked(lender, "train")
    ours = task.support.labels(theirs.labels)
    kept = [(name, label) for name, label in zip(theirs.ids, ours, strict=True) if label is not None]
    return lender, Index(tuple(name for name, _ in kept), tuple(label for _, label in kept))
