"""Decisions from a CSV file: one row per sample and backbone."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensemble_bench.errors import BadArchive
from ensemble_bench.registry import near

REQUIRED = ("id", "label", "backbone", "prediction")
OPTIONAL = ("confidence", "condition")
NO_ANSWER = ("", "-1")


def read(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of an archive: labels, classes, backbones, ids, decisions, and confidence and condition if given.

    Classes are the texts of the columns ``label`` and ``prediction``: whole numbers in their order, else in the order of
    the alphabet. A prediction that is empty or -1 is no answer. Every backbone must have a row for every sample.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return _Table(path, file).arrays()
    except OSError as error:
        raise BadArchive(f"{path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise BadArchive(f"{path} is no UTF-8 text.") from None
    except csv.Error as error:
        raise BadArchive(f"{path} is no CSV file: {error}.") from None


class _Table:
    """The rows of one file, gathered by sample and backbone."""

    def __init__(self, path: Path, lines: Iterable[str]) -> None:
        self.path = path
        self.backbones: dict[str, int] = {}
        self.samples: dict[str, int] = {}
        self.about: list[tuple[str, str | None]] = []  # label and condition of each sample
        self.answers: list[dict[int, tuple[str, float]]] = []  # of each backbone, by sample
        rows = csv.reader(lines, strict=True)
        header = [name.strip() for name in next(rows, [])]
        missing = [name for name in REQUIRED if name not in header]
        if missing:
            raise self._bad(f"it has no column {missing[0]!r}; the first line must name {', '.join(REQUIRED)}")
        for name in header:
            if name not in (*REQUIRED, *OPTIONAL) or header.count(name) > 1:
                twice = "comes twice" if header.count(name) > 1 else "is unknown"
                raise self._bad(f"the column {name!r} {twice}.{near(name, [*REQUIRED, *OPTIONAL])}".rstrip("."))
        self.header = header
        for row in rows:
            if row:
                self._add(row, rows.line_num)

    def _bad(self, sentence: str, line: int | None = None) -> BadArchive:
        where = f"{self.path}, line {line}" if line else str(self.path)
        return BadArchive(f"{where}: {sentence}.")

    def _add(self, row: Sequence[str], line: int) -> None:
        if len(row) != len(self.header):
            raise self._bad(f"{len(row)} fields, and the first line names {len(self.header)} columns", line)
        cells = dict(zip(self.header, row, strict=True))
        about = cells["label"], cells.get("condition")
        sample = self.samples.setdefault(cells["id"], len(self.samples))
        if sample == len(self.about):
            self.about.append(about)
        elif self.about[sample] != about:
            what, one, other = next(
                (what, one, other)
                for what, one, other in zip(("label", "condition"), self.about[sample], about, strict=True)
                if one != other
            )
            raise self._bad(f"the {what} of {cells['id']!r} is {other!r} here and {one!r} before", line)
        place = self.backbones.setdefault(cells["backbone"], len(self.backbones))
        if place == len(self.answers):
            self.answers.append({})
        if sample in self.answers[place]:
            raise self._bad(f"{cells['backbone']!r} answers {cells['id']!r} a second time", line)
        try:
            confidence = float(cells.get("confidence", "nan"))
        except ValueError:
            raise self._bad(f"the confidence {cells['confidence']!r} is no number", line) from None
        self.answers[place][sample] = cells["prediction"], confidence

    def arrays(self) -> dict[str, NDArray[Any]]:
        if not self.samples:
            raise self._bad("it has no row below its first line")
        ids, backbones = list(self.samples), list(self.backbones)
        for name, answers in zip(backbones, self.answers, strict=True):
            if len(answers) != len(ids):
                absent = next(sample for sample in ids if self.samples[sample] not in answers)
                raise self._bad(
                    f"backbones must answer the same samples, and {name!r} has {len(answers):,} of {len(ids):,}: {absent!r} is "
                    "not among them"
                )
        rows = [[answers[sample] for sample in range(len(ids))] for answers in self.answers]
        labels = [label for label, _ in self.about]
        classes = _ordered({*labels, *(said for row in rows for said, _ in row if said not in NO_ANSWER)})
        place = {name: number for number, name in enumerate(classes)}
        place |= {name: -1 for name in NO_ANSWER if name not in place}
        if labels and any(label in NO_ANSWER for label in labels):
            raise self._bad("a label is empty or -1; every sample needs one")
        found: dict[str, NDArray[Any]] = {
            "labels": np.array([place[label] for label in labels]),
            "classes": np.array(classes),
            "backbones": np.array(backbones),
            "ids": np.array(ids),
            "decisions": np.array([[place[said] for said, _ in row] for row in rows]),
        }
        if "confidence" in self.header:
            found["confidence"] = np.array([[sure for _, sure in row] for row in rows])
        if "condition" in self.header:
            found["condition"] = np.array([condition for _, condition in self.about], np.str_)
        return found


def _ordered(names: Iterable[str]) -> list[str]:
    """
    >>> _ordered({"10", "9"}), _ordered({"b", "10", "9"})
    (['9', '10'], ['10', '9', 'b'])
    """
    names = sorted(names)
    numbers = all(re.fullmatch(r"[0-9]{1,18}", name) for name in names)
    return sorted(names, key=lambda name: (int(name), name)) if numbers else names
