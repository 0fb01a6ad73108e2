"""The folder of what can be made again, and how a file is written there: whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from ensemble_bench.errors import BadStore, BadWeights

VARIABLE = "ENSEMBLE_BENCH_CACHE"
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}

JSON = str | int | float | bool | None | list["JSON"] | dict[str, "JSON"]


def root() -> Path:
    """``$ENSEMBLE_BENCH_CACHE``, else ``ensemble_bench`` in ``$XDG_CACHE_HOME`` (default ``~/.cache``)."""
    if own := os.environ.get(VARIABLE):
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "ensemble_bench"


def canonical(value: Mapping[str, JSON]) -> str:
    """The one JSON text of a value: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def sha256(value: Mapping[str, JSON]) -> str:
    """Sha256 of the canonical JSON of a value."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def trouble(path: Path, error: OSError) -> BadStore:
    """What to tell a user whose cache cannot be read or written."""
    if error.errno in _FULL:
        return BadStore(
            f"{path} cannot be written: no space left on the disk. Free some, or set {VARIABLE} to a folder on another disk; "
            "what was stored before is kept."
        )
    reason = error.strerror or str(error)
    return BadStore(f"{path} cannot be used: {reason}. Mend the folder, or set {VARIABLE} to one that you may write to.")


def write(path: Path, data: bytes) -> None:
    """Put ``data`` at ``path`` at once: no reader ever sees half of it, and a failure leaves what was there before.

    Raises BadStore where it cannot be written.
    """
    part = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, part = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:16]}.", suffix=".part")
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(part).replace(path)
        part = None
        settle(path.parent)
    except OSError as error:
        raise trouble(path, error) from error
    finally:
        if part is not None:
            with contextlib.suppress(OSError):
                Path(part).unlink()


def settle(folder: Path) -> None:
    """Ask the system to keep the names in ``folder`` even if the power goes; where a system cannot, nothing happens."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def digest(path: Path) -> str:
    """Sha256 of a file; remembered by path, size and time of change, so that a large checkpoint is not read in every run.

    Raises BadWeights where the file cannot be read.
    """
    try:
        path = path.resolve(strict=True)
        facts = path.stat()
        asked: dict[str, JSON] = {"path": str(path), "size": facts.st_size, "changed": facts.st_mtime_ns}
        memo = root() / "digests" / f"{sha256({'path': str(path)})}.json"
        with contextlib.suppress(OSError, ValueError, KeyError, AttributeError, TypeError):
            known = json.loads(memo.read_text(encoding="utf-8"))
            found = str(known.pop("sha256"))
            if known == asked:
                return found
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BadWeights(f"{path} cannot be read: {error.strerror or error}.") from error
    with contextlib.suppress(BadStore):  # it only saves time
        write(memo, canonical({**asked, "sha256": found}).encode())
    return found
