"""A task written as a webdataset in CLIP_benchmark's layout, which the host and our own source read back byte for byte."""

from __future__ import annotations

import hashlib
import re
import tarfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

from ensemble_bench import fewshot, pictures, provenance, shipped, sources
from ensemble_bench.condition import CLEAN, Condition
from ensemble_bench.corrupt import suite
from ensemble_bench.corrupt.manifest import Manifest, sha256, whole
from ensemble_bench.corrupt.shards import put
from ensemble_bench.corrupt.suite import Suite
from ensemble_bench.errors import BadData, BadOption
from ensemble_bench.pictures import Picture
from ensemble_bench.sources import own
from ensemble_bench.sources.base import Index, Source, checked
from ensemble_bench.task import Catalogue, Task

FEWEST, MOST = 8, 5000  # shards, so that as many workers have something to read; samples in one where there are many
BATCH = 64


def named(text: str, more: tuple[Path, ...] = (), seed: int = 0) -> tuple[Task, Condition, Suite | None]:
    """Task, condition and suite of ``TASK[@SUITE:CORRUPTION:SEVERITY]``; ``more`` are folders with cards.

    TASK may also be ``folder:PATH`` or ``wds:PATH``, where an ``@`` that no suite follows is part of the path.
    """
    name, at, condition = text.partition("@")
    if own.is_own(text):
        name, at, condition = text.rpartition("@")
        if condition != "clean" and condition.partition(":")[0] not in suite.suites(more):
            name, at, condition = text, "", ""
    task = own.read(name) if own.is_own(name) else Catalogue(more).task(name)
    if task.kind != "classification":
        raise BadOption(
            f"{task.name}: several labels may be right for one of its images; only tasks with one can be handed on."
        )
    if not at or condition == "clean":
        return task, CLEAN, None
    suites, conditions = suite.chosen([condition], more, seed)
    if len(conditions) != 1:
        raise BadOption(
            f"{text}: one condition is written @SUITE:CORRUPTION:SEVERITY; {condition!r} stands for {len(conditions)}."
        )
    return task, conditions[0], next(iter(suites.values()))


@dataclass(frozen=True)
class Written:
    """What came of it: shards made, and those that were there."""

    made: int
    kept: int


