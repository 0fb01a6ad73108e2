"""Records to rows: one number with its interval per strategy, task and metric; a missing cell is a row that says so."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

import numpy as np

from ensemble_bench import ceilings, diversity, robustness, shift
from ensemble_bench.condition import Condition
from ensemble_bench.errors import BadOption, BadRecord
from ensemble_bench.records import Predictions, Record, Results, settings, shown
from ensemble_bench.shift import CLEAN, MISSING, CorruptionErrors, Line, Number, Sums, combined, lacking
from ensemble_bench.statistics import Floats, Resamples, interval, ratio
from ensemble_bench.strategies.spelling import parsed

ALWAYS = ("acc1", "acc5", "mean_per_class_recall")
SCORED = ("nll", "ece", "brier")
GAPS = {"gap_closed": "oracle-best-single", "gap_closed_honest": "best-single"}
METRICS = (*ALWAYS, *SCORED, *GAPS)
FAMILIES = ("static", "calibrated", "adaptive", "control", "oracle")

SINGLE = "single:"
CHANCE = "oracle_chance"
CEILINGS = ("oracle", "oracle-best-single", "oracle-per-class")
HEADLINE = "complementarity"
RESCUES = ("errors of the best single", "rescued", "rescued if independent")
OWN = {HEADLINE: "oracle", "oracle_gap": "oracle", "disagreement": SINGLE, "label_disagreement": SINGLE}

Row = dict[str, Any]
Found = dict[tuple[Line, str, str], tuple[Results, list[Record]]]
"""Folder and records by (line, task, condition)."""


@dataclass
class Cell:
    """What is known of one line on one task under one condition."""

    records: list[Record]
    numbers: dict[str, Number]
    predictions: Predictions | None = None

    def of(self, metric: str) -> Number:
        return self.numbers.get(metric) or NOT_APPLICABLE.get(metric, MISSING)

    def cost(self, name: str) -> float | None:
        """Mean over draws, None where it is not known."""
        values = [record.cost.get(name) for record in self.records]
        known = [value for value in values if value is not None]
        return fmean(known) if known and len(known) == len(values) else None


NOT_APPLICABLE = {
    "acc5": Number(status="not-applicable", reason="fewer than 5 classes, or no order of them"),
    **{name: Number(status="not-applicable", reason="its scores are no probabilities") for name in SCORED},
}


def rows(results: Sequence[Results], *, mce: str | None = None, suites: bool = True) -> list[Row]:
    """Board rows of the records of one or more folders, aggregated over draws, in an order that depends on nothing else.

    One row per (strategy, task, metric, condition, shots). ``value`` is the mean over draws of what the records say, or None
    with ``status`` (missing, failed, not-applicable) and ``reason``. ``ci_low`` and ``ci_high`` are a 95 % percentile bootstrap
    over draws and images from the stored predictions, rounded to 6 digits.
    Over several tasks there are rows for ``mean(COLLECTION)`` where all tasks of a collection are there, and for ``mean(N
    tasks)`` over all of them where they are not exactly one; a strategy that lacks one of the tasks has no mean.
    ``gap_closed`` = (acc1 - a) / (oracle - a) with a = oracle-best-single, over tasks the ratio of sums; in
    ``gap_closed_honest`` a = best-single, at the shots of the line (for lines without labels, at the fewest shots there are).
    ``complementarity`` stands in the rows of ``oracle``: the headline number of the pool (``diversity.complementarity``), over
    tasks and conditions a ratio of sums too.
    Oracles also have ``oracle_chance``: what they would score if the labels were shuffled (``ceilings.oracle_by_chance``), from
    the decisions of the single backbones.
    ``labels`` and ``n`` of a mean row are sums, ``gflops`` its mean, ``backbones`` its maximum.
    Folders of different pools, seeds, precisions, limits or card versions are ``BadRecord``: they make no common board.

    Under corruption there are also the conditions ``mean(SUITE)``, ``mean(SUITE:CORRUPTION)`` and ``mean(SUITE:*:SEVERITY)``:
    means over all conditions of that kind in these results, never over fewer of them for one line or task than for another;
    and the metrics ``retained``, ``oracle_gap``, ``disagreement``, ``label_disagreement``, ``ce``, ``relative_ce``, ``mce``,
    ``relative_mce`` (against the backbone with the fewest GFLOPs, or ``mce``: its ``reason`` says which), ``mce_alexnet`` and
    ``relative_mce_alexnet`` (refused where it compares with nothing, unless ``mce`` is ``alexnet``). See docs/corruptions.md.
    Without ``suites`` conditions are mere names, as in archives.
    """
    found = gathered(results)
    conditions = sorted({condition for _, _, condition in found}, key=lambda name: (name != CLEAN, name))
    board = _Board(found, conditions, mce, suites)
    made = [board.measured(condition) for condition in conditions]
    made += [board.averaged(group) for group in board.sums.groups if group != CLEAN]
    return [row for _, block in sorted(made, key=lambda one: (one[0] != CLEAN, one[0])) for row in block]


def gathered(results: Sequence[Results]) -> Found:
    """Folder and records of every (line, task, condition), after checking that they can stand on one board."""
    settled: dict[str, tuple[Any, Results]] = {}
    seen: dict[tuple[str, str], tuple[str, Results]] = {}
    found: Found = {}
    for one in results:
        for record in one.records:
            for name, value in {**settings(record), **_weights(record)}.items():
                first, folder = settled.setdefault(name, (value, one))
                if first == value or name in ("shots", "draws"):
                    continue
                if folder is one:
                    raise BadRecord(
                        f"{one.folder} holds results of different {name} ({shown(first)} and {shown(value)}), which "
                        "make no common board: run again into a new folder with -o."
                    )
                raise BadRecord(
                    f"{folder.folder} and {one.folder} make no common board: {name} is {shown(first)} in one and "
                    f"{shown(value)} in the other; show them one by one."
                )
            if record.status == "done":
                ids, folder = seen.setdefault((record.task, record.condition), (record.ids, one))
                if ids != record.ids:
                    raise BadRecord(
                        f"{folder.folder} and {one.folder} hold answers to different images of {record.task} "
                        f"({record.condition}); show them one by one."
                    )
            key = (record.strategy, record.shots), record.task, record.condition
            holder, records = found.setdefault(key, (one, []))
            if holder is one:
                records.append(record)
            elif records[0].status != "done" and record.status == "done":
                found[key] = one, [record]
            elif record.status == records[0].status == "done" and record.cell != records[0].cell:
                raise BadRecord(
                    f"{holder.folder} and {one.folder} hold different results of {record.strategy} on {record.task} "
                    f"({record.condition}); show them one by one."
                )
    return found


def pairing(found: Found, suites: Mapping[str, Sequence[Condition]]) -> Callable[[str, str], str]:
    """What says, of a task and a condition, whose resamples it uses: those of clean images, where it shows the same altered."""
    ids: dict[tuple[str, str], set[str]] = {}
    for (_, task, condition), (_, records) in found.items():
        ids.setdefault((task, condition), set()).update(record.ids for record in records if record.status == "done")
    altered = [str(one) for members in suites.values() for one in members]

    def paired(task: str, condition: str) -> str:
        first = next((name for name in (CLEAN, *altered) if ids.get((task, name))), condition)
        same = condition in altered and ids.get((task, condition)) == ids.get((task, first))
        return CLEAN if same else condition

    return paired


def _weights(record: Record) -> dict[str, Any]:
    """Digest of every backbone's weights, as far as the record says it."""
    weights = record.provenance.get("weights")
    return {f"weights of {name}": digest for name, digest in weights.items()} if isinstance(weights, dict) else {}


