"""Arrays in files: what a header claims is compared with what the file has before anything is read."""

from __future__ import annotations

import math
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from ensemble_bench.errors import BadArchive

Array = NDArray[Any]

UNPACKED = 1 << 30  # bytes that the packed members of one .npz may have when unpacked: they cannot be read in parts
_DEFLATE = 1032  # times its size at most is what deflate can make of a byte
_BLOCK = 1 << 20
_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
_BROKEN = (OSError, ValueError, EOFError, SyntaxError, TypeError, RuntimeError, zipfile.BadZipFile, zlib.error)


class Column(Protocol):
    """An array of an archive: its shape and type are known, its values are read when asked for."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of a value."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of values along each axis."""

    def read(self) -> Array:
        """All of it."""


@dataclass(frozen=True, eq=False)
class Given:
    """An array that is in memory."""

    values: Array

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.values.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape

    def read(self) -> Array:
        return self.values


@dataclass(frozen=True, eq=False)
class Held:
    """An array in a ``.npy`` file, or in a member of an ``.npz`` file; ``offset`` is where its values begin, None if packed."""

    file: Path
    member: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    fortran: bool
    offset: int | None
    skip: int = 0  # bytes of a packed member before its values

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def streamed(self) -> bool:
        """Whether it can be read in parts."""
        return self.offset is not None and not self.fortran

    def _shaped(self, flat: Array) -> Array:
        array = flat.reshape(self.shape[::-1]).T if self.fortran else flat.reshape(self.shape)
        return np.ascontiguousarray(array.astype(self.dtype.newbyteorder("="), copy=False))

    def read(self) -> Array:
        flat = np.empty(math.prod(self.shape), self.dtype)
        with _readable(self.file, self.member):
            if self.offset is None:
                with zipfile.ZipFile(self.file) as archive, archive.open(self.member) as stream:
                    stream.read(self.skip)
                    _fill(stream, flat)
                    if stream.read(1):
                        raise EOFError("there is more than its header says")
            else:
                with self.file.open("rb", buffering=0) as stream:
                    stream.seek(self.offset)
                    _fill(stream, flat)
        return self._shaped(flat)

    @contextmanager
    def opened(self) -> Iterator[IO[bytes]]:
        """The file, for ``rows``."""
        with _readable(self.file, self.member), self.file.open("rb", buffering=0) as stream:
            yield stream

    def rows(self, stream: IO[bytes], first: int, out: Array) -> None:
        """Fill ``out`` [n, ...] with values from flat row ``first`` on, a row being the last axis; converted to its type."""
        assert self.offset is not None and not self.fortran
        width = self.shape[-1]
        stream.seek(self.offset + first * width * self.dtype.itemsize)
        if out.dtype == self.dtype:
            _fill(stream, out)
            return
        part = np.empty(out.shape, self.dtype)
        _fill(stream, part)
        out[...] = part


def _fill(stream: IO[bytes], out: Array) -> None:
    """Read exactly as many bytes as the array has; EOFError if there are fewer."""
    assert out.flags.c_contiguous
    view = out.reshape(-1).view(np.uint8).data
    done = 0
    while done < len(view):
        count = stream.readinto(view[done : done + _BLOCK * 64])  # type: ignore[attr-defined]
        if not count:
            raise EOFError(f"it ends after {done:,} of {len(view):,} bytes")
        done += count


@contextmanager
def _readable(file: Path, member: str) -> Iterator[None]:
    """Turn everything that can go wrong with a file into a sentence."""
    try:
        yield
    except _BROKEN as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error) or type(error).__name__
        where = f"{file}: {member}" if member else str(file)
        raise BadArchive(f"{where} cannot be read: {reason.splitlines()[0].rstrip('.')}.") from None


