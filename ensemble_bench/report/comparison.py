"""A comparison for people: differences over tasks with what they are worth, then a column a task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ensemble_bench.report.tables import NONE, SINGLE, Block, drawn, group, listed, order, what

Row = dict[str, Any]

NOTES = (
    "difference: points of accuracy, paired over images and draws. W-T-L: tasks won, tied, lost.",
    "sure: tasks on which it is significantly better - worse.",
    "detectable: the smallest true difference that would be found four times in five.",
    "verdict: by the interval, one line at a time: of twenty lines that are alike, one may look different.",
)
SURE = (
    "*: significantly different: by McNemar's exact test, Holm over tasks, at .05, and by the interval over images and draws."
)


def text(rows: Sequence[Row], *, markdown: bool, caption: str = "") -> str:
    """The comparison as Markdown or for a terminal."""
    parts = [caption.replace("\n", "  \n") if markdown else caption] if caption else []
    for condition in dict.fromkeys(row["condition"] for row in rows):
        here = [row for row in rows if row["condition"] == condition]
        means = list(dict.fromkeys(row["task"] for row in here if row["task"].startswith("mean(")))
        tasks = list(dict.fromkeys(row["task"] for row in here if not row["task"].startswith("mean(")))
        for block in [*([_overall(here, means[0])] if means else []), *_per_task(here, tasks)]:
            parts.append(drawn(block, markdown))
        notes = [*NOTES, *_ranks(here, means[0])] if means else [NOTES[0].partition(" W-T-L")[0]]
        notes += [*([SURE] if tasks else []), *_empty(here)]
        parts.append(listed(notes, markdown))
    return "\n\n".join(parts) + "\n" if rows else f"{caption}\n"


def _grouped(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Rows of one task by what their strategies may see, best first within a group."""
    found: dict[str, list[Row]] = {}
    for row in sorted(rows, key=lambda row: (order(row), -(-9 if row["value"] is None else row["value"]), row["strategy"])):
        found.setdefault(group(row), []).append(row)
    return found


def _overall(rows: Sequence[Row], mean: str) -> Block:
    here = [row for row in rows if row["task"] == mean]
    groups = []
    for heading, lines in _grouped(here).items():
        made = []
        for row in lines:
            known = row["value"] is not None
            made.append(
                (
                    row["strategy"].removeprefix(SINGLE),
                    _points(row["value"]),
                    f"{_points(row['ci_low'])} to {_points(row['ci_high'])}" if row["ci_low"] is not None else NONE,
                    f"{row['wins']}-{row['ties']}-{row['losses']}" if known else NONE,
                    f"{row['better']}-{row['worse']}" if known else NONE,
                    NONE if row["rank"] is None else f"{row['rank']:.1f}",
                    NONE if row["detectable"] is None else f"{100 * row['detectable']:.1f}",
                    row["verdict"] or NONE,
                )
            )
        groups.append((heading, tuple(made)))
    title = f"{what(mean)[0].upper()}{what(mean)[1:]}, {here[0]['n']:,} images, against {here[0]['against']}{_marks(here[0])}"
    return Block(
        title, ("strategy", "difference", "95 % interval", "W-T-L", "sure", "rank", "detectable", "verdict"), tuple(groups)
    )


def _per_task(rows: Sequence[Row], tasks: Sequence[str]) -> list[Block]:
    found = {(row["strategy"], row["shots"], row["task"]): row for row in rows}
    first = [row for row in rows if row["task"] == tasks[0]]
    prefixes = {task.rpartition("/")[0] for task in tasks}
    cut = len(next(iter(prefixes))) + 1 if len(prefixes) == 1 and "" not in prefixes else 0

    def cell(row: Row, task: str) -> str:
        own = found[row["strategy"], row["shots"], task]
        return f"{'*' * (own['verdict'] in ('better', 'worse'))}{_points(own['value'])}"

    groups = tuple(
        (heading, tuple((row["strategy"].removeprefix(SINGLE), *(cell(row, task) for task in tasks)) for row in lines))
        for heading, lines in _grouped(first).items()
    )
    title = f"Difference from {first[0]['against']} in points per task{_marks(first[0])}"
    return [Block(title, ("strategy", *(task[cut:] for task in tasks)), groups)]


def _ranks(rows: Sequence[Row], mean: str) -> list[str]:
    row = next((row for row in rows if row["task"] == mean and row["rank"] is not None), None)
    if row is None:
        return []
    friedman = "" if row["p_friedman"] is None else f" (Friedman: p = {row['p_friedman']:.2g})"
    return [
        f"rank: mean over tasks, 1 is best{friedman}; that of {row['against']} is {row['rank_against']:.1f}. "
        f"Ranks closer than {row['critical_difference']:.1f} cannot be told apart (Nemenyi, .05)."
    ]


def _empty(rows: Sequence[Row]) -> list[str]:
    """Why cells are empty."""
    empty: dict[tuple[str, str, str], list[str]] = {}
    for row in rows:
        if row["value"] is None and not row["task"].startswith("mean("):
            empty.setdefault((row["status"], row["strategy"], row["reason"]), []).append(row["task"])
    return [f"{NONE} {status}: {name} on {', '.join(tasks)}: {reason}" for (status, name, reason), tasks in empty.items()]


def _marks(row: Row) -> str:
    limited = "" if row["limit"] is None else f" (limit {row['limit']}: NOT A FULL RESULT)"
    return ("" if row["condition"] == "clean" else f", {row['condition']}") + limited


def _points(value: float | None) -> str:
    """
    >>> _points(0.0123), _points(-0.0004), _points(None)
    ('+1.2', '0.0', '-')
    """
    if value is None:
        return NONE
    rounded = round(100 * value, 1) + 0.0
    return f"{rounded:+.1f}" if rounded else "0.0"