def _suite(record: Record) -> Mapping[str, Any]:
    """What a record says of its suite: name, engine and, where it is known, the number of its conditions."""
    suite = record.provenance.get("suite")
    return suite if isinstance(suite, dict) else {}


class _Board:
    """Rows of one condition after another, from records; what is added up over conditions grows meanwhile, clean first."""

    def __init__(self, found: Found, conditions: Sequence[str], mce: str | None, suites: bool) -> None:
        self.found = found
        self.sums = Sums(conditions if suites else ())
        self.family = {line: records[0].family for (line, _, _), (_, records) in found.items()}
        self.lines = sorted(self.family, key=lambda line: (_place(self.family[line]), line[0].startswith(SINGLE), line))
        self.ends = {(line, name): _base(name, line, self.lines) for line in self.lines for name in GAPS}
        self.paired = pairing(found, self.sums.suites)
        about = [_suite(record) for _, records in found.values() for record in records]
        self.whole = {one["name"]: one["conditions"] for one in about if {"name", "conditions"} <= set(one)}
        if mce is not None and not self.sums.suites:
            raise BadOption(f"errors can be measured against {mce} only under corruption: run with -c SUITE first.")
        singles: dict[Line, list[Record]] = {line: [] for line in self.lines if line[0].startswith(SINGLE)}
        for (line, _, _), (_, records) in found.items():
            if line in singles:
                singles[line] += records
        self.reference = shift.reference(mce, {line: Cell(records, {}).cost("gflops") for line, records in singles.items()})

    def measured(self, condition: str) -> tuple[str, list[Row]]:
        """The rows of one condition."""
        here = {(line, task): given for (line, task, where), given in self.found.items() if where == condition}
        tasks = sorted({task for _, task in here})
        cells: dict[tuple[Line, str], Cell] = {}
        for task in tasks:
            paired = self.paired(task, condition)
            cells |= {(line, task): cell for line, cell in _measured(here, task, paired, bool(self.sums.suites)).items()}
        for (line, task), cell in cells.items():
            for metric in (*shift.ADDED, CHANCE, *(RESCUES if line[0] == "oracle" else ())) if self.sums.suites else ():
                self.sums.add(condition, metric, line, task, cell.of(metric))
        scored = {line for (line, _), cell in cells.items() if any(cell.of(metric).value is not None for metric in SCORED)}

        def of(metric: str, line: Line, members: Sequence[str]) -> Number:
            mine = [cells.get((line, task)) for task in members]
            numbers = [MISSING if cell is None else cell.of(metric) for cell in mine]
            return lacking(numbers, members) or combined(numbers)

        def metrics(line: Line) -> list[str]:
            more = [] if condition == CLEAN or not self._suite(condition) else ["retained"]
            return [name for name in METRICS if name not in SCORED or line in scored] + more

        return condition, self._rows(condition, cells, metrics, of)

    def averaged(self, group: str) -> tuple[str, list[Row]]:
        """The rows over the conditions of a group."""
        suite = self._suite(self.sums.groups[group][0])
        cells: dict[tuple[Line, str], Cell] = {}
        for (line, task, condition), (_, records) in self.found.items():
            if condition in self.sums.groups[group]:
                cells.setdefault((line, task), Cell([], {})).records.extend(records)
        corruption = group.removeprefix(f"mean({suite}:").removesuffix(")") if ":" in group and ":*:" not in group else None
        images = _images(cells)
        limit = next((record.limit for cell in cells.values() for record in cell.records), None)
        engines = {
            (_suite(record).get("name"), _suite(record).get("engine")) for cell in cells.values() for record in cell.records
        }
        there, whole = len(self.sums.suites[suite]), self.whole.get(suite, 0)
        part = f"over {there} of the {whole} conditions of {suite}" if there < whole else ""
        more = (*shift.MEAN_ERRORS, *shift.ALEXNETS) if group == f"mean({suite})" else shift.ERRORS if corruption else ()

        def of(metric: str, line: Line, members: Sequence[str]) -> Number:
            if metric not in more:
                number = self.sums.over(group, metric, line, members)
                return replace(number, reason=part) if part and number.value is not None else number
            errors = CorruptionErrors(self.sums, self.reference, tuple(members))
            relative = metric.startswith("relative")
            if metric not in shift.ALEXNETS:
                return errors.pool(line, suite, relative, corruption)
            shown = sum(images[task] for task in members)
            published = engines == {robustness.PUBLISHED}
            reasons = robustness.not_alexnets(members, shown, limit, published, self.sums.suites[suite])
            return errors.alexnet(line, suite, relative, reasons)

        return group, self._rows(group, cells, lambda line: ["acc1", *GAPS, "retained", *more], of)

    def _suite(self, condition: str) -> str:
        """The suite of a condition, empty for those of archives."""
        return next((suite for suite, members in self.sums.suites.items() if condition in map(str, members)), "")

    def _rows(
        self,
        condition: str,
        cells: Mapping[tuple[Line, str], Cell],
        metrics: Callable[[Line], Sequence[str]],
        of: Numbers,
    ) -> list[Row]:
        """A row for every mean over tasks and every task, line and metric. ``of`` gives the number of a metric over tasks."""
        tasks = sorted({task for _, task in cells})
        means = collections(tasks, [record for cell in cells.values() for record in cell.records])
        singles = sum(line[0].startswith(SINGLE) for line in self.lines)
        most = _images(cells)
        made: list[Row] = []
        for name, members in [*means.items(), *((task, (task,)) for task in tasks)]:
            images = sum(most[task] for task in members)
            for line in self.lines:
                there = [cell for task in members if (cell := cells.get((line, task))) is not None]
                about = _about(line, self.family[line], name, condition, there, len(members), images)
                for metric in metrics(line):
                    if metric in GAPS:
                        number = _gap(of, line, self.ends[line, metric], members, GAPS[metric])
                    elif metric == "retained":
                        clean = self.sums.over(CLEAN, "acc1", line, members)
                        number = shift.retained(of("acc1", line, members), clean)
                    else:
                        number = of(metric, line, members)
                    made.append(_row(about, metric, number))
                if line[0].partition(":")[0] in CEILINGS:
                    made.append(_row(about, CHANCE, of(CHANCE, line, members)))
                for metric, whose in OWN.items():
                    if metric == HEADLINE and line[0] == whose:
                        made.append(_row(about, metric, _complementarity(of, line, members)))
                    elif not self.sums.suites:
                        continue
                    elif line[0] == whose or (whose == SINGLE and line[0].startswith(SINGLE) and singles > 1):
                        own = metric == "oracle_gap"
                        number = _width(of, self.ends[line, "gap_closed"], members) if own else of(metric, line, members)
                        made.append(_row(about, metric, number))
        return made


