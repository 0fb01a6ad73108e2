"""The spine: every task, every strategy, each answer measured and kept."""

from __future__ import annotations

import hashlib
import json
import math
import os
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache, partial
from threading import Event, Lock
from typing import Any

import numpy as np
import tomli_w
import torch
from numpy.typing import NDArray

from ensemble_bench import cache, calibration, evaluation, fewshot, fits, health, metrics, prompts, provenance, threads
from ensemble_bench.condition import CLEAN, Condition
from ensemble_bench.cube import Cube
from ensemble_bench.embed import Embedder, View, Work, cores
from ensemble_bench.errors import BadData, BadOption, BadStore, BadWeights, BenchError, Lacking, Missing
from ensemble_bench.evaluation import Answer
from ensemble_bench.plan import Plan, Samples, fetched, gathered, planned
from ensemble_bench.profile import Profile
from ensemble_bench.progress import Advance, Progress
from ensemble_bench.records import Predictions, Record, Results, edition
from ensemble_bench.request import Request, read
from ensemble_bench.sources.base import Index, checked
from ensemble_bench.statistics import Resamples, interval
from ensemble_bench.store import Store
from ensemble_bench.strategies.base import Strategy
from ensemble_bench.strategies.build import named, source_digest
from ensemble_bench.task import SPLITS, Task

CONFIG = "config.toml"
SUPPORTS = "supports"

Array = NDArray[Any]
Bounds = tuple[float, float] | None
Said = list[tuple[list[Record], Predictions]] | tuple[str, str]
"""What a strategy said of each condition, as the results take it; or the status and the reason why it said nothing."""


@dataclass
class Outcome:
    """What a run left: its results, how many cells it made and how many were there, the sentences of those that failed.

    ``warnings`` are things to look at: a backbone that is not above chance. ``work`` counts what was really done: model loads,
    class-embedding builds, decodes, encodes.
    """

    results: Results
    made: int = 0
    kept: int = 0
    failures: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    work: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Cell:
    """One strategy on one task under one condition: what will be answered, and the names of the answers."""

    task: Task
    condition: Condition
    strategy: str
    name: str
    keys: Mapping[int | None, str]


TURN = 5e-4  # seconds that threads wait for each other's turn: many short steps beside a few long ones
SHORT = 1 << 22  # scores of a cube that is never worked on in pieces
ENOUGH = 64  # images or answers that a speed is kept from
HELD = 2 << 30  # bytes of features of several conditions that are kept in memory; beyond, they are read again when asked for


class Queries(Mapping[str, Cube]):
    """Cubes by condition, read from the store when asked for and kept while they are small; ``failed`` says what is lacking."""

    def __init__(self, made: Mapping[str, Callable[[], Cube]], failed: Mapping[Condition, str]) -> None:
        self.made, self.failed = made, failed
        self._kept: dict[str, Cube] = {}
        self._bytes = 0
        self._reading = Lock()

    def __getitem__(self, condition: str) -> Cube:
        with self._reading:
            if condition in self._kept:
                return self._kept[condition]
            cube = self.made[condition]()
            size = sum(part.nbytes for part in cube.features or ())
            if self._bytes + size <= HELD:
                self._kept[condition] = cube
                self._bytes += size
            return cube

    def __iter__(self) -> Iterator[str]:
        return iter(self.made)

    def __len__(self) -> int:
        return len(self.made)

    def only(self, conditions: Sequence[str]) -> Mapping[str, Cube]:
        """The same cubes for some of the conditions."""
        part = Queries({name: partial(self.__getitem__, name) for name in conditions}, self.failed)
        part._bytes = HELD  # what is kept is kept here
        return part


def device(asked: str) -> str:
    """``cpu`` or ``cuda``; asking for a CUDA device that is not there is an error."""
    if asked == "cuda" and not torch.cuda.is_available():
        raise Missing("--device cuda: torch finds no CUDA device here; use --device cpu or auto.")
    return "cuda" if asked != "cpu" and torch.cuda.is_available() else "cpu"


