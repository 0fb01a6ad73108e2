"""A webdataset on a server, and its copy in the cache: the same layout, with a list of lengths and digests of what came."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Lock
from typing import Any
from urllib.parse import urlsplit

from ensemble_bench import cache
from ensemble_bench.errors import BadCard, BadData, BadStore, Missing
from ensemble_bench.progress import Progress
from ensemble_bench.sources import hub, shards
from ensemble_bench.sources.base import Fetched

CLASSES, TEMPLATES, TYPE, COUNT = "classnames.txt", "zeroshot_classification_templates.txt", "dataset_type.txt", "nshards.txt"
MANIFEST = "manifest.json"
WORKERS = 4  # downloads at once, never more than there are shards
_TREE = re.compile(r"(https?://[^/]+/datasets/[^/]+/[^/]+)/(?:tree|raw|resolve)/([^/]+)")


def is_url(text: str) -> bool:
    """Whether a root is on a server."""
    return "://" in text


def hub_root(repository: str, revision: str = "main") -> str:
    """Where the files of a data set repository of the hub are."""
    return f"{hub.endpoint()}/datasets/{repository}/resolve/{revision}"


@dataclass(frozen=True)
class Remote:
    """A webdataset below ``root`` (http or https), and ``folder``, where its copy lies. ``name`` is whose it is."""

    root: str
    folder: Path
    name: str
    again: str
    """The command that fetches it."""

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.root)
            good = parts.scheme in ("http", "https") and bool(parts.hostname)
        except ValueError:
            good = False
        if not good:
            raise BadCard(f"{self.name}: {self.root!r} is no address of a data set: it must begin with https:// or http://.")

    # What is here -----------------------------------------------------------------------------------------------------

    def listed(self) -> dict[str, dict[str, Any]]:
        """Length, sha256 and origin of every file that came, by its path below the folder."""
        try:
            found = json.loads((self.folder / MANIFEST).read_text(encoding="utf-8"))["files"]
            return {str(name): {"size": int(entry["size"]), **entry} for name, entry in found.items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise BadStore(f"{self.folder / MANIFEST} is damaged ({error}): remove {self.folder} and fetch again.") from None

    def has(self, name: str, listed: dict[str, dict[str, Any]]) -> bool:
        """Whether a file is here and as long as it was when it came."""
        path = self.folder / name
        return name in listed and path.is_file() and path.stat().st_size == listed[name]["size"]

    def file(self, name: str, listed: dict[str, dict[str, Any]] | None = None) -> Path:
        """A file that came, verified by length and sha256. Raises Missing where it did not, BadStore where it has changed."""
        listed = self.listed() if listed is None else listed
        path = self.folder / name
        if name not in listed or not path.is_file():
            raise Missing(f"{self.name}{f': {name}' if listed else ''} is not fetched: run '{self.again}' first.")
        if path.stat().st_size != listed[name]["size"] or cache.digest(path) != listed[name]["sha256"]:
            raise BadStore(f"{path} is not what was fetched from {self.root}: remove it and run '{self.again}'.")
        return path

    def text(self, name: str) -> bytes | None:
        """A small file that came; None where the server had none."""
        listed = self.listed()
        if name in listed and listed[name]["sha256"] is None:
            return None
        return self.file(name, listed).read_bytes()

    def count(self, split: str) -> int:
        """How many shards a split has."""
        name = f"{split}/{COUNT}"
        data = self.text(name)
        if data is None:
            raise BadData(f"{self.name}: there is no {split} split: {self.root}/{name} is not there.")
        return shards.number(data, f"{self.root}/{name}")

    def shards(self, split: str, numbers: Sequence[int] | None = None, flag: str = "") -> list[Path]:
        """The shards of a split, or those of these numbers; Missing, whose command has ``flag``, where some did not come."""
        wanted = range(self.count(split)) if numbers is None else numbers
        listed = self.listed()
        absent = [number for number in wanted if not self.has(f"{split}/{number}.tar", listed)]
        if absent:
            raise Missing(
                f"{self.name}: {len(absent)} of {len(wanted)} shards of its {split} split are not fetched: "
                f"run '{self.again}{flag}' first."
            )
        return [self.file(f"{split}/{number}.tar", listed) for number in wanted]

    # What is fetched --------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from fetching the same meanwhile: they wait."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            file = (self.folder / ".lock").open("w")
        except OSError as error:
            raise cache.trouble(self.folder, error) from error
        with file:
            try:
                import fcntl
            except ImportError:
                yield
                return
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _note(self, name: str, size: int, sha256: str | None, revision: str | None) -> None:
        files = self.listed()
        files[name] = {"size": size, "sha256": sha256, "from": f"{self._root()}/{name}"} | (
            {"revision": revision} if revision else {}
        )
        said = {"root": self.root, "files": dict(sorted(files.items()))}
        cache.write(self.folder / MANIFEST, (json.dumps(said, indent=1, ensure_ascii=False) + "\n").encode())

    def _root(self) -> str:
        """Where files are fetched from: the form of address that gives the bytes, at the revision of what came before."""
        root = self.root
        tree = _TREE.fullmatch(root)
        if tree is None:
            return root
        revisions = {entry["revision"] for entry in self.listed().values() if entry.get("revision")}
        return f"{tree.group(1)}/resolve/{revisions.pop() if len(revisions) == 1 else tree.group(2)}"

    def fetch_texts(self, done: Fetched) -> None:
        """Fetch class names, templates and type, where they have not come yet."""
        for name in (CLASSES, TEMPLATES, TYPE):
            self._fetch_text(name, done, needed=False)

    def fetch_count(self, split: str, done: Fetched, *, needed: bool) -> None:
        """Fetch the number of shards of a split; BadData where there is none and it is ``needed``, or one shard more."""
        self._fetch_text(f"{split}/{COUNT}", done, needed=needed)

    def _check_count(self, split: str, data: bytes) -> None:
        count = shards.number(data, f"{self.root}/{split}/{COUNT}")
        if hub.size(f"{self._root()}/{split}/{count}.tar") is not None:
            raise BadData(
                f"{self.root}/{split}/{COUNT} says {count} shards, and there is a {count}.tar too (they count from 0): the "
                "data set is not whole, or was packed anew; ask whoever keeps it."
            )

    def _fetch_text(self, name: str, done: Fetched, *, needed: bool) -> None:
        listed = self.listed()
        if name in listed and (self.has(name, listed) or not (needed or listed[name]["sha256"])):
            done.kept += 1
            return
        data = hub.small(f"{self._root()}/{name}")
        if data is None and needed:
            raise BadData(f"{self.name}: {self.root}/{name} is not there: no such split, or no webdataset.")
        if data is None:  # noted, so that it need not be asked for again
            self._note(name, 0, None, None)
            return
        if name.endswith(COUNT):
            self._check_count(name.removesuffix(f"/{COUNT}"), data)
        cache.write(self.folder / name, data)
        self._note(name, len(data), hashlib.sha256(data).hexdigest(), None)
        done.files, done.bytes = done.files + 1, done.bytes + len(data)

    def fetch_shards(self, split: str, numbers: Sequence[int], done: Fetched, progress: Progress) -> None:
        """Fetch these shards of a split, several at once, each checked to be a whole archive."""
        listed = self.listed()
        absent = [number for number in numbers if not self.has(f"{split}/{number}.tar", listed)]
        done.kept += len(numbers) - len(absent)
        if not absent:
            return
        root, stop, noting = self._root(), Event(), Lock()

        def one(number: int, advance: Callable[[int], object]) -> None:
            name = f"{split}/{number}.tar"

            def further(size: int) -> None:
                if stop.is_set():
                    raise _Stopped
                advance(size)

            try:
                got = hub.whole(f"{root}/{name}", self.folder / name, further, shards.scan)
            except hub.Absent as error:
                raise BadData(f"{root}/{split}/{COUNT} says {self.count(split)} shards, and {error}") from None
            with noting:
                self._note(name, got.size, got.sha256, got.revision)
                done.files, done.bytes = done.files + 1, done.bytes + got.size

        with ThreadPoolExecutor(min(WORKERS, len(absent))) as pool:
            total = sum(size or 0 for size in pool.map(lambda number: hub.size(f"{root}/{split}/{number}.tar"), absent))
            progress.say(f"{self.name}: fetching {len(absent)} shards of the {split} split, {total / 1e6:,.0f} MB, from {root}")
            with progress.step(f"{self.name}: {split}, bytes", total) as advance:
                waiting = [pool.submit(one, number, advance) for number in absent]
                try:
                    for future in waiting:
                        future.result()
                finally:
                    stop.set()
                    for future in waiting:
                        future.cancel()


class _Stopped(Exception):
    """Another download failed, or the user has had enough."""
