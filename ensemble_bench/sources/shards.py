"""What a shard of a webdataset holds: samples by key, where each picture's bytes are, and its class number."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ensemble_bench import cache
from ensemble_bench.errors import BadData, BadStore
from ensemble_bench.health import some
from ensemble_bench.pictures import ENDINGS
from ensemble_bench.sources import contents
from ensemble_bench.tars import PICKLES, Member, field, key, members

LABEL = "cls"
FORMAT = 1  # of the remembered index
PICTURES = ("webp", "png", "jpg", "jpeg", *sorted(ending[1:] for ending in ENDINGS))
"""Which member is the picture of a sample that has several, the host's four first."""
MOST = 100_000  # shards that a split can have


@dataclass(frozen=True)
class Shard:
    """The samples of one shard in the order of their pictures: keys, first byte and length of each picture, labels."""

    path: Path
    keys: tuple[str, ...]
    starts: tuple[int, ...]
    lengths: tuple[int, ...]
    labels: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.keys)


def found(folder: Path) -> list[Path]:
    """The shards of a split, by number where their names are numbers; as many as ``nshards.txt`` says, if there is one."""
    tars = sorted(folder.glob("*.tar"), key=lambda path: (len(path.stem) if path.stem.isdecimal() else 0, path.stem))
    counted = folder / "nshards.txt"
    if counted.is_file():
        wanted = number(counted.read_bytes(), str(counted))
        if wanted != len(tars):
            raise BadData(f"{counted} says {wanted} shards, and there are {len(tars)}: fetch the data set again.")
    return tars


def number(text: bytes, where: str) -> int:
    """The number that ``nshards.txt`` says."""
    said = text.decode("utf-8", "replace").strip()
    if not (said.isascii() and said.isdigit() and 1 <= int(said) <= MOST):
        raise BadData(f"{where} must hold a number of shards, 1 to {MOST:,}, not {said[:40]!r}.")
    return int(said)


def read(path: Path) -> Shard:
    """The index of a shard; remembered as long as its size and time of change stay the same.

    Only headers and class numbers are read. Raises BadData for what is no whole archive, for a sample without picture or class,
    for members that lead out of the archive and for pickles, which nothing here would execute.
    """
    size, changed = contents.facts(path)
    asked: dict[str, cache.JSON] = {"format": FORMAT, "path": str(path.resolve()), "size": size, "changed": changed}
    memo = cache.root() / "indexes" / f"{cache.sha256({'path': str(path.resolve())})}.json"
    with suppress(OSError, ValueError, KeyError, AttributeError, TypeError):
        known = json.loads(memo.read_text(encoding="utf-8"))
        columns = [tuple(known.pop(name)) for name in ("keys", "starts", "lengths", "labels")]
        if known == asked:
            return Shard(path, *columns)
    shard = scan(path)
    columns = [shard.keys, shard.starts, shard.lengths, shard.labels]
    with suppress(BadStore, UnicodeEncodeError):  # it only saves time
        lists: dict[str, cache.JSON] = {
            name: list(column) for name, column in zip(("keys", "starts", "lengths", "labels"), columns, strict=True)
        }
        cache.write(memo, cache.canonical({**asked, **lists}).encode())
    return shard


def scan(path: Path) -> Shard:
    """The same from the archive itself, whatever is remembered."""
    shown: dict[str, dict[str, Member]] = {}  # sample -> field -> picture
    classes: dict[str, Member] = {}
    for member in members(path):
        name = field(member.name)
        if member.strange:
            raise BadData(f"{path} holds {member.name!r}: {member.strange}. Nothing was unpacked; remove it from the shard.")
        if name.rpartition(".")[2] in PICKLES:
            raise BadData(
                f"{path} holds {member.name!r}: a pickle, which can run any program when it is opened. Nothing was executed; "
                "remove it from the shard."
            )
        sample = key(member.name)
        held = shown.setdefault(sample, {}) if name in PICTURES else classes if name == LABEL else None
        if held is not None:
            place = name if name in PICTURES else sample
            if place in held:
                raise BadData(f"{path} holds {member.name!r} more than once: make that shard again.")
            held[place] = member
    lost = sorted(set(shown) ^ set(classes))
    if lost:
        raise BadData(f"{path}: {some(lost)} lack a picture or a class (.{LABEL}): make or fetch that shard again.")
    labels = _labels(path, classes)
    chosen = {sample: held[next(name for name in PICTURES if name in held)] for sample, held in shown.items()}
    return Shard(
        path,
        tuple(chosen),
        tuple(member.start for member in chosen.values()),
        tuple(member.length for member in chosen.values()),
        tuple(labels[sample] for sample in chosen),
    )


def _labels(path: Path, classes: dict[str, Member]) -> dict[str, int]:
    labels = {}
    try:
        with path.open("rb") as file:
            for sample, member in classes.items():
                file.seek(member.start)
                text = file.read(min(member.length, 40)).decode("utf-8", "replace").strip()
                if not (text.isascii() and text.isdigit()):
                    raise BadData(f"{path}: the class of {sample} is {text!r}, no number from 0 on: make that shard again.")
                labels[sample] = int(text)
    except OSError as error:
        raise BadData(f"{path} cannot be read: {error.strerror or error}.") from None
    return labels


def joined(shards: Sequence[Shard]) -> dict[str, tuple[Shard, int]]:
    """Where every sample is, by key: its shard and its place there. A key in two shards is BadData: answers go by key."""
    where: dict[str, tuple[Shard, int]] = {}
    for shard in shards:
        for place, name in enumerate(shard.keys):
            if name in where:
                first = where[name][0].path
                raise BadData(
                    f"{first.parent}: the sample {name!r} is in {first.name} and in {shard.path.name}: fetch or make the "
                    "shards again, each sample with a key of its own."
                )
            where[name] = shard, place
    return where
