"""A corrupted copy of a folder of pictures or of a webdataset: every file whole or absent, and a list of what is there."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from ensemble_bench import pictures, provenance
from ensemble_bench.condition import Condition
from ensemble_bench.corrupt import shards
from ensemble_bench.corrupt.manifest import Entry, Manifest, sha256, whole
from ensemble_bench.corrupt.suite import Suite
from ensemble_bench.errors import BadData, BadOption, BenchError
from ensemble_bench.pictures import Alter

_LIBRARIES = (
    *("numpy", "scipy", "scikit-image", "pillow", "libjpeg-turbo", "opencv-python", "opencv-python-headless"),
    *("numba", "imagecorruptions"),
)
_AHEAD = 4  # jobs a worker that wait to be done
_OPEN = 400  # files that are written at once at most


@dataclass
class Done:
    """What came of it: files made, files that were there, sentences about what failed, files left out."""

    made: int = 0
    kept: int = 0
    failures: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Copy:
    """What is to be made: ``OUT/CORRUPTION/SEVERITY/PATH`` for every file below ``source``, as PNG or as JPEG of a quality."""

    source: Path
    out: Path
    suite: Suite
    conditions: tuple[Condition, ...]
    jpeg: int | None = None

    def __post_init__(self) -> None:
        if not self.source.exists():
            raise BadOption(f"{self.source} is not there: give a folder of pictures, or of shards that end in .tar.")
        inside, outside = self.out.resolve(), self.source.resolve()
        if inside == outside or inside.is_relative_to(outside):
            raise BadOption(f"{self.out} lies in {self.source}: a copy into its own source would corrupt itself.")
        if self.suite.on_disk:
            raise BadOption(f"the suite {self.suite.name} reads pictures that lie on disk; it cannot corrupt others.")
        if self.jpeg is not None and self.suite.jpeg not in (None, self.jpeg):
            raise BadOption(f"--jpeg {self.jpeg}: the suite {self.suite.name} asks for quality {self.suite.jpeg}.")

    @property
    def ending(self) -> str:
        """Of the pictures that are written."""
        return ".png" if self.jpeg is None else ".jpg"

    def total(self) -> int:
        """Number of source files."""
        return len(_found(self)[1])

    def header(self, kind: str) -> dict[str, Any]:
        """What must be equal for two copies to have the same bytes."""
        versions = {name: version for name, version in provenance.versions().items() if name in _LIBRARIES and version}
        about = {"seed": self.conditions[0].seed, "jpeg": self.jpeg, "layout": kind, "versions": versions}
        return {"suite": self.suite.name, **{k: v for k, v in self.suite.about().items() if k != "name"}, **about}

    def altered(self, condition: Condition) -> Alter:
        """The function that corrupts; files saved as JPEG have had the round trip of the card by that."""
        return self.suite.alter(condition, jpeg=self.jpeg is None)

    def path(self, condition: Condition, name: str) -> str:
        """Where a file goes, below ``out``."""
        return f"{condition.corruption}/{condition.severity}/{name}"


Job = Callable[[Manifest], list[Entry]]


def _named(names: Sequence[str], ending: str) -> dict[str, str]:
    """What each picture is called in the copy: its ending replaced, or added where two would get the same name."""
    taken = Counter(str(PurePosixPath(name).with_suffix(ending)) for name in names)
    made = {name: str(PurePosixPath(name).with_suffix(ending)) for name in names}
    return {name: new if taken[new] == 1 else name + ending for name, new in made.items()}


def _picture(copy: Copy, alters: Sequence[tuple[Condition, Alter]], name: str, new: str, manifest: Manifest) -> list[Entry]:
    """Entries of one picture in every condition: those that had to be made, or could not be."""
    try:
        data = (copy.source / name).read_bytes()
    except OSError as error:
        return [{"status": "failed", "from": name, "reason": f"cannot be read: {error.strerror}"}]
    digest = sha256(data)
    missing = [(c, alter) for c, alter in alters if not manifest.holds(copy.path(c, new), digest)]
    if not missing:
        return []
    try:
        picture = pictures.decoded(data, name)
    except BadData as error:
        return [{"status": "failed", "from": name, "reason": str(error).removeprefix(f"{name} ")}]
    entries: list[Entry] = []
    for condition, alter in missing:
        entry = {"from": name, "from_sha256": digest, "condition": str(condition)}
        try:
            made = pictures.encoded(alter(name, picture), copy.jpeg)
        except BenchError as error:
            entries.append({"status": "failed", **entry, "reason": str(error)})
            continue
        path = copy.path(condition, new)
        with whole(copy.out / path) as file:
            file.write(made)
        entries.append({"status": "done", "path": path, **entry, "sha256": sha256(made)})
    return entries


def _jobs(copy: Copy, kind: str, names: Sequence[str], alters: Sequence[tuple[Condition, Alter]]) -> Iterator[Job]:
    if kind == "folder":
        for name, new in _named(names, copy.ending).items():
            yield partial(_picture, copy, alters, name, new)
        return
    root = copy.source if copy.source.is_dir() else copy.source.parent
    to = {str(condition): partial(copy.path, condition) for condition, _ in alters}
    saved = partial(pictures.encoded, jpeg=copy.jpeg)
    for name in names:
        if name.endswith(".tar"):
            yield partial(shards.shard, root, copy.out, name, alters, to, saved, copy.ending)
        else:
            yield partial(shards.beside, root, copy.out, name, to)


def _found(copy: Copy) -> tuple[str, list[str], list[str]]:
    """Layout, names of files to do, names of files to leave out."""
    if copy.source.is_file():
        if copy.source.suffix != ".tar":
            raise BadOption(f"{copy.source} is neither a folder nor a shard that ends in .tar.")
        return "webdataset", [copy.source.name], []
    names = [path.relative_to(copy.source).as_posix() for path in pictures.files(copy.source)]
    shown = [name for name in names if PurePosixPath(name).suffix.lower() in pictures.ENDINGS]
    tars = [name for name in names if name.endswith(".tar")]
    if shown and tars:
        raise BadOption(f"{copy.source} holds both pictures ({shown[0]}) and shards ({tars[0]}): give a folder of one kind.")
    if tars:
        return "webdataset", names, []
    if not shown:
        raise BadOption(f"{copy.source} holds neither pictures nor shards that end in .tar.")
    return "folder", shown, [name for name in names if name not in set(shown)]


def made(copy: Copy, workers: int, advance: Callable[[int], object] = lambda units: None) -> Done:
    """Make what is missing of a copy and list it. The same bytes with any number of ``workers``, in one go or in several.

    ``advance`` is called with the number of source files just done. What fails is in the manifest with its reason.
    """
    kind, names, left_out = _found(copy)
    done = Done(left_out=left_out)
    alters = [(condition, copy.altered(condition)) for condition in copy.conditions]
    if kind == "webdataset":
        workers = min(workers, max(1, _OPEN // len(alters)))
    with Manifest(copy.out, copy.header(kind)) as manifest, ThreadPoolExecutor(workers) as pool:
        waiting: deque[Future[list[Entry]]] = deque()

        def take() -> None:
            entries = waiting.popleft().result()
            for entry in entries:
                manifest.add(entry)
            done.made += sum(entry["status"] == "done" for entry in entries)
            done.kept += len(alters) - len(entries) if all("condition" in entry for entry in entries) else 0
            advance(1)

        try:
            for job in _jobs(copy, kind, names, alters):
                waiting.append(pool.submit(job, manifest))
                if len(waiting) > workers * _AHEAD:
                    take()
            while waiting:
                take()
        finally:
            for future in waiting:
                future.cancel()
        manifest.finish()
        done.failures = [_sentence(entry) for _, entry in sorted(manifest.failed.items())]
        for path, entry in sorted(manifest.entries.items()):
            done.failures += [f"{path}: without {name}: {reason}" for name, reason in entry.get("left_out", ())]
    return done


def _sentence(entry: Entry) -> str:
    name, reason = entry["from"], str(entry["reason"])
    return reason if reason.startswith(name) else f"{name} {reason}"
