"""Prediction archives: what backbones said of samples, by whomever, as one ``.npz``, a folder of arrays, or a CSV file."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ensemble_bench import cache, fewshot
from ensemble_bench.archive import arrays, table, written
from ensemble_bench.archive.arrays import Column, Given, Held
from ensemble_bench.archive.disk import Scores, bad, ends, whole
from ensemble_bench.cube import Cube
from ensemble_bench.errors import BadArchive, BenchError, UnknownName
from ensemble_bench.registry import near

SCHEMA = 1
CARD = "archive.toml"
ALL = "all"
FORMS = ("logits", "probabilities", "decisions")
NAMES = ("classes", "backbones", "ids", "condition", "split")  # text
KNOWN = (*NAMES, "labels", *FORMS, "confidence")
FEATURES = "features/"
SPLITS = ("train", "test")
HELD = 1 << 26  # bytes of scores that are read at once; more stay on disk and are read in parts
_CARD_BYTES = 1 << 26
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f]")


@dataclass(frozen=True, eq=False)
class Archive:
    """A validated archive: a labelled cube of all its samples, backbones in the order of their ids.

    ``condition`` and ``split`` say of every sample under which condition it was shown (any text but ``all``) and whether it is
    train or test; None where the archive does not say.
    """

    name: str
    cube: Cube
    condition: NDArray[np.str_] | None = None
    split: NDArray[np.str_] | None = None

    @property
    def query(self) -> Tensor:
        """The samples that are asked: those of test where there are splits; int64 places."""
        return torch.arange(len(self.cube)) if self.split is None else self._of("test")

    def _of(self, split: str) -> Tensor:
        return torch.from_numpy(np.flatnonzero(np.asarray(self.split) == split))

    def conditions(self) -> dict[str, Tensor]:
        """Of each condition, in natural order, its places among ``query``."""
        if self.condition is None:
            return {}
        here = self.condition[self.query.numpy()]
        return {name: torch.from_numpy(np.flatnonzero(here == name)) for name in sorted(set(here.tolist()), key=_natural)}

    def supports(self, shots: int, draws: int, seed: int) -> list[Cube]:
        """The labelled cube of each draw, in memory; none where there are no train samples."""
        train = self._of("train") if self.split is not None else torch.arange(0)
        if not len(train):
            return []
        ids, labels = [self.cube.ids[row] for row in train.tolist()], self.cube.labels[train].tolist()
        try:
            drawn = [fewshot.draw(ids, labels, self.cube.classes, shots, seed=seed, number=number) for number in range(draws)]
        except BenchError as error:
            raise type(error)(f"{self.name}: {error}") from None
        return [self.cube.take(train[places]).dense() for places in drawn]


def root() -> Path:
    """Where imported archives live."""
    return cache.root() / "archives"


def names() -> list[str]:
    """Imported archives."""
    return sorted(path.parent.name for path in root().glob(f"*/{CARD}"))


def find(text: str) -> Archive:
    """The archive that a name or a path means; an imported name wins, ``./NAME`` is always a path."""
    if text in names():
        return read(root() / text)
    path = Path(text)
    if path.exists() or "/" in text or path.suffix in (".npz", ".csv"):
        return read(path)
    raise UnknownName(f"no imported archive and no file is called {text!r}.{near(text, names())}")


def read(path: Path) -> Archive:
    """The archive in a ``.npz`` file, a ``.csv`` file, or a folder; ``BadArchive`` says what is wrong with it."""
    if path.is_dir():
        columns = _folder(path)
    elif not path.is_file():
        raise BadArchive(f"{path} is not there: an archive is a folder with {CARD}, a .npz file or a .csv file.")
    elif path.suffix == ".npz":
        columns = dict(arrays.in_zip(path))
    elif path.suffix == ".csv":
        columns = {name: Given(values) for name, values in table.read(path).items()}
    else:
        raise BadArchive(f"{path} is no archive: it must be a folder with {CARD}, or end in .npz or .csv.")
    return _Reader(path, columns).archive()


def keep(path: Path, name: str) -> Path:
    """Import an archive: check it, and store it under a name in ``root()``."""
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name):
        raise BadArchive(f"an archive cannot be called {name!r}: use lower case letters, digits and hyphens.")
    if not path.exists():
        raise BadArchive(f"{path} is not there: give a file or folder.")
    if (root() / name).exists():
        raise BadArchive(f"there is already an archive {name!r}: take another name, or remove {root() / name}.")
    write(read(path), root() / name)
    return root() / name


def joined(name: str, cubes: Mapping[str, Cube]) -> Archive:
    """An archive of labelled cubes of one task by split (train or test), all with the same backbones and classes."""
    (_, cube), *rest = cubes.items()
    for _, other in rest:
        cube = cube.joined(other)
    split = np.concatenate([np.full(len(one), split) for split, one in cubes.items()])
    return Archive(name, cube, split=split if rest else None)


def write(archive: Archive, out: Path) -> None:
    """Write an archive: a ``.npz`` file if ``out`` ends so, else a folder. Nothing is overwritten or left half written."""
    written.write(archive.cube, {"condition": archive.condition, "split": archive.split}, out, SCHEMA, CARD)


def _natural(name: str) -> list[tuple[float, str]]:
    """
    >>> sorted(["c100", "c05", "inf", "0.10", "0.9", "1"], key=_natural)
    ['0.10', '0.9', '1', 'c05', 'c100', 'inf']
    """
    parts = re.split(r"([0-9]+(?:\.[0-9]+)?)", name)
    return [(float(part), "") if number % 2 else (-1.0, part) for number, part in enumerate(parts)]


def _folder(path: Path) -> dict[str, Column]:
    """The arrays of a folder by name; names may also stand in its card."""
    columns: dict[str, Column] = {}
    card = path / CARD
    try:
        if card.stat().st_size > _CARD_BYTES:
            raise BadArchive(f"{card} is larger than {_CARD_BYTES >> 20} MB: keep long lists in .npy files.")
        said = tomllib.loads(card.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadArchive(f"{path} is no archive: it has no {CARD}.") from None
    except OSError as error:
        raise BadArchive(f"{card} cannot be read: {error.strerror}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadArchive(f"{card} is no valid TOML: {error}.") from None
    if said.get("schema", SCHEMA) != SCHEMA:
        raise BadArchive(f"{card} is of schema {said['schema']!r}, and this version reads schema {SCHEMA}.")
    for key, value in said.items():
        if not isinstance(value, list):
            continue  # a note
        if key not in NAMES:
            raise BadArchive(f"{card}: unknown list {key!r}.{near(key, NAMES)}")
        odd = next((item for item in value if not isinstance(item, str)), None)
        if odd is not None:
            raise BadArchive(f"{card}: {key!r} must be a list of texts, in quotes; one entry is {odd!r}.")
        columns[key] = Given(np.array(value, np.str_) if value else np.empty(0, "U1"))
    for file in sorted(path.rglob("*.npy")):
        name = file.relative_to(path).as_posix().removesuffix(".npy")
        if name in columns:
            raise BadArchive(f"{path}: {name!r} stands both in {CARD} and in {name}.npy: keep one of them.")
        columns[name] = arrays.in_file(file)
    return columns


class _Reader:
    """The parts of one archive, checked against each other: first what their headers say, then their values."""

    def __init__(self, path: Path, columns: Mapping[str, Column]) -> None:
        self.path, self.columns = path, columns

    def _bad(self, sentence: str) -> BadArchive:
        return BadArchive(f"{self.path}: {sentence}")

    def archive(self) -> Archive:
        parts, form = self._parts(), self._form()
        text = {name: self._text(name) for name in NAMES if name in self.columns}
        shape = tuple(len(text[name]) for name in ("backbones", "ids", "classes"))
        b, s, c = shape
        if not (b and s and c):
            raise self._bad("an archive needs at least one backbone, one sample and one class.")
        wanted = {"labels": (s,), form: shape if form != "decisions" else (b, s), "confidence": (b, s)}
        wanted |= {"condition": (s,), "split": (s,)}
        for name, dims in wanted.items():
            if name in self.columns and self.columns[name].shape != dims:
                meant = {3: "[b, s, c]", 2: "[b, s]", 1: "[s]"}[len(dims)]
                raise self._bad(f"{name} must be {meant} = {list(dims)}, not {list(self.columns[name].shape)}.")
        order = sorted(range(b), key=text["backbones"].__getitem__)
        backbones = [text["backbones"][place] for place in order]
        features = self._features(parts, text["backbones"], s)
        cube: dict[str, Any] = {"backbones": backbones, "classes": text["classes"], "ids": text["ids"]}
        cube["labels"] = torch.from_numpy(self._indices("labels", c, 0, text["ids"]))
        cube |= self._answers(form, text, order, features)
        condition, split = (np.array(text[name]) if name in text else None for name in ("condition", "split"))
        self._check_split(split)
        if condition is not None and ALL in condition:
            raise self._bad(f"no condition may be called {ALL!r}: that stands for all samples together.")
        if condition is not None and any(name.startswith("mean(") for name in text["condition"]):
            raise self._bad("no condition may begin with 'mean(': that stands for means over conditions.")
        name = self.path.resolve().name if self.path.is_dir() else self.path.stem
        return Archive(name, Cube(**cube, checked=True), condition, split)

    def _parts(self) -> list[str]:
        """Names of backbones that have features, after all names of arrays have been looked at."""
        for name in self.columns:
            if name not in KNOWN and not name.startswith(FEATURES):
                raise self._bad(f"unknown array {name!r}.{near(name, [*KNOWN, 'features/BACKBONE'])}")
        missing = [name for name in ("labels", "classes", "backbones", "ids") if name not in self.columns]
        if missing:
            raise self._bad(f"it has no {' and no '.join(missing)}; an archive needs labels, classes, backbones and ids.")
        return [name.removeprefix(FEATURES) for name in self.columns if name.startswith(FEATURES)]

    def _form(self) -> str:
        forms = [name for name in FORMS if name in self.columns]
        if len(forms) != 1:
            has = " and ".join(forms) or "none of them"
            raise self._bad(f"it must have exactly one of decisions, probabilities and logits; it has {has}.")
        return forms[0]

    def _text(self, name: str) -> list[str]:
        """A list of names, checked."""
        column = self.columns[name]
        if column.dtype.kind != "U":
            raise self._bad(f"{name} must be text (numpy's str_), not {column.dtype}.")
        if len(column.shape) != 1:
            raise self._bad(f"{name} must be a list of texts, not an array of shape {list(column.shape)}.")
        try:
            found: list[str] = column.read().tolist()
            "".join(found).encode()
        except (ValueError, SystemError):
            raise self._bad(f"{name} hold what is no text.") from None
        odd = next((text for text in found if not text or _UNPRINTABLE.search(text)), None)
        if odd is not None:
            raise self._bad(f"{name} must be printable and not empty; one is {odd!r}.")
        if name in ("backbones", "ids", "classes") and len(set(found)) != len(found):
            seen: set[str] = set()
            twice = next(text for text in found if text in seen or seen.add(text))  # type: ignore[func-returns-value]
            raise self._bad(f"{name} must differ from one another; {twice!r} comes more than once.")
        return found

    def _indices(self, name: str, classes: int, lowest: int, ids: Sequence[str]) -> NDArray[np.int64]:
        """Labels [s] or decisions [b, s], checked."""
        column = self.columns[name]
        if column.dtype.kind not in "iu":
            raise self._bad(f"{name} must be whole numbers, places among the classes, not {column.dtype}.")
        found = column.read()
        wrong = (found < lowest) | (found >= classes)
        if wrong.any():
            place = tuple(int(axis[0]) for axis in wrong.nonzero())
            more = ", or -1 for no answer" if lowest < 0 else ""
            raise self._bad(
                f"{name} must be places among the classes, 0 to {classes - 1}{more}; that of {ids[place[-1]]!r} is "
                f"{int(found[place])}."
            )
        return found.astype(np.int64)

    def _number(self, name: str) -> Column:
        if self.columns[name].dtype.kind != "f":
            raise self._bad(f"{name} must be floating point numbers, not {self.columns[name].dtype}.")
        return self.columns[name]

    def _features(self, parts: Sequence[str], backbones: Sequence[str], s: int) -> list[Column]:
        """The features of every backbone in the order of the archive, or none."""
        if not parts:
            return []
        foreign = [name for name in parts if name not in backbones]
        if foreign:
            raise self._bad(f"features/{foreign[0]} is of no backbone.{near(foreign[0], backbones)}")
        absent = [name for name in backbones if name not in parts]
        if absent:
            raise self._bad(f"there are features of {parts[0]} and none of {absent[0]}: give those of every backbone, or none.")
        found = [self._number(f"{FEATURES}{name}") for name in backbones]
        for name, column in zip(backbones, found, strict=True):
            if len(column.shape) != 2 or column.shape[0] != s or not column.shape[1]:
                raise self._bad(f"features/{name} must be [s, d] = [{s}, d], not {list(column.shape)}.")
        return found

    def _answers(
        self, form: str, text: Mapping[str, list[str]], order: Sequence[int], features: Sequence[Column]
    ) -> dict[str, Any]:
        """What the cube holds beside names and labels, backbones in their new order."""
        made: dict[str, Any] = {}
        if "confidence" in self.columns:
            confidence = self._number("confidence").read().astype(np.float64)
            if not ((confidence >= 0) & (confidence <= 1)).all():
                raise self._bad("confidence must lie between 0 and 1, and some do not.")
            if form == "decisions":  # scores have their own
                made["confidence"] = torch.from_numpy(confidence[order])
        if form == "decisions":
            made["decisions"] = torch.from_numpy(self._indices("decisions", len(text["classes"]), -1, text["ids"])[order])
            return made | self._read(features, text["backbones"], order)
        scores = self._number(form)
        parts = [column for column in features if isinstance(column, Held) and column.streamed]
        large = isinstance(scores, Held) and scores.streamed and len(parts) == len(features)
        if isinstance(scores, Held) and large and scores.nbytes > HELD:
            samples = np.arange(len(text["ids"]))
            names = tuple(text["backbones"])
            made["on_disk"] = Scores(form, scores, names, np.array(text["ids"]), tuple(order), samples, tuple(parts))
            return made
        read = whole(form, scores.read())
        if found := bad(form, read, *ends(read)):
            reason, place, row = found
            raise self._bad(f"{form} {reason}, as those of {text['backbones'][place]} on {text['ids'][row]!r}.")
        made[form] = read[list(order)]
        return made | self._read(features, text["backbones"], order)

    def _read(self, features: Sequence[Column], backbones: Sequence[str], order: Sequence[int]) -> dict[str, Any]:
        found = []
        for place in order if features else ():
            array = features[place].read().astype(np.float32, copy=False)
            if not np.isfinite(array).all():
                raise self._bad(f"features/{backbones[place]} hold NaN or infinite values.")
            found.append(torch.from_numpy(array))
        return {"features": found} if found else {}

    def _check_split(self, split: NDArray[np.str_] | None) -> None:
        if split is None:
            return
        odd = sorted(set(split.tolist()) - set(SPLITS))
        if odd:
            raise self._bad(f"split must be {' or '.join(SPLITS)}, not {odd[0]!r}.")
        if "test" not in split:
            raise self._bad("split calls every sample train: none is left to ask.")
