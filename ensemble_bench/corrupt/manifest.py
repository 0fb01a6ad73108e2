"""The list of what a corrupted copy holds: strict JSON lines with a digest per file, kept so that a killed run can go on."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from ensemble_bench import cache
from ensemble_bench.errors import BadData, BadOption

SCHEMA = 1
NAME = "manifest.jsonl"
JOURNAL = ".manifest.part.jsonl"
_PART = ".eb-part-"

Entry = dict[str, Any]


def sha256(data: bytes) -> str:
    """Sha256 in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def trouble(path: Path, error: OSError) -> BadData:
    """What to say where a file of the copy cannot be written."""
    return BadData(
        f"{path} cannot be written: {error.strerror or error}. What is finished is kept; the same command goes on from there."
    )


@contextlib.contextmanager
def whole(path: Path) -> Iterator[IO[bytes]]:
    """A file to write that takes its name only when it is complete; nothing is left of it otherwise."""
    part = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, part = tempfile.mkstemp(dir=path.parent, prefix=_PART)
        with os.fdopen(handle, "w+b") as file:
            yield file
        Path(part).chmod(0o644)
        Path(part).replace(path)
        part = None
    except OSError as error:
        raise trouble(path, error) from error
    finally:
        if part is not None:
            with contextlib.suppress(OSError):
                Path(part).unlink()


class Manifest:
    """What a folder holds, by path below it. ``with Manifest(...)`` locks the folder for one process.

    While a copy is being made there is only a journal, to which ``add`` appends; ``finish`` writes the manifest, sorted, and
    removes the journal. ``header`` says how the copy is made; a folder with another header is refused (BadOption).
    """

    def __init__(self, folder: Path, header: Mapping[str, Any]) -> None:
        self.folder, self.header = folder, {"schema": SCHEMA, **header}
        self.entries: dict[str, Entry] = {}
        self.failed: dict[tuple[str, str], Entry] = {}

    @property
    def journal(self) -> Path:
        """Where the lines go before the copy is complete."""
        return self.folder / JOURNAL

    def __enter__(self) -> Manifest:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._file = self.journal.open("a+b")
        except OSError as error:
            raise trouble(self.journal, error) from error
        try:
            self._lock()
            for path in (self.folder / NAME, self.journal):
                self._read(path)
            if not self.journal.stat().st_size:
                self._line(self.header)
        except BaseException:
            self._file.close()
            raise
        for folder, _, names in os.walk(self.folder):  # what a killed process left half-written
            for name in names:
                if name.startswith(_PART):
                    Path(folder, name).unlink(missing_ok=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def _lock(self) -> None:
        try:
            import fcntl
        except ImportError:
            return
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise BadOption(f"another process is writing into {self.folder}: wait for it, or give another folder.") from None

    def _read(self, path: Path) -> None:
        """Take over the lines of a manifest or journal; a half-written last line does not count and is cut off."""
        data = path.read_bytes() if path.exists() else b""
        end = data.rfind(b"\n") + 1
        if path == self.journal and end < len(data):
            self._file.truncate(end)
        for number, line in enumerate(data[:end].splitlines(), 1):
            try:
                found = json.loads(line)
            except ValueError:
                found = None
            if not isinstance(found, dict) or (number > 1 and "status" not in found):
                raise BadOption(f"{path}, line {number}, is no line of a manifest: give another folder, or remove that file.")
            if number == 1:
                self._same(found, path)
            elif found.get("status") == "done":
                self.entries[found["path"]] = found

    def _same(self, found: Mapping[str, Any], path: Path) -> None:
        for key in (*self.header, *found):
            if found.get(key) != self.header.get(key):
                raise BadOption(
                    f"{path} is of another copy: its {key} is {found.get(key)!r}, this one's {self.header.get(key)!r}. "
                    "Give another folder."
                )

    def _line(self, value: Mapping[str, Any]) -> None:
        try:
            self._file.write(cache.canonical(value).encode() + b"\n")
            self._file.flush()
        except OSError as error:
            raise trouble(self.journal, error) from error

    def holds(self, path: str, source: str) -> bool:
        """Whether that file is there, whole, and made from a source with that digest."""
        entry = self.entries.get(path)
        if entry is None or entry["from_sha256"] != source:
            return False
        try:
            return sha256((self.folder / path).read_bytes()) == str(entry["sha256"])
        except OSError:
            return False

    def finished(self) -> bool:
        """Whether this very copy is complete in the folder: listed, and every listed file there and whole.

        Raises BadOption for the list of another copy. Needs no lock and leaves nothing behind.
        """
        if self.journal.exists() or not (self.folder / NAME).is_file():
            return False
        self._read(self.folder / NAME)
        return all(self.holds(path, entry["from_sha256"]) for path, entry in self.entries.items())

    def add(self, entry: Entry) -> None:
        """Keep one entry: a file that is done, or a source that failed with its reason."""
        if entry["status"] == "done":
            self.entries[entry["path"]] = entry
            self._line(entry)
        else:
            self.failed[entry["from"], entry.get("condition", "")] = entry

    def finish(self) -> None:
        """Write the manifest: the header, the files by path, then what failed."""
        rows = [self.header, *(self.entries[path] for path in sorted(self.entries))]
        rows += [self.failed[place] for place in sorted(self.failed)]
        with whole(self.folder / NAME) as file:
            file.write(b"".join(cache.canonical(row).encode() + b"\n" for row in rows))
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(OSError):
            self.journal.unlink()