def _place(family: str) -> int:
    return FAMILIES.index(family) if family in FAMILIES else len(FAMILIES) - 1


def collections(tasks: Sequence[str], records: Iterable[Record]) -> dict[str, tuple[str, ...]]:
    """Tasks of every mean row by its name: the widest first."""
    if len(tasks) < 2:
        return {}
    size: dict[str, int] = {}
    members: dict[str, set[str]] = {}
    for record in records:
        for name, number in record.collections.items():
            size[name] = number
            members.setdefault(name, set()).add(record.task)
    whole = {f"mean({name})": tuple(sorted(members[name])) for name in members if len(members[name]) == size[name] > 1}
    if tuple(tasks) not in whole.values():
        whole[f"mean({len(tasks)} tasks)"] = tuple(tasks)
    return dict(sorted(whole.items(), key=lambda item: (-len(item[1]), item[0])))


def _measured(
    here: Mapping[tuple[Line, str], tuple[Results, list[Record]]], task: str, condition: str, shifted: bool
) -> dict[Line, Cell]:
    """Every line's cell on one task: values from its records, resamples from its predictions, all of them paired.

    The resamples are those of ``condition``; with ``shifted``, single backbones also get their disagreement with the others.
    """
    cells: dict[Line, Cell] = {}
    for (line, name), (folder, records) in here.items():
        if name == task:
            cells[line] = cell = Cell(records, {})
            if records[0].status == "done":
                cell.predictions = folder.predictions(records[0].cell).by_id()
            else:
                failed = Number(status=records[0].status, reason=records[0].reason or "no reason was recorded")
                cell.numbers = dict.fromkeys((*METRICS, *shift.ADDED, *RESCUES, CHANCE), failed)
    done = [(line, cell, cell.predictions) for line, cell in cells.items() if cell.predictions is not None]
    if not done:
        return cells
    _, _, first = done[0]
    for line, _, predictions in done:
        if not np.array_equal(predictions.ids, first.ids) or not np.array_equal(predictions.labels, first.labels):
            raise BadRecord(f"the stored predictions of {line[0]} on {task} are of other images than the other strategies'.")
    resamples = Resamples(len(first.ids), f"{task}\n{condition}")

    def put(metric: str, floats: Callable[[list[Predictions]], Floats], has: Callable[[Predictions], bool]) -> None:
        chosen = [(cell, predictions) for _, cell, predictions in done if has(predictions)]
        if not chosen:
            return
        resampled = floats([predictions for _, predictions in chosen])
        for column, (cell, _) in enumerate(chosen):
            value = _over_draws(cell.records, metric)
            if value is not None:
                cell.numbers[metric] = Number(value, resampled[:, column])

    put("acc1", lambda many: resamples.means([one.right for one in many]), lambda one: True)
    put("acc5", lambda many: resamples.means([_known(one.top5) for one in many]), lambda one: one.top5 is not None)
    put("mean_per_class_recall", lambda many: resamples.recalls([one.right for one in many], first.labels), lambda one: True)
    put("nll", lambda many: resamples.means([_known(one.nll) for one in many]), lambda one: one.nll is not None)
    put("brier", lambda many: resamples.means([_known(one.brier) for one in many]), lambda one: one.brier is not None)
    put(
        "ece",
        lambda many: resamples.calibration_errors([_known(one.confidence) for one in many], [one.right for one in many]),
        lambda one: one.confidence is not None,
    )
    singles = [(cell, predictions) for line, cell, predictions in sorted(done, key=lambda one: one[0]) if _single(line)]
    for line, cell, _ in done:
        if line[0] == "oracle":
            cell.numbers |= _rescues(singles, cell.records[0].pool, first.labels, resamples)
    alone = {line[0].removeprefix(SINGLE): said.decisions[0] for line, _, said in done if line[0].startswith(SINGLE)}
    for line, cell, said in done:
        if line[0].partition(":")[0] in CEILINGS:
            hoped = _by_chance(line[0], said, alone, cell.records[0].pool)
            if not isinstance(hoped, Number):
                hoped = Number(float(hoped.mean()), resamples.means([hoped[None]])[:, 0])
            cell.numbers[CHANCE] = hoped
    if shifted and len(singles) > 1:
        found = diversity.disagreements(np.stack([said.decisions[0] for _, said in singles]), first.labels)
        for metric, differ in zip(shift.ADDED[1:], found, strict=True):
            resampled = resamples.means([one[None] for one in differ])
            for column, (cell, _) in enumerate(singles):
                cell.numbers[metric] = Number(float(differ[column].mean()), resampled[:, column])
    for _, cell, _ in done:
        cell.predictions = None
    return cells


