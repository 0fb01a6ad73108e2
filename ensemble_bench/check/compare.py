"""Two results folders, row by row: what got worse, what got better, what cannot be compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensemble_bench import statistics
from ensemble_bench.check.rules import Rules
from ensemble_bench.errors import BadRecord
from ensemble_bench.records import Predictions, Question, Record, Results

REGRESSED, IMPROVED, SAME, GONE, INCOMPARABLE, NEW = "regressed", "improved", "same", "gone", "not comparable", "new"
FAILS = (REGRESSED, GONE)
OVERALL = "(all tasks)"


@dataclass(frozen=True)
class Flip:
    """One image whose answers became worse or better: its id, its class, what was answered in the first draw that changed."""

    id: str
    label: int
    before: int
    after: int


@dataclass(frozen=True)
class Change:
    """What became of one row of the baseline, or of a strategy over all of them (``task`` is then OVERALL).

    ``before`` and ``after`` are accuracies in [0, 1] (for OVERALL what ``reason`` says); ``p`` is one-sided, for a loss if
    accuracy fell and for a gain if it rose, after Holm; ``lost`` and ``gained`` are images, counted by the sign of the change
    in their number of right draws.
    """

    task: str
    condition: str
    strategy: str
    shots: int
    verdict: str
    reason: str = ""
    before: float | None = None
    after: float | None = None
    n: int = 0
    p: float | None = None
    lost: tuple[Flip, ...] = ()
    gained: tuple[Flip, ...] = ()

    @property
    def fails(self) -> bool:
        return self.verdict in FAILS


@dataclass(frozen=True)
class Comparison:
    """All changes, in the order of the baseline; ``compared`` counts the rows that could be."""

    baseline: str
    candidate: str
    rules: Rules
    changes: tuple[Change, ...]

    def of(self, *verdicts: str) -> list[Change]:
        """The changes with these verdicts."""
        return [change for change in self.changes if change.verdict in verdicts]

    @property
    def compared(self) -> int:
        return len([change for change in self.of(REGRESSED, IMPROVED, SAME) if change.task != OVERALL])

    @property
    def fails(self) -> bool:
        return any(change.fails for change in self.changes)


Cells = dict[Question, list[Record]]


def compared(baseline: Results, candidate: Results, rules: Rules | None = None) -> Comparison:
    """The candidate against the baseline. Raises ``BadRecord`` where not a single row can be compared."""
    rules = rules or Rules()
    before, after = _cells(baseline, rules), _cells(candidate, rules)
    if not before:
        raise BadRecord(f"{baseline.folder} holds no row that the gate is asked to compare.")
    found: list[Change] = []
    for question, records in before.items():
        found.append(_change(question, records, after.get(question, []), baseline, candidate))
    found = _judged(found, rules)
    found += [_new(question) for question in after if question not in before]
    found += _overall(found, before, after, rules)
    result = Comparison(str(baseline.folder), str(candidate.folder), rules, tuple(found))
    if not result.compared and not result.of(GONE):
        reasons = sorted({change.reason for change in result.of(INCOMPARABLE)})
        raise BadRecord(f"{candidate.folder} cannot be compared with {baseline.folder}: {'; '.join(reasons[:3])}.")
    return result


def _cells(results: Results, rules: Rules) -> Cells:
    """The records of every row that counts, by what they answer."""
    found: Cells = {}
    for record in results.records:
        if record.status == "done" and rules.wants(record.task, record.strategy):
            found.setdefault(record.question, []).append(record)
    return found


def _new(question: Question) -> Change:
    task, condition, strategy, shots = question
    return Change(task, condition, strategy, shots, NEW)


def difference(before: Sequence[Record], after: Sequence[Record]) -> str:
    """Why two rows are answers to different questions, or nothing."""
    one, other = before[0], after[0]
    if one.task_version != other.task_version:
        return f"version of {one.task}: {one.task_version} and {other.task_version}"
    key = "prompts" if all("prompts" in record.provenance for record in (one, other)) else "card"
    if one.provenance.get(key) != other.provenance.get(key):
        return f"class names or prompts of {one.task} have changed"
    weights = one.provenance.get("weights") or {}, other.provenance.get("weights") or {}
    if sorted(one.pool) != sorted(other.pool):
        return f"pool: {' + '.join(sorted(one.pool))} and {' + '.join(sorted(other.pool))}"
    for name in sorted(set(weights[0]) & set(weights[1])):
        if weights[0][name] != weights[1][name]:
            return f"weights of {name} have changed"
    for name in ("limit", "seed", "draws"):
        if getattr(one, name) != getattr(other, name):
            return f"{name}: {getattr(one, name)} and {getattr(other, name)}"
    if one.provenance.get("precision") != other.provenance.get("precision"):
        return f"precision: {one.provenance.get('precision')} and {other.provenance.get('precision')}"
    if _suite(one) != _suite(other):
        return f"the corruption suite of {one.condition} has changed"
    if one.ids != other.ids:
        return f"other images of {one.task}"
    if [record.support for record in before] != [record.support for record in after]:
        return f"other labelled examples of {one.task}"
    return ""


def _suite(record: Record) -> Any:
    suite = record.provenance.get("suite") or {}
    return {key: suite.get(key) for key in ("name", "version", "engine")}


def _by_draw(records: Sequence[Record]) -> list[Record]:
    return sorted(records, key=lambda record: -1 if record.draw is None else record.draw)


def _accuracy(records: Sequence[Record]) -> float:
    return fmean(float(record.metrics["acc1"]["value"]) for record in records)


def _change(
    question: Question, before: Sequence[Record], after: Sequence[Record], baseline: Results, candidate: Results
) -> Change:
    """One row, its verdict still open: ``same`` where it can be compared."""
    change = Change(*question, SAME, n=before[0].n, before=_accuracy(before))
    if not after:
        failed = [record for record in candidate.records if record.question == question]
        return replace(change, verdict=GONE, reason=failed[0].reason if failed else "the candidate has no such row")
    before, after = _by_draw(before), _by_draw(after)
    change = replace(change, after=_accuracy(after))
    if reason := difference(before, after):
        return replace(change, verdict=INCOMPARABLE, reason=reason)
    try:
        one, other = (results.predictions(records[0].cell) for results, records in ((baseline, before), (candidate, after)))
    except BadRecord as error:
        return replace(change, reason=f"by intervals, because {error}", p=_by_intervals(before, after))
    return _flipped(change, one.by_id(), other.by_id())


def _flipped(change: Change, before: Predictions, after: Predictions) -> Change:
    """The same with the images whose number of right draws changed."""
    if not np.array_equal(before.ids, after.ids) or not np.array_equal(before.labels, after.labels):
        return replace(change, verdict=INCOMPARABLE, reason=f"other images or labels of {change.task}")
    sign = np.sign(after.right.sum(0).astype(int) - before.right.sum(0).astype(int))

    def flips(rows: NDArray[np.intp]) -> tuple[Flip, ...]:
        found = []
        for row in rows:
            draws = np.flatnonzero(before.right[:, row] != after.right[:, row])
            draw = int(draws[0])
            said = int(before.decisions[draw, row]), int(after.decisions[draw, row])
            found.append(Flip(str(before.ids[row]), int(before.labels[row]), *said))
        return tuple(found)

    change = replace(change, lost=flips(np.flatnonzero(sign < 0)), gained=flips(np.flatnonzero(sign > 0)))
    return replace(change, p=one_sided(len(change.gained), len(change.lost)))


@lru_cache(maxsize=65536)
def one_sided(gained: int, lost: int) -> float:
    """P value of McNemar's exact test, one-sided towards the larger of the two counts."""
    return statistics.mcnemar(max(gained, lost), min(gained, lost), "greater")