def _header(stream: IO[bytes], file: Path, member: str) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """Shape, Fortran order, type, and length of the header of an array in numpy's format."""
    with _readable(file, member), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of headers that Python 2 wrote
        version = npy.read_magic(stream)
        if version not in _HEADERS:
            raise ValueError(f"it is in version {version[0]}.{version[1]} of numpy's format, not 1.0 or 2.0")
        shape, fortran, dtype = _HEADERS[version](stream)
        length = stream.tell()
    where = f"{file}: {member}" if member else str(file)
    if dtype.hasobject:
        raise BadArchive(f"{where} holds Python objects, which are never read: save plain numbers, or text as numpy's str_.")
    if dtype.kind not in "iufbU":
        raise BadArchive(f"{where} must hold plain numbers or text (numpy's str_), not {dtype}.")
    if min(shape, default=0) < 0:
        raise BadArchive(f"{where} claims the shape {list(shape)}, which cannot be.")
    return shape, fortran, dtype, length


def _fits(where: str, shape: Sequence[int], dtype: np.dtype[Any], there: int) -> None:
    claimed = math.prod(shape) * dtype.itemsize
    if claimed != there:
        raise BadArchive(
            f"{where} claims {claimed:,} bytes of values ({list(shape)} {dtype}), and there are {max(there, 0):,}."
        )


def in_file(path: Path) -> Held:
    """The array of a ``.npy`` file; ``BadArchive`` where its size is not what its header claims."""
    with _readable(path, ""), path.open("rb") as stream:
        shape, fortran, dtype, length = _header(stream, path, "")
        size = path.stat().st_size
    _fits(str(path), shape, dtype, size - length)
    return Held(path, "", dtype, shape, fortran, length)


def in_zip(path: Path) -> dict[str, Held]:
    """The arrays of an ``.npz`` file by name. Nothing is unpacked but headers, and these only where sizes can be true."""
    with _readable(path, ""), zipfile.ZipFile(path) as archive:
        return _members(path, archive)


def _members(path: Path, archive: zipfile.ZipFile) -> dict[str, Held]:
    size = path.stat().st_size
    found: dict[str, Held] = {}
    unpacked = 0
    for info in archive.infolist():
        where = f"{path}: {info.filename}"
        name = info.filename.removesuffix(".npy")
        if name == info.filename or info.is_dir():
            raise BadArchive(f"{where} is no array: every member of an .npz must end in .npy.")
        if name in found:
            raise BadArchive(f"{where} comes more than once.")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or info.flag_bits & 1:
            raise BadArchive(f"{where} is encrypted or packed in a way that numpy does not know: save it with numpy.savez.")
        packed = info.compress_type == zipfile.ZIP_DEFLATED
        if info.compress_size > size or info.file_size > (_DEFLATE * info.compress_size + _BLOCK if packed else size):
            raise BadArchive(f"{where} claims {info.file_size:,} bytes, which cannot be in a file of {size:,}.")
        unpacked += info.file_size * packed
        if unpacked > UNPACKED:
            raise BadArchive(
                f"{path} has more than {UNPACKED >> 20:,} MB of packed arrays, which cannot be read in parts: save them with "
                "numpy.savez instead of savez_compressed, or as a folder of .npy files."
            )
        with archive.open(info) as stream:
            shape, fortran, dtype, length = _header(stream, path, info.filename)
        _fits(where, shape, dtype, info.file_size - length)
        start = None if packed else _start(path, info) + length
        if start is not None and start + info.file_size - length > size:
            raise BadArchive(f"{where} ends beyond the end of the file.")
        found[name] = Held(path, info.filename, dtype, shape, fortran, start, length)
    return found


def _start(path: Path, info: zipfile.ZipInfo) -> int:
    """Where the bytes of a member that is not packed begin: after its local header, which has lengths of its own."""
    with path.open("rb") as stream:
        stream.seek(info.header_offset)
        local = stream.read(30)
    if len(local) < 30 or local[:4] != b"PK\x03\x04":
        raise BadArchive(f"{path}: {info.filename} is not where the list of the .npz says.")
    return info.header_offset + 30 + int.from_bytes(local[26:28], "little") + int.from_bytes(local[28:30], "little")
