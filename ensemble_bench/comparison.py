"""One line of a board against all others: paired differences, exact tests per task, ranks over tasks, what could be found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ensemble_bench import leaderboard, shift
from ensemble_bench.errors import BadOption, BadRecord
from ensemble_bench.leaderboard import Found, Row
from ensemble_bench.records import Record, Results
from ensemble_bench.registry import near
from ensemble_bench.shift import MISSING, Line, Number
from ensemble_bench.statistics import (
    LEVEL,
    Floats,
    Ranks,
    Resamples,
    detectable,
    detectable_mean,
    holm,
    interval,
    mcnemar,
    ranks,
    separation,
    win_tie_loss,
)

NOT_SEPARABLE = "not separable"
NUMBERS = (
    *("value", "ci_low", "ci_high", "gained", "lost", "p", "p_holm", "detectable"),
    *("wins", "ties", "losses", "better", "worse"),
    *("rank", "rank_against", "critical_difference", "p_rank", "p_friedman"),
)


@dataclass
class Asked:
    """What one line answered on one task, added up over conditions: mean accuracy, its resamples, share right per image."""

    records: list[Record] = field(default_factory=list)
    conditions: set[str] = field(default_factory=set)
    value: float = 0.0
    resampled: Floats | None = None
    shares: dict[str, Floats] = field(default_factory=dict)
    lack: Number = MISSING

    def add(self, condition: str, records: Sequence[Record], resampled: Floats, share: Floats) -> None:
        self.records += records
        self.conditions.add(condition)
        self.value += float(share.mean())
        self.resampled = resampled if self.resampled is None else self.resampled + resampled
        images = records[0].ids
        self.shares[images] = self.shares[images] + share if images in self.shares else share

    def number(self, members: Sequence[str]) -> Number:
        """The mean over these conditions, or why there is none."""
        if self.conditions != set(members) or self.resampled is None:
            absent = sorted(set(members) - self.conditions)
            names = f"{', '.join(absent[:3])}{f' and {len(absent) - 3} more' * (len(absent) > 3)}: " * (len(members) > 1)
            return replace(self.lack, reason=names + self.lack.reason)
        return Number(self.value / len(members), self.resampled / len(members))

    @property
    def per_image(self) -> Floats:
        """How often each image was right, in an order that depends on the images only."""
        return np.concatenate([self.shares[images] for images in sorted(self.shares)])


class Accuracies:
    """Accuracies of every line on every task, paired in every resample; ``where`` is a condition or a mean over conditions.

    What makes no common board is ``BadRecord``, as on the board; what is compared was asked about the same images.
    """

    def __init__(self, results: Sequence[Results]) -> None:
        self.found: Found = leaderboard.gathered(results)
        conditions = {condition for _, _, condition in self.found}
        self.places = shift.places(conditions)
        self.usual = shift.usual(conditions)
        self.family = {line: records[0].family for (line, _, _), (_, records) in self.found.items()}
        self.lines = sorted(self.family)
        self._pairing = leaderboard.pairing(self.found, shift.suites(conditions))
        self._asked: dict[str, dict[tuple[Line, str], Asked]] = {}
        self._ranks: dict[tuple[str, tuple[str, ...], tuple[Line, ...]], Ranks] = {}

    def cells(self, where: str) -> dict[tuple[Line, str], Asked]:
        """What is known under a condition or a mean, by line and task; read once."""
        if where not in self._asked:
            self._asked[where] = self._read(where)
        return self._asked[where]

    def _read(self, where: str) -> dict[tuple[Line, str], Asked]:
        cells: dict[tuple[Line, str], Asked] = {}
        tasks = sorted({task for _, task, condition in self.found if condition in self.places[where]})
        for condition in self.places[where]:
            for task in tasks:
                here = {line: self.found[line, task, condition] for line in self.lines if (line, task, condition) in self.found}
                self._add(cells, task, condition, here)
        return cells

    def _add(
        self,
        cells: dict[tuple[Line, str], Asked],
        task: str,
        condition: str,
        here: Mapping[Line, tuple[Results, list[Record]]],
    ) -> None:
        right = {}
        images = None
        for line, (folder, records) in here.items():
            asked = cells.setdefault((line, task), Asked())
            if records[0].status != "done":
                asked.lack = Number(status=records[0].status, reason=records[0].reason or "no reason was recorded")
                continue
            said = folder.predictions(records[0].cell).by_id()
            if images is not None and not np.array_equal(images, said.ids):
                raise BadRecord(f"the stored predictions of {line[0]} on {task} are of other images than the others'.")
            images, right[line] = said.ids, said.right
        if images is None:
            return
        resamples = Resamples(len(images), f"{task}\n{self._pairing(task, condition)}")
        resampled = resamples.means(list(right.values()))
        for column, (line, truth) in zip(resampled.T, right.items(), strict=True):
            cells[line, task].add(condition, here[line][1], column, truth.mean(0))

    def tasks(self, where: str) -> list[str]:
        """Tasks about which anything is known there."""
        return sorted({task for _, task in self.cells(where)})

    def collections(self, where: str) -> dict[str, tuple[str, ...]]:
        """The means over tasks that a board has there, widest first."""
        records = [record for asked in self.cells(where).values() for record in asked.records]
        return leaderboard.collections(self.tasks(where), records)

    def of(self, line: Line, where: str, tasks: Sequence[str]) -> Number:
        """Mean accuracy of a line over these tasks, or which of them it lacks."""
        cells = self.cells(where)
        numbers = [cells.get((line, task), Asked()).number(self.places[where]) for task in tasks]
        return shift.lacking(numbers, tasks) or shift.combined(numbers)

    def difference(self, first: Line, second: Line, where: str, tasks: Sequence[str]) -> Number:
        """How much more accurate the first line is than the second, over these tasks, paired in every resample."""
        one, two = self.of(first, where, tasks), self.of(second, where, tasks)
        for line, number in ((first, one), (second, two)):
            if number.value is None:
                return Number(status=number.status, reason=number.reason if line == first else f"{line[0]}: {number.reason}")
        assert one.value is not None and two.value is not None and one.resampled is not None and two.resampled is not None
        return Number(one.value - two.value, one.resampled - two.resampled)

    def changes(self, first: Line, second: Line, where: str, task: str) -> tuple[int, int]:
        """Images on which the first line is right more often (over draws and conditions) than the second, and less often."""
        apart = self.cells(where)[first, task].per_image - self.cells(where)[second, task].per_image
        return int((apart > 1e-9).sum()), int((apart < -1e-9).sum())

    def images(self, where: str, tasks: Sequence[str]) -> int:
        """Distinct query images of these tasks."""
        most = dict.fromkeys(tasks, 0)
        for (_, task), asked in self.cells(where).items():
            if task in most:
                most[task] = max([most[task], *(record.n for record in asked.records)])
        return sum(most.values())

    def named(self, name: str, line: Line) -> Line | None:
        """The line of that name to compare a line with: at the same shots, or one without labels; None where there is none.

        A line without labels is compared with the one of the fewest shots.
        """
        same = sorted(other for other in self.lines if other[0] == name)
        fitting = [other for other in same if other[1] in (0, line[1])] or (same if line[1] == 0 else [])
        return fitting[0] if fitting else None

    def ranks(self, where: str, tasks: Sequence[str], lines: Sequence[Line]) -> tuple[list[Line], Ranks | None]:
        """Ranks over tasks of those lines that have all of them; None where there is nothing to rank."""
        whole = [line for line in lines if self.of(line, where, tasks).value is not None]
        if len(whole) < 2 or len(tasks) < 2:
            return whole, None
        key = where, tuple(tasks), tuple(whole)
        if key not in self._ranks:
            table = [[self.of(line, where, [task]).value for line in whole] for task in tasks]
            self._ranks[key] = ranks(np.array(table, np.float64))
        return whole, self._ranks[key]


def rows(results: Sequence[Results], against: str, *, condition: str | None = None) -> list[Row]:
    """Every line against the one called ``against``, a row per task and per mean over tasks.

    ``value`` is the difference in accuracy with its interval; ``gained`` and ``lost`` images per task (of several draws: right
    more often, less often), ``p`` of McNemar's exact two-sided test and ``p_holm`` adjusted over the tasks; ``detectable`` the
    smallest true difference that would be found with a power of 80 % (per task for the share of images that changed,
    unadjusted; for means from the interval). ``verdict`` is better, worse or not separable: for means by the interval, per task
    by ``p_holm`` and the interval, because the test takes the draws as they are and the interval does not.
    Rows over tasks have ``wins``, ``ties``, ``losses`` (tasks), ``better`` and ``worse`` (significantly), the mean ``rank``
    among all lines but oracles, ``critical_difference`` of such ranks and Nemenyi's ``p_rank``.
    """
    known = Accuracies(results)
    names = sorted({name for name, _ in known.lines})
    if against not in names:
        there = near(against, names) or f" There are: {', '.join(names)}."
        raise BadOption(f"nothing in these results is called {against!r}, to compare with.{there}")
    if condition is not None and condition not in known.places:
        there = near(condition, known.places) or f" There are: {', '.join(known.places)}."
        raise BadOption(f"there is nothing under the condition {condition!r} in these results.{there}")
    made: list[Row] = []
    for where in [condition] if condition is not None else known.usual:
        made += _compared(known, against, where)
    return made


def _compared(known: Accuracies, against: str, where: str) -> list[Row]:
    tasks = known.tasks(where)
    places = {**known.collections(where), **{task: (task,) for task in tasks}}
    ranked = [line for line in known.lines if known.family[line] != "oracle"]
    made: list[Row] = []
    for line in known.lines:
        other = known.named(against, line)
        if line[0] == against:
            continue
        tested = {} if other is None else _tested(known, line, other, where, tasks)
        for name, members in places.items():
            row = _about(known, line, other, against, where, name, members)
            if other is None:
                made.append(row | {"status": "missing", "reason": f"{against} is not here at {line[1]} shots"})
                continue
            number = known.difference(line, other, where, members)
            row |= {"value": number.value, "status": number.status, "reason": number.reason}
            if number.value is None or number.resampled is None:
                made.append(row)
                continue
            bounds = interval(number.resampled)
            row["ci_low"], row["ci_high"] = (None, None) if bounds is None else (round(one, 6) for one in bounds)
            if name in tested:
                row |= tested[name]
            else:
                row |= _over_tasks(known, line, other, where, members, tested, ranked)
                row |= {"detectable": detectable_mean(number.resampled), "verdict": separation(bounds)}
            made.append(row)
    return made


def _tested(known: Accuracies, line: Line, other: Line, where: str, tasks: Sequence[str]) -> dict[str, Row]:
    """McNemar's test on every task that both lines have, adjusted over these tasks."""
    both = [task for task in tasks if known.difference(line, other, where, [task]).value is not None]
    changes = {task: known.changes(line, other, where, task) for task in both}
    p = {task: mcnemar(*change) for task, change in changes.items()}
    adjusted = dict(zip(both, holm([p[task] for task in both]), strict=True))
    found: dict[str, Row] = {}
    for task, (gained, lost) in changes.items():
        n = len(known.cells(where)[line, task].per_image)
        number = known.difference(line, other, where, [task])
        assert number.resampled is not None
        side = separation(interval(number.resampled))
        sure = adjusted[task] <= 1 - LEVEL + 1e-12 and side == ("better" if gained > lost else "worse")
        found[task] = {
            "gained": gained,
            "lost": lost,
            "p": p[task],
            "p_holm": adjusted[task],
            "detectable": detectable(n, (gained + lost) / n),
            "verdict": side if sure else NOT_SEPARABLE,
        }
    return found


