"""A contact sheet: what the images of tasks look like."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

from ensemble_bench import sources
from ensemble_bench.errors import BadOption
from ensemble_bench.sources.base import Index
from ensemble_bench.task import Task

COLUMNS = 12
SIDE = 64
_TEXT = 150


def _spread(index: Index, classes: int) -> list[str]:
    """Ids of COLUMNS test samples, of as many classes as there are columns."""
    by_class = [[name for name, label in zip(index.ids, index.labels, strict=True) if label == c] for c in range(classes)]
    step = max(1, classes // COLUMNS)
    rounds = [own[turn] for turn in range(COLUMNS) for own in by_class[::step] if turn < len(own)]
    return rounds[:COLUMNS]


def _rows(tasks: Sequence[Task]) -> list[tuple[str, Task, list[str]]]:
    """Caption, task and sample ids of every row: the classes of one task, or one row a task."""
    rows = []
    for task in tasks:
        index = sources.of(task).index("test")
        if len(tasks) > 1:
            rows.append((task.name, task, _spread(index, len(task.classes))))
            continue
        for place, name in enumerate(task.classes):
            own = [sample for sample, label in zip(index.ids, index.labels, strict=True) if label == place]
            rows.append((name, task, own[:COLUMNS]))
    return rows


def draw(tasks: Sequence[Task], path: Path) -> None:
    """Write a picture of test images: one row a class of a single task, one row a task of several."""
    from PIL import Image, ImageDraw

    rows = _rows(tasks)
    canvas = Image.new("RGB", (_TEXT + COLUMNS * (SIDE + 2), len(rows) * (SIDE + 2)), "white")
    pen = ImageDraw.Draw(canvas)
    for row, (caption, task, ids) in enumerate(rows):
        top = row * (SIDE + 2)
        for line, text in enumerate(textwrap.wrap(caption, 23)[:3]):
            pen.text((4, top + 18 + 12 * line), text, fill="black")
        for column, picture in enumerate(sources.of(task).pictures("test", ids)):
            small = Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
            canvas.paste(small, (_TEXT + column * (SIDE + 2), top + 1))
    try:
        canvas.save(path, quality=88)
    except (OSError, ValueError) as error:
        raise BadOption(f"{path} cannot be written as a picture: {error}. Give a name that ends in .png or .jpg.") from None