@dataclass(frozen=True)
class Export:
    """What is to be written to the folder ``out``: every split of a task, its test split under a condition.

    Training samples stay clean, as everywhere; ``test_only`` leaves them out. ``shards`` per split (never more than samples);
    None chooses. Pictures are PNG, or JPEG of a quality. ``limit`` keeps of the test split the samples that ``run --limit``
    would. ``task`` gets the names that come with its data. Raises Missing where these are not fetched.
    """

    task: Task
    out: Path
    condition: Condition = CLEAN
    suite: Suite | None = None
    shards: int | None = None
    jpeg: int | None = None
    limit: int | None = None
    test_only: bool = False

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise BadOption(f"--limit must be at least 1, not {self.limit}.")
        if self.shards is not None and self.shards < 1:
            raise BadOption(f"--shards must be at least 1, not {self.shards}.")
        object.__setattr__(self, "task", self.source.task)
        for kind, texts in (("class name", self.task.classes), ("template", self.task.templates)):
            for place, text in enumerate(texts, 1):
                bare = not text and kind == "class name" and place < len(texts)  # CLEVR's fourth: an empty line between others
                if text.splitlines() != [text.strip()] and not bare:
                    raise BadOption(f"{self.task.name}: the {kind} {text!r} is no line of its own, as a webdataset needs it.")
        for template in self.task.templates:
            try:
                same = template.format(c="x") == template.replace("{c}", "x")
            except (KeyError, IndexError, ValueError):
                same = False
            if not same:
                raise BadOption(f"{self.task.name}: CLIP_benchmark cannot fill in the template {template!r}: no other braces.")

    @cached_property
    def source(self) -> Source:
        """Where the clean pictures come from."""
        return sources.named(sources.of(self.task))

    @property
    def splits(self) -> tuple[str, ...]:
        """What is written of the task."""
        return ("test",) if self.test_only else self.task.splits

    @cached_property
    def indices(self) -> Mapping[str, Index]:
        """The samples of every split."""
        found = {split: checked(self.source, split) for split in self.splits}
        test = found["test"]
        kept = fewshot.limited(test.ids, self.limit)
        return {**found, "test": Index(tuple(test.ids[n] for n in kept), tuple(test.labels[n] for n in kept))}

    def shown(self, split: str) -> tuple[Source, Callable[[str, Picture], Picture] | None]:
        """Where the pictures of a split come from, and what is done to them."""
        if split != "test" or self.suite is None:
            return self.source, None
        if self.suite.on_disk:
            return self.source.under(self.condition), None
        return self.source, self.suite.alter(self.condition)

    def blocks(self, split: str) -> list[range]:
        """Which samples, by place, each shard of a split holds: equal shares in their order."""
        total = len(self.indices[split].ids)
        count = min(self.shards or max(FEWEST, -(-total // MOST)), total)
        ends = [total * number // count for number in range(count + 1)]
        return [range(start, end) for start, end in pairwise(ends)]

    def total(self) -> int:
        """Number of pictures."""
        return sum(len(index.ids) for index in self.indices.values())

    def header(self) -> dict[str, Any]:
        """What must be equal for two exports to have the same bytes."""
        altered = {} if self.suite is None else {"suite": self.suite.about(), **self.suite.said(self.condition)}
        splits = {split: fewshot.digest(index.ids) for split, index in self.indices.items()}
        said = {split: self.shown(split)[0].said(split) for split in self.indices}
        names = {what: shipped.digest(getattr(self.task, what)) for what in ("classes", "templates")}
        own = {"names": names} if "source" in (self.task.classes_from, self.task.templates_from) else {}
        return {
            "task": [self.task.name, self.task.version, self.task.card_digest],
            "condition": [str(self.condition), self.condition.seed],
            "corruption": altered,
            "splits": splits,
            "pictures": said,
            "shards": {split: len(self.blocks(split)) for split in self.indices},
            "jpeg": self.jpeg,
            "versions": {name: version for name, version in provenance.versions().items() if name in ("numpy", "pillow")},
            "licence": self.task.licence,
            **own,
        }

    def beside(self) -> dict[str, str]:
        """Name and text of every file beside the shards."""
        lines = {
            "classnames.txt": self.task.classes,
            "zeroshot_classification_templates.txt": self.task.templates,
            "dataset_type.txt": ("classification",),
        }
        counts = {f"{split}/nshards.txt": (str(len(self.blocks(split))),) for split in self.indices}
        return {name: "".join(f"{line}\n" for line in texts) for name, texts in {**lines, **counts}.items()}


def keys(ids: Sequence[str]) -> list[str]:
    """Sample ids as the names of a webdataset's samples: no dots, nothing that leads elsewhere, none twice.

    >>> keys(["digit-0007", "cats/a.b.jpg", "cats/a_b.jpg", "../x"])
    ['digit-0007', 'cats/a_b_jpg-0000001', 'cats/a_b_jpg-0000002', '__/x']
    """
    plain = [re.sub(r"[^A-Za-z0-9_/-]", "_", name).strip("/") or "_" for name in ids]
    often = Counter(plain)
    return [name if often[name] == 1 else f"{name}-{number:07d}" for number, name in enumerate(plain)]


def written(asked: Export, workers: int, advance: Callable[[int], object] = lambda units: None) -> Written:
    """Write what is asked for: ``out`` appears when all of it is there. The same call again goes on where it was.

    ``advance`` is called with the number of pictures just done. Raises BadOption where ``out`` holds something else.
    """
    header = asked.header()
    total = sum(len(asked.blocks(split)) for split in asked.indices)
    if asked.out.is_dir() and any(asked.out.iterdir()):
        if Manifest(asked.out, header).finished():
            advance(asked.total())
            return Written(0, total)
        raise BadOption(f"{asked.out} holds something else, or has been changed: give a folder that is empty or not there.")
    if asked.out.exists() and not asked.out.is_dir():
        raise BadOption(f"{asked.out} is a file: give a folder that is empty or not there.")
    part = asked.out.absolute().parent / f".{asked.out.name}.part"
    made = 0
    with Manifest(part, header) as manifest, ThreadPoolExecutor(workers) as pool:
        for split in asked.indices:
            for number, block in enumerate(asked.blocks(split)):
                made += _shard(asked, split, number, block, manifest, pool)
                advance(len(block))
        for name, text in asked.beside().items():
            with whole(part / name) as file:
                file.write(text.encode())
            digest = sha256(text.encode())
            manifest.add({"status": "done", "path": name, "from": "card", "from_sha256": digest, "sha256": digest})
        manifest.finish()
    try:
        if asked.out.is_dir():
            asked.out.rmdir()
        part.rename(asked.out)
    except OSError as error:
        raise BadData(f"{part} is complete and cannot be called {asked.out}: {error.strerror}.") from None
    return Written(made, total - made)


def _shard(asked: Export, split: str, number: int, block: range, manifest: Manifest, pool: ThreadPoolExecutor) -> bool:
    """Write one shard unless it is there; whether it was written."""
    index, path = asked.indices[split], f"{split}/{number}.tar"
    ids, labels = index.ids[block.start : block.stop], index.labels[block.start : block.stop]
    names = keys(index.ids)[block.start : block.stop]
    origin = sha256(repr((ids, labels)).encode())
    if manifest.holds(path, origin):
        return False
    source, alter = asked.shown(split)
    ending = "png" if asked.jpeg is None else "jpg"

    def encoded(pair: tuple[str, Picture]) -> bytes:
        return pictures.encoded(pair[1] if alter is None else alter(*pair), asked.jpeg)

    with whole(manifest.folder / path) as file:
        with tarfile.open(fileobj=file, mode="w") as tar:
            samples = zip(names, labels, zip(ids, source.pictures(split, ids), strict=True), strict=True)
            while some := list(islice(samples, BATCH)):
                for (name, label, _), data in zip(some, pool.map(encoded, [pair for *_, pair in some]), strict=True):
                    put(tar, f"{name}.{ending}", data)
                    put(tar, f"{name}.cls", str(label).encode())
        file.seek(0)
        digest = hashlib.sha256()
        while part := file.read(1 << 20):
            digest.update(part)
    manifest.add({"status": "done", "path": path, "from": split, "from_sha256": origin, "sha256": digest.hexdigest()})
    return True
