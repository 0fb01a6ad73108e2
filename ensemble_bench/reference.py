"""Zero-shot accuracies that others have published, and how far the single backbones of a board are from them."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ensemble_bench import cards

TOLERANCE = 0.01  # published accuracies of one checkpoint agree within 0.6 points, but for the tasks below
UNGATED = frozenset({"vtab/clevr_closest_object_distance", "vtab/diabetic_retinopathy", "mnist", "vtab/svhn", "fer2013"})
"""Tasks on which publications differ by more than that among themselves: shown, never called wrong."""

SINGLE, CLEAN = "single:", "clean"


@dataclass(frozen=True)
class Published:
    """One figure: a fraction, of a metric, on a task, by a source."""

    task: str
    metric: str
    backbone: str
    value: float
    source: str


@dataclass(frozen=True)
class Comparison:
    """A value of a board beside what was published; both are fractions. ``off``: further apart than the tolerance allows."""

    backbone: str
    task: str
    metric: str
    value: float
    published: float
    source: str
    off: bool

    @property
    def difference(self) -> float:
        """The value minus the published one."""
        return self.value - self.published


@cache
def published(folder: Path | None = None) -> tuple[Published, ...]:
    """Every figure of the files in ``results/reference``, or in another folder of that kind."""
    found = []
    for path in sorted((folder or cards.folder("reference")).glob("*.csv")):
        lines = path.read_text(encoding="utf-8").splitlines()
        for row in csv.DictReader(line for line in lines if not line.startswith("#")):
            task, metric = row.pop("task"), row.pop("metric")
            row.pop("dataset")
            found += [Published(task, metric, name, float(value) / 100, path.stem) for name, value in row.items()]
    return tuple(found)


def compare(rows: Iterable[Mapping[str, Any]], figures: Sequence[Published] | None = None) -> list[Comparison]:
    """Every number of a single backbone on clean images for which there is a published one, in the order of the rows.

    ``rows`` are those of a board (``leaderboard.rows``). Numbers over a part of the images are left out. One that differs from
    every source by more than TOLERANCE is ``off``, unless its task is UNGATED.
    """
    known: dict[tuple[str, str, str], list[Published]] = {}
    for figure in published() if figures is None else figures:
        known.setdefault((figure.backbone, figure.task, figure.metric), []).append(figure)
    found = []
    for row in rows:
        if not row["strategy"].startswith(SINGLE) or row["condition"] != CLEAN or row["value"] is None or row.get("limit"):
            continue
        backbone, task, metric, value = row["strategy"].removeprefix(SINGLE), row["task"], row["metric"], row["value"]
        same = known.get((backbone.removesuffix("-quickgelu"), task, metric), [])
        far = all(abs(value - one.value) > TOLERANCE + 1e-9 for one in same) and task not in UNGATED
        found += [Comparison(backbone, task, metric, value, one.value, one.source, far) for one in same]
    return found


def as_rows(comparisons: Iterable[Comparison]) -> list[dict[str, Any]]:
    """The comparisons as plain values, for programs."""
    keys = ("backbone", "task", "metric", "value", "published", "difference", "source", "off")
    return [{key: getattr(one, key) for key in keys} | {"difference": round(one.difference, 6)} for one in comparisons]


def table(comparisons: Sequence[Comparison], *, markdown: bool = False) -> str:
    """The comparisons in points, one a line, those that are off marked; ends in a newline."""
    head = ["backbone", "task", "metric", "here", "published", "difference", "source", ""]
    rows = [
        [
            *(one.backbone, one.task, one.metric, f"{100 * one.value:.2f}", f"{100 * one.published:.2f}"),
            *(f"{100 * one.difference:+.2f}", one.source, "OFF" if one.off else "no gate" if one.task in UNGATED else ""),
        ]
        for one in comparisons
    ]
    if markdown:
        lines = [head, ["---"] * len(head), *rows]
        return "".join(f"| {' | '.join(line)} |\n" for line in lines)
    widths = [max(len(row[place]) for row in [head, *rows]) for place in range(len(head))]
    lined = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in [head, *rows]]
    return "\n".join(lined) + "\n"


def verdict(comparisons: Sequence[Comparison]) -> str:
    """What to say under a board: nothing where nothing was compared, else how many agree, and a table of those that do not."""
    if not comparisons:
        return ""
    cells = {(one.backbone, one.task, one.metric) for one in comparisons}
    off = {(one.backbone, one.task, one.metric) for one in comparisons if one.off}
    said = (
        f"reference: {len(cells) - len(off)} of {len(cells)} numbers of single backbones are within a point of published ones"
    )
    if not off:
        return f"{said}.\n"
    return f"{said}; these are not:\n" + table([one for one in comparisons if one.off])
