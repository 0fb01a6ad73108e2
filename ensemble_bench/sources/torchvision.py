"""Data sets of torchvision by the names of their classes. torchvision is imported when something is read."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ensemble_bench import cache
from ensemble_bench.errors import BadCard, BadData, BenchError, Missing
from ensemble_bench.pictures import as_rgb
from ensemble_bench.progress import Progress
from ensemble_bench.registry import near
from ensemble_bench.sources import contents, hub
from ensemble_bench.sources.base import Fetched, Index, Names, Picture, Source, Wanted
from ensemble_bench.sources.contents import Part
from ensemble_bench.task import Task

_LABELS = ("targets", "labels", "_labels", "y", "_samples", "samples")  # where its classes keep them
_FILES = ("data", "_image_files", "_images", "samples", "_samples", "imgs")


class Torchvision(Source):
    """``dataset`` names a class of ``torchvision.datasets``; ``root`` is the folder it keeps its files in.

    Without ``root`` that is ``datasets/torchvision`` in the cache. ``train`` and ``test`` are tables of further arguments, by
    default ``train = true`` and ``false`` or ``split = "train"`` and ``"test"``, whichever the class takes; ``arguments`` is a
    table of arguments for both. ``first_label`` is the number of the first class, where that is not 0. The id of a sample is
    its split and its place.
    """

    KEYS = ("dataset", "root", "train", "test", "arguments", "first_label")

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.known(*self.KEYS)
        self._read: dict[str, Any] = {}
        self._indexes: dict[str, Index] = {}

    @property
    def root(self) -> Path:
        """The folder of its files."""
        if "root" not in self.task.options:
            return cache.root() / "datasets" / "torchvision"
        return Path(os.path.expandvars(str(self.option("root", str, "the path of a folder")))).expanduser()

    @property
    def kind(self) -> Any:
        """The class."""
        from torchvision import datasets

        name = str(self.option("dataset", str, "a class of torchvision.datasets"))
        found = getattr(datasets, name, None)
        if not inspect.isclass(found):
            classes = [name for name in datasets.__all__ if inspect.isclass(getattr(datasets, name))]
            raise BadCard(f"the card of {self.task.name}: torchvision.datasets has no class {name!r}.{near(name, classes)}")
        return found

    def arguments(self, split: str) -> dict[str, Any]:
        """What the class is called with for a split."""
        takes = _takes(self.kind)
        given: dict[str, Any] = {}
        for key in ("arguments", split):
            table = self.task.options.get(key, {})
            if not isinstance(table, Mapping):
                raise BadCard(f"the card of {self.task.name}: 'source.{key}' must be a table of arguments, not {table!r}.")
            given |= table
        own: dict[str, Any] = {"train": split == "train"} if "train" in takes else {"split": split} if "split" in takes else {}
        own = own if split not in self.task.options else {}
        unknown = [key for key in given if key not in takes]
        if unknown:
            raise BadCard(
                f"the card of {self.task.name}: {self.kind.__name__} takes no argument {unknown[0]!r}.{near(unknown[0], takes)}"
            )
        return own | given

    def _open(self, split: str, root: Path, **more: Any) -> Any:
        takes = _takes(self.kind)
        more = {key: value for key, value in more.items() if key in takes}
        with contextlib.redirect_stdout(sys.stderr):
            return self.kind(str(root), **self.arguments(split), **more)

    def dataset(self, split: str) -> Any:
        """The data set of a split, never downloaded. Raises Missing where it is not there, BadData where it cannot be read."""
        if split in self._read:
            return self._read[split]
        name = f"torchvision's {self.kind.__name__}"
        try:
            self._read[split] = self._open(split, self.root, download=False)
        except BenchError:
            raise
        except ImportError as error:
            raise Missing(f"{self.task.name}: {name} needs {error.name}: install it.") from None
        except Exception as error:  # whatever its readers make of what is there, or not there
            said = _short(error)
            if isinstance(error, (RuntimeError, FileNotFoundError)) and re.search(
                "not found|download|no such file", said.lower()
            ):
                raise Missing(
                    f"{self.task.name}: {name} is not in {self.root}, or not whole ({said}). "
                    f"Run 'ensemble-bench fetch -t {self.task.name}' first."
                ) from None
            raise BadData(f"{self.task.name}: {name} cannot be read from {self.root}: {said}.") from None
        return self._read[split]

    def splits(self) -> tuple[str, ...]:
        return super().splits() or ("train", "test")

    def names(self) -> Names | None:
        data = self.dataset("test")
        classes = getattr(data, "classes", None) or getattr(data, "categories", None)
        if not classes:
            numbered: Mapping[str, int] = getattr(data, "class_to_idx", None) or {}
            classes = sorted(numbered, key=lambda name: numbered[name])
        if not classes:
            return None
        plain = [name[0] if isinstance(name, (tuple, list)) else name for name in classes]
        return Names(tuple(str(name).replace("_", " ").strip() for name in plain), ())

    def index(self, split: str) -> Index:
        if split not in self._indexes:
            data = self.dataset(split)
            labels = _labels(data)
            first = int(self.task.options.get("first_label", 0))
            ids = tuple(f"{split}/{place:07d}" for place in range(len(labels)))
            self._indexes[split] = Index(ids, tuple(label - first for label in labels))
        return self._indexes[split]

    def pictures(self, split: str, ids: Sequence[str]) -> Iterator[Picture]:
        data = self.dataset(split)
        for name in ids:
            where = f"{self.task.name}: {name}"
            try:
                yield as_rgb(data[_place(name)][0], where)
            except BenchError:
                raise
            except Exception as error:  # whatever a decoder makes of a damaged file
                raise BadData(f"{where} cannot be decoded: {_short(error)}.") from None

    def said(self, split: str, ids: Sequence[str] | None = None) -> dict[str, Any]:
        """A digest over the pictures and their labels, so that changed ones never get old numbers."""
        index = self.index(split)
        wanted = index.ids if ids is None else ids
        data = self.dataset(split)
        files = {f"{index.labels[_place(name)]} {name}": _file(data, _place(name)) for name in wanted}
        whole = {name: Part(path) for name, path in files.items() if path is not None}
        if len(whole) == len(files):
            return {"files": contents.digest(whole)}
        seen = hashlib.sha256()
        for said, picture in zip(files, self.pictures(split, wanted), strict=True):
            seen.update(f"{said} {picture.shape}\n".encode())
            seen.update(np.ascontiguousarray(picture).tobytes())
        return {"files": seen.hexdigest()}

    def fetch(self, wanted: Wanted, progress: Progress) -> Fetched:
        splits = [split for split in self.splits() if split == "train" or wanted.test]
        if not (wanted.shots or wanted.whole):
            splits = [split for split in splits if split == "test"]
        done = Fetched(where=str(self.root))
        absent = []
        for split in splits:
            try:
                self.dataset(split)
                done.kept += 1
            except Missing:
                absent.append(split)
        if not absent:
            return done
        if hub.offline():
            raise Missing(f"{self.task.name}: {self.kind.__name__} is not in {self.root}, and --offline forbids to fetch it.")
        if "download" not in _takes(self.kind):
            raise Missing(
                f"{self.task.name}: torchvision cannot download {self.kind.__name__}: put its files into {self.root}."
            )
        progress.say(f"{self.task.name}: torchvision fetches {self.kind.__name__} into {self.root}")
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=self.root, prefix=".incoming-") as incoming:
                for split in absent:
                    self._download(split, Path(incoming))
                done.files, done.bytes = _moved(Path(incoming), self.root)
        except OSError as error:
            raise cache.trouble(self.root, error) from error
        return done

    def _download(self, split: str, place: Path) -> None:
        try:
            self._open(split, place, download=True)
        except BenchError:
            raise
        except Exception as error:  # whatever its downloaders make of a server
            raise Missing(
                f"{self.task.name}: torchvision cannot fetch {self.kind.__name__} ({_short(error)}): "
                f"try again later, or put its files into {self.root}."
            ) from None


def _takes(kind: Any) -> dict[str, inspect.Parameter]:
    """The arguments that a class takes, also those that it hands on to the classes it is made from."""
    found: dict[str, inspect.Parameter] = {}
    for one in kind.__mro__[:-1]:
        own = inspect.signature(one).parameters
        found |= {name: parameter for name, parameter in own.items() if name not in found}
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in own.values()):
            break
    return {name: parameter for name, parameter in found.items() if parameter.kind is not parameter.VAR_KEYWORD}


def _short(error: BaseException) -> str:
    """What an error says, in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"


