"""Standings for people: several aggregations side by side, a table per label budget, with the tasks they are over."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tabulate import tabulate

HEADS = ("strategy", "mean %", "mean rank", "95 % interval", "win rate %", "Borda", "gap closed %")


def text(rows: Sequence[dict[str, Any]], *, markdown: bool, caption: str = "") -> str:
    """The standings of every budget, then what is missing."""
    parts = [caption] if caption else []
    tasks = rows[0]["tasks"] if rows else []
    parts.append(
        f"over {len(tasks)} task{'s' * (len(tasks) != 1)} ({rows[0]['condition']}): {', '.join(tasks)}" if rows else ""
    )
    for budget in dict.fromkeys(row["budget"] for row in rows):
        mine = [row for row in rows if row["budget"] == budget and row["status"] == "done"]
        if not mine:
            continue
        table = [_line(row) for row in mine]
        title = f"### {budget}\n\n" if markdown else f"{budget}\n"
        form = "github" if markdown else "rounded_outline"
        align = ("left", *("right",) * (len(HEADS) - 1))
        parts.append(title + tabulate(table, HEADS, tablefmt=form, disable_numparse=True, colalign=align))
    missing = [f"{row['strategy']}: {row['reason']}" for row in rows if row["status"] != "done"]
    if missing:
        parts.append("\n".join(("not ranked:", *(f"- {line}" for line in missing))))
    parts.append(
        "Rank 1 is best; its interval resamples tasks. Win rate: share of the group's other lines beaten, mean over tasks.\n"
        "Lines are ranked within their label budget only; oracles are ceilings and are not ranked."
    )
    return "\n\n".join(part for part in parts if part) + "\n"


def _line(row: dict[str, Any]) -> list[str]:
    def shown(value: float | None, factor: float = 100, digits: int = 1) -> str:
        return "-" if value is None else f"{factor * value:.{digits}f}"

    bounds = "-" if row["rank_low"] is None else f"{row['rank_low']:.1f} to {row['rank_high']:.1f}"
    return [
        row["strategy"].removeprefix("single:"),
        shown(row["mean"]),
        shown(row["mean_rank"], 1, 2),
        bounds,
        shown(row["win_rate"], 100, 0),
        shown(row["borda"], 1),
        shown(row["gap_closed"], 100, 0),
    ]