def _by_intervals(before: Sequence[Record], after: Sequence[Record]) -> float | None:
    """Without answers: 0 where the two intervals do not touch, 1 where they do, None where one of them is lacking."""
    bounds = []
    for records in (before, after):
        entries = [record.metrics["acc1"] for record in records]
        if any(entry["ci_low"] is None or entry["ci_high"] is None for entry in entries):
            return None
        bounds.append((fmean(e["ci_low"] for e in entries), fmean(e["ci_high"] for e in entries)))
    (low, high), (other_low, other_high) = bounds
    return float(low <= other_high and other_low <= high)


def judged(p: Sequence[float], drops: Sequence[float], rules: Rules) -> list[str]:
    """The verdict on every row of one strategy, from p values before Holm and drops of accuracy (negative: a rise)."""
    adjusted = statistics.holm(p)
    verdicts = []
    for value, drop in zip(adjusted, drops, strict=True):
        surely = value < rules.level and abs(drop) >= rules.drop - 1e-9
        verdicts.append((REGRESSED if drop > 0 else IMPROVED) if surely else SAME)
    return verdicts


def _judged(changes: Sequence[Change], rules: Rules) -> list[Change]:
    """The same with verdicts: every strategy is a family of tests of its own."""
    found = list(changes)
    families: dict[tuple[str, int], list[int]] = {}
    for place, change in enumerate(changes):
        if change.verdict == SAME and change.p is not None:
            families.setdefault((change.strategy, change.shots), []).append(place)
    for places in families.values():
        p = [float(changes[place].p or 0.0) for place in places]
        drops = [float((changes[place].before or 0.0) - (changes[place].after or 0.0)) for place in places]
        for place, verdict, adjusted in zip(places, judged(p, drops, rules), statistics.holm(p), strict=True):
            found[place] = replace(changes[place], verdict=verdict, p=adjusted)
    return found


