"""Numbers over the conditions of a suite: means, what is left of the clean accuracy, corruption errors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

import numpy as np

from ensemble_bench import robustness
from ensemble_bench.condition import Condition
from ensemble_bench.errors import BadOption
from ensemble_bench.registry import near
from ensemble_bench.statistics import Floats

CLEAN = "clean"
ADDED = ("acc1", "disagreement", "label_disagreement")
ERRORS = ("ce", "relative_ce")
MEAN_ERRORS = ("mce", "relative_mce")
ALEXNETS = ("mce_alexnet", "relative_mce_alexnet")

Line = tuple[str, int]
"""A strategy at a number of shots: one line of a board."""


@dataclass(frozen=True)
class Number:
    """A value with what its resamples say, or the reason why there is none; of some values the reason says against what."""

    value: float | None = None
    resampled: Floats | None = None
    status: str = "done"
    reason: str = ""


MISSING = Number(status="missing", reason="not in these results")


def lacking(numbers: Sequence[Number], members: Sequence[str]) -> Number | None:
    """The number that says which members (tasks, conditions) have none; None where all of them do."""
    without = {name: number for name, number in zip(members, numbers, strict=True) if number.value is None}
    if not without:
        return None
    if len(members) == 1:
        return next(iter(without.values()))
    names: dict[str, list[str]] = {}
    for name, number in without.items():
        names.setdefault(number.reason, []).append(name)
    return Number(
        status=_status(without.values()), reason="; ".join(f"{', '.join(some)}: {reason}" for reason, some in names.items())
    )


def _status(numbers: Iterable[Number]) -> str:
    statuses = {number.status for number in numbers}
    return "missing" if "missing" in statuses else "failed" if "failed" in statuses else "not-applicable"


def combined(numbers: Sequence[Number]) -> Number:
    """The mean of numbers that all have a value, paired within every resample."""
    values = [number.value for number in numbers if number.value is not None]
    resampled: Floats = np.mean([number.resampled for number in numbers if number.resampled is not None], axis=0)
    return Number(fmean(values), resampled)


def suites(conditions: Iterable[str]) -> dict[str, tuple[Condition, ...]]:
    """The conditions of every suite by its name; those of archives, which have names of their own, belong to none."""
    found: dict[str, list[Condition]] = {}
    for text in sorted(set(conditions)):
        try:
            condition = Condition.parse(text)
        except BadOption:
            continue
        if condition.suite:
            found.setdefault(condition.suite, []).append(condition)
    return {name: tuple(sorted(members)) for name, members in found.items()}


def groups(suite: str, conditions: Sequence[Condition]) -> dict[str, tuple[str, ...]]:
    """Conditions of every mean row of one suite: over all of it, over each corruption, over each severity.

    >>> list(groups("mini-c", [Condition("mini-c", "fog", 2), Condition("mini-c", "fog", 4)]))
    ['mean(mini-c)', 'mean(mini-c:fog)', 'mean(mini-c:*:2)', 'mean(mini-c:*:4)']
    """
    found: dict[str, list[str]] = {f"mean({suite})": [str(condition) for condition in conditions]}
    for condition in conditions:
        found.setdefault(f"mean({suite}:{condition.corruption})", []).append(str(condition))
    for condition in sorted(conditions, key=lambda one: one.severity):
        found.setdefault(f"mean({suite}:*:{condition.severity})", []).append(str(condition))
    return {name: tuple(members) for name, members in found.items()}


def places(conditions: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Every condition and every mean over conditions of a suite, with its members: clean first.

    >>> list(places(["c:fog:1", "clean"]))
    ['clean', 'c:fog:1', 'mean(c)', 'mean(c:fog)', 'mean(c:*:1)']
    """
    ordered = sorted(set(conditions), key=lambda name: (name != CLEAN, name))
    found: dict[str, tuple[str, ...]] = {name: (name,) for name in ordered}
    for suite, members in suites(ordered).items():
        found |= groups(suite, members)
    return found