def _single(line: Line) -> bool:
    return line[0].startswith(SINGLE)


def _rescues(
    singles: Sequence[tuple[Cell, Predictions]], pool: Sequence[str], labels: Any, resamples: Resamples
) -> dict[str, Number]:
    """What the headline number is made of, from the single backbones of one task in the order of their ids."""
    there = {cell.records[0].strategy.removeprefix(SINGLE) for cell, _ in singles}
    if len(pool) < 2:
        lone = Number(status="not-applicable", reason="a pool of one backbone has nobody to rescue it")
        return dict.fromkeys(RESCUES, lone)
    if absent := sorted(set(pool) - there):
        reason = f"needs {', '.join(SINGLE + name for name in absent)} in the same results"
        return dict.fromkeys(RESCUES, Number(status="missing", reason=reason))
    right = np.stack([said.decisions[0] == labels for _, said in singles])
    columns = [*right, right.any(0)]
    resampled = np.vstack([np.mean(columns, axis=1), resamples.means([column[None] for column in columns])])
    found = diversity.rescues(resampled[:, :-1], resampled[:, -1], int(right.sum(1).argmax()))
    return {name: Number(float(one[0]), one[1:]) for name, one in zip(RESCUES, found, strict=True)}


def _complementarity(of: Numbers, line: Line, members: Sequence[str]) -> Number:
    """The headline number of a pool over these tasks: shares of summed errors, paired within every resample."""
    parts = [of(name, line, members) for name in RESCUES]
    if lack := next((part for part in parts if part.value is None), None):
        return lack
    errors, *rescued = (np.concatenate([[part.value], _known(part.resampled)]) for part in parts)
    shares = [ratio(one, errors) for one in rescued]
    found = diversity.complementarity(*shares)
    if np.isnan(found[0]):
        return Number(status="not-applicable", reason="the best single backbone makes no errors")
    seen, alone = (100 * share[0] for share in shares)
    said = f"others rescue {seen:.1f} % of the best one's errors, independent ones would {alone:.1f} %"
    return Number(float(found[0]), found[1:], reason=said)


