"""Results of several dates and versions side by side: every number through time, and where it first moved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean
from typing import Any

from ensemble_bench.errors import BadOption
from ensemble_bench.records import Question, Results

SAME = 1e-9


@dataclass(frozen=True)
class Run:
    """One results folder: when its records were made, by which commit and versions."""

    folder: str
    time: str
    commit: str
    versions: dict[str, str]
    values: dict[Question, float]
    keys: dict[Question, str]


def run(results: Results) -> Run:
    """What a results folder says."""
    done = [record for record in results.records if record.status == "done"]
    values: dict[Question, list[float]] = {}
    keys: dict[Question, list[str]] = {}
    for record in done:
        value = record.metrics.get("acc1", {}).get("value")
        if value is not None:
            values.setdefault(record.question, []).append(float(value))
            keys.setdefault(record.question, []).append(record.key)
    times = sorted(str(record.provenance.get("time", "")) for record in done)
    last = max(done, key=lambda record: str(record.provenance.get("time", "")), default=None)
    versions = {str(k): str(v) for k, v in (last.provenance.get("versions") or {}).items()} if last else {}
    commit = str(last.provenance.get("commit") or "")[:12] if last else ""
    return Run(
        str(results.folder),
        times[-1] if times else "",
        commit,
        versions,
        {question: fmean(own) for question, own in values.items()},
        {question: "".join(sorted(own)) for question, own in keys.items()},
    )


def history(results: Sequence[Results]) -> list[dict[str, Any]]:
    """A row per strategy, task, condition and shots: ``values`` (accuracy or None) in the order of time, and every move.

    ``runs`` names folder, time and commit of each value; ``moves`` says between which runs the number changed, from what to
    what, and what else did: ``question`` is True where the runs were not asked the same (other weights, images, parameters).
    """
    if len(results) < 2:
        raise BadOption("a history needs at least two results folders.")
    runs = sorted((run(one) for one in results), key=lambda one: (one.time, one.folder))
    questions = list(dict.fromkeys(question for one in runs for question in one.values))
    found = []
    for question in questions:
        task, condition, strategy, shots = question
        values = [one.values.get(question) for one in runs]
        moves = []
        known = [place for place, value in enumerate(values) if value is not None]
        for before, after in pairwise(known):
            first, second = values[before], values[after]
            assert first is not None and second is not None
            if abs(first - second) > SAME:
                changed = {
                    name: [runs[before].versions.get(name), runs[after].versions.get(name)]
                    for name in sorted({*runs[before].versions, *runs[after].versions})
                    if runs[before].versions.get(name) != runs[after].versions.get(name)
                }
                other = runs[before].keys[question] != runs[after].keys[question]
                moves.append({"from": before, "to": after, "change": second - first, "question": other, "versions": changed})
        found.append(
            {
                "strategy": strategy,
                "task": task,
                "condition": condition,
                "shots": shots,
                "runs": [{"folder": one.folder, "time": one.time, "commit": one.commit} for one in runs],
                "values": values,
                "moves": moves,
            }
        )
    return found


def text(rows: Sequence[dict[str, Any]]) -> str:
    """The history for a terminal: the runs, what moved and when first, and the means through time."""
    from tabulate import tabulate

    runs = rows[0]["runs"] if rows else []
    lines = [
        f"[{number}] {one['time'] or 'no date'}  {one['commit'] or '-':<12}  {one['folder']}" for number, one in enumerate(runs)
    ]
    moved = [row for row in rows if row["moves"]]
    lines += ["", f"{len(moved)} of {len(rows)} numbers moved" + (":" if moved else ".")]
    for row in sorted(moved, key=lambda row: (row["moves"][0]["to"], row["strategy"], row["task"], row["condition"])):
        first = row["moves"][0]
        before, after = row["values"][first["from"]], row["values"][first["to"]]
        where = row["task"] if row["condition"] == "clean" else f"{row['task']} under {row['condition']}"
        why = "asked otherwise" if first["question"] else "asked the same"
        if first["versions"]:
            why += ", " + ", ".join(f"{name} {a} -> {b}" for name, (a, b) in list(first["versions"].items())[:3])
        lines.append(f"  first in [{first['to']}]: {row['strategy']} on {where}: {before:.3f} -> {after:.3f} ({why})")
    lines += ["", "mean over the tasks that every run has, %"]
    table = []
    for name in dict.fromkeys((row["strategy"], row["shots"]) for row in rows):
        mine = [row for row in rows if (row["strategy"], row["shots"]) == name and row["condition"] == "clean"]
        whole = [row["values"] for row in mine if all(value is not None for value in row["values"])]
        if whole:
            means = [f"{100 * fmean(column):.1f}" for column in zip(*whole, strict=True)]
            table.append([name[0].removeprefix("single:"), name[1], len(whole), *means])
    heads = ["strategy", "shots", "tasks", *(f"[{number}]" for number in range(len(runs)))]
    lines.append(tabulate(table, heads, tablefmt="rounded_outline", disable_numparse=True))
    return "\n".join(lines) + "\n"