def usual(conditions: Iterable[str]) -> list[str]:
    """Of these places, where one looks first: clean images, the mean over each suite, conditions that belong to none.

    >>> usual(["c:fog:1", "clean", "1.5"])
    ['clean', '1.5', 'mean(c)']
    """
    every = places(conditions)
    inside = {name for suite, members in suites(every).items() for name in (*map(str, members), *groups(suite, members))}
    return [name for name in every if name not in inside or (name.startswith("mean(") and ":" not in name)]


@dataclass
class _Sum:
    """What has been added up of one number over the conditions of a group."""

    value: float = 0.0
    resampled: Floats | None = None
    there: set[str] = field(default_factory=set)
    without: dict[str, Number] = field(default_factory=dict)

    def add(self, condition: str, number: Number) -> None:
        if number.value is None or number.resampled is None:
            self.without[condition] = number
            return
        self.value += number.value
        self.resampled = number.resampled.copy() if self.resampled is None else self.resampled + number.resampled
        self.there.add(condition)

    def mean(self, members: Sequence[str]) -> Number:
        """The mean over all members, or which of them have no number."""
        absent = [name for name in members if name not in self.there]
        if not absent:
            assert self.resampled is not None
            return Number(self.value / len(members), self.resampled / len(members))
        numbers = [self.without.get(name, MISSING) for name in absent]
        if len(members) == 1:
            return numbers[0]
        by: dict[str, list[str]] = {}
        for name, number in zip(absent, numbers, strict=True):
            by.setdefault(number.reason, []).append(name)
        said = [f"{', '.join(some[:3])}{f' and {len(some) - 3} more' * (len(some) > 3)}: {why}" for why, some in by.items()]
        return Number(status=_status(numbers), reason="; ".join(said))


class Sums:
    """Numbers of every (metric, line, task), kept for clean images and added up over the conditions of each group."""

    def __init__(self, conditions: Iterable[str]) -> None:
        self.suites = suites(conditions)
        self.groups: dict[str, tuple[str, ...]] = {CLEAN: (CLEAN,)}
        for suite, members in self.suites.items():
            self.groups |= groups(suite, members)
        self._homes: dict[str, list[str]] = {}
        for name, conditions_of in self.groups.items():
            for condition in conditions_of:
                self._homes.setdefault(condition, []).append(name)
        self._sums: dict[tuple[str, str, Line, str], _Sum] = {}

    def add(self, condition: str, metric: str, line: Line, task: str, number: Number) -> None:
        for home in self._homes.get(condition, ()):
            self._sums.setdefault((home, metric, line, task), _Sum()).add(condition, number)

    def of(self, where: str, metric: str, line: Line, task: str) -> Number:
        """The mean over the conditions of a group (or the clean number), or what is missing of it."""
        return self._sums.get((where, metric, line, task), _Sum()).mean(self.groups[where])

    def over(self, where: str, metric: str, line: Line, tasks: Sequence[str]) -> Number:
        """The same, as a mean over tasks."""
        numbers = [self.of(where, metric, line, task) for task in tasks]
        return lacking(numbers, tasks) or combined(numbers)


@dataclass(frozen=True)
class Reference:
    """Against whose errors corruption errors are measured: a line of the board, and how it came to be chosen."""

    line: Line | None
    said: str
    alexnet: bool = False


def reference(asked: str | None, costs: Mapping[Line, float | None]) -> Reference:
    """The reference that is asked for among single backbones with their GFLOPs; by default the one with the fewest.

    ``asked`` is a backbone, with or without ``single:``, or ``alexnet``: that asks for figures against AlexNet even where they
    compare with nothing published, beside those against the default. An unknown backbone is ``BadOption``.
    """
    names = {line[0].removeprefix("single:"): line for line in costs}
    if asked not in (None, "alexnet"):
        name = asked.removeprefix("single:")
        if name not in names:
            there = near(name, names) or (f" There are: {', '.join(sorted(names))}." if names else " There are none.")
            raise BadOption(f"no single backbone of these results is called {name!r}, to measure errors against.{there}")
        return Reference(names[name], f"against {name}")
    known = sorted((cost, name) for name, line in names.items() if (cost := costs[line]) is not None)
    alexnet = asked == "alexnet"
    if not known:
        return Reference(None, "needs single backbones of known cost in the same results, or a reference by name", alexnet)
    return Reference(names[known[0][1]], f"against {known[0][1]}, the backbone with the fewest GFLOPs", alexnet)