def _by_chance(oracle: str, said: Predictions, alone: Mapping[str, Any], pool: Sequence[str]) -> Floats | Number:
    """Probability [s] that an oracle is right on each image when the labels are shuffled; what it chose among is kept.

    ``alone`` are the decisions of single backbones by id; the reason why there is no such number where one of them lacks.
    """
    name, given = parsed(oracle)
    if name == "oracle-best-single":
        return ceilings.oracle_by_chance(said.decisions[:1], said.labels)
    if set(alone) != set(pool):
        return Number(status="missing", reason="needs every backbone of the pool as single:ID in the same results")
    decisions = np.stack([alone[backbone] for backbone in sorted(pool)])
    right = decisions == said.labels
    if name == "oracle-per-class":
        classes = int(max(decisions.max(), said.labels.max())) + 1
        best = ceilings.best_by_class(right, said.labels, classes)
        return ceilings.oracle_per_class_by_chance(decisions, said.labels, best)
    k = int(given.get("k", 0)) or len(decisions)
    return ceilings.oracle_by_chance(decisions[list(ceilings.best_subset(right, k))], said.labels)


def _known(array: Any) -> Any:
    assert array is not None
    return array


def _over_draws(records: Sequence[Record], metric: str) -> float | None:
    """Mean over draws of what the records say; None where one of them has no value."""
    values = [record.metrics.get(metric, {}).get("value") for record in records]
    known = [value for value in values if value is not None]
    return fmean(known) if len(known) == len(values) else None