def _place(name: str) -> int:
    return int(name.rpartition("/")[2])


def _labels(data: Any) -> list[int]:
    """The class numbers of a data set: where its class keeps them, else one by one."""
    for name in _LABELS:
        found = getattr(data, name, None)
        if found is None or len(found) != len(data):
            continue
        values = [value[1] if isinstance(value, (tuple, list)) else value for value in found]
        if all(isinstance(value, (int, np.integer)) or getattr(value, "ndim", None) == 0 for value in values):
            return [int(value) for value in values]
    return [int(data[place][1]) for place in range(len(data))]


def _file(data: Any, place: int) -> Path | None:
    """The file of one picture, where the data set keeps a list of them."""
    for name in _FILES:
        found = getattr(data, name, None)
        if isinstance(found, list) and len(found) == len(data):
            entry = found[place][0] if isinstance(found[place], (tuple, list)) else found[place]
            if isinstance(entry, (str, Path)) and Path(entry).is_file():
                return Path(entry)
    return None


def _moved(source: Path, target: Path) -> tuple[int, int]:
    """Move every file below one folder into another; how many there were, and their bytes."""
    files = size = 0
    for place, _, names in os.walk(source):
        to = target / Path(place).relative_to(source)
        to.mkdir(parents=True, exist_ok=True)
        for name in names:
            path = Path(place, name)
            files, size = files + 1, size + path.stat().st_size
            shutil.move(path, to / name)
    return files, size
