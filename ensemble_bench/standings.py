"""Who stands where, by several ways of adding up tasks side by side; each says over which tasks, none over different ones."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensemble_bench.errors import BadOption
from ensemble_bench.leaderboard import Row
from ensemble_bench.statistics import RESAMPLES, Floats, interval

SINGLE = "single:"
CLEAN = "clean"
COLUMNS = ("mean", "mean_rank", "rank_low", "rank_high", "win_rate", "borda", "gap_closed")


def budget(row: Row) -> str:
    """What a strategy was allowed to see: lines are ranked against those of the same budget only.

    >>> budget({"family": "adaptive", "shots": 4, "strategy": "nlc"})
    '4 labels per class'
    """
    if row["family"] == "oracle":
        return "oracles"
    shots = row["shots"]
    return f"{shots} label{'s' * (shots > 1)} per class" if shots else "no labels"


def standings(rows: Sequence[Row], *, condition: str = CLEAN, metric: str = "acc1") -> list[Row]:
    """A row per strategy, grouped by ``budget``: mean, mean rank with its interval, win rate, Borda points, gap closed.

    ``mean`` of the metric, in its own unit, over ``tasks`` (names): those on which every line that has any value there has
    one, so that all are added up over the same tasks. ``mean_rank`` 1 is best, ties share; its interval is a 95 % percentile
    bootstrap over tasks. ``win_rate`` in [0, 1]: share of the other lines beaten, a tie counts half, mean over tasks.
    ``borda``: lines beaten, summed over tasks. ``gap_closed``: ratio of sums, acc1 only. A line that lacks a task is no part
    of the ranking: its row has ``status`` missing and says which tasks; oracles have a mean and a gap, but no rank.
    """
    mine = [row for row in rows if row["condition"] == condition and not row["task"].startswith("mean(")]
    if not mine:
        raise BadOption(f"there is nothing under the condition {condition!r} in these results.")
    values = {
        (row["strategy"], row["shots"], row["task"]): row["value"]
        for row in mine
        if row["metric"] == metric and row["value"] is not None
    }
    if not values:
        raise BadOption(f"no line has a value of {metric!r} under {condition!r}.")
    about = {(row["strategy"], row["shots"]): row for row in mine}
    tasks = sorted({task for _, _, task in values})
    lower = metric in ("nll", "ece", "brier")
    groups: dict[str, list[tuple[str, int]]] = {}
    for line, row in about.items():
        groups.setdefault(budget(row), []).append(line)
    ends = {name: [values.get((name, 0, task)) for task in tasks] for name in ("oracle", "oracle-best-single")}
    found: list[Row] = []
    for group, lines in groups.items():
        whole = [line for line in lines if all((*line, task) in values for task in tasks)]
        made = _ranked(np.array([[values[(*line, task)] for line in whole] for task in tasks]), lower, "\n".join(tasks))
        block = []
        for place, line in enumerate(whole):
            row = _line(line, group, about[line], condition, metric, tasks)
            row |= {name: float(column[place]) for name, column in made.items()}
            if group == "oracles":
                row |= dict.fromkeys(("mean_rank", "rank_low", "rank_high", "win_rate", "borda"))
            own = [values[(*line, task)] for task in tasks]
            row["gap_closed"] = _gap(own, ends["oracle-best-single"], ends["oracle"]) if metric == "acc1" else None
            block.append(row)
        block.sort(key=lambda row: (row["mean_rank"] or 0.0, row["mean"] if lower else -row["mean"], row["strategy"]))
        for line in lines:
            if line not in whole:
                lacks = [task for task in tasks if (*line, task) not in values]
                reason = f"no value on {', '.join(lacks[:3])}{f' and {len(lacks) - 3} more' * (len(lacks) > 3)}"
                row = _line(line, group, about[line], condition, metric, tasks)
                block.append(row | dict.fromkeys(COLUMNS) | {"status": "missing", "reason": reason})
        found += block
    return found


def _line(line: tuple[str, int], group: str, about: Row, condition: str, metric: str, tasks: Sequence[str]) -> dict[str, Any]:
    return {
        "strategy": line[0],
        "shots": line[1],
        "budget": group,
        "family": about["family"],
        "condition": condition,
        "metric": metric,
        "tasks": list(tasks),
        "status": "done",
        "reason": "",
    }


def _ranked(values: Floats, lower: bool, name: str) -> dict[str, NDArray[Any]]:
    """Columns over lines, from values [tasks, lines]."""
    if not values.size:
        return {}
    better = -np.round(values, 12) if lower else np.round(values, 12)
    beaten = (better[:, :, None] > better[:, None, :]).sum(2)
    tied = (better[:, :, None] == better[:, None, :]).sum(2) - 1
    n, k = values.shape
    ranks = k - beaten - tied / 2  # [tasks, lines], ties share the mean of their ranks
    ranks = np.asarray(ranks, np.float64)
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
    picks = (np.random.PCG64(seed).random_raw(RESAMPLES * n) >> np.uint64(32)) * np.uint64(n) >> np.uint64(32)
    resampled = ranks[picks.astype(np.int64).reshape(RESAMPLES, n)].mean(1)
    bounds = [interval(column) or (np.nan, np.nan) for column in resampled.T]
    return {
        "mean": values.mean(0),
        "mean_rank": ranks.mean(0),
        "rank_low": np.array([low for low, _ in bounds]),
        "rank_high": np.array([high for _, high in bounds]),
        "win_rate": ((beaten + tied / 2) / max(k - 1, 1)).mean(0) if k > 1 else np.full(1, 0.5),
        "borda": (beaten + tied / 2).sum(0),
    }


def _gap(own: Sequence[float], base: Sequence[float | None], oracle: Sequence[float | None]) -> float | None:
    if any(value is None for value in (*base, *oracle)):
        return None
    low, high = (float(sum(value or 0.0 for value in values)) for values in (base, oracle))
    return (float(sum(own)) - low) / (high - low) if high != low else None