def run(request: Request, progress: Progress | None = None, profile: Profile | None = None) -> Outcome:
    """Do what a request asks for and is not done yet. What the user must mend is raised before anything is written.

    A data set or a strategy that fails later becomes a row with its reason; the others go on.
    """
    if request.offline:
        os.environ["HF_HUB_OFFLINE"] = "1"
    profile = profile or Profile()
    with profile.step("plan"):
        plan = _decided(planned(request))
        work = _Work(plan, progress or Progress(), profile)
        _write_config(plan)
    began = time.process_time()
    work.do()
    _measured(work, time.process_time() - began)
    work.outcome.work = asdict(work.embedder.work)
    return work.outcome


def _decided(plan: Plan) -> Plan:
    """The plan with a precision in place of ``auto``: what is recorded, keyed and compared is the one really used."""
    if plan.request.precision != "auto":
        return plan
    from ensemble_bench.backbones import tuning

    precision = tuning.quickest(plan.backbones, device(plan.request.device))
    return plan.changed(request=plan.request.changed(precision=precision))


def _measured(work: _Work, seconds: float) -> None:
    """Keep what this run says of the machine's speed, for the forecasts of others: of encodings, and of all the rest."""
    embedder, answered = work.embedder, work.answered
    rates = {
        calibration.name(name, embedder.precision): 1000 * spent / images
        for name, (images, spent) in embedder.spent.items()
        if images >= ENOUGH
    }
    rest = seconds - sum(spent for _, spent in embedder.spent.values())
    with suppress(BadStore):  # nothing but a forecast would miss it
        if rates:
            calibration.note("rates", rates, work.device)
        if answered >= ENOUGH and work.device == "cpu" and rest > 0 and len(rates) == len(work.plan.backbones):
            calibration.note("run", {"answer": 1000 * rest / answered})


def cube(request: Request, *, split: str = "test", draw: int = 0) -> Cube:
    """The labelled cube of the one task that a request names: its test samples, or the support of one draw."""
    plan = _decided(planned(request))
    if len(plan.tasks) != 1:
        raise BadOption(f"a cube is of one task, and {', '.join(request.tasks)} are {len(plan.tasks)}.")
    if split not in SPLITS:
        raise BadOption(f"split must be one of {', '.join(SPLITS)}, not {split!r}.")
    if split == "train" and draw not in range(request.draws):
        raise BadOption(f"there are draws 0 to {request.draws - 1}, not {draw}.")
    work = _Work(plan.changed(strategies=("best-single",) if split == "train" else ()), Progress())
    task = work.only().task
    if split == "test":
        return work.cube(task, "test")
    supports = work.supports(task)
    if not supports:
        raise BadOption(f"{task.name} has no train split to draw a support from.")
    return supports[draw]


def cubes(request: Request, progress: Progress | None = None) -> dict[str, Cube]:
    """The labelled cube of each split of the one task that a request names, with all its samples: test first."""
    plan = _decided(planned(request))
    if len(plan.tasks) != 1:
        raise BadOption(f"cubes are of one task, and {', '.join(request.tasks)} are {len(plan.tasks)}.")
    work = _Work(plan.changed(strategies=()), progress or Progress())
    source = work.only().source
    return {split: work.cube(source.task, split, checked(source, split)) for split in sorted(source.task.splits)}


def measure(strategy: str | Strategy, query: Cube, support: Cube | None = None) -> tuple[dict[str, float | None], str]:
    """Every metric of a strategy on a labelled cube, and its name; one that learns is fitted on ``support`` first."""
    text = strategy if isinstance(strategy, str) else type(strategy).__name__
    asked = named(strategy) if isinstance(strategy, str) else strategy
    reason = evaluation.lacking(asked, query)
    if reason:
        raise Lacking(f"{text} {reason}.")
    if asked.labels == "support":
        if support is None and not asked.learnt():
            raise Lacking(f"{text} learns from labelled examples: give support=, or a strategy that has been fitted.")
        if support is not None:
            fewshot.check_disjoint(support.ids, query.ids, text)
            asked.fit(support)
    answer = evaluation.answer(asked, query, text)
    return metrics.measured(dict(answer.samples), query.labels), text


