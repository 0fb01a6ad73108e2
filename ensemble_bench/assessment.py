"""Strategies on a prediction archive: the same answers, measures and records as a run gives, from scores that are there."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ensemble_bench import evaluation, fewshot, metrics, strategies
from ensemble_bench.archive import ALL, Archive
from ensemble_bench.cube import Cube
from ensemble_bench.errors import BadOption
from ensemble_bench.evaluation import Answer, Asked
from ensemble_bench.progress import Progress
from ensemble_bench.records import Held, Predictions, Record
from ensemble_bench.strategies.base import Strategy
from ensemble_bench.strategies.build import named


@dataclass
class Assessment:
    """Records of all samples together (condition ``all``) and of each condition, kept in memory.

    ``failures`` are the sentences of strategies that failed, ``left_out`` the default strategies that need more than there is.
    """

    results: Held
    failures: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Protocol:
    """How labelled examples are drawn from the train samples of an archive."""

    shots: int = 1
    draws: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        for name, low in (("shots", 1), ("draws", 1), ("seed", 0)):
            if getattr(self, name) < low:
                raise BadOption(f"--{name} must be at least {low}, not {getattr(self, name)}.")


def assessed(
    archive: Archive, asked: Sequence[str] = (), protocol: Protocol | None = None, progress: Progress | None = None
) -> Assessment:
    """What the strategies that ``asked`` names (none: all of the default that apply) are worth on an archive.

    A strategy that needs more than the archive has is a record that says so, one that fails likewise; the others go on. Raises
    before any work what the user must mend: an unknown name, a class with too few train samples.
    """
    work = _Work(archive, protocol or Protocol())
    every = strategies.chosen(asked or ("default",), archive.cube.backbones)
    made = {text: named(text) for text in every}
    reasons = {text: work.lacking(strategy) for text, strategy in made.items()}
    if not asked:
        work.done.left_out = [f"{text} {reason}" for text, reason in reasons.items() if reason]
        made = {text: strategy for text, strategy in made.items() if not reasons[text]}
    if any(strategy.labels == "support" and not reasons[text] for text, strategy in made.items()):
        _ = work.supports
    work.do(made, reasons, progress or Progress())
    return work.done


class _Work:
    """An assessment under way."""

    def __init__(self, archive: Archive, protocol: Protocol) -> None:
        self.archive, self.protocol = archive, protocol
        self.query = archive.cube if archive.split is None else archive.cube.take(archive.query)
        self.done = Assessment(Held(archive.name))

    @cached_property
    def supports(self) -> list[Cube]:
        return self.archive.supports(self.protocol.shots, self.protocol.draws, self.protocol.seed)

    def lacking(self, strategy: Strategy) -> str | None:
        """Why a strategy does not apply, or None."""
        if reason := evaluation.lacking(strategy, self.query):
            return reason
        if strategy.labels == "support" and (self.archive.split is None or "train" not in self.archive.split):
            return "learns from labelled examples, and this archive has no train split to draw them from"
        return "learns from other tasks first, and an archive is one task" if strategy.prepares() else None

    def do(self, made: dict[str, Strategy], reasons: dict[str, str | None], progress: Progress) -> None:
        conditions = {ALL: torch.arange(len(self.query)), **self.archive.conditions()}
        fits: dict[str, list[Asked]] = {}
        for text, strategy in made.items():
            if reason := reasons[text]:
                self._fail(text, strategy, conditions, "not-applicable", f"{text} {reason}")
                continue
            try:
                supports = self.supports if strategy.labels == "support" else []
                fits[text] = list(evaluation.fitted(lambda text=text: named(text), text, supports, self.protocol.seed))  # type: ignore[misc]
            except Exception as error:
                self._fail(text, strategy, conditions, "failed", evaluation.excuse(text, error))
        every = [one for group in fits.values() for one in group]
        with progress.step(f"{self.archive.name}: {len(every)} fits of strategies", len(self.query)) as advance:
            whole, query = evaluation.said(every, self.query, advance)
        self._keep_all(every, whole, query, ALL)
        for name, rows in list(conditions.items())[1:]:
            self._keep_all(every, self._under(every, whole, query, rows), query.take(rows), name)

    def _under(
        self, every: Sequence[Asked], whole: Sequence[Answer | Exception], query: Cube, rows: Tensor
    ) -> list[Answer | Exception]:
        """What was said of the samples of one condition; those whose answers hang on the whole query are asked again."""
        found: list[Answer | Exception] = []
        again = [
            place for place, one in enumerate(every) if one.strategy.wants_whole() and not isinstance(whole[place], Exception)
        ]
        asked = evaluation.said([every[place] for place in again], query.take(rows))[0] if again else []
        anew = dict(zip(again, asked, strict=True))
        for place, (one, answer) in enumerate(zip(every, whole, strict=True)):
            if isinstance(answer, Exception):
                found.append(answer)
            else:
                found.append(anew[place] if place in anew else answer.of(rows, len(rows) if one.oracle else answer.labels))
        return found

    # What is kept ----------------------------------------------------------------------------------------------------

    def _keep_all(self, every: Sequence[Asked], answers: Sequence[Answer | Exception], query: Cube, condition: str) -> None:
        groups: dict[str, list[tuple[Asked, Answer | Exception]]] = {}
        for one, answer in zip(every, answers, strict=True):
            groups.setdefault(one.name, []).append((one, answer))
        for text, group in groups.items():
            error = next((answer for _, answer in group if isinstance(answer, Exception)), None)
            if error is None:
                self._keep(text, [answer for _, answer in group if isinstance(answer, Answer)], query, condition)
            else:
                reason = evaluation.excuse(text, error)
                self._fail(text, group[0][0].strategy, [condition], "failed", reason)

    def _keep(self, text: str, answers: Sequence[Answer], query: Cube, condition: str) -> None:
        strategy, labels = named(text), query.labels
        records = []
        for answer in answers:
            values = metrics.measured(dict(answer.samples), labels)
            cost = {"gflops": None, "parameters": None, "backbones": answer.backbones}
            measured = {name: {"value": value} for name, value in values.items()}
            records.append(
                self._record(text, strategy, condition, answer.draw, len(query), answer.labels, metrics=measured, cost=cost)
            )
        stacked = {key: torch.stack([answer.samples[key] for answer in answers]).numpy() for key in answers[0].samples}
        predictions = Predictions(
            ids=np.array(query.ids),
            labels=labels.numpy(),
            draws=np.array([-1 if answer.draw is None else answer.draw for answer in answers]),
            **stacked,
        )
        self.done.results.append(records, predictions)

    def _fail(self, text: str, strategy: Strategy, conditions: Iterable[str], status: str, reason: str) -> None:
        for condition in conditions:
            record = self._record(text, strategy, condition, None, len(self.query), 0, status=status, reason=reason)
            self.done.results.append([record])
        if status == "failed" and reason not in self.done.failures:
            self.done.failures.append(reason)

    def _record(
        self, text: str, strategy: Strategy, condition: str, draw: int | None, n: int, labels: int, **more: Any
    ) -> Record:
        learns = strategy.labels == "support"
        protocol = self.protocol
        return Record(
            task=self.archive.name,
            task_version=1,
            condition=condition,
            pool=self.query.backbones,
            strategy=text,
            family=strategy.family,
            parameters=strategy.parameters(),
            shots=protocol.shots if learns else 0,
            draw=draw,
            draws=protocol.draws if learns else 0,
            seed=protocol.seed,
            limit=None,
            n=n,
            ids="",
            support=fewshot.digest(self.supports[draw].ids) if draw is not None else None,
            labels=labels,
            key=f"{condition}\n{text}\n{draw}",
            cell=hashlib.sha256(f"{condition}\n{text}".encode()).hexdigest()[:24],
            **more,
        )
