"""Picture files on disk, one sub-folder a class."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from ensemble_bench import cache
from ensemble_bench.errors import BadCard, BadData, BadStore
from ensemble_bench.pictures import below, decoded
from ensemble_bench.sources.base import Index, Picture, Source
from ensemble_bench.task import Task

_SHOWN = 8  # names in a sentence


def some(names: Sequence[str]) -> str:
    """The first names of a list, and how many more there are."""
    rest = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")


class Folder(Source):
    """``source.root`` holds one sub-folder a class, or folders ``train`` and ``test`` that do (other names: ``train = "..."``).

    The sub-folders are called like the classes, or are as many and taken in their sorted order, or are listed in the order of
    the classes as ``folders = [...]``. ``~`` and ``$NAME`` are filled in. The id of a sample is its path below the root.
    """

    key = "root"

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        for name in task.options:
            if name not in self.keys:
                raise BadCard(f"the card of {task.name}: unknown key 'source.{name}'; there are {', '.join(self.keys)}.")
        self._contents: dict[str, str] = {}

    @property
    def keys(self) -> tuple[str, ...]:
        """What the card's table ``source`` may hold."""
        return "root", "train", "test", "folders"

    def place(self, key: str) -> Path:
        """A folder that the card names."""
        path = Path(os.path.expandvars(str(self.option(key, str, "the path of a folder")))).expanduser()
        if not path.is_dir():
            raise BadData(f"{self.task.name}: {path} is not a folder; 'source.{key}' of its card must name one that is there.")
        return path

    @cached_property
    def root(self) -> Path:
        """The folder that ids are relative to."""
        return self.place(self.key)

    def folder(self, split: str) -> Path:
        """Where the class folders of a split are."""
        if split in self.task.options:
            name = str(self.option(split, str, "the name of a folder"))
        else:
            name = split if "train" in self.task.counts or (self.root / split).is_dir() else "."
        path = self.root / name
        if not path.is_dir():
            raise BadData(f"{self.task.name}: there is no folder {path} for the {split} split.")
        return path

    def class_folders(self, there: Sequence[str], where: Path) -> list[str]:
        """The sub-folder of each class, chosen from those that are there."""
        classes = self.task.classes
        if "folders" in self.task.options:
            names = [str(name) for name in self.task.options["folders"]]
            if len(names) != len(classes):
                raise BadCard(
                    f"the card of {self.task.name}: 'source.folders' must hold {len(classes)} names, as many as there are "
                    f"classes, not {len(names)}."
                )
        elif set(classes) & set(there) or len(there) != len(classes):
            names = list(classes)
        else:
            return sorted(there)
        missing = [name for name in names if name not in there]
        if missing:
            raise BadData(f"{self.task.name}: {where} lacks the class folders {some(missing)}.")
        return names

    def index(self, split: str) -> Index:
        ids, labels = [], []
        where = self.folder(split)
        there = sorted(path.name for path in where.iterdir() if path.is_dir() and not path.name.startswith("."))
        for label, name in enumerate(self.class_folders(there, where)):
            for path in below(where / name):
                ids.append(path.relative_to(self.root).as_posix())
                labels.append(label)
        return Index(tuple(ids), tuple(labels))

    def file(self, sample: str) -> Path:
        """The file of a sample."""
        return self.root / sample

    def pictures(self, split: str, ids: Sequence[str]) -> Iterator[Picture]:
        for name in ids:
            path = self.file(name)
            try:
                data = path.read_bytes()
            except OSError as error:
                raise BadData(f"{self.task.name}: {path} cannot be read: {error.strerror}.") from None
            yield decoded(data, str(path))

    def said(self, split: str) -> dict[str, Any]:
        """A digest over the contents of all files of a split, so that changed files never get old numbers."""
        if split not in self._contents:
            self._contents[split] = contents({name: self.file(name) for name in self.index(split).ids})
        return {"files": self._contents[split]}


def contents(files: dict[str, Path]) -> str:
    """Sha256 over names and contents of files; remembered as long as their sizes and times of change stay the same."""
    facts = hashlib.sha256()
    for name, path in files.items():
        try:
            stat = path.stat()
        except OSError as error:
            raise BadData(f"{path} cannot be read: {error.strerror}.") from None
        facts.update(json.dumps([name, str(path), stat.st_size, stat.st_mtime_ns]).encode())
    memo = cache.root() / "digests" / f"files-{facts.hexdigest()}.json"
    with suppress(OSError, ValueError, KeyError, TypeError):
        return str(json.loads(memo.read_text(encoding="utf-8"))["sha256"])
    found = hashlib.sha256()
    for name, path in files.items():
        try:
            found.update(f"{name}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
        except OSError as error:
            raise BadData(f"{path} cannot be read: {error.strerror}.") from None
    with suppress(BadStore):  # it only saves time
        cache.write(memo, cache.canonical({"sha256": found.hexdigest()}).encode())
    return found.hexdigest()
