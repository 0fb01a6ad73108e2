"""Reading the members of tar archives: as tarfile has them, at any cut a sentence."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from ensemble_bench import tars
from ensemble_bench.errors import BadData
from ensemble_bench.tars import Member, members

LONG = "a-rather-long-folder-name/" * 8
NAMES = ["0.png", "0.cls", "sub/1.seg.png", "ü/ärger.jpg", LONG + "2.png", "x" * 99, "y" * 140, "empty.txt"]


def archive(path: Path, kind: int, **strange: bytes) -> Path:
    """An archive with names of all sorts; ``strange`` are members that are no files, by their kind."""
    with tarfile.open(path, "w", format=kind) as tar:
        folder = tarfile.TarInfo("sub")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        for place, name in enumerate(NAMES):
            info = tarfile.TarInfo(name)
            info.size = 0 if name == "empty.txt" else 300 * place + 7
            info.mtime = 1234567.25 if kind == tarfile.PAX_FORMAT else 1234567  # as webdataset's writer gives it
            tar.addfile(info, io.BytesIO(bytes([place]) * info.size))
        for name, what in strange.items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = what, "0.png"
            tar.addfile(info)
    return path


def by_tarfile(path: Path) -> list[Member]:
    """The reference: what Python's own reader finds."""
    with tarfile.open(path) as tar:
        return [Member(info.name, info.offset_data, info.size) for info in tar if info.isfile()]


@pytest.mark.parametrize("kind", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_members_are_those_of_tarfile(tmp_path: Path, kind: int) -> None:
    path = archive(tmp_path / "a.tar", kind)
    found = members(path)
    assert found == by_tarfile(path) and [member.name for member in found] == NAMES
    data = path.read_bytes()
    for place, member in enumerate(found):
        assert data[member.start : member.start + member.length] == bytes([place]) * member.length


def test_the_old_format_and_names_in_two_parts(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name in ("b/" * 60 + "1.png", "2.cls"):
            info = tarfile.TarInfo(name)
            info.size = 3
            tar.addfile(info, io.BytesIO(b"abc"))
    assert members(path) == by_tarfile(path)


def test_sizes_beyond_eight_gigabytes(tmp_path: Path) -> None:
    """A sparse file: the header says nine gigabytes in base 256, and the file has them without taking the room."""
    path, size = tmp_path / "a.tar", 9 << 30
    info = tarfile.TarInfo("large.bin")
    info.size = size
    with path.open("wb") as file:
        for kind in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
            file.write(info.tobuf(kind))
            file.seek(size, 1)
        file.write(bytes(1024))
    assert members(path) == by_tarfile(path)
    assert [member.length for member in members(path)] == [size, size]


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.tar", tarfile.GNU_FORMAT, link=tarfile.SYMTYPE, hard=tarfile.LNKTYPE, pipe=tarfile.FIFOTYPE)
    strange = {member.name: member.strange for member in members(path) if member.strange}
    assert strange == dict.fromkeys(("link", "hard", "pipe"), "it is neither a file nor a folder")


@pytest.mark.parametrize("kind", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_cut_anywhere_is_a_sentence(tmp_path: Path, kind: int) -> None:
    data = archive(tmp_path / "a.tar", kind).read_bytes()
    end = max(member.start + member.length for member in members(tmp_path / "a.tar"))
    end += -end % 512
    path = tmp_path / "cut.tar"
    for length in {*range(0, end, 512), *range(100, end, 700), end}:
        path.write_bytes(data[:length])
        with pytest.raises(BadData, match=r"cut\.tar is (cut off|no whole tar archive)"):
            members(path)
    path.write_bytes(data[: end + 512])
    assert members(path) == by_tarfile(tmp_path / "a.tar")


def test_damage_and_rubbish_are_sentences(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.tar", tarfile.GNU_FORMAT)
    whole = path.read_bytes()
    place = members(path)[2].start - 512
    for spoilt in (whole[:place] + b"\1" + whole[place + 1 :], b"rubbish " * 400, b"", b"x"):
        path.write_bytes(spoilt)
        with pytest.raises(BadData, match=r"is no whole tar archive|is cut off"):
            members(path)
    with pytest.raises(BadData, match="cannot be read"):
        members(tmp_path)


def test_rare_headers_are_left_to_tarfile(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT, pax_headers={"comment": "for all"}) as tar:
        info = tarfile.TarInfo("0.png")
        info.size = 2
        tar.addfile(info, io.BytesIO(b"ab"))
    assert members(path) == by_tarfile(path)


@pytest.mark.parametrize(
    ("name", "key", "field"),
    [("s1.png", "s1", "png"), ("a.b/s1.seg.PNG", "a.b/s1", "seg.png"), ("plain", "plain", ""), (".hidden", "", "hidden")],
)
def test_keys_and_fields(name: str, key: str, field: str) -> None:
    assert (tars.key(name), tars.field(name)) == (key, field)
