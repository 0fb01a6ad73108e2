"""Contact sheets: what the images of tasks look like, and what corruptions make of a photograph."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ensemble_bench import pictures, sources
from ensemble_bench.condition import Condition
from ensemble_bench.corrupt.suite import SEVERITIES, Suite
from ensemble_bench.errors import BadOption
from ensemble_bench.sources.base import Index, Source
from ensemble_bench.task import Task

if TYPE_CHECKING:
    from PIL.Image import Image

COLUMNS = 12
SIDE = 64
PHOTOGRAPH = 224  # pixels a side of the photograph that is corrupted, where the suite names no size
SHOWN = 112
_TEXT = 150


def _spread(index: Index, classes: int) -> list[str]:
    """Ids of COLUMNS test samples, of as many classes as there are columns."""
    by_class = [[name for name, label in zip(index.ids, index.labels, strict=True) if label == c] for c in range(classes)]
    step = max(1, classes // COLUMNS)
    rounds = [own[turn] for turn in range(COLUMNS) for own in by_class[::step] if turn < len(own)]
    return rounds[:COLUMNS]


def _rows(tasks: Sequence[Task]) -> list[tuple[str, Source, list[str]]]:
    """Caption, source and sample ids of every row: the classes of one task, or one row a task."""
    rows = []
    for task in tasks:
        source = sources.named(sources.of(task))
        index, classes = source.index("test"), source.task.classes
        if len(tasks) > 1:
            rows.append((task.name, source, _spread(index, len(classes))))
            continue
        for place, name in enumerate(classes):
            own = [sample for sample, label in zip(index.ids, index.labels, strict=True) if label == place]
            rows.append((name, source, own[:COLUMNS]))
    return rows


def draw(tasks: Sequence[Task], path: Path) -> None:
    """Write a picture of test images: one row a class of a single task, one row a task of several."""
    from PIL import Image, ImageDraw

    rows = _rows(tasks)
    canvas = Image.new("RGB", (_TEXT + COLUMNS * (SIDE + 2), len(rows) * (SIDE + 2)), "white")
    pen = ImageDraw.Draw(canvas)
    for row, (caption, source, ids) in enumerate(rows):
        top = row * (SIDE + 2)
        for line, text in enumerate(textwrap.wrap(caption, 23)[:3]):
            pen.text((4, top + 18 + 12 * line), text, fill="black")
        for column, picture in enumerate(source.pictures("test", ids)):
            small = Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
            canvas.paste(small, (_TEXT + column * (SIDE + 2), top + 1))
    _save(canvas, path)


def photograph(side: int = PHOTOGRAPH) -> pictures.Picture:
    """The middle of a photograph that scikit-learn carries, uint8 [side, side, 3]."""
    from importlib.resources import files

    data = files("sklearn.datasets.images").joinpath("china.jpg").read_bytes()
    return pictures.cropped(pictures.decoded(data, "china.jpg"), side)


def draw_corruptions(suites: Sequence[Suite], name: str, path: Path) -> None:
    """Write a picture of a photograph corrupted: rows the corruptions of the suite ``name``, columns clean and severities 1-5.

    If ``name`` is a corruption, the rows are the suites that have it.
    """
    from PIL import Image, ImageDraw

    rows = [(one, corruption) for one in suites if one.name == name for corruption in one.amounts]
    rows = rows or [(one, name) for one in suites if name in one.amounts and not one.on_disk]
    if any(one.on_disk for one, _ in rows):
        raise BadOption(f"{name} reads pictures that lie on disk: there is nothing to draw.")
    canvas = Image.new("RGB", (_TEXT + (1 + len(SEVERITIES)) * (SHOWN + 2), len(rows) * (SHOWN + 2)), "white")
    pen = ImageDraw.Draw(canvas)
    for row, (suite, corruption) in enumerate(rows):
        top = row * (SHOWN + 2)
        caption = corruption if suite.name == name else suite.name
        pen.text((4, top + SHOWN // 2 - 6), caption, fill="black")
        clean = photograph(suite.side or PHOTOGRAPH)
        conditions = [Condition(suite.name, corruption, severity) for severity in SEVERITIES]
        shown = [clean, *(suite.alter(condition)("china", clean) for condition in conditions)]
        for column, picture in enumerate(shown):
            small = Image.fromarray(picture).resize((SHOWN, SHOWN), Image.Resampling.BICUBIC)
            canvas.paste(small, (_TEXT + column * (SHOWN + 2), top + 1))
    _save(canvas, path)


def _save(canvas: Image, path: Path) -> None:
    try:
        canvas.save(path, quality=88)
    except (OSError, ValueError) as error:
        raise BadOption(f"{path} cannot be written as a picture: {error}. Give a name that ends in .png or .jpg.") from None
