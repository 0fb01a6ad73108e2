"""Pictures that were corrupted earlier and lie on disk as ImageNet-C does: CORRUPTION/SEVERITY/CLASS/NAME."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from ensemble_bench.condition import Condition
from ensemble_bench.errors import BadData
from ensemble_bench.health import some
from ensemble_bench.pictures import ENDINGS, decoded
from ensemble_bench.sources import contents
from ensemble_bench.sources.base import Index, Picture, Source
from ensemble_bench.sources.contents import Part
from ensemble_bench.sources.folder import Folder
from ensemble_bench.task import Task


class ImagenetC(Folder):
    """``source.root`` holds ``CORRUPTION/SEVERITY/CLASS/NAME``, directly or one folder deeper (as ``blur/defocus_blur``).

    ``source.clean`` is the folder of the uncorrupted pictures, laid out as the source ``folder`` wants it; without it there is
    no clean condition, and the samples are those of the first corruption that is there. A corrupted file belongs to the clean
    one of the same class and name; endings may differ. What ``ensemble-bench corrupt`` writes has this layout.
    """

    key = "clean"

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self._shown: dict[Path, _OnDisk] = {}

    @property
    def keys(self) -> tuple[str, ...]:
        return "root", "clean", "train", "test", "folders"

    @cached_property
    def corrupted(self) -> Path:
        """Where the corrupted pictures are."""
        return self.place("root")

    @cached_property
    def root(self) -> Path:
        return self.place("clean") if "clean" in self.task.options else self._first()

    def _first(self) -> Path:
        found = sorted(path for deep in ("*/[1-5]", "*/*/[1-5]") for path in self.corrupted.glob(deep) if path.is_dir())
        if not found:
            raise BadData(f"{self.task.name}: {self.corrupted} holds no folders CORRUPTION/SEVERITY/CLASS.")
        return found[0]

    def folder(self, split: str) -> Path:
        return super().folder(split) if "clean" in self.task.options else self.root

    def lacking(self, split: str, ids: Sequence[str]) -> str | None:
        if "clean" in self.task.options:
            return None
        return "its card names no clean pictures ('source.clean'), so there is nothing to show but what is on disk."

    def said(self, split: str, ids: Sequence[str] | None = None) -> dict[str, Any]:
        return super().said(split, ids) if "clean" in self.task.options else {}

    def under(self, condition: Condition) -> Source:
        name, severity = condition.corruption, str(condition.severity)
        places = [self.corrupted / name, *sorted(self.corrupted.glob(f"*/{name}"))]
        there = [place for place in places if place.is_dir()]
        if not there:
            held = sorted({path.parent.name for deep in ("*/[1-5]", "*/*/[1-5]") for path in self.corrupted.glob(deep)})
            raise BadData(f"{self.corrupted} has no folder {name}; it holds {some(held) if held else 'no corruption'}.")
        if not (there[0] / severity).is_dir():
            held = sorted(path.name for path in there[0].iterdir() if path.is_dir())
            raise BadData(f"{there[0]} has no severity {severity}; it holds {some(held) if held else 'none'}.")
        return self._shown.setdefault(there[0] / severity, _OnDisk(self.task, self, there[0] / severity))


class _OnDisk(Source):
    """The samples of another source as they lie corrupted in one folder."""

    def __init__(self, task: Task, clean: ImagenetC, where: Path) -> None:
        super().__init__(task)
        self.clean, self.where = clean, where
        self._listed: dict[Path, dict[str, Path]] = {}
        self._contents: dict[tuple[str, ...], str] = {}

    def index(self, split: str) -> Index:
        return self.clean.index(split)

    def file(self, sample: str) -> Path | None:
        """The corrupted file of a sample: the same path below the folder, else the same class and name."""
        own = PurePosixPath(sample)
        for folder in (self.where / own.parent, self.where / own.parent.name):
            if folder not in self._listed:
                paths = sorted(folder.iterdir()) if folder.is_dir() else []
                self._listed[folder] = {path.stem: path for path in paths if path.suffix.lower() in ENDINGS}
            if own.stem in self._listed[folder]:
                return self._listed[folder][own.stem]
        return None

    def lacking(self, split: str, ids: Sequence[str]) -> str | None:
        missing = [sample for sample in ids if self.file(sample) is None]
        if not missing:
            return None
        absent = set(missing)
        classes = {PurePosixPath(sample).parent.name for sample in ids}
        whole = sorted(classes - {PurePosixPath(sample).parent.name for sample in ids if sample not in absent})
        if whole:
            return f"{self.where} lacks {len(whole)} classes: {some(whole)} ({len(missing)} of {len(ids)} pictures)."
        return f"{self.where} lacks {len(missing)} of {len(ids)} pictures: {some(missing)}."

    def said(self, split: str, ids: Sequence[str] | None = None) -> dict[str, Any]:
        wanted = tuple(self.clean.index(split).ids if ids is None else ids)
        if wanted not in self._contents:
            files = {sample: self.file(sample) for sample in wanted}
            self._contents[wanted] = contents.digest({sample: Part(path) for sample, path in files.items() if path is not None})
        return {"files": self._contents[wanted]}

    def pictures(self, split: str, ids: Sequence[str]) -> Iterator[Picture]:
        for sample in ids:
            path = self.file(sample)
            if path is None:
                raise BadData(f"{self.where} lacks {sample}.")
            yield decoded(contents.read(Part(path)), str(path))
