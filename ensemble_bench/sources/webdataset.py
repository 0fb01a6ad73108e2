"""Webdatasets in CLIP_benchmark's layout: tar shards with a picture and a class number per sample."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

from ensemble_bench.condition import Condition
from ensemble_bench.errors import BadCard, BadData, Missing
from ensemble_bench.pictures import ENDINGS, decoded
from ensemble_bench.sources.base import Index, Picture, Source
from ensemble_bench.sources.folder import contents, some
from ensemble_bench.tars import key, strange
from ensemble_bench.task import Task

_LABEL = ".cls"


@dataclass(frozen=True)
class Sample:
    """Where a sample is: its shard, first byte and length of the picture, and its class."""

    shard: Path
    start: int
    length: int
    label: int


def _shards(folder: Path) -> list[Path]:
    """The shards of a split, by number where their names are numbers; as many as ``nshards.txt`` says, if there is one."""
    found = sorted(folder.glob("*.tar"), key=lambda path: (len(path.stem) if path.stem.isdecimal() else 0, path.stem))
    counted = folder / "nshards.txt"
    if counted.is_file():
        text = counted.read_text(encoding="utf-8").strip()
        if not text.isdecimal() or int(text) != len(found):
            raise BadData(f"{counted} says {text!r} shards, and there are {len(found)}: fetch the data set again.")
    return found


@cache
def _samples(folder: Path) -> dict[str, Sample]:
    """The samples of a split by their key, in the order of the shards; only headers and class numbers are read."""
    found: dict[str, Sample] = {}
    for shard in _shards(folder):
        pictures: dict[str, tarfile.TarInfo] = {}
        labels: dict[str, int] = {}
        try:
            with tarfile.open(shard, "r:") as tar:
                for member in tar:
                    ending = PurePosixPath(member.name).suffix.lower()
                    if strange(member) or ending not in {*ENDINGS, _LABEL}:
                        continue
                    file = tar.extractfile(member)
                    if ending == _LABEL and file is not None:
                        text = file.read().decode("utf-8", "replace").strip()
                        if not text.isdecimal():
                            raise BadData(f"{shard}: the class of {key(member.name)} is {text!r}, no number.")
                        labels[key(member.name)] = int(text)
                    elif ending != _LABEL:
                        pictures[key(member.name)] = member
            size = shard.stat().st_size
        except (tarfile.TarError, EOFError, OSError) as error:
            raise BadData(f"{shard} is no whole tar archive: {error}.") from None
        lost = sorted(set(pictures) ^ set(labels))
        if lost:
            raise BadData(f"{shard}: {some(lost)} lack a picture or a class: make or fetch that shard again.")
        for name, member in pictures.items():
            if name in found:
                raise BadData(f"{folder}: the sample {name!r} is in {found[name].shard.name} and in {shard.name}.")
            if member.offset_data + member.size > size:
                raise BadData(f"{shard} is cut off in the middle of {member.name}: fetch it again.")
            found[name] = Sample(shard, member.offset_data, member.size, labels[name])
    return found


class Webdataset(Source):
    """``source.root`` holds ``test/*.tar`` (and ``train/*.tar``), each sample a picture and its class number (``.cls``).

    The id of a sample is its key. ``source.corrupted`` is a folder with the same shards under CORRUPTION/SEVERITY/, as
    ``ensemble-bench corrupt`` writes it. Other members, pickles among them, are never read. Local folders only.
    """

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        for name in task.options:
            if name not in ("root", "repository", "corrupted"):
                raise BadCard(f"the card of {task.name}: unknown key 'source.{name}'; there are root, repository, corrupted.")

    def place(self, name: str) -> Path:
        """A folder that the card names."""
        if name == "root" and "repository" in self.task.options:
            raise Missing(f"{self.task.name} is not fetched: run 'ensemble-bench fetch -t {self.task.name}' first.")
        path = Path(os.path.expandvars(str(self.option(name, str, "the path of a folder")))).expanduser()
        if not path.is_dir():
            raise BadData(f"{self.task.name}: {path} is not a folder; 'source.{name}' of its card must name one that is there.")
        return path

    def names(self) -> tuple[list[str], list[str]]:
        """Class names and templates that lie beside the shards, as CLIP_benchmark writes them."""
        files = [self.place("root") / name for name in ("classnames.txt", "zeroshot_classification_templates.txt")]
        classes, templates = (path.read_text(encoding="utf-8").splitlines() if path.is_file() else [] for path in files)
        return [name.strip() for name in classes], [text.strip() for text in templates]

    def folder(self, split: str) -> Path:
        """Where the shards of a split are."""
        path = self.place("root") / split
        if not path.is_dir() or not _shards(path):
            raise BadData(f"{self.task.name}: there are no shards {path}/*.tar.")
        return path

    def index(self, split: str) -> Index:
        samples = _samples(self.folder(split))
        return Index(tuple(samples), tuple(sample.label for sample in samples.values()))

    def pictures(self, split: str, ids: Sequence[str]) -> Iterator[Picture]:
        samples = _samples(self.folder(split))
        for name in ids:
            sample = samples[name]
            with sample.shard.open("rb") as file:
                file.seek(sample.start)
                yield decoded(file.read(sample.length), f"{sample.shard}: {name}")

    def said(self, split: str) -> dict[str, Any]:
        """A digest over the shards of a split, so that changed files never get old numbers."""
        return {"files": contents({shard.name: shard for shard in _shards(self.folder(split))})}

    def under(self, condition: Condition) -> Source:
        if "corrupted" not in self.task.options:
            return super().under(condition)
        return _Corrupted(self, self.place("corrupted") / condition.corruption / str(condition.severity))


class _Corrupted(Webdataset):
    """The samples of another webdataset as they lie corrupted in one folder."""

    def __init__(self, clean: Webdataset, place: Path) -> None:
        super().__init__(clean.task)
        self.clean, self._place = clean, place

    def place(self, name: str) -> Path:
        if not self._place.is_dir():
            raise BadData(f"there is no folder {self._place}: make it with 'ensemble-bench corrupt'.")
        return self._place

    def index(self, split: str) -> Index:
        return self.clean.index(split)

    def lacking(self, split: str, ids: Sequence[str]) -> str | None:
        there = _samples(self.folder(split))
        missing = [name for name in ids if name not in there]
        return f"{self._place} lacks {len(missing)} of {len(ids)} pictures: {some(missing)}." if missing else None
