"""Members of tar archives, read by name: nothing is unpacked, nothing executed, no name leads out."""

from __future__ import annotations

import tarfile
import zlib
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from ensemble_bench.errors import BadData

BLOCK = 512
PICKLES = frozenset({"pkl", "pickle", "pyd", "pth", "pt", "dill", "joblib"})
"""Endings whose members other readers execute when they decode them."""

_FILE = frozenset(b"0\0" + b"7")
_ELSEWHERE = frozenset(b"123456")  # links, devices, folders, pipes: no bytes of their own
_EMPTY = bytes(BLOCK)


class Member(NamedTuple):
    """A file of an archive: its name, its first byte and its length; or why it is not read (``strange``)."""

    name: str
    start: int
    length: int
    strange: str | None = None


def key(name: str) -> str:
    """What the members of one sample have in common: the name up to the first dot of its last part, as webdataset has it.

    >>> key("train/0001.seg.png"), key("a.b/c")
    ('train/0001', 'a.b/c')
    """
    folder, slash, last = name.rpartition("/")
    return folder + slash + last.partition(".")[0]


def field(name: str) -> str:
    """What a member is of its sample: the rest of the name after the key and its dot, in small letters.

    >>> field("train/0001.SEG.png"), field("a.b/c")
    ('seg.png', '')
    """
    return name.rpartition("/")[2].partition(".")[2].lower()


def leads_out(name: str) -> bool:
    """Whether a member of this name would be written outside the folder that it is unpacked into."""
    return name.startswith("/") or "\\" in name or (".." in name and ".." in PurePosixPath(name).parts)


def strange(member: tarfile.TarInfo) -> str | None:
    """Why a member is not read, or None."""
    if leads_out(member.name):
        return "its name leads out of the archive"
    return None if member.isfile() else "it is neither a file nor a folder"


class _Unusual(Exception):
    """Something that the quick reader leaves to the thorough one."""


def members(path: Path) -> list[Member]:
    """The members of an archive in their order, folders left out; only headers are read.

    Raises BadData for what is no whole archive: damaged headers, a member that reaches beyond the end, no end mark.
    """
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(0)
            try:
                return _headers(path, file, size)
            except _Unusual:
                file.seek(0)
                return _thorough(path, file, size)
    except OSError as error:
        raise BadData(f"{path} cannot be read: {error.strerror or error}.") from None


def _headers(path: Path, file: IO[bytes], size: int) -> list[Member]:
    """The same for archives of files, folders and long names, an order of magnitude faster than ``tarfile``."""
    found: list[Member] = []
    place, long_name, long_size = 0, None, None
    while True:
        header = file.read(BLOCK)
        if header == _EMPTY:
            return found
        if len(header) < BLOCK:
            raise BadData(f"{path} is cut off: the mark at the end of every tar archive is missing. Fetch or make it again.")
        stored = header[148:156].strip(b" \0")
        try:
            right = _sums_to(header, int(stored or b"x", 8))
            length = _number(header[124:136])
        except ValueError:
            right, length = False, 0
        if not right:
            raise BadData(f"{path} is no whole tar archive: what stands at byte {place} is no header. Fetch or make it again.")
        kind, start = header[156], place + BLOCK
        if kind in _ELSEWHERE:
            length = 0
        elif kind in _FILE and long_size is not None:
            length = long_size
        place = start + -(-length // BLOCK) * BLOCK
        if start + length > size:
            raise BadData(f"{path} is cut off in the middle of {_name(header)}. Fetch or make it again.")
        if kind in b"Lx":
            data = file.read(length)
            if kind == ord("L"):
                long_name = data.rstrip(b"\0").decode("utf-8", "replace")
            else:
                said = _records(data)
                long_name = said.get("path", long_name)
                long_size = int(said["size"]) if "size" in said else long_size
        else:
            name = long_name or _name(header)
            long_name = long_size = None
            if kind in _FILE and not name.endswith("/"):
                found.append(Member(name, start, length, "its name leads out of the archive" if leads_out(name) else None))
            elif kind in _ELSEWHERE:
                if kind != ord("5"):
                    found.append(Member(name, start, 0, "it is neither a file nor a folder"))
            elif kind not in _FILE:
                raise _Unusual
        file.seek(place)


def _sums_to(header: bytes, stored: int) -> bool:
    """Whether the bytes of a header, its checksum taken for spaces, have this sum: Adler-32 adds them up modulo 65521."""
    return (zlib.adler32(header) & 0xFFFF) == (1 + stored - 8 * ord(" ") + sum(header[148:156])) % 65521


def _number(text: bytes) -> int:
    """A number field: octal, or base 256 where the first bit is set."""
    if text[0] & 0x80:
        return int.from_bytes(bytes([text[0] & 0x7F]) + text[1:], "big")
    return int(text.strip(b" \0") or b"0", 8)


def _name(header: bytes) -> str:
    own = header[:100].partition(b"\0")[0]
    before = header[345:500].partition(b"\0")[0] if header[257:263] == b"ustar\0" else b""
    return (before + b"/" + own if before else own).decode("utf-8", "replace")


def _records(data: bytes) -> dict[str, str]:
    """What an extended header says: lines of length, key and value."""
    said, place = {}, 0
    while place < len(data):
        digits, _, rest = data[place:].partition(b" ")
        if not digits.isdigit() or not int(digits):
            raise _Unusual
        name, equals, value = rest[: int(digits) - len(digits) - 2].partition(b"=")
        if not equals or name.startswith(b"GNU.sparse"):
            raise _Unusual
        said[name.decode("utf-8", "replace")] = value.decode("utf-8", "replace")
        place += int(digits)
    return said


def _thorough(path: Path, file: IO[bytes], size: int) -> list[Member]:
    """The same through ``tarfile``, which knows every kind of header."""
    found = []
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            for member in tar:
                if member.isdir():
                    continue
                reason = "it is stored with holes" if member.issparse() else strange(member)
                if member.isfile() and member.offset_data + member.size > size:
                    raise BadData(f"{path} is cut off in the middle of {member.name}. Fetch or make it again.")
                name = member.name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
                found.append(Member(name, member.offset_data, member.size, reason))
    except (tarfile.TarError, EOFError) as error:
        raise BadData(f"{path} is no whole tar archive: {error}. Fetch or make it again.") from None
    return found