def _base(metric: str, line: Line, lines: Sequence[Line]) -> tuple[Line | None, Line | None]:
    """The line from which a gap is measured, and the oracle; None where the board has none."""
    base = sorted(other for other in lines if other[0] == GAPS[metric])
    fitting = [other for other in base if other[1] in (0, line[1])] or (base if line[1] == 0 else [])
    oracle = [other for other in lines if other[0] == "oracle"]
    return (fitting[0] if fitting else None), (oracle[0] if oracle else None)


Numbers = Callable[[str, Line, Sequence[str]], Number]
"""The number of a metric, of a line, over tasks."""


def _gap(of: Numbers, line: Line, ends: tuple[Line | None, Line | None], members: Sequence[str], base_name: str) -> Number:
    """Share of the oracle gap closed over these tasks: the ratio of sums, paired within every resample."""
    columns = _columns(of, ((line, line[0]), (ends[0], base_name), (ends[1], "oracle")), members)
    if isinstance(columns, Number):
        return columns
    accuracy, base, oracle = columns
    assert accuracy.value is not None and base.value is not None and oracle.value is not None
    assert accuracy.resampled is not None and base.resampled is not None and oracle.resampled is not None
    gap = oracle.value - base.value
    if abs(gap) < 1e-12:
        return Number(status="not-applicable", reason=f"no gap: the oracle is no better than {base_name}")
    return Number(
        (accuracy.value - base.value) / gap, ratio(accuracy.resampled - base.resampled, oracle.resampled - base.resampled)
    )


