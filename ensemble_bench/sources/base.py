"""What every source of images promises."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ensemble_bench.condition import Condition
from ensemble_bench.errors import BadCard, BadData
from ensemble_bench.task import Task

Picture = NDArray[np.uint8]


class Index(NamedTuple):
    """The samples of one split: ids, and labels as places in the task's classes."""

    ids: tuple[str, ...]
    labels: tuple[int, ...]


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

    @abstractmethod
    def index(self, split: str) -> Index:
        """Ids and labels of a split, in a fixed order."""

    @abstractmethod
    def pictures(self, split: str, ids: Sequence[str]) -> Iterator[Picture]:
        """The pictures with these ids, uint8 [h, w, 3], in this order."""

    def said(self, split: str) -> dict[str, Any]:
        """What changes the pictures and is neither in the task's card nor in the ids, as plain JSON values for keys."""
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


def checked(source: Source, split: str) -> Index:
    """The index of a split, held against the card: counts, label range, unique ids."""
    task = source.task
    index = source.index(split)
    if len(index.ids) != task.counts.get(split):
        raise BadData(f"{task.name}: the {split} split has {len(index.ids)} images; its card says {task.counts.get(split)}.")
    if len(set(index.ids)) != len(index.ids):
        raise BadData(f"{task.name}: the {split} split has the same sample id more than once.")
    wrong = [label for label in index.labels if not 0 <= label < len(task.classes)]
    if wrong:
        raise BadData(f"{task.name}: the {split} split has the label {wrong[0]}, but there are {len(task.classes)} classes.")
    return index


def digest(source: Source, split: str) -> str:
    """Sha256 over ids, labels, shapes and pixels of a whole split."""
    index = source.index(split)
    seen = hashlib.sha256()
    for name, label, picture in zip(index.ids, index.labels, source.pictures(split, index.ids), strict=True):
        seen.update(f"{name} {label} {picture.shape}\n".encode())
        seen.update(np.ascontiguousarray(picture).tobytes())
    return seen.hexdigest()
