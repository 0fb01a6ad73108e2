"""What every source of images promises."""

from __future__ import annotations

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ensemble_bench import health
from ensemble_bench.condition import Condition
from ensemble_bench.errors import BadCard, BadData
from ensemble_bench.progress import Progress
from ensemble_bench.task import Task

Picture = NDArray[np.uint8]

TEMPLATES = ("a photo of a {c}.",)
"""The prompts of a data set that comes without any."""


class Index(NamedTuple):
    """The samples of one split: ids, and labels as places in the task's classes."""

    ids: tuple[str, ...]
    labels: tuple[int, ...]


class Names(NamedTuple):
    """What a data set says of itself: class names (place = label) and prompt templates."""

    classes: tuple[str, ...]
    templates: tuple[str, ...]


@dataclass(frozen=True)
class Candidates:
    """The training samples that a support may be drawn from, and how they were found (``about``: plain JSON values).

    ``stages`` are given where they are not the whole split: the rule of ``fewshot.draw``.
    """

    index: Index
    stages: tuple[int, ...] | None = None
    about: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Wanted:
    """What a run needs of a data set: ``test`` images or not, and train images for ``shots`` examples a class (0: none).

    ``labels`` are the classes that need them (None: all); ``whole``: every train image, however many are needed.
    """

    shots: int = 1
    seed: int = 0
    test: bool = True
    whole: bool = False
    labels: Collection[int] | None = None


@dataclass
class Fetched:
    """What fetching did: files and bytes that came, files that were there, and where everything lies (None: nowhere)."""

    files: int = 0
    bytes: int = 0
    kept: int = 0
    where: str | None = None


class Source(ABC):
    """Where the images of a task come from. ``index`` is cheap; ``pictures`` draws or decodes."""

    def __init__(self, task: Task) -> None:
        self.task = task

    def option(self, key: str, kind: type, wanted: str) -> object:
        """One entry of the card's table ``source``."""
        value = self.task.options.get(key)
        if not isinstance(value, kind):
            raise BadCard(f"the card of {self.task.name}: 'source.{key}' must be {wanted}, not {value!r}.")
        return value

    def place(self, key: str) -> Path:
        """A folder that the card names, ``~`` and ``$NAME`` filled in. Raises BadData where there is none."""
        path = Path(os.path.expandvars(str(self.option(key, str, "the path of a folder")))).expanduser()
        if not path.is_dir():
            cure = f"; 'source.{key}' of its card must name one that is there" if self.task.card_digest else ""
            raise BadData(f"{self.task.name}: {path} is not a folder{cure}.")
        return path

    def known(self, *keys: str) -> None:
        """Raise BadCard if the card's table ``source`` holds another key."""
        for name in self.task.options:
            if name not in keys:
                raise BadCard(f"the card of {self.task.name}: unknown key 'source.{name}'; there are {', '.join(keys)}.")

    @abstractmethod
    def index(self, split: str) -> Index:
        """Ids and labels of a split, in a fixed order."""

    @abstractmethod
    def pictures(self, split: str, ids: Sequence[str]) -> Iterator[Picture]:
        """The pictures with these ids, uint8 [h, w, 3], in this order."""

    @property
    def plain(self) -> tuple[str, ...]:
        """The templates of a data set that brings none: one where there is no card either, else the card must have some."""
        return () if self.task.card_digest else TEMPLATES

    def splits(self) -> tuple[str, ...]:
        """The splits that there are: those that the card counts, or what is found where no card counts."""
        return self.task.splits

    def names(self) -> Names | None:
        """Class names and templates that come with the data, or None where only the card has them."""
        return None

    def candidates(self, shots: int, seed: int, labels: Collection[int] | None = None) -> Candidates:
        """The training samples that ``shots`` examples a class are drawn from: the whole split, unless that is too large.

        ``labels`` are the classes that need them (None: all).
        """
        return Candidates(checked(self, "train"), about={"candidates": "the whole train split"})

    def fetch(self, wanted: Wanted, progress: Progress) -> Fetched:
        """Bring what is wanted onto this machine; what is there already is not fetched again."""
        return Fetched()

    def said(self, split: str, ids: Sequence[str] | None = None) -> dict[str, Any]:
        """What changes these pictures (None: all of the split) and is neither in the task's card nor in the ids: for keys."""
        return {}

    def lacking(self, split: str, ids: Sequence[str]) -> str | None:
        """What is missing of the pictures of these samples, as a sentence, or None."""
        return None

    def under(self, condition: Condition) -> Source:
        """The same samples as they lie on disk under a condition; BadData where there are none."""
        raise BadData(
            f"{self.task.name} has no pictures of {condition} on disk: corrupt in memory with another suite, or give its card "
            'a source of kind "imagenet-c".'
        )


def findings(task: Task, index: Index, split: str, *, whole: bool = True) -> list[health.Finding]:
    """What is wrong with the index of a split, held against the card: counts (of a ``whole`` one), ids, labels."""
    return [
        *(health.count(len(index.ids), task.counts.get(split), split) if whole else ()),
        *health.ids(index.ids, split),
        *health.labels(index.labels, task.classes, split),
    ]


def checked(source: Source, split: str) -> Index:
    """The index of a split, held against the card: counts, label range, unique ids."""
    index = source.index(split)
    health.demand(source.task.name, findings(source.task, index, split))
    return index


def digest(source: Source, split: str) -> str:
    """Sha256 over ids, labels, shapes and pixels of a whole split."""
    index = source.index(split)
    seen = hashlib.sha256()
    for name, label, picture in zip(index.ids, index.labels, source.pictures(split, index.ids), strict=True):
        seen.update(f"{name} {label} {picture.shape}\n".encode())
        seen.update(np.ascontiguousarray(picture).tobytes())
    return seen.hexdigest()
