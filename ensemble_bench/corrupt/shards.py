"""Shards of a webdataset: tar files whose members are read by name, one after the other, and never unpacked or executed."""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from io import BytesIO
from itertools import groupby
from pathlib import Path, PurePosixPath

from ensemble_bench import pictures
from ensemble_bench.condition import Condition
from ensemble_bench.corrupt.manifest import Entry, Manifest, sha256, whole
from ensemble_bench.errors import BadData, BenchError
from ensemble_bench.pictures import Alter, Picture
from ensemble_bench.tars import key, strange

Member = tuple[str, bytes]
Where = Mapping[str, Callable[[str], str]]  # condition -> (name -> path below the copy)


def members(tar: tarfile.TarFile, left_out: list[tuple[str, str]]) -> Iterator[Member]:
    """Name and bytes of every file of a shard, in order; what cannot be taken over goes to ``left_out``."""
    for member in tar:
        if member.isdir():
            continue
        if reason := strange(member):
            left_out.append((member.name, reason))
            continue
        file = tar.extractfile(member)
        data = file.read() if file is not None else b""
        if len(data) != member.size:
            raise tarfile.ReadError(f"the member {member.name} is cut off")
        yield member.name, data


def put(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    """Add a file to an archive, with nothing in it that differs from run to run."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, BytesIO(data))


def shard(
    root: Path,
    out: Path,
    name: str,
    alters: Sequence[tuple[Condition, Alter]],
    where: Where,
    saved: Callable[[Picture], bytes],
    ending: str,
    manifest: Manifest,
) -> list[Entry]:
    """Entries of one shard in every condition in which it had to be made, or that of its failure."""
    try:
        data = (root / name).read_bytes()
    except OSError as error:
        return [{"status": "failed", "from": name, "reason": f"cannot be read: {error.strerror}"}]
    digest = sha256(data)
    missing = [(c, alter) for c, alter in alters if not manifest.holds(where[str(c)](name), digest)]
    if not missing:
        return []
    lost: dict[str, list[tuple[str, str]]] = {str(condition): [] for condition, _ in missing}
    paths = {str(condition): where[str(condition)](name) for condition, _ in missing}
    try:
        with ExitStack() as files, tarfile.open(fileobj=BytesIO(data), mode="r:") as tar:
            opened = {c: files.enter_context(whole(out / path)) for c, path in paths.items()}
            with ExitStack() as tars:
                writers = {c: tars.enter_context(tarfile.open(fileobj=file, mode="w")) for c, file in opened.items()}
                everywhere: list[tuple[str, str]] = []
                for _, group in groupby(members(tar, everywhere), key=lambda member: key(member[0])):
                    _sample(f"{name}/", list(group), missing, writers, lost, saved, ending)
                for own in lost.values():
                    own += everywhere
            digests = {}
            for condition, file in opened.items():
                file.seek(0)
                digests[condition] = sha256(file.read())
    except (tarfile.TarError, EOFError) as error:
        return [{"status": "failed", "from": name, "reason": f"is no whole tar archive: {error}"}]
    about = {"from": name, "from_sha256": digest}
    return [
        {
            "status": "done",
            "path": path,
            **about,
            "condition": condition,
            "sha256": digests[condition],
            **({"left_out": [list(pair) for pair in lost[condition]]} if lost[condition] else {}),
        }
        for condition, path in paths.items()
    ]


def _sample(
    before: str,
    group: Sequence[Member],
    missing: Sequence[tuple[Condition, Alter]],
    writers: Mapping[str, tarfile.TarFile],
    lost: Mapping[str, list[tuple[str, str]]],
    saved: Callable[[Picture], bytes],
    ending: str,
) -> None:
    """Write one sample into every archive: its pictures corrupted, all else untouched; without a picture no sample."""
    shown: dict[str, Picture] = {}
    for name, data in group:
        if PurePosixPath(name).suffix.lower() in pictures.ENDINGS:
            try:
                shown[name] = pictures.decoded(data, name)
            except BadData as error:
                for own in lost.values():
                    own.append((name, str(error).removeprefix(f"{name} ")))
                return
    for condition, alter in missing:
        try:
            altered = {name: saved(alter(before + name, picture)) for name, picture in shown.items()}
        except BenchError as error:
            lost[str(condition)].append((group[0][0], str(error)))
            continue
        for name, data in group:
            new = name[: -len(PurePosixPath(name).suffix)] + ending if name in altered else name
            put(writers[str(condition)], new, altered.get(name, data))


def beside(root: Path, out: Path, name: str, where: Where, manifest: Manifest) -> list[Entry]:
    """Entries of a file that lies beside the shards (class names, number of shards): copied as it is into every condition."""
    try:
        data = (root / name).read_bytes()
    except OSError as error:
        return [{"status": "failed", "from": name, "reason": f"cannot be read: {error.strerror}"}]
    digest, entries = sha256(data), []
    for condition, path in where.items():
        if manifest.holds(path(name), digest):
            continue
        with whole(out / path(name)) as file:
            file.write(data)
        about = {"from": name, "from_sha256": digest, "condition": condition}
        entries.append({"status": "done", "path": path(name), **about, "sha256": digest})
    return entries