def _over_tasks(
    known: Accuracies,
    line: Line,
    other: Line,
    where: str,
    members: Sequence[str],
    tested: Mapping[str, Row],
    ranked: Sequence[Line],
) -> Row:
    """Wins, ties and losses over tasks, and ranks among all lines."""
    values = [known.difference(line, other, where, [task]).value for task in members]
    wins, ties, losses = win_tie_loss([value for value in values if value is not None])
    row: Row = {"wins": wins, "ties": ties, "losses": losses}
    row |= {verdict: sum(tested[task]["verdict"] == verdict for task in members) for verdict in ("better", "worse")}
    whole, said = known.ranks(where, members, [*dict.fromkeys([*ranked, other])])
    if said is not None and line in whole and other in whole:
        place, theirs = whole.index(line), whole.index(other)
        row |= {
            "rank": float(said.mean[place]),
            "rank_against": float(said.mean[theirs]),
            "critical_difference": said.critical_difference,
            "p_rank": float(said.pairwise[place, theirs]),
            "p_friedman": said.p,
        }
    return row


def _about(
    known: Accuracies, line: Line, other: Line | None, against: str, where: str, name: str, members: Sequence[str]
) -> Row:
    """Everything in a row but its numbers."""
    records = [record for task in members for record in known.cells(where).get((line, task), Asked()).records]
    return {
        "strategy": line[0],
        "against": against,
        "task": name,
        "metric": "acc1",
        "condition": where,
        "shots": line[1],
        "against_shots": None if other is None else other[1],
        "n": known.images(where, members),
        **dict.fromkeys(NUMBERS),
        "verdict": None,
        "family": known.family[line],
        "limit": records[0].limit if records else None,
        "status": "done",
        "reason": "",
    }
