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
from ensemble_bench.errors import BadOption, BenchError
from ensemble_bench.request import Request
from ensemble_bench.sources.base import Index, Source, checked
from ensemble_bench.strategies.plugin import add_file
from ensemble_bench.task import Catalogue, Task

if TYPE_CHECKING:
    from ensemble_bench.backbones.base import Backbone


@dataclass(frozen=True)
class Plan:
    """Tasks, backbones, strategies (canonical texts) and conditions of one run, in order; clean comes first."""

    request: Request
    tasks: tuple[Task, ...]
    collections: Mapping[str, int]
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


def _strategies(request: Request, pool: Sequence[Backbone]) -> tuple[str, ...]:
    groups = {"default": strategies.DEFAULT, "all": [*strategies.registry, *strategies.READINGS]}
    every: dict[str, None] = {}
    for text in selection.chosen(request.strategies, list(strategies.registry), groups, "strategy"):
        every |= dict.fromkeys([f"single:{backbone.id}" for backbone in pool] if text == "single" else [text])
    return tuple(every)


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
        collections={name: len(members) for name, members in catalogue.collections.items()},
        backbones=tuple(pool),
        strategies=_strategies(request, pool),
        conditions=conditions,
        suites=suites,
    )


@dataclass(frozen=True)
class Samples:
    """Which samples of a task are shown: the query, and the support of each draw (none where there is no train split)."""

    source: Source
    query: Index
    supports: tuple[Index, ...]

    @property
    def support(self) -> Index:
        """Every training sample that some draw uses, each once."""
        found = dict(pair for part in self.supports for pair in zip(part.ids, part.labels, strict=True))
        return Index(tuple(found), tuple(found.values()))


def _taken(index: Index, places: Sequence[int]) -> Index:
    return Index(tuple(index.ids[place] for place in places), tuple(index.labels[place] for place in places))


def samples(task: Task, request: Request) -> Samples:
    """The samples of a task that a request asks for; a class with too few of them, or an overlap of splits, is an error."""
    source = sources.of(task)
    test = checked(source, "test")
    query = _taken(test, fewshot.limited(test.ids, request.limit))
    supports = []
    if "train" in task.counts:
        train = checked(source, "train")
        fewshot.check_disjoint(train.ids, test.ids, task.name)
        for number in range(request.draws):
            try:
                places = fewshot.draw(train.ids, train.labels, task.classes, request.shots, seed=request.seed, number=number)
            except BenchError as error:
                raise type(error)(f"{task.name}: {error}") from None
            supports.append(_taken(train, places))
    return Samples(source, query, tuple(supports))