@dataclass(frozen=True)
class Shown:
    """What the cells of one task are answered from."""

    queries: Queries
    supports: Sequence[Cube]


class _Stopped(Exception):
    """The run is over before its work is done."""


class _Work:
    """A run under way: the plan, the loaded backbones, the results so far."""

    def __init__(self, plan: Plan, progress: Progress, profile: Profile | None = None) -> None:
        self.plan, self.request, self.progress, self.profile = plan, plan.request, progress, profile or Profile()
        self.strategies: dict[str, Strategy] = {text: named(text) for text in plan.strategies}
        self._pictures: dict[tuple[str, Condition], dict[str, Any]] = {}
        self._supports_said: dict[str, dict[str, Any]] = {}
        self.shown, self.absent = gathered(plan, fetched(plan, self._learns(), progress))
        if not self.shown and (failed := [reason for status, reason in self.absent.values() if status == "failed"]):
            raise BadData(failed[0])  # nothing could be measured: no results folder for that
        self.tasks = [shown.task for shown in self.shown.values()]  # with the names that came with their data
        self.stopped = Event()
        self._judging = Lock()  # resamples are drawn once and shared
        self.answered = 0  # images x conditions x strategies
        self._others: dict[str, Cube] = {}
        self._spent: dict[str, Work] = {}  # what was done to show each task
        self.outcome = Outcome(Results(plan.output))
        self.outcome.results.check_same(
            pool=[backbone.id for backbone in plan.backbones],
            shots=plan.request.shots,
            draws=plan.request.draws,
            seed=plan.request.seed,
            precision=plan.request.precision,
            limit=plan.request.limit,
            versions={task.name: task.version for task in plan.tasks},
            suites={name: edition(suite.about()) for name, suite in plan.suites.items()},
        )
        self.device = device(plan.request.device)
        self.embedder = Embedder(plan.backbones, Store(), self.device, plan.request.precision, profile=self.profile)
        self.embedder.distinct()

    def only(self) -> Samples:
        """The samples of the one task there is; Missing where they cannot be had."""
        for _, reason in self.absent.values():
            raise Missing(reason)
        (shown,) = self.shown.values()
        return shown

    def _learns(self) -> bool:
        """Whether some strategy learns from labelled examples."""
        return any(strategy.labels == "support" or strategy.prepares() for strategy in self.strategies.values())

    def do(self) -> None:
        """Every cell that is not there yet, task after task; the next one is encoded while this one is answered."""
        for task in self.plan.tasks:
            if task.name in self.absent:
                self._absent(task, *self.absent[task.name])
        if any(strategy.prepares() for strategy in self.strategies.values()):
            for task in self.tasks:
                self.others(task)
        interval = sys.getswitchinterval()
        with ThreadPoolExecutor(1, "ahead") as ahead:
            try:
                sys.setswitchinterval(TURN)
                coming: deque[tuple[Task, Sequence[Cell], Future[Shown | BenchError]]] = deque()
                for task in self.tasks:
                    if wanted := self._wanted(task):
                        coming.append((task, wanted, ahead.submit(self._shown, task, wanted)))
                    while len(coming) > 1:
                        self._answer(*coming.popleft())
                while coming:
                    self._answer(*coming.popleft())
            finally:
                self.stopped.set()
                sys.setswitchinterval(interval)

    def _wanted(self, task: Task) -> list[Cell]:
        """The cells of a task that are not there yet."""
        cells = [self._cell(task, condition, text) for text in self.plan.strategies for condition in self.plan.conditions]
        held = self.outcome.results.keys
        again = self._unsaved(task)
        wanted = [c for c in cells if c.name not in held and (c.strategy in again or not set(c.keys.values()) <= held)]
        self.outcome.kept += len(cells) - len(wanted)
        return wanted

    def _unsaved(self, task: Task) -> set[str]:
        """The strategies whose fits on a task are asked for and not saved yet, though their answers may be."""
        if not self.request.save_fits:
            return set()
        saved = fits.of(self.plan.output / fits.FOLDER).values()
        there = {facts["strategy"] for facts in saved if facts["task"] == task.name}
        return {text for text, strategy in self.strategies.items() if strategy.labels == "support"} - there

    def _shown(self, task: Task, wanted: Sequence[Cell]) -> Shown | BenchError:
        """What these cells are answered from, encoded and stored; or why this task cannot be shown."""
        try:
            queries = self._queries(task, self._views(task, {cell.condition for cell in wanted}))
            return Shown(queries, self.supports(task))
        except (BadStore, BadWeights):
            raise  # not this task's fault: nothing else would get further
        except BenchError as error:
            return error

    def _answer(self, task: Task, wanted: Sequence[Cell], coming: Future[Shown | BenchError]) -> None:
        with self.profile.step("waiting"):
            shown = coming.result()
        if isinstance(shown, BenchError):
            for cell in wanted:
                self._fail(cell, "failed", f"{task.name}: {shown}")
            return
        by_strategy: dict[str, list[Cell]] = {}
        for cell in wanted:
            if reason := shown.queries.failed.get(cell.condition):
                self._fail(cell, "failed", reason)
            else:
                by_strategy.setdefault(cell.strategy, []).append(cell)
        if not by_strategy:
            return
        with self.progress.step(f"{task.name}: strategies", len(by_strategy)) as advance, self._several(shown) as several:
            found = [several(partial(self._ask, text, same, shown)) for text, same in by_strategy.items()]
            for (text, same), said in zip(by_strategy.items(), found, strict=True):
                self._take(text, same, said())
                advance(1)

    @contextmanager
    def _several(self, shown: Shown) -> Iterator[Callable[[Callable[[], Said]], Callable[[], Said]]]:
        """Asks strategies side by side where cubes are small: their steps are then too short to be spread over the cores."""
        cubes = [next(iter(shown.queries.values())), *shown.supports]
        workers = cores()
        if workers == 1 or any(math.prod(cube.shape) > SHORT for cube in cubes):
            yield lambda ask: ask
            return
        with threads.pool(workers, "strategies") as pool:
            yield lambda ask: pool.submit(ask).result

    @contextmanager
    def _encoding(self, task: Task, what: str, missing: Mapping[str, int]) -> Iterator[Advance]:
        """A step of the progress in which ``what`` of a task is encoded, and whose work is counted as the task's.

        ``missing`` counts the images by backbone. Ends early, with what is finished kept, when the run does.
        """
        before, total = replace(self.embedder.work), sum(missing.values())
        try:
            share = self._share(task, missing) if total else None
            with self.progress.step(f"{task.name}: {what}", total, share) as advance:

                def advanced(units: int) -> None:
                    advance(units)
                    if self.stopped.is_set():
                        raise _Stopped

                yield advanced
        finally:
            self._spent[task.name] = self._spent.get(task.name, Work()) + self.embedder.work - before

    def _share(self, task: Task, missing: Mapping[str, int]) -> float | None:
        """The share of the machine's peak that one encoding a second takes, in the mean over these; None if nobody watches."""
        if not self.progress.watched:
            return None
        from ensemble_bench.backbones import tuning

        cost = self.embedder.gflops(task)
        gflop = sum(cost[name] * images for name, images in missing.items()) / sum(missing.values())
        precision = self.request.precision
        peak = tuning.peaks(self.device, (precision,))[precision] * (cores() if self.device == "cpu" else 1)
        return gflop / peak if peak else None

    def _ask(self, text: str, cells: Sequence[Cell], shown: Shown) -> Said:
        """What a strategy says of all conditions, measured, or the status and the reason why it says nothing."""
        strategy = self.strategies[text]
        asked = shown.queries.only([str(cell.condition) for cell in cells])
        reason = evaluation.lacking(strategy, next(iter(asked.values())))
        if strategy.labels == "support" and not shown.supports:
            lacking = self.shown[cells[0].task.name]
            if lacking.withheld:
                return "failed", lacking.withheld
            why = lacking.unsupported or "this task has no train split to draw them from"
            reason = f"learns from labelled examples, and {why}"
        others = self.others(cells[0].task) if strategy.prepares() else {}
        if strategy.prepares() and not others:
            reason = "learns from other tasks first, and this run has no other with a train split"
        if reason:
            return "not-applicable", f"{text} {reason}"
        try:
            with self.profile.step("strategies"):
                found = evaluation.answers(lambda: named(text), text, shown.supports, asked, self.request.seed, others)
        except Exception as error:
            return "failed", evaluation.excuse(text, error)
        labels = next(iter(asked.values())).labels.numpy()  # of the same samples under every condition
        with self.profile.step("statistics"), self._judging:
            stacks = {name: _stacked(answers) for name, answers in found.items()}
            intervals = _intervals(list(stacks.values()), labels, f"{cells[0].task.name}\nclean")
        bounds = dict(zip(stacks, intervals, strict=True))
        said = []
        for cell in cells:
            name = str(cell.condition)
            said.append(self._judged(cell, found[name], stacks[name], bounds[name], asked[name]))
        return said

    def _take(self, text: str, cells: Sequence[Cell], said: Said) -> None:
        """Write down what a strategy said, or why it did not."""
        if isinstance(said, tuple):
            for cell in cells:
                self._fail(cell, *said)
            return
        with self.profile.step("records"):
            for cell, (_, predictions) in zip(cells, said, strict=True):
                self._alarm(cell, predictions)
                self.answered += len(predictions.ids)
            self.outcome.results.extend(said)
        self.outcome.made += len(said)

    # What is shown ---------------------------------------------------------------------------------------------------

    def _views(self, task: Task, wanted: Collection[Condition]) -> dict[Condition, View | BenchError]:
        """How each wanted condition shows the test samples of a task, or why it cannot."""
        found: dict[Condition, View | BenchError] = {}
        for condition in self.plan.conditions:
            if condition in wanted:
                try:
                    found[condition] = self._view(task, condition)
                except BenchError as error:
                    found[condition] = error
        return found

    def _view(self, task: Task, condition: Condition) -> View:
        source, suite = self.shown[task.name].source, self.plan.suite(condition)
        said = self.plan.said(source, "test", condition, self.shown[task.name].query.ids)
        own = source.under(condition) if suite is not None and suite.on_disk else None
        if reason := (own or source).lacking("test", self.shown[task.name].query.ids):
            raise BadData(reason)
        return View(condition, suite.alter(condition) if suite is not None and own is None else None, said, own)

    def _queries(self, task: Task, views: Mapping[Condition, View | BenchError]) -> Queries:
        """The labelled test samples in these views, encoded in one pass over the pictures."""
        shown, pool = self.shown[task.name], self.plan.backbones
        good = [view for view in views.values() if isinstance(view, View)]
        failed: dict[Condition, BenchError] = {c: view for c, view in views.items() if isinstance(view, BenchError)}
        ids = shown.query.ids
        missing = Counter[str]()
        for view in good:
            missing.update(self.embedder.missing(task, "test", ids, view.condition, view.said))
        name = f"test images x {len(pool)} backbones" + f" x {len(good)} conditions" * (len(good) > 1)
        with self._encoding(task, name, missing) as advance:
            failed |= self.embedder.prepare(task, shown.source, "test", ids, good, advance)
            self.embedder.heads(task)

        def cube(view: View) -> Cube:
            return self.embedder.cube(task, shown.source, "test", ids, labels=shown.query.labels, view=view)

        made = {str(view.condition): partial(cube, view) for view in good if view.condition not in failed}
        return Queries(made, failed={condition: f"{task.name}: {error}" for condition, error in failed.items()})

    def cube(self, task: Task, split: str, index: Index | None = None) -> Cube:
        """The labelled cube of the clean samples of a split: of those that are shown, or of these."""
        shown = self.shown[task.name]
        own, whose, source = shown.query, shown.task, shown.source
        if split == "train":
            own, whose, source = shown.support, shown.lent, shown.lender or source
        index = index or own
        view = View(said=source.said(split, index.ids))
        missing = self.embedder.missing(whose, split, index.ids, said=view.said)
        of = f" of {whose.name}" if whose.name != task.name else ""
        with self._encoding(task, f"{split} images{of} x {len(self.plan.backbones)} backbones", missing) as advance:
            return self.embedder.cube(whose, source, split, index.ids, labels=index.labels, view=view, progress=advance)

    def supports(self, task: Task) -> list[Cube]:
        """The labelled cube of each draw; encoded only if some strategy learns."""
        shown = self.shown[task.name]
        if not shown.supports or all(strategy.labels != "support" for strategy in self.strategies.values()):
            return []
        self._keep_supports(task)
        every = self.cube(task, "train")
        place = {name: row for row, name in enumerate(every.ids)}
        return [every.take([place[name] for name in support.ids]) for support in shown.supports]

    def others(self, task: Task) -> dict[str, Cube]:
        """The labelled training samples of all other tasks of the run, those that some draw uses, by task name."""
        teachers = self._teachers(task)
        for other in teachers:
            if other.name not in self._others:
                self._others[other.name] = self.cube(other, "train").dense()
        return {other.name: self._others[other.name] for other in teachers}

    def _teachers(self, task: Task) -> list[Task]:
        """The tasks that another one may learn from: with a train split of their own, which is not the one it is lent."""
        theirs = {task.name, self.shown[task.name].lent.name}
        return [o for o in self.tasks if o.name not in theirs and self.shown[o.name].supports and not self.shown[o.name].lender]

    def _keep_supports(self, task: Task) -> None:
        """The ids of every draw, and what they were drawn from, beside the results."""
        shown = self.shown[task.name]
        said: dict[str, Any] = {
            "task": task.name,
            "version": task.version,
            "split": "train",
            "shots": self.request.shots,
            "seed": self.request.seed,
            **(shown.candidates.about if shown.candidates else {}),
            "draws": [
                {"digest": fewshot.digest(one.ids), "ids": list(one.ids), "labels": list(one.labels)} for one in shown.supports
            ],
        }
        path = self.plan.output / SUPPORTS / f"{task.name}.json"
        text = (json.dumps(said, ensure_ascii=False, allow_nan=False) + "\n").encode()
        if not path.is_file() or path.read_bytes() != text:
            cache.write(path, text)

    # What is kept ----------------------------------------------------------------------------------------------------

    def _cell(self, task: Task, condition: Condition, text: str) -> Cell:
        """The cell and the record key of each of its draws: all that changes the number."""
        shown, strategy = self.shown[task.name], self.strategies[text]
        learns = strategy.labels == "support"
        said: dict[str, Any] = {
            "task": [task.name, task.version, list(task.classes), list(task.templates)],
            "condition": [str(condition), condition.seed],
            **self._said(task, condition),
            "query": fewshot.digest(shown.query.ids),
            "weights": [[b.weights(), b.architecture(), b.preprocessing()] for b in self.plan.backbones],
            "precision": [self.request.precision, self.device],
            "strategy": [text, source_digest(strategy)],
            "shots": self.request.shots if learns else 0,
            "seed": self.request.seed if learns else 0,
        }
        if strategy.prepares():
            others = self._teachers(task)
            said["others"] = [[o.name, o.version, fewshot.digest(self.shown[o.name].support.ids)] for o in others]
        if learns and shown.supports and (pictures := self._said_of_support(task)):
            said["support pictures"] = pictures
        supports = {draw: fewshot.digest(support.ids) for draw, support in enumerate(shown.supports)} if learns else {}
        draws: Mapping[int | None, str] = supports or {None: ""}  # type: ignore[assignment]
        keys = {draw: cache.sha256({**said, "draw": draw, "support": support}) for draw, support in draws.items()}
        return Cell(task, condition, text, hashlib.sha256("".join(keys.values()).encode()).hexdigest()[:24], keys)

    def _said(self, task: Task, condition: Condition) -> dict[str, Any]:
        """What else changes the pictures: nothing for clean pictures that are in the card."""
        place = task.name, condition
        if place not in self._pictures:
            try:
                shown = self.shown[task.name]
                self._pictures[place] = self.plan.said(shown.source, "test", condition, shown.query.ids)
            except BenchError as error:  # a condition that cannot be had is asked for again when that changes
                self._pictures[place] = {"lacking": str(error)}
        return {"pictures": self._pictures[place]} if self._pictures[place] else {}

    def _said_of_support(self, task: Task) -> dict[str, Any]:
        """What else changes the pictures of the support: nothing where they are in the card."""
        if task.name not in self._supports_said:
            shown = self.shown[task.name]
            self._supports_said[task.name] = (shown.lender or shown.source).said("train", shown.support.ids)
        return self._supports_said[task.name]

    def _record(self, cell: Cell, draw: int | None, **more: Any) -> Record:
        shown, strategy = self.shown.get(cell.task.name), self.strategies[cell.strategy]
        learns = strategy.labels == "support"
        suite = self.plan.suite(cell.condition)
        return Record(
            task=cell.task.name,
            task_version=cell.task.version,
            collections=self.plan.belongs[cell.task.name],
            condition=str(cell.condition),
            pool=tuple(backbone.id for backbone in self.plan.backbones),
            strategy=cell.strategy,
            family=strategy.family,
            parameters=strategy.parameters(),
            shots=self.request.shots if learns else 0,
            draw=draw,
            draws=self.request.draws if learns else 0,
            seed=self.request.seed,
            limit=self.request.limit,
            n=len(shown.query.ids) if shown else 0,
            ids=fewshot.digest(shown.query.ids if shown else ()),
            support=fewshot.digest(shown.supports[draw].ids) if shown and draw is not None else None,
            provenance={
                **provenance.code(),
                "versions": provenance.versions(),
                **provenance.machine(),
                "card": cell.task.card_digest,
                "prompts": prompts.digest_of(tuple(cell.task.classes), tuple(cell.task.templates)),
                **({"suite": suite.about()} if suite else {}),
                "weights": {backbone.id: backbone.weights() for backbone in self.plan.backbones},
                "precision": self.request.precision,
                "device": self.device,
                "work": asdict(self._spent.get(cell.task.name, Work())),
                "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            },
            cell=cell.name,
            **more,
        )

    def _absent(self, task: Task, status: str, reason: str) -> None:
        """A row with its reason for every cell of a task whose samples cannot be had."""
        for text in self.plan.strategies:
            for condition in self.plan.conditions:
                said = cache.sha256(
                    {"task": [task.name, task.version], "condition": str(condition), "strategy": text, "no": reason}
                )
                cell = Cell(task, condition, text, said[:24], {None: said})
                if cell.name in self.outcome.results.keys:
                    self.outcome.kept += 1
                else:
                    self._fail(cell, status, reason)

    def _about_fit(self, cell: Cell, draw: int | None) -> dict[str, Any]:
        """What must be known of a fit to use it elsewhere; the condition is no part of it."""
        strategy, backbones = self.strategies[cell.strategy], self.plan.backbones
        return {
            "strategy": cell.strategy,
            "needs": list(strategy.needs),
            "task": cell.task.name,
            "task_version": cell.task.version,
            "classes": list(cell.task.classes),
            "prompts": prompts.digest_of(cell.task.classes, cell.task.templates),
            "pool": {b.id: [b.weights(), b.architecture(), b.preprocessing()] for b in backbones},
            "precision": self.request.precision,
            "shots": self.request.shots,
            "draw": draw,
            "seed": self.request.seed,
            "support": None if draw is None else fewshot.digest(self.shown[cell.task.name].supports[draw].ids),
        }

    def _fail(self, cell: Cell, status: str, reason: str) -> None:
        """One record for the whole cell, its key the cell's own."""
        self.outcome.results.append([self._record(cell, None, key=cell.name, labels=0, status=status, reason=reason)])
        if status == "failed":
            self.outcome.failures.append(reason)

    def _alarm(self, cell: Cell, said: Predictions) -> None:
        """Note a backbone that is not above chance on the clean images."""
        if cell.condition == CLEAN and cell.strategy.startswith("single:"):
            found = health.chance(said.right[0].tolist(), len(cell.task.classes), cell.strategy.removeprefix("single:"))
            self.outcome.warnings += [f"{cell.task.name}: {finding}" for finding in found]

    def _judged(
        self,
        cell: Cell,
        answers: Sequence[Answer],
        stacked: Mapping[str, Array],
        intervals: Mapping[str, Sequence[Bounds]],
        query: Cube,
    ) -> tuple[list[Record], Predictions]:
        """The answers of a cell, measured, with their intervals over images, as the results take them."""
        labels = query.labels
        records = []
        for place, answer in enumerate(answers):
            more: dict[str, Any] = {"key": cell.keys[answer.draw], "labels": answer.labels}
            with self.profile.step("statistics"):
                values = metrics.measured(dict(answer.samples), labels)
            more["metrics"] = {name: _entry(name, value, intervals[name][place]) for name, value in values.items()}
            more["cost"] = {"gflops": answer.gflops, "parameters": self._parameters(), "backbones": answer.backbones}
            more["cost"]["seconds"] = round(answer.seconds, 6)
            records.append(self._record(cell, answer.draw, **more))
            if self.request.save_fits and answer.learnt:
                about = self._about_fit(cell, answer.draw)
                for folder in (self.plan.output / fits.FOLDER, fits.shelf()):
                    fits.save(folder, answer.learnt, about)
        optional = {name: stacked[name] for name in Predictions.OPTIONAL if name in stacked}
        return records, Predictions(
            ids=np.array(query.ids),
            labels=labels.numpy(),
            draws=np.array([-1 if answer.draw is None else answer.draw for answer in answers]),
            decisions=stacked["decisions"],
            **optional,
        )

    def _parameters(self) -> int | None:
        known = [backbone.parameters for backbone in self.plan.backbones]
        return None if None in known else sum(number for number in known if number is not None)


@lru_cache(maxsize=2)
def _resamples(samples: int, name: str) -> Resamples:
    """The resamples of one task under one condition, shared by all strategies; their weights are kept where they are small."""
    return Resamples(samples, name)


def _stacked(answers: Sequence[Answer]) -> dict[str, Array]:
    """What every draw of a cell says of every sample, [d, s] by name."""
    return {key: torch.stack([answer.samples[key] for answer in answers]).numpy() for key in answers[0].samples}


def _intervals(cells: Sequence[Mapping[str, Array]], labels: Array, name: str) -> list[dict[str, list[Bounds]]]:
    """95 % intervals over images of every metric, one a draw, for cells of one strategy over the same samples."""
    resamples = _resamples(len(labels), name)  # the same images in a resample for every strategy and condition
    draws = len(cells[0]["decisions"])

    def rows(key: str) -> list[Array]:
        return [row[None] for cell in cells for row in cell[key]]

    right = [row == labels for row in rows("decisions")]
    means = {"acc1": right}
    means |= {key: rows(own) for key, own in (("nll", "nll"), ("brier", "brier"), ("acc5", "top5")) if own in cells[0]}
    found = np.split(resamples.means([row for each in means.values() for row in each]), len(means), axis=1)
    columns = dict(zip(means, found, strict=True))
    columns["mean_per_class_recall"] = resamples.recalls(right, labels)
    if "confidence" in cells[0]:
        columns["ece"] = resamples.calibration_errors(rows("confidence"), right)
    bounds: dict[str, list[Bounds]] = {"acc5": [None] * len(right)}
    bounds |= {key: [interval(column) for column in values.T] for key, values in columns.items()}
    return [{key: values[start : start + draws] for key, values in bounds.items()} for start in range(0, len(right), draws)]


def _entry(name: str, value: float | None, bounds: tuple[float, float] | None) -> dict[str, Any]:
    metric = metrics.METRICS[name]
    low, high = bounds or (None, None)
    return {
        "value": value,
        "ci_low": low,
        "ci_high": high,
        "direction": "up" if metric.direction > 0 else "down",
        "low": metric.low,
        "high": metric.high,
    }


def _write_config(plan: Plan) -> None:
    """The resolved configuration beside the results; a folder that grows keeps what it was asked for before."""
    path = plan.output / CONFIG
    said = plan.request.resolved()
    if path.exists():
        before = read(path)
        for key in ("tasks", "strategies", "corruptions", "cards", "plugins"):
            earlier = [str(item) for item in before.get(key, ())]
            said[key] = list(dict.fromkeys([*earlier, *said[key]]))
    cache.write(path, tomli_w.dumps(said).encode())