def _overall(changes: Sequence[Change], before: Cells, after: Cells, rules: Rules) -> list[Change]:
    """What the tolerances over all rows of a strategy, and over the whole run, have to say."""
    found = []
    rows: dict[tuple[str, int], list[Change]] = {}
    for change in changes:
        if change.verdict in (REGRESSED, IMPROVED, SAME):
            rows.setdefault((change.strategy, change.shots), []).append(change)
    for (strategy, shots), mine in rows.items():
        about = (OVERALL, "all", strategy, shots)
        first, second = (fmean(float(value or 0.0) for value in values) for values in _columns(mine))
        if rules.mean is not None and first - second > rules.mean + 1e-9:
            reason = f"the mean over {len(mine)} rows drops by more than {100 * rules.mean:g} points"
            found.append(Change(*about, REGRESSED, reason, first, second))
        questions = [(c.task, c.condition, c.strategy, c.shots) for c in mine]
        cost = _grown(questions, before, after, "gflops", rules.gflops)
        if cost:
            reason = f"GFLOPs an image grow by more than {100 * (rules.gflops or 0):g} %"
            found.append(Change(*about, REGRESSED, reason, cost[0], cost[1]))
    everything = [(c.task, c.condition, c.strategy, c.shots) for mine in rows.values() for c in mine]
    spent = _grown(everything, before, after, "seconds", rules.time)
    if spent:
        reason = f"the seconds of fitting and answering grow by more than {100 * (rules.time or 0):g} %"
        found.append(Change(OVERALL, "all", "(all strategies)", 0, REGRESSED, reason, spent[0], spent[1]))
    return found


def _columns(changes: Sequence[Change]) -> tuple[list[float | None], list[float | None]]:
    """Accuracies before and after."""
    return [change.before for change in changes], [change.after for change in changes]


def _grown(
    questions: Sequence[Question], before: Cells, after: Cells, name: str, allowed: float | None
) -> tuple[float, float] | None:
    """Sums of a cost before and after, where it grew by more than is allowed; None otherwise, also where it is not known."""
    if allowed is None:
        return None
    sums = []
    for cells in (before, after):
        values = [record.cost.get(name) for question in questions for record in cells[question]]
        if not values or any(value is None for value in values):
            return None
        sums.append(float(sum(value for value in values if value is not None)))
    return (sums[0], sums[1]) if sums[1] > sums[0] * (1 + allowed) else None
