"""Records to rows: one number with its interval per strategy, task and metric; a missing cell is a row that says so."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np

from ensemble_bench.errors import BadRecord
from ensemble_bench.records import Predictions, Record, Results, settings, shown
from ensemble_bench.statistics import Floats, Resamples, interval, ratio

ALWAYS = ("acc1", "acc5", "mean_per_class_recall")
SCORED = ("nll", "ece", "brier")
GAPS = {"gap_closed": "oracle-best-single", "gap_closed_honest": "best-single"}
METRICS = (*ALWAYS, *SCORED, *GAPS)
FAMILIES = ("static", "calibrated", "adaptive", "control", "oracle")

Row = dict[str, Any]
Line = tuple[str, int]
"""A strategy at a number of shots: one line of a board."""


@dataclass(frozen=True)
class Number:
    """A value with what its resamples say, or the reason why there is none."""

    value: float | None = None
    resampled: Floats | None = None
    status: str = "done"
    reason: str = ""


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


MISSING = Number(status="missing", reason="not in these results")
NOT_APPLICABLE = {
    "acc5": Number(status="not-applicable", reason="fewer than 5 classes, or no order of them"),
    **{name: Number(status="not-applicable", reason="its scores are no probabilities") for name in SCORED},
}


def rows(results: Sequence[Results]) -> list[Row]:
    """Board rows of the records of one or more folders, aggregated over draws, in an order that depends on nothing else.

    One row per (strategy, task, metric, condition, shots). ``value`` is the mean over draws of what the records say, or None
    with ``status`` (missing, failed, not-applicable) and ``reason``. ``ci_low`` and ``ci_high`` are a 95 % percentile bootstrap
    over draws and images from the stored predictions, rounded to 6 digits.
    Over several tasks there are rows for ``mean(COLLECTION)`` where all tasks of a collection are there, and for ``mean(N
    tasks)`` over all of them where they are not exactly one; a strategy that lacks one of the tasks has no mean.
    ``gap_closed`` = (acc1 - a) / (oracle - a) with a = oracle-best-single, over tasks the ratio of sums; in
    ``gap_closed_honest`` a = best-single, at the shots of the line (for lines without labels, at the fewest shots there are).
    ``labels`` and ``n`` of a mean row are sums, ``gflops`` its mean, ``backbones`` its maximum.
    Folders of different pools, seeds, precisions, limits or card versions are ``BadRecord``: they make no common board.
    """
    found = _gathered(results)
    conditions = sorted({condition for _, _, condition in found}, key=lambda name: (name != "clean", name))
    return [row for condition in conditions for row in _condition_rows(found, condition)]


def _gathered(results: Sequence[Results]) -> dict[tuple[Line, str, str], tuple[Results, list[Record]]]:
    """Folder and records of every (line, task, condition), after checking that they can stand on one board."""
    settled: dict[str, tuple[Any, Results]] = {}
    seen: dict[tuple[str, str], tuple[str, Results]] = {}
    found: dict[tuple[Line, str, str], tuple[Results, list[Record]]] = {}
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


def _weights(record: Record) -> dict[str, Any]:
    """Digest of every backbone's weights, as far as the record says it."""
    weights = record.provenance.get("weights")
    return {f"weights of {name}": digest for name, digest in weights.items()} if isinstance(weights, dict) else {}


def _condition_rows(found: Mapping[tuple[Line, str, str], tuple[Results, list[Record]]], condition: str) -> list[Row]:
    here = {(line, task): given for (line, task, where), given in found.items() if where == condition}
    tasks = sorted({task for _, task in here})
    family = {line: records[0].family for (line, _, _), (_, records) in found.items()}
    lines = sorted(family, key=lambda line: (_place(family[line]), line[0].startswith("single:"), line))
    cells: dict[tuple[Line, str], Cell] = {}
    for task in tasks:
        cells |= {(line, task): cell for line, cell in _measured(here, task, condition).items()}
    gaps = {(line, name): _base(name, line, lines) for line in lines for name in GAPS}
    means = _collections(tasks, [record for _, records in here.values() for record in records])
    scored = {line for (line, _), cell in cells.items() if any(cell.of(metric).value is not None for metric in SCORED)}
    made: list[Row] = []
    for name, members in [*means.items(), *((task, (task,)) for task in tasks)]:
        images = _images(cells, members)
        for line in lines:
            mine = [cells.get((line, task)) for task in members]
            there = [cell for cell in mine if cell is not None]
            about = _about(line, family[line], name, condition, there, len(mine), images)
            for metric in METRICS:
                if metric in SCORED and line not in scored:
                    continue
                if metric in GAPS:
                    number = _gap(cells, line, gaps[line, metric], members, GAPS[metric])
                else:
                    number = _mean(mine, members, metric)
                made.append(_row(about, metric, number))
    return made


def _place(family: str) -> int:
    return FAMILIES.index(family) if family in FAMILIES else len(FAMILIES) - 1


def _collections(tasks: Sequence[str], records: Iterable[Record]) -> dict[str, tuple[str, ...]]:
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


