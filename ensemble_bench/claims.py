"""What the paper claims, as statements that results can bear out or not: value, interval, verdict, and the published number.

The paper: "Synergy and Diversity in CLIP" (Rodriguez-Opazo et al., ICLR 2025, arXiv 2405.17139). Its data sets, splits and
prompts are not known in full, so its numbers stand beside ours and are not compared with them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np

from ensemble_bench import complementarity, robustness
from ensemble_bench.comparison import Accuracies
from ensemble_bench.errors import BadRecord
from ensemble_bench.leaderboard import Row
from ensemble_bench.records import Results
from ensemble_bench.shift import CLEAN, Line, Number
from ensemble_bench.statistics import LEVEL, Floats, holm, interval, mcnemar

if TYPE_CHECKING:
    from ensemble_bench.stored import Stored

HOLDS, FAILS, OPEN, UNTESTABLE = "holds", "does not hold", "not separable", "not testable here"
VERDICTS = (HOLDS, FAILS, OPEN, UNTESTABLE)
ADAPTIVE = "nlc"
SINGLE = "single:"
MARGIN = 0.01  # a point: differences below it do not matter
ALIKE = 0.9  # CKA above which two backbones count as alike
ORACLE_GAIN = 0.40
CHEAPEST = 4

POINTS, CKA, RANKS = "points", "CKA", "rank correlation"


@dataclass(frozen=True)
class Finding:
    """What the results say of one claim: ``reason`` says of what the value is, or why there is none."""

    verdict: str
    reason: str
    value: float | None = None
    bounds: tuple[float, float] | None = None


def _untestable(reason: str) -> Finding:
    return Finding(UNTESTABLE, reason)


class _Lack(Exception):
    """What a claim needs and the results do not have."""


class Evidence:
    """Results of one pool (the largest), of other pools beside it, and what the store holds of the features."""

    def __init__(self, results: Sequence[Results], stored: Callable[[Sequence[Results]], Stored] | None) -> None:
        (self.pool, self.results), *others = _by_pool(results)
        self.others = dict(others)
        self.known = Accuracies(self.results)
        self._stored = stored

    @cached_property
    def where(self) -> str:
        """Clean images, or what comes nearest."""
        return CLEAN if CLEAN in self.known.places else self.known.usual[0]

    @cached_property
    def tasks(self) -> tuple[str, ...]:
        return tuple(self.known.tasks(self.where))

    @cached_property
    def mean(self) -> str:
        """What the mean over all tasks is called; the task where there is one."""
        return next(iter(self.known.collections(self.where)), self.tasks[0])

    @cached_property
    def singles(self) -> list[Line]:
        """Single backbones that answered every task."""
        lines = [(SINGLE + name, 0) for name in self.pool]
        absent = [line[0] for line in lines if self.known.of(line, self.where, self.tasks).value is None]
        if absent:
            raise _Lack(f"needs {', '.join(absent)} on every task")
        return lines

    @cached_property
    def diversity(self) -> list[Row]:
        stored = None if self._stored is None else self._stored(self.results)
        return complementarity.rows(self.results, condition=self.where, stored=stored)

    def accuracy(self, line: Line, where: str | None = None, tasks: Sequence[str] | None = None) -> Number:
        """Accuracy of a line, which must be there."""
        number = self.known.of(line, where or self.where, tasks or self.tasks)
        if number.value is None:
            raise _Lack(f"needs {line[0]}{f' at {line[1]} shots' * bool(line[1])}: {number.reason}")
        return number

    def line(self, name: str, shots: int) -> Line:
        if (name, shots) not in self.known.family:
            raise _Lack(f"needs {name}{f' at {shots} shots' * bool(shots)} in the results")
        return name, shots

    def difference(self, first: Line, second: Line, tasks: Sequence[str] | None = None) -> tuple[float, Floats]:
        one, two = (self.accuracy(line, tasks=tasks) for line in (first, second))
        return _less(one, two)

    def adaptive_shots(self) -> list[int]:
        return sorted(shots for name, shots in self.known.lines if name == ADAPTIVE)


def _less(one: Number, two: Number) -> tuple[float, Floats]:
    assert one.value is not None and two.value is not None and one.resampled is not None and two.resampled is not None
    return one.value - two.value, one.resampled - two.resampled


def _points(value: float) -> str:
    return f"{100 * value:+.1f}"


def _above(bounds: tuple[float, float] | None, low: float, high: float) -> str:
    """HOLDS where an interval lies above ``high``, FAILS where below ``low``."""
    if bounds is None:
        return OPEN
    return HOLDS if bounds[0] > high else FAILS if bounds[1] < low else OPEN


def _representation(evidence: Evidence) -> Finding:
    rows = [row for row in evidence.diversity if row["task"] == evidence.mean and row["measure"] == "cka"]
    pairs = [row for row in rows if row["subject"] == "pair" and row["value"] is not None]
    if not pairs:
        raise _Lack(f"needs features: {rows[0]['reason']}" if rows else "needs single backbones")
    value = fmean(row["value"] for row in pairs)
    bounds = None
    if all(row["ci_low"] is not None for row in pairs):
        bounds = fmean(row["ci_low"] for row in pairs), fmean(row["ci_high"] for row in pairs)
    most = max(pairs, key=lambda row: row["value"])
    reason = f"mean over {len(pairs)} pairs; most alike: {most['backbone']} and {most['other']}, {most['value']:.2f}"
    verdict = OPEN if bounds is None else HOLDS if bounds[1] < ALIKE else FAILS if bounds[0] > ALIKE else OPEN
    return Finding(verdict, reason, value, bounds)


def _accuracy(evidence: Evidence) -> Finding:
    tasks, lines = evidence.tasks, evidence.singles
    if len(tasks) < 2 or len(lines) < 2:
        raise _Lack("needs two tasks and two backbones")
    fixed = max(lines, key=lambda line: (evidence.accuracy(line).value or 0, line))
    best = {
        task: max(lines, key=lambda line: (evidence.accuracy(line, tasks=[task]).value or 0, line == fixed)) for task in tasks
    }
    lost = [evidence.difference(best[task], fixed, [task]) for task in tasks]
    others = [(task, line) for task in tasks for line in lines if line != fixed]
    changes = {place: evidence.known.changes(place[1], fixed, evidence.where, place[0]) for place in others}
    adjusted = dict(zip(others, holm([mcnemar(*changes[place]) for place in others]), strict=True))
    sure = [place for place in others if adjusted[place] <= 1 - LEVEL and changes[place][0] > changes[place][1]]
    value = fmean(one for one, _ in lost)
    where = sorted({task for task, _ in sure})
    reason = f"mean over tasks of the best backbone of each, less {_short(fixed)}, the best on average; "
    reason += f"on {len(where)} of {len(tasks)} tasks another one is surely better"
    verdict = HOLDS if sure else FAILS if value == 0 else OPEN
    return Finding(verdict, reason, value, interval(np.mean([resampled for _, resampled in lost], axis=0)))


def _robustness(evidence: Evidence) -> Finding:
    suites = [name for name in evidence.known.usual if name.startswith("mean(")]
    if not suites or CLEAN not in evidence.known.places:
        raise _Lack("needs clean and corrupted images: run with -c SUITE")
    suite = max(suites, key=lambda name: len(evidence.known.places[name]))
    if len(evidence.singles) < 2:
        raise _Lack("needs two backbones")
    kept = {}
    for line in evidence.singles:
        columns = []
        for where in (suite, CLEAN):
            number = evidence.accuracy(line, where)
            assert number.value is not None and number.resampled is not None
            columns.append(np.concatenate([[number.value], number.resampled]))
        kept[line] = robustness.retained(*columns)
    apart = {pair: kept[pair[0]] - kept[pair[1]] for pair in combinations(kept, 2)}
    level = 1 - (1 - LEVEL) / len(apart)
    bounds = {pair: interval(column[1:], level) for pair, column in apart.items()}
    sure = [pair for pair, ends in bounds.items() if ends is not None and not ends[0] <= 0 <= ends[1]]
    alike = all(ends is not None and ends[0] > -MARGIN and ends[1] < MARGIN for ends in bounds.values())
    pair = max(apart, key=lambda pair: abs(apart[pair][0]))
    column, ends = apart[pair], bounds[pair]
    if column[0] < 0:
        pair, column, ends = pair[::-1], -column, None if ends is None else (-ends[1], -ends[0])
    reason = f"share of the clean accuracy kept under {suite[5:-1]}, {_short(pair[0])} less {_short(pair[1])}; "
    reason += f"{len(sure)} of {len(apart)} pairs surely differ, the interval is widened for {len(apart)} pairs"
    return Finding(HOLDS if sure else FAILS if alike else OPEN, reason, float(column[0]), ends)


def _oracle(evidence: Evidence) -> Finding:
    oracle, best = evidence.line("oracle", 0), evidence.line("oracle-best-single", 0)
    gains = {task: evidence.difference(oracle, best, [task]) for task in evidence.tasks}
    level = 1 - (1 - LEVEL) / len(gains)
    bounds = {task: interval(resampled, level) for task, (_, resampled) in gains.items()}
    most = max(gains, key=lambda task: gains[task][0])
    ends = [one for one in bounds.values() if one is not None]
    verdict = HOLDS if any(one[0] > ORACLE_GAIN for one in ends) else OPEN
    if len(ends) == len(bounds) and all(one[1] < ORACLE_GAIN for one in ends):
        verdict = FAILS
    mean = fmean(gain for gain, _ in gains.values())
    widened = f"; the interval is widened for {len(gains)} tasks" * (len(gains) > 1)
    return Finding(verdict, f"on {most}; mean over tasks {_points(mean)}{widened}", gains[most][0], bounds[most])


def _mean_gain(evidence: Evidence) -> Finding:
    nlc, best = evidence.line(ADAPTIVE, 1), evidence.line("oracle-best-single", 0)
    value, resampled = evidence.difference(nlc, best)
    said = "over the best single backbone of the test labels"
    if ("best-single", 1) in evidence.known.family:
        honest, _ = evidence.difference(nlc, ("best-single", 1))
        said += f"; {_points(honest)} over the one chosen on the same support"
    bounds = interval(resampled)
    return Finding(_above(bounds, 0, 0), said, value, bounds)


def _largest_gain(evidence: Evidence) -> Finding:
    nlc, best = evidence.line(ADAPTIVE, 1), evidence.line("oracle-best-single", 0)
    tasks = evidence.tasks
    gains = {task: evidence.difference(nlc, best, [task]) for task in tasks}
    level = 1 - (1 - LEVEL) / len(tasks)
    bounds = {task: interval(resampled, level) for task, (_, resampled) in gains.items()}
    p = holm([mcnemar(*evidence.known.changes(nlc, best, evidence.where, task)) for task in tasks])
    sure = [
        task for task, adjusted in zip(tasks, p, strict=True) if adjusted <= 1 - LEVEL and _above(bounds[task], 0, 0) == HOLDS
    ]
    worse = all(ends is not None and ends[1] <= 0 for ends in bounds.values())
    most = max(gains, key=lambda task: gains[task][0])
    widened = f"; the interval is widened for {len(tasks)} tasks" * (len(tasks) > 1)
    reason = f"on {most}; surely better on {len(sure)} of {len(tasks)} tasks{widened}"
    return Finding(HOLDS if sure else FAILS if worse else OPEN, reason, gains[most][0], bounds[most])


def _beyond(evidence: Evidence) -> Finding:
    nlc = evidence.line(ADAPTIVE, 1)
    rivals = [
        line
        for line, family in evidence.known.family.items()
        if family in ("static", "calibrated") and not line[0].startswith(SINGLE) and line[1] in (0, 1)
    ]
    if not rivals:
        raise _Lack("needs static or calibrated ensembles in the results")
    apart = {line: evidence.difference(nlc, line) for line in sorted(rivals)}
    bounds = {line: interval(resampled) for line, (_, resampled) in apart.items()}
    strict = {line: interval(resampled, 1 - (1 - LEVEL) / len(apart)) for line, (_, resampled) in apart.items()}
    rival = min(apart, key=lambda line: apart[line][0])
    verdict = OPEN
    if all(ends is not None and ends[0] > 0 for ends in bounds.values()):
        verdict = HOLDS
    elif any(ends is not None and ends[1] < 0 for ends in strict.values()):
        verdict = FAILS
    reason = f"over {rival[0]}, the best of {len(apart)} static and calibrated ensembles"
    if ("super-learner", 1) in apart and rival[0] != "super-learner":
        reason += f"; {_points(apart['super-learner', 1][0])} over super-learner"
    return Finding(verdict, reason, apart[rival][0], bounds[rival])


def _shots(evidence: Evidence) -> Finding:
    shots = evidence.adaptive_shots()
    if len(shots) < 2:
        have = f"only {shots[0]}-shot results are here" if shots else f"{ADAPTIVE} is not here"
        raise _Lack(f"needs {ADAPTIVE} at several numbers of shots, in folders given together; {have}")
    value, resampled = evidence.difference((ADAPTIVE, shots[-1]), (ADAPTIVE, shots[0]))
    bounds = interval(resampled)
    verdict = OPEN if bounds is None else HOLDS if bounds[1] < MARGIN else FAILS if bounds[0] > 0 else OPEN
    return Finding(verdict, f"{shots[-1]} shots less {shots[0]}", value, bounds)


def _diversity(evidence: Evidence) -> Finding:
    nlc = evidence.line(ADAPTIVE, 1)
    rows = [row for row in evidence.diversity if row["subject"] == "correlation" and (row["strategy"], row["shots"]) == nlc]
    found = {row["measure"]: row for row in rows}
    if "label_disagreement" not in found:
        raise _Lack("needs several tasks")
    row = found["label_disagreement"]
    if row["value"] is None:
        raise _Lack(row["reason"])
    known = {name: one["value"] for name, one in found.items() if one["value"] is not None}
    more = ", ".join(f"{name} {known[name]:+.2f}" for name in ("disagreement", "kappa", "complementarity") if name in known)
    bounds = (row["ci_low"], row["ci_high"])
    reason = f"gain with how often answers differ, over {row['n']} tasks; with other measures: {more}"
    return Finding(_above(bounds, 0, 0), reason, row["value"], bounds)


def _cheapest(evidence: Evidence) -> Finding:
    costs: dict[Line, float] = {}
    for line in evidence.singles:
        known = [cost for task in evidence.tasks for cost in _costs(evidence, line, task)]
        if None in known:
            raise _Lack(f"needs the cost of {line[0]}")
        costs[line] = fmean(cost for cost in known if cost is not None)
    if len(costs) <= CHEAPEST:
        raise _Lack(f"needs a pool of more than {CHEAPEST} backbones")
    four = sorted(sorted(costs, key=lambda line: (costs[line], line))[:CHEAPEST])
    names = tuple(_short(line) for line in four)
    if names not in evidence.others:
        raise _Lack(f"needs a run of the four cheapest beside it: ensemble-bench run -b {' '.join(names)} -s {ADAPTIVE}")
    small = Accuracies(evidence.others[names])
    shots = [number for name, number in small.lines if name == ADAPTIVE]
    if not shots:
        raise _Lack(f"needs {ADAPTIVE} in the results of the four cheapest")
    one = small.of((ADAPTIVE, min(shots)), evidence.where, evidence.tasks)
    if one.value is None:
        raise _Lack(f"needs {ADAPTIVE} of the four cheapest on the same tasks: {one.reason}")
    best = max(costs, key=lambda line: (evidence.accuracy(line).value or 0, line))
    value, resampled = _less(one, evidence.accuracy(best))
    saved = costs[best] - sum(costs[line] for line in four)
    bounds = interval(resampled)
    reason = f"{ADAPTIVE} of {', '.join(names)}, less {_short(best)} alone; it spends {abs(saved):.3g} GFLOPs an image "
    reason += "less" if saved > 0 else "more"
    verdict = OPEN if bounds is None else HOLDS if bounds[0] > -MARGIN else FAILS if bounds[1] < 0 else OPEN
    return Finding(FAILS if saved <= 0 else verdict, reason, value, bounds)


def _costs(evidence: Evidence, line: Line, task: str) -> list[Any]:
    return [record.cost.get("gflops") for record in evidence.known.cells(evidence.where)[line, task].records]


def _short(line: Line) -> str:
    return line[0].removeprefix(SINGLE)


@dataclass(frozen=True)
class Claim:
    """One claim: the statement in full and ``brief``, how the verdict is reached, the published number, how it is checked."""

    name: str
    brief: str
    statement: str
    rule: str
    published: str
    unit: str
    check: Callable[[Evidence], Finding]


CLAIMS: Mapping[str, Claim] = {
    claim.name: claim
    for claim in (
        Claim(
            "representation",
            "backbones represent images differently",
            "Backbones that share data and objective represent the same images differently.",
            f"the mean debiased linear CKA over pairs lies below {ALIKE} with its whole interval (our threshold)",
            "shown, no number",
            CKA,
            _representation,
        ),
        Claim(
            "accuracy",
            "no backbone is best on every task",
            "Backbones differ in accuracy over data sets: none is the best everywhere.",
            "on some task another backbone is better than the one that is best on average: McNemar's exact test, Holm over "
            "tasks and backbones, at .05; does not hold if that one is the best everywhere",
            "shown, no number",
            POINTS,
            _accuracy,
        ),
        Claim(
            "robustness",
            "backbones differ in robustness",
            "Backbones differ in robustness to perturbations of the images.",
            "two backbones keep different shares of their clean accuracy: intervals widened for the number of pairs; does not "
            "hold if all differences are surely below a point",
            "for some perturbations",
            POINTS,
            _robustness,
        ),
        Claim(
            "oracle-gain",
            "an oracle gains over 40 points on some task",
            "Choosing the best backbone for each image gains over 40 points over the best single backbone, on some task.",
            "a task's interval, widened for the number of tasks, lies above 40 points; does not hold if all lie below",
            "43.5 at most",
            POINTS,
            _oracle,
        ),
        Claim(
            "adaptive-gain",
            "one-shot NLC beats the best single backbone",
            "With one label per class, the adaptive ensemble is on average more accurate than the best single backbone.",
            "the interval of the mean gain over tasks lies above 0; does not hold if below",
            "9.1 in the mean",
            POINTS,
            _mean_gain,
        ),
        Claim(
            "adaptive-gain-largest",
            "one-shot NLC beats it on some task",
            "With one label per class, the adaptive ensemble is more accurate than the best single backbone on some task.",
            "a task where McNemar's exact test (Holm over tasks, .05) and the widened interval say so; does not hold if no "
            "task's interval reaches above 0",
            "39.1 at most",
            POINTS,
            _largest_gain,
        ),
        Claim(
            "beyond-ensembles",
            "NLC beats all traditional ensembles",
            "With the same label budget, the adaptive ensemble goes beyond static and calibrated ensembles.",
            "the mean gain over each of them has an interval above 0; does not hold if over one of them it is below 0, widened "
            "for their number",
            "0 over super-learner*",
            POINTS,
            _beyond,
        ),
        Claim(
            "more-shots",
            "more shots do not help NLC",
            "More labels per class do not make the adaptive ensemble more accurate.",
            "the interval of the mean gain from the fewest to the most shots lies below a point; does not hold if above 0",
            "no number",
            POINTS,
            _shots,
        ),
        Claim(
            "gain-with-diversity",
            "NLC gains more where backbones disagree",
            "The gain of the adaptive ensemble grows with the diversity of predictions, over tasks.",
            "the interval of the rank correlation of label disagreement with the gain lies above 0; does not hold if below",
            "positive",
            RANKS,
            _diversity,
        ),
        Claim(
            "cheapest-four",
            "NLC of the four cheapest matches the best",
            "The adaptive ensemble of the four cheapest backbones is as accurate as the best single backbone and cheaper.",
            "the interval of the difference lies above minus one point and GFLOPs are saved; does not hold if it lies below 0 "
            "or nothing is saved",
            "about 300 GFLOPs less",
            POINTS,
            _cheapest,
        ),
    )
}
"""Published numbers: the ICLR 2025 paper; the asterisk: with linear heads, where both gain 1.6."""


def judged(results: Sequence[Results]) -> list[Results]:
    """Those folders that are of the largest pool."""
    return _by_pool(results)[0][1]


def _by_pool(results: Sequence[Results]) -> list[tuple[tuple[str, ...], list[Results]]]:
    """Folders by pool, the largest pool first."""
    by: dict[tuple[str, ...], list[Results]] = {}
    for one in results:
        pools = {tuple(sorted(record.pool)) for record in one.records}
        if not pools:
            raise BadRecord(f"{one.folder} holds no records: nothing can be said about claims.")
        by.setdefault(min(pools), []).append(one)
    return sorted(by.items(), key=lambda item: (-len(item[0]), item[0]))


def rows(results: Sequence[Results], *, stored: Callable[[Sequence[Results]], Stored] | None = None) -> list[Row]:
    """A row per claim: name, statement, ``verdict`` (one of VERDICTS), value with interval and ``unit``, the published number.

    Values in points are shares of images (0.01 is a point); ``rule`` says how the verdict is reached, ``reason`` what the value
    is of, or why there is none. Folders may be of several pools: the largest is what is judged, a run of its four cheapest
    backbones is for the last claim. ``stored`` finds features, without which likeness is not testable.
    """
    evidence = Evidence(results, stored)
    made = []
    for claim in CLAIMS.values():
        try:
            finding = claim.check(evidence)
        except _Lack as lack:
            finding = _untestable(str(lack))
        low, high = (None, None) if finding.bounds is None else (round(end, 6) for end in finding.bounds)
        made.append(
            {
                "claim": claim.name,
                "brief": claim.brief,
                "statement": claim.statement,
                "verdict": finding.verdict,
                "value": finding.value,
                "ci_low": low,
                "ci_high": high,
                "unit": claim.unit,
                "published": claim.published,
                "condition": evidence.where,
                "n": len(evidence.tasks),
                "limit": evidence.results[0].records[0].limit,
                "rule": claim.rule,
                "reason": finding.reason,
            }
        )
    return made
