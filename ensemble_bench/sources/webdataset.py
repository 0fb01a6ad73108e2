"""Webdatasets in CLIP_benchmark's layout, in a folder or on a server: tar shards with a picture and a class number a sample."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from ensemble_bench import cache, fewshot, health
from ensemble_bench.condition import Condition
from ensemble_bench.errors import BadCard, BadData
from ensemble_bench.health import some
from ensemble_bench.pictures import decoded
from ensemble_bench.progress import Progress
from ensemble_bench.sources import contents, folder, remote, shards
from ensemble_bench.sources.base import Candidates, Fetched, Index, Names, Picture, Source, Wanted, findings
from ensemble_bench.sources.contents import Part
from ensemble_bench.sources.remote import Remote
from ensemble_bench.sources.shards import Shard
from ensemble_bench.task import Task

PER_SHOT = 4  # candidates of a class for each example that is drawn from a large split
MIRROR = "ENSEMBLE_BENCH_MIRROR"

Located = dict[str, tuple[Shard, int]]
"""Sample ids, and where each is: its shard, its place there."""


class Webdataset(Source):
    """``root`` holds ``test/*.tar`` (and ``train/*.tar``), each sample a picture and its class number (``.cls``).

    ``root`` is a folder or an address (https://...); or ``repository`` names a data set of the hub (``clip-benchmark/wds_...``,
    at ``revision``, else main). What is on a server is fetched into the cache. Other names of the splits: ``train = "..."``.
    ``corrupted`` is a folder with the same shards under CORRUPTION/SEVERITY/, as ``ensemble-bench corrupt`` writes it.

    The id of a test sample is its key; of a train sample ``train/`` and its key, because packers count from 0 in each split.
    Members other than pictures and class numbers are not read; a shard with pickles or names that lead out is refused.
    """

    KEYS = ("root", "repository", "revision", "train", "test", "corrupted")

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.known(*self.KEYS)
        if ("root" in task.options) == ("repository" in task.options):
            raise BadCard(f"the card of {task.name}: 'source' must hold one of 'root' and 'repository'.")
        self._located: dict[str, Located] = {}
        self._candidates: Located = {}
        self._contents: dict[tuple[str, tuple[str, ...] | None], str] = {}

    # Where it is ------------------------------------------------------------------------------------------------------

    @cached_property
    def remote(self) -> Remote | None:
        """The server that the data set is on, or None where it is in a folder."""
        asked = self.task.name if self.task.card_digest else f"wds:{self.task.options.get('root')}"
        again = f"ensemble-bench fetch -t {shlex.quote(asked)}"
        if "repository" in self.task.options:
            repository = str(self.option("repository", str, "OWNER/NAME of a data set of the hub"))
            revision = str(self.task.options.get("revision", "main"))
            if not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", repository):
                raise BadCard(f"the card of {self.task.name}: 'source.repository' must be OWNER/NAME, not {repository!r}.")
            slug = repository.replace("/", "--") + (f"@{revision}" if revision != "main" else "")
            mirror = os.environ.get(MIRROR, "").rstrip("/")
            root = f"{mirror}/{repository.partition('/')[2]}" if mirror else remote.hub_root(repository, revision)
        else:
            root = str(self.option("root", str, "a folder or an address"))
            if not remote.is_url(root):
                return None
            root = root.rstrip("/")
            slug = re.sub(r"[^A-Za-z0-9.]+", "-", root.partition("://")[2]).strip("-")[-60:]
            slug = f"{slug}-{hashlib.sha256(root.encode()).hexdigest()[:8]}"
        return Remote(root, cache.root() / "datasets" / re.sub(r"[^\w.@-]", "-", slug), self.task.name, again)

    def called(self, split: str) -> str:
        """The folder of a split below the root."""
        return str(self.task.options[split]) if split in self.task.options else self._found.get(split, split)

    @cached_property
    def _found(self) -> dict[str, str]:
        """Where no card says it: the folder of each split that there is; where there is only one, it is the test split."""
        if self.task.card_digest:
            return {}
        if self.remote is not None:
            there = [split for split in ("test", "train") if self.remote.text(f"{split}/{remote.COUNT}")]
            return {split: split for split in there}
        root = self.place("root")
        if list(root.glob("*.tar")):
            return {"test": "."}
        found: dict[str, str] = {}
        for split, names in folder.SPLITS.items():
            for name in names:
                if split not in found and list((root / name).glob("*.tar")):
                    found[split] = name
        return found if "test" in found or not found else {"test": found["train"]}

    def splits(self) -> tuple[str, ...]:
        return self.task.splits or tuple(self._found)

    def shards(self, split: str) -> list[Path]:
        """The shards of a split, all of them."""
        if self.remote is not None:
            return self.remote.shards(self.called(split), flag=" --whole" if split == "train" else "")
        path = self.place("root") / self.called(split)
        found = shards.found(path) if path.is_dir() else []
        if not found:
            raise BadData(f"{self.task.name}: there is no {split} split: no shards {path}/*.tar.")
        return found

    # What it holds ----------------------------------------------------------------------------------------------------

    def _text(self, name: str) -> bytes | None:
        if self.remote is not None:
            return self.remote.text(name)
        path = self.place("root") / name
        return contents.read(Part(path)) if path.is_file() else None

    def names(self) -> Names | None:
        kind = " ".join(contents.split(self._text(remote.TYPE))) or "classification"
        if kind.lower() != "classification":
            raise BadData(f"{self.task.name}: {remote.TYPE} says {kind[:40]!r}; only classification with one label can be run.")
        classes = self._text(remote.CLASSES)
        if classes is None:
            return None
        return Names(contents.split(classes), contents.split(self._text(remote.TEMPLATES)) or self.plain)

    def samples(self, split: str) -> Located:
        """Where each sample of a split is, by id: its shard and its place there."""
        if split not in self._located:
            self._located[split] = _by_id(split, [shards.read(path) for path in self.shards(split)])
        return self._located[split]

    def index(self, split: str) -> Index:
        found = self.samples(split)
        return Index(tuple(found), tuple(shard.labels[place] for shard, place in found.values()))

    def _where(self, split: str, ids: Sequence[str] | None) -> Located:
        """Where these samples are; of a split that is not fetched as a whole, those that were candidates are known."""
        known = self._candidates if split == "train" and ids is not None else {}
        found = known if ids and all(name in known for name in ids) else self.samples(split)
        return found if ids is None else {name: found[name] for name in ids}

    def pictures(self, split: str, ids: Sequence[str]) -> Iterator[Picture]:
        found = self._where(split, ids)
        for name in ids:
            part = _part(*found[name])
            yield decoded(contents.read(part), f"{part.path}: {name}")

    def said(self, split: str, ids: Sequence[str] | None = None) -> dict[str, Any]:
        """A digest over the pictures and their labels, so that changed ones never get old numbers."""
        asked = split, None if ids is None else tuple(ids)
        if asked not in self._contents:
            found = self._where(split, ids)
            parts = {f"{shard.labels[at]} {name}": _part(shard, at) for name, (shard, at) in found.items()}
            self._contents[asked] = contents.digest(parts)
        return {"files": self._contents[asked]}

    def under(self, condition: Condition) -> Source:
        if "corrupted" not in self.task.options:
            return super().under(condition)
        return _Corrupted(self, self.place("corrupted") / condition.corruption / str(condition.severity))

    # Large train splits on a server -----------------------------------------------------------------------------------

    def candidates(self, shots: int, seed: int, labels: Collection[int] | None = None) -> Candidates:
        """All of a train split in a folder; of one on a server only the shards that this many shots need.

        Shards are read in the order of a hash of (seed, number), until every class has PER_SHOT candidates for each shot; the
        shots are counted in steps of 1, 2, 4, 8, ..., and each step goes on where the one before stopped (``fewshot.draw``). So
        a draw depends on seed, draw, class and the shards of the data set, and never on what happens to be fetched.
        """
        if self.remote is None:
            return super().candidates(shots, seed, labels)
        server, split = self.remote, self.called("train")
        chosen = self._chosen(shots, seed, labels, lambda number: server.shards(split, [number])[0])
        by_id = _by_id("train", [shard for shard, _ in chosen.values()])
        self._candidates |= by_id
        steps = {shard.path: step for shard, step in chosen.values()}
        index = Index(tuple(by_id), tuple(shard.labels[place] for shard, place in by_id.values()))
        health.demand(self.task.name, findings(self.task, index, "train", whole=False))
        about = {
            "candidates": f"shards in the order of a hash of (seed, number), until every class has {PER_SHOT} for each shot",
            "shards": list(chosen),
            "of": server.count(split),
        }
        return Candidates(index, tuple(steps[shard.path] for shard, _ in by_id.values()), about)

    def _chosen(
        self, shots: int, seed: int, labels: Collection[int] | None, get: Callable[[int], Path]
    ) -> dict[int, tuple[Shard, int]]:
        """The shards that a support of this many shots is drawn from, by number, in order, each with its stage."""
        assert self.remote is not None
        classes = range(self.task.class_count or len((self.names() or Names((), ())).classes)) if labels is None else labels
        order = iter(fewshot.ordered(self.remote.count(self.called("train")), seed))
        there: Counter[int] = Counter()
        chosen: dict[int, tuple[Shard, int]] = {}
        for step in range(fewshot.stage(shots) + 1):
            while any(there[label] < PER_SHOT << step for label in classes):
                number = next(order, None)
                if number is None:
                    return chosen
                shard = shards.read(get(number))
                chosen[number] = shard, step
                there.update(shard.labels)
        return chosen

    def fetch(self, wanted: Wanted, progress: Progress) -> Fetched:
        done = Fetched()
        if self.remote is None:
            return done
        server = self.remote
        done.where = str(server.folder)
        test, train = str(self.task.options.get("test", "test")), str(self.task.options.get("train", "train"))
        with server.locked():
            server.fetch_texts(done)
            server.fetch_count(test, done, needed=True)
            if "train" in self.task.splits or not self.task.splits:
                server.fetch_count(train, done, needed="train" in self.task.splits)
            if wanted.test:
                server.fetch_shards(test, range(server.count(test)), done, progress)
            if "train" not in self.splits():
                return done
            if wanted.whole:
                server.fetch_shards(train, range(server.count(train)), done, progress)
            elif wanted.shots:

                def get(number: int) -> Path:
                    server.fetch_shards(train, [number], done, progress)
                    return server.shards(train, [number])[0]

                self._chosen(wanted.shots, wanted.seed, wanted.labels, get)
        return done


def _by_id(split: str, found: Sequence[Shard]) -> Located:
    joined = shards.joined(found)
    return joined if split == "test" else {f"{split}/{key}": where for key, where in joined.items()}


def _part(shard: Shard, place: int) -> Part:
    return Part(shard.path, shard.starts[place], shard.lengths[place])


class _Corrupted(Webdataset):
    """The samples of another webdataset as they lie corrupted in one folder."""

    remote = None

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
        there = self.samples(split)
        missing = [name for name in ids if name not in there]
        return f"{self._place} lacks {len(missing)} of {len(ids)} pictures: {some(missing)}." if missing else None