def retained(accuracy: Number, clean: Number) -> Number:
    """Share of the clean accuracy that is left, paired within every resample."""
    if accuracy.value is None:
        return accuracy
    if clean.value is None:
        return Number(status=clean.status, reason=f"clean images: {clean.reason}")
    return _number(robustness.retained(_column(accuracy), _column(clean)), "nothing is right on clean images")


@dataclass(frozen=True)
class CorruptionErrors:
    """Corruption errors over some tasks: sums over tasks and severities, over the same sums of the reference."""

    sums: Sums
    reference: Reference
    tasks: tuple[str, ...]

    def pool(self, line: Line, suite: str, relative: bool, corruption: str | None = None) -> Number:
        """CE of one corruption of a suite, or the mean over all of them, against a backbone of the pool."""
        if self.reference.line is None:
            return Number(status="missing", reason=self.reference.said)
        own, theirs = self._errors(line, suite, corruption), self._errors(self.reference.line, suite, corruption)
        if isinstance(own, Number):
            return own
        if isinstance(theirs, Number):
            return Number(status="missing", reason=f"{self.reference.line[0]}, the reference: {theirs.reason}")
        if not relative:
            return _number(
                robustness.mce(own, theirs), f"{self.reference.line[0]}, the reference, makes no errors", self.reference.said
            )
        clean, base = (self._clean(one) for one in (line, self.reference.line))
        if clean.value is None or base.value is None:
            return Number(status="missing", reason=f"clean images: {clean.reason or base.reason}")
        found = robustness.relative_mce(own, 1 - _column(clean), theirs, 1 - _column(base))
        why = f"{self.reference.line[0]}, the reference, does not get worse under every corruption"
        return _number(found, why, self.reference.said)

    def alexnet(self, line: Line, suite: str, relative: bool, reasons: Sequence[str]) -> Number:
        """Mean corruption error against AlexNet's published errors; refused for these reasons unless it was asked for."""
        why = f"nothing published compares with it: {'; '.join(reasons)}"
        if reasons and not self.reference.alexnet:
            return Number(status="not-applicable", reason=why)
        own = self._errors(line, suite)
        if isinstance(own, Number):
            return own
        theirs = robustness.alexnet(own)
        if not theirs:
            return Number(status="not-applicable", reason="AlexNet's errors under these corruptions are not published")
        own = {name: own[name] for name in theirs}
        said = f"against AlexNet; asked for by name, {why}" if reasons else "against AlexNet"
        if not relative:
            return _number(robustness.mce(own, theirs), "", said)
        clean = self._clean(line)
        if clean.value is None:
            return Number(status=clean.status, reason=f"clean images: {clean.reason}")
        base = np.asarray(robustness.ALEXNET_CLEAN)
        return _number(robustness.relative_mce(own, 1 - _column(clean), theirs, base), "", said)

    def _clean(self, line: Line) -> Number:
        return self.sums.over(CLEAN, "acc1", line, self.tasks)

    def _errors(self, line: Line, suite: str, corruption: str | None = None) -> dict[str, Floats] | Number:
        """Mean error over the severities of each corruption, [1 + resamples, 1], value first; or the one that is missing."""
        named = [corruption] if corruption else dict.fromkeys(condition.corruption for condition in self.sums.suites[suite])
        numbers = {name: self.sums.over(f"mean({suite}:{name})", "acc1", line, self.tasks) for name in named}
        lack = next((number for number in numbers.values() if number.value is None), None)
        return lack or {name: 1 - _column(number)[:, None] for name, number in numbers.items()}


def _column(number: Number) -> Floats:
    """The value, then the resamples: [1 + resamples]."""
    assert number.value is not None and number.resampled is not None
    return np.concatenate([[number.value], number.resampled])


def _number(column: Floats, why: str, said: str = "") -> Number:
    """The number of such a column; ``why`` it has no value where that is NaN."""
    if np.isnan(column[0]):
        return Number(status="not-applicable", reason=why)
    return Number(float(column[0]), column[1:], reason=said)
