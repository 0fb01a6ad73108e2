"""Picture files on disk, one sub-folder a class."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from ensemble_bench.errors import BadCard, BadData
from ensemble_bench.health import some
from ensemble_bench.pictures import ENDINGS, below, decoded
from ensemble_bench.sources import contents
from ensemble_bench.sources.base import Index, Names, Picture, Source
from ensemble_bench.sources.contents import Part
from ensemble_bench.task import Task

CLASSES, TEMPLATES_FILE = "classnames.txt", "zeroshot_classification_templates.txt"
SPLITS = {"train": ("train", "training"), "test": ("test", "testing", "val", "valid", "validation")}
"""What the folders of the splits may be called where no card says it, the first one found counts."""


class Folder(Source):
    """``source.root`` holds one sub-folder a class, or folders ``train`` and ``test`` that do (other names: ``train = "..."``).

    The sub-folders are called like the classes, or are as many and taken in their sorted order, or are listed in the order of
    the classes as ``folders = [...]``. ``~`` and ``$NAME`` are filled in. The id of a sample is its path below the root.

    Where the class names come from here, they are the names of all class folders, sorted, with blanks for underscores; or the
    lines of ``classnames.txt``, as many and in that order. Templates stand in
    ``zeroshot_classification_templates.txt``; without that file there is a plain one.
    """

    key = "root"

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.known(*self.keys)
        self._indexes: dict[str, Index] = {}
        self._contents: dict[tuple[str, tuple[str, ...] | None], str] = {}

    @property
    def keys(self) -> tuple[str, ...]:
        """What the card's table ``source`` may hold."""
        return "root", "train", "test", "folders"

    @cached_property
    def root(self) -> Path:
        """The folder that ids are relative to."""
        return self.place(self.key)

    def folder(self, split: str) -> Path:
        """Where the class folders of a split are."""
        if split in self.task.options:
            name = str(self.option(split, str, "the name of a folder"))
        elif self._names_itself:
            name = self._found.get(split, "")
            if not name:
                raise BadData(f"{self.task.name}: there is no {split} split: {self.root} has one only.")
        else:
            name = split if "train" in self.task.splits or (self.root / split).is_dir() else "."
        path = self.root / name
        if not path.is_dir():
            raise BadData(f"{self.task.name}: there is no folder {path} for the {split} split.")
        return path

    # Without a card --------------------------------------------------------------------------------------------------

    @property
    def _names_itself(self) -> bool:
        return self.task.classes_from == "source"

    @cached_property
    def _found(self) -> dict[str, str]:
        """The folder of each split that there is; where there is only one, or only the classes themselves, it is the test."""
        splits = {
            name: split
            for split, names in SPLITS.items()
            for name in names
            if _folders(self.root / name) and not _pictures(self.root / name)
        }
        if not splits:
            return {"test": "."}
        classes = [name for name in _folders(self.root) if name not in splits and _pictures(self.root / name)]
        if classes:
            raise BadData(
                f"{self.task.name}: {self.root} holds both splits ({some(list(splits))}) and what looks like classes "
                f"({some(classes)}): give the folder of one split, or write a card that says which is which."
            )
        found = {split: next(name for name in SPLITS[split] if name in splits) for split in SPLITS if split in splits.values()}
        return found if "test" in found else {"test": found["train"]}

    @cached_property
    def _class_folders(self) -> list[str]:
        return sorted({name for folder in self._found.values() for name in _folders(self.root / folder)})

    def splits(self) -> tuple[str, ...]:
        return self.task.splits or tuple(self._found)

    def names(self) -> Names | None:
        folders = (
            [str(name) for name in self.task.options["folders"]] if "folders" in self.task.options else self._class_folders
        )
        if not folders:
            raise BadData(f"{self.task.name}: {self.root} holds no class folders: put the pictures of each class into one.")
        classes = contents.lines(self.root / CLASSES)
        if classes and len(classes) != len(folders):
            raise BadData(
                f"{self.task.name}: {self.root / CLASSES} has {len(classes)} lines for {len(folders)} class folders: "
                "it must name each of them, in their sorted order."
            )
        plain = tuple(name.replace("_", " ").strip() for name in folders)
        return Names(classes or plain, contents.lines(self.root / TEMPLATES_FILE) or self.plain)

    # What it holds ---------------------------------------------------------------------------------------------------

    def class_folders(self, there: Sequence[str], where: Path) -> list[str]:
        """The sub-folder of each class, chosen from those that are there."""
        if self._names_itself and "folders" not in self.task.options:
            names = self._class_folders
            missing = [name for name in names if name not in there]
            if missing:
                raise BadData(f"{self.task.name}: {where} lacks the class folders {some(missing)}, which another split has.")
            return names
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
        if split not in self._indexes:
            self._indexes[split] = self._listed(split)
        return self._indexes[split]

    def _listed(self, split: str) -> Index:
        ids, labels = [], []
        where = self.folder(split)
        for label, name in enumerate(self.class_folders(_folders(where), where)):
            inside = below(where / name)
            if self._names_itself and not inside:
                raise BadData(f"{self.task.name}: the class folder {where / name} holds no pictures: fill it or remove it.")
            for path in inside:
                ids.append(path.relative_to(self.root).as_posix())
                labels.append(label)
        return Index(tuple(ids), tuple(labels))

    def file(self, sample: str) -> Path:
        """The file of a sample."""
        return self.root / sample

    def pictures(self, split: str, ids: Sequence[str]) -> Iterator[Picture]:
        for name in ids:
            path = self.file(name)
            yield decoded(contents.read(Part(path)), str(path))

    def said(self, split: str, ids: Sequence[str] | None = None) -> dict[str, Any]:
        """A digest over the files and their labels, so that changed ones never get old numbers."""
        wanted = None if ids is None else tuple(ids)
        if (split, wanted) not in self._contents:
            labels = dict(zip(*self.index(split), strict=True))
            files = {f"{labels[name]} {name}": Part(self.file(name)) for name in (labels if wanted is None else wanted)}
            self._contents[split, wanted] = contents.digest(files)
        return {"files": self._contents[split, wanted]}


def _folders(place: Path) -> list[str]:
    """Names of the folders in a folder, sorted; hidden ones do not count. None where it is no folder."""
    if not place.is_dir():
        return []
    return sorted(path.name for path in place.iterdir() if path.is_dir() and not path.name.startswith("."))


def _pictures(place: Path) -> bool:
    """Whether there are pictures in the folder itself."""
    return any(path.suffix.lower() in ENDINGS and not path.name.startswith(".") for path in place.iterdir() if path.is_file())
