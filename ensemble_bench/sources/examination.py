"""A data set looked at whole: what is wrong with its names, labels, ids, counts and images, before it costs hours."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from ensemble_bench import fewshot, health, sources
from ensemble_bench.errors import BadData, BenchError
from ensemble_bench.health import Finding
from ensemble_bench.progress import Progress
from ensemble_bench.sources.base import Index, Picture, Source, findings
from ensemble_bench.task import Task

BATCH = 64


@dataclass
class Report:
    """What was found of one task, and how many images of each split were looked at."""

    task: str
    images: dict[str, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    @property
    def fine(self) -> bool:
        """Whether it can be run: no error."""
        return all(finding.severity != "error" for finding in self.findings)


def examined(task: Task, *, quick: bool = False, limit: int | None = None, progress: Progress | None = None) -> Report:
    """Everything that is wrong with a task. ``quick``: without decoding images; ``limit``: that many images of each split."""
    report = Report(task.name)
    try:
        _examine(task, report, quick, limit, progress or Progress())
    except BenchError as error:
        sentence = str(error).removeprefix(f"{task.name}: ")
        report.findings.append(Finding("error", "source", sentence, "Nothing more could be looked at."))
    return report


def _examine(task: Task, report: Report, quick: bool, limit: int | None, progress: Progress) -> None:
    source = sources.named(sources.of(task))
    task, said = source.task, report.findings
    said += sources.wording(task)
    digests: dict[str, dict[str, str]] = {"test": {}, "train": {}}
    for split in ("test", "train"):
        if split not in source.splits():
            continue
        index, whole = _index(source, split)
        wrong = findings(task, index, split, whole=whole)
        said += wrong
        report.images[split] = 0
        if quick:
            continue
        places = fewshot.limited(index.ids, limit)
        shown = Index(tuple(index.ids[place] for place in places), tuple(index.labels[place] for place in places))
        seen = hashlib.sha256()
        bad: list[str] = []
        with progress.step(f"{task.name}: {split} images", len(shown.ids)) as advance:
            for name, label, picture in _decoded(source, split, shown, bad, advance):
                about = f"{picture.shape}\n".encode()
                pixels = np.ascontiguousarray(picture).tobytes()
                digests[split][name] = hashlib.sha256(about + pixels).hexdigest()
                seen.update(f"{name} {label} ".encode() + about + pixels)
        report.images[split] = len(shown.ids)
        said += health.undecodable(bad, len(shown.ids), split)
        given = task.digests.get(split)
        if given and whole and not wrong and not bad and len(shown.ids) == len(index.ids) and seen.hexdigest() != given:
            cure = "Fetch the data set again, or give the card the digest of what is there and raise its version."
            said.append(Finding("error", "digest", f"the {split} images are not those of the card.", cure))
    said += health.overlap(digests["train"], digests["test"])
    said.sort(key=lambda finding: health.SEVERITIES.index(finding.severity))


def _index(source: Source, split: str) -> tuple[Index, bool]:
    """Ids and labels, and whether they are all: of a large train split on a server those that one shot is drawn from."""
    if split == "test":
        return source.index(split), True
    candidates = source.candidates(1, 0)
    return candidates.index, candidates.stages is None


def _decoded(
    source: Source, split: str, index: Index, bad: list[str], advance: Callable[[int], object]
) -> Iterator[tuple[str, int, Picture]]:
    """Every sample whose picture can be decoded; the sentences of the others go to ``bad``."""
    for start in range(0, len(index.ids), BATCH):
        ids, labels = index.ids[start : start + BATCH], index.labels[start : start + BATCH]
        for name, label, picture in zip(ids, labels, _each(source, split, ids, bad), strict=True):
            if picture is not None:
                yield name, label, picture
        advance(len(ids))


def _each(source: Source, split: str, ids: Sequence[str], bad: list[str]) -> list[Picture | None]:
    """The pictures of some samples, together if all can be decoded, else one by one."""
    try:
        return list(source.pictures(split, ids))
    except BadData as error:
        if len(ids) == 1:
            bad.append(str(error))
            return [None]
    return [picture for name in ids for picture in _each(source, split, [name], bad)]
