"""Digests of the bytes that pictures lie in, so that changed files never get old numbers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from ensemble_bench import cache
from ensemble_bench.errors import BadData, BadStore


class Part(NamedTuple):
    """Some bytes of a file; all from ``start`` on where ``length`` is None."""

    path: Path
    start: int = 0
    length: int | None = None


def read(part: Part) -> bytes:
    """The bytes themselves. Raises BadData where the file cannot be read or has become shorter."""
    try:
        with part.path.open("rb") as file:
            file.seek(part.start)
            data = file.read() if part.length is None else file.read(part.length)
    except OSError as error:
        raise BadData(f"{part.path} cannot be read: {error.strerror or error}.") from None
    if part.length is not None and len(data) < part.length:
        raise BadData(f"{part.path} has become shorter while it was in use: run again.")
    return data


def lines(path: Path) -> tuple[str, ...]:
    """The lines of a text file, blanks cut off, without empty ones at the end; none where there is no such file."""
    return split(read(Part(path))) if path.is_file() else ()


def split(data: bytes | None) -> tuple[str, ...]:
    """The same of the bytes of a file, or of None."""
    found = [line.strip() for line in (data or b"").decode("utf-8-sig", "replace").splitlines()]
    while found and not found[-1]:
        found.pop()
    return tuple(found)


def facts(path: Path) -> tuple[int, int]:
    """Size and time of change, by which a file is known to be the same. Raises BadData where there is no such file."""
    try:
        stat = path.stat()
    except OSError as error:
        raise BadData(f"{path} cannot be read: {error.strerror or error}.") from None
    return stat.st_size, stat.st_mtime_ns


def digest(parts: Mapping[str, Part]) -> str:
    """Sha256 over names and bytes; remembered as long as the files' sizes and times of change stay the same."""
    known = {path: facts(path) for path in {part.path for part in parts.values()}}
    asked = hashlib.sha256()
    for name, part in parts.items():
        asked.update(json.dumps([name, str(part.path), *known[part.path], part.start, part.length]).encode())
    memo = cache.root() / "digests" / f"files-{asked.hexdigest()}.json"
    with suppress(OSError, ValueError, KeyError, TypeError):
        return str(json.loads(memo.read_text(encoding="utf-8"))["sha256"])
    found = hashlib.sha256()
    for name, part in parts.items():
        found.update(f"{name}\0{hashlib.sha256(read(part)).hexdigest()}\n".encode())
    with suppress(BadStore):  # it only saves time
        cache.write(memo, cache.canonical({"sha256": found.hexdigest()}).encode())
    return found.hexdigest()