def _measured(here: Mapping[tuple[Line, str], tuple[Results, list[Record]]], task: str, condition: str) -> dict[Line, Cell]:
    """Every line's cell on one task: values from its records, resamples from its predictions, all of them paired."""
    cells: dict[Line, Cell] = {}
    for (line, name), (folder, records) in here.items():
        if name == task:
            cells[line] = cell = Cell(records, {})
            if records[0].status == "done":
                cell.predictions = folder.predictions(records[0].cell).by_id()
            else:
                failed = Number(status=records[0].status, reason=records[0].reason or "no reason was recorded")
                cell.numbers = dict.fromkeys(METRICS, failed)
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
    for _, cell, _ in done:
        cell.predictions = None
    return cells


def _known(array: Any) -> Any:
    assert array is not None
    return array


def _over_draws(records: Sequence[Record], metric: str) -> float | None:
    """Mean over draws of what the records say; None where one of them has no value."""
    values = [record.metrics.get(metric, {}).get("value") for record in records]
    known = [value for value in values if value is not None]
    return fmean(known) if len(known) == len(values) else None


def _mean(mine: Sequence[Cell | None], members: Sequence[str], metric: str) -> Number:
    """Mean over tasks of one line, or why there is none; of one task the number itself."""
    numbers = [MISSING if cell is None else cell.of(metric) for cell in mine]
    return _lacking(numbers, members) or _combined(numbers)


def _lacking(numbers: Sequence[Number], members: Sequence[str]) -> Number | None:
    """The number that says which tasks have none; None where all of them do."""
    without = {task: number for task, number in zip(members, numbers, strict=True) if number.value is None}
    if not without:
        return None
    statuses = {number.status for number in without.values()}
    status = "missing" if "missing" in statuses else "failed" if "failed" in statuses else "not-applicable"
    if len(members) == 1:
        return next(iter(without.values()))
    tasks: dict[str, list[str]] = {}
    for task, number in without.items():
        tasks.setdefault(number.reason, []).append(task)
    return Number(status=status, reason="; ".join(f"{', '.join(names)}: {reason}" for reason, names in tasks.items()))


def _combined(numbers: Sequence[Number]) -> Number:
    values = [number.value for number in numbers if number.value is not None]
    resampled: Floats = np.mean([number.resampled for number in numbers if number.resampled is not None], axis=0)
    return Number(fmean(values), resampled)


def _base(metric: str, line: Line, lines: Sequence[Line]) -> tuple[Line | None, Line | None]:
    """The line from which a gap is measured, and the oracle; None where the board has none."""
    base = sorted(other for other in lines if other[0] == GAPS[metric])
    fitting = [other for other in base if other[1] in (0, line[1])] or (base if line[1] == 0 else [])
    oracle = [other for other in lines if other[0] == "oracle"]
    return (fitting[0] if fitting else None), (oracle[0] if oracle else None)


def _gap(
    cells: Mapping[tuple[Line, str], Cell],
    line: Line,
    ends: tuple[Line | None, Line | None],
    members: Sequence[str],
    base_name: str,
) -> Number:
    """Share of the oracle gap closed over these tasks: the ratio of sums, paired within every resample."""
    columns = []
    for end, name in ((line, line[0]), (ends[0], base_name), (ends[1], "oracle")):
        if end is None:
            return Number(status="missing", reason=f"needs {name} in the same results")
        mine = [cells.get((end, task)) for task in members]
        numbers = [MISSING if cell is None else cell.of("acc1") for cell in mine]
        lack = _lacking(numbers, members)
        if lack is not None:
            return lack if end == line else Number(status="missing", reason=f"{name}: {lack.reason}")
        columns.append(_combined(numbers))
    accuracy, base, oracle = columns
    assert accuracy.value is not None and base.value is not None and oracle.value is not None
    assert accuracy.resampled is not None and base.resampled is not None and oracle.resampled is not None
    gap = oracle.value - base.value
    if abs(gap) < 1e-12:
        return Number(status="not-applicable", reason=f"no gap: the oracle is no better than {base_name}")
    return Number(
        (accuracy.value - base.value) / gap, ratio(accuracy.resampled - base.resampled, oracle.resampled - base.resampled)
    )


def _images(cells: Mapping[tuple[Line, str], Cell], members: Sequence[str]) -> int:
    """Distinct query images of these tasks."""
    most: Counter[str] = Counter()
    for (_, task), cell in cells.items():
        most[task] = max(most[task], max(record.n for record in cell.records))
    return sum(most[task] for task in members)


def _about(line: Line, family: str, task: str, condition: str, there: Sequence[Cell], wanted: int, images: int) -> Row:
    """Everything in a row but its number."""
    whole = len(there) == wanted and all(cell.records[0].status == "done" for cell in there)
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
        "draws": max(len(cell.records) if cell.records[0].draw is not None else 0 for cell in there) if there else 0,
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
    """What a board is of, in one line: tasks, images, pool, shots, draws, seed, precision."""
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
    parts += [f"seed {records[0].seed}", str(records[0].provenance.get("precision") or "precision not recorded")]
    return " · ".join(parts) + f"\npool of {len(pool)}: {', '.join(pool)}"