def _width(of: Numbers, ends: tuple[Line | None, Line | None], members: Sequence[str]) -> Number:
    """The oracle gap: how much better than the best single backbone (of the test labels) the oracle is over these tasks."""
    columns = _columns(of, ((ends[1], "oracle"), (ends[0], "oracle-best-single")), members)
    if isinstance(columns, Number):
        return columns
    oracle, base = columns
    assert oracle.value is not None and base.value is not None and oracle.resampled is not None and base.resampled is not None
    return Number(oracle.value - base.value, oracle.resampled - base.resampled)


def _columns(of: Numbers, wanted: Sequence[tuple[Line | None, str]], members: Sequence[str]) -> list[Number] | Number:
    """The accuracies of some lines, which all have one; or why not, the first line being the one that asks."""
    columns = []
    for place, (line, name) in enumerate(wanted):
        if line is None:
            return Number(status="missing", reason=f"needs {name} in the same results")
        number = of("acc1", line, members)
        if number.value is None:
            return number if place == 0 or line == wanted[0][0] else Number(status="missing", reason=f"{name}: {number.reason}")
        columns.append(number)
    return columns


def _images(cells: Mapping[tuple[Line, str], Cell]) -> Counter[str]:
    """Distinct query images of every task."""
    most: Counter[str] = Counter()
    for (_, task), cell in cells.items():
        most[task] = max(most[task], max(record.n for record in cell.records))
    return most


def _about(line: Line, family: str, task: str, condition: str, there: Sequence[Cell], wanted: int, images: int) -> Row:
    """Everything in a row but its number."""
    whole = len(there) == wanted and all(record.status == "done" for cell in there for record in cell.records)
    gflops = [cell.cost("gflops") for cell in there]
    run = [cell.cost("backbones") for cell in there]
    return {
        "strategy": line[0],
        "task": task,
        "metric": "",
        "condition": condition,
        "shots": line[1],
        "labels": sum(round(fmean(record.labels for record in cell.records)) for cell in there) if whole else None,
        "n": images,
        "value": None,
        "ci_low": None,
        "ci_high": None,
        "family": family,
        "gflops": fmean(x for x in gflops if x is not None) if whole and None not in gflops else None,
        "backbones": max(round(x) for x in run if x is not None) if whole and None not in run else None,
        "draws": max((len({record.draw for record in cell.records} - {None}) for cell in there), default=0),
        "limit": next((cell.records[0].limit for cell in there), None),
        "status": "done",
        "reason": "",
    }


def _row(about: Row, metric: str, number: Number) -> Row:
    limits = None if number.value is None or number.resampled is None else interval(number.resampled)
    low, high = (None, None) if limits is None else (round(limits[0], 6), round(limits[1], 6))
    told = {"value": number.value, "ci_low": low, "ci_high": high, "status": number.status, "reason": number.reason}
    return {**about, "metric": metric, **told}


def caption(results: Sequence[Results]) -> str:
    """What a board is of, in two lines: tasks, images, shots, draws, suites, seed, precision; the pool."""
    records = [record for one in results for record in one.records]
    if not records:
        return "nothing has been recorded yet"
    images = {record.task: record.n for record in records if record.status == "done"}
    shots = sorted({record.shots for record in records if record.shots})
    draws = sorted({record.draws for record in records if record.shots})
    tasks = len({record.task for record in records})
    pool = records[0].pool
    parts = [f"{tasks} task{'s' * (tasks > 1)}", f"{sum(images.values()):,} images"]
    if shots:
        label = "shot" if shots == [1] else "shots"
        parts += [f"{' and '.join(map(str, shots))} {label}", f"{' and '.join(map(str, draws))} draws"]
    for suite, members in shift.suites(record.condition for record in records).items():
        parts.append(f"{suite}: {len(members)} condition{'s' * (len(members) > 1)}")
    parts += [f"seed {records[0].seed}", str(records[0].provenance.get("precision") or "precision not recorded")]
    return " · ".join(parts) + f"\npool of {len(pool)}: {', '.join(pool)}"
