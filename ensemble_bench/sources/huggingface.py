"""Data sets of the Hugging Face hub, read by the library ``datasets``, which is an extra."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ensemble_bench.errors import BadCard, BadData, Missing
from ensemble_bench.pictures import decoded
from ensemble_bench.progress import Progress
from ensemble_bench.registry import near
from ensemble_bench.sources import hub
from ensemble_bench.sources.base import Fetched, Index, Names, Picture, Source, Wanted
from ensemble_bench.task import Task


class Huggingface(Source):
    """``repository`` (OWNER/NAME, or a folder that ``datasets`` can load or has saved), at ``revision``, in its configuration
    ``config``.

    ``image`` and ``label`` are the columns (default: those names), ``train`` and ``test`` the names of the splits (default: the
    same). Class names are those of the label column. Nothing is executed that comes with the data. The id of a sample is its
    split and its row.
    """

    KEYS = ("repository", "revision", "config", "image", "label", "train", "test")

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.known(*self.KEYS)
        for key in self.KEYS:
            if key in task.options:
                self.option(key, str, "a text")
        self._read: dict[str, Any] = {}

    def _said_by_card(self, key: str, default: str) -> str:
        return str(self.task.options.get(key, default))

    def dataset(self, split: str) -> Any:
        """The rows of a split, pictures not decoded yet."""
        if split in self._read:
            return self._read[split]
        datasets = _library(self.task.name)
        repository = str(self.option("repository", str, "OWNER/NAME of a data set of the hub"))
        folder = Path(os.path.expandvars(repository)).expanduser()
        repository = str(folder) if folder.is_dir() else repository
        options = {"revision": self.task.options["revision"]} if "revision" in self.task.options else {}
        with _offline_as_asked(datasets):
            try:
                if _saved(repository):
                    rows = _of_saved(datasets.load_from_disk(repository), self._said_by_card(split, split))
                else:
                    rows = datasets.load_dataset(
                        repository, self.task.options.get("config"), split=self._said_by_card(split, split), **options
                    )
            except Exception as error:  # whatever the library, the hub or the network make of it
                raise Missing(
                    f"{self.task.name}: {repository} ({split}) cannot be loaded by the library datasets "
                    f"({type(error).__name__}: {str(error).strip()[:200]}): run 'ensemble-bench fetch -t {self.task.name}', or "
                    "correct the card."
                ) from None
        for key in ("image", "label"):
            column = self._said_by_card(key, key)
            if column not in rows.column_names:
                raise BadCard(
                    f"the card of {self.task.name}: {repository} has no column {column!r} ('source.{key}')."
                    f"{near(column, rows.column_names)}"
                )
        self._read[split] = rows.cast_column(self._said_by_card("image", "image"), datasets.Image(decode=False))
        return self._read[split]

    def splits(self) -> tuple[str, ...]:
        return super().splits() or ("train", "test")

    def names(self) -> Names | None:
        feature = self.dataset("test").features[self._said_by_card("label", "label")]
        classes = getattr(feature, "names", None)
        return Names(tuple(str(name).replace("_", " ").strip() for name in classes), ()) if classes else None

    def index(self, split: str) -> Index:
        labels = self.dataset(split)[self._said_by_card("label", "label")]
        found = []
        for row, label in enumerate(labels):
            if not isinstance(label, int) or isinstance(label, bool):
                raise BadData(f"{self.task.name}: the label of row {row} of {split} is {label!r}, no number.")
            found.append(label)
        return Index(tuple(f"{split}/{row:07d}" for row in range(len(found))), tuple(found))

    def _bytes(self, split: str, name: str) -> Any:
        entry = self.dataset(split)[int(name.rpartition("/")[2])][self._said_by_card("image", "image")]
        if isinstance(entry, Mapping) and entry.get("bytes") is not None:
            return entry["bytes"]
        if isinstance(entry, Mapping) and entry.get("path"):
            try:
                with open(entry["path"], "rb") as file:  # noqa: PTH123 - what the library says is a path
                    return file.read()
            except OSError as error:
                raise BadData(f"{entry['path']} cannot be read: {error.strerror or error}.") from None
        raise BadData(f"{self.task.name}: {name} has no picture.")

    def pictures(self, split: str, ids: Sequence[str]) -> Iterator[Picture]:
        for name in ids:
            data = self._bytes(split, name)
            yield decoded(data, f"{self.task.name}: {name}")

    def said(self, split: str, ids: Sequence[str] | None = None) -> dict[str, Any]:
        """A digest over the pictures and their labels, so that changed ones never get old numbers."""
        index = self.index(split)
        labels = dict(zip(*index, strict=True))
        seen = hashlib.sha256()
        for name in index.ids if ids is None else ids:
            seen.update(f"{labels[name]} {name}\0{hashlib.sha256(self._bytes(split, name)).hexdigest()}\n".encode())
        return {"files": seen.hexdigest()}

    def fetch(self, wanted: Wanted, progress: Progress) -> Fetched:
        splits = [split for split in self.splits() if (wanted.test if split == "test" else wanted.shots or wanted.whole)]
        for split in splits:
            progress.say(f"{self.task.name}: the library datasets loads {split}")
            self.dataset(split)
        return Fetched(kept=len(splits), where="the cache of the library datasets (HF_HOME)")


def _saved(repository: str) -> bool:
    """Whether a folder was written by ``save_to_disk``, which ``load_dataset`` does not read."""
    return any(Path(repository, name).is_file() for name in ("dataset_dict.json", "state.json"))


def _of_saved(found: Any, split: str) -> Any:
    if not isinstance(found, Mapping):
        raise ValueError("it is one split without a name: save a DatasetDict")
    if split not in found:
        raise ValueError(f"it has no split {split!r}, only {', '.join(found)}")
    return found[split]


def _library(name: str) -> Any:
    try:
        import datasets
    except ImportError:
        raise Missing(
            f"{name} is read by the library datasets, which is not installed: pip install 'ensemble-bench[datasets]'."
        ) from None
    return datasets


@contextlib.contextmanager
def _offline_as_asked(datasets: Any) -> Iterator[None]:
    """The library reads the environment when it is imported; what was asked for since then is told to it."""
    config = datasets.config
    before = config.HF_HUB_OFFLINE
    config.HF_HUB_OFFLINE = before or hub.offline()
    try:
        yield
    finally:
        config.HF_HUB_OFFLINE = before
