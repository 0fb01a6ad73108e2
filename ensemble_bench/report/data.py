"""Rows for programs: strict JSON, and CSV that a spreadsheet cannot take for a formula."""

from __future__ import annotations

import csv as spreadsheet
import io
import json as javascript
from collections.abc import Sequence
from typing import Any

COLUMNS = (
    *("strategy", "task", "metric", "condition", "shots", "labels", "n", "value", "ci_low", "ci_high"),
    *("family", "gflops", "backbones", "draws", "limit", "status", "reason"),
)


def json(rows: Sequence[dict[str, Any]]) -> str:
    """A strict JSON list, one row a line."""
    lines = [javascript.dumps(row, allow_nan=False, ensure_ascii=False) for row in rows]
    return "[\n " + ",\n ".join(lines) + "\n]\n" if lines else "[]\n"


def csv(rows: Sequence[dict[str, Any]]) -> str:
    """Comma-separated values with a header; null is empty, text that a spreadsheet would calculate gets an apostrophe."""
    out = io.StringIO()
    writer = spreadsheet.writer(out, lineterminator="\n")
    names = [*COLUMNS, *sorted({name for row in rows for name in row} - set(COLUMNS))]
    writer.writerow(names)
    for row in rows:
        writer.writerow([_safe(row.get(name)) for name in names])
    return out.getvalue()


def wide(rows: Sequence[dict[str, Any]]) -> str:
    """Comma-separated values, a line per strategy, shots, condition and metric, a column per task: for spreadsheets."""
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    keys = ("strategy", "shots", "condition", "metric", "family")
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        found.setdefault(tuple(row[key] for key in keys), {})[row["task"]] = row["value"]
    out = io.StringIO()
    writer = spreadsheet.writer(out, lineterminator="\n")
    writer.writerow([*keys, *map(_safe, tasks)])
    for line, values in found.items():
        writer.writerow([_safe(value) for value in (*line, *(values.get(task) for task in tasks))])
    return out.getvalue()


def _safe(value: Any) -> Any:
    """
    >>> _safe("=1+1"), _safe(-0.5), _safe(None)
    ("'=1+1", -0.5, '')
    """
    if not isinstance(value, str):
        return "" if value is None else value
    value = value.replace("\r", "\n")
    return f"'{value}" if value.startswith(("=", "+", "-", "@", "\t", "\n")) else value
