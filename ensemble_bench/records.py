"""Records in and out: one strict JSON line per answer to "how good is this strategy there", its predictions beside it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import math
import os
import re
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ensemble_bench.errors import BadRecord

SCHEMA = 1
STATUSES = ("done", "failed", "not-applicable")
LINES = "records.jsonl"
PREDICTIONS = "predictions"

log = logging.getLogger(__name__)

Question = tuple[str, str, str, int]
"""Task, condition, strategy, shots: what a cell of the results answers, over all its draws."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """What was asked, what was seen, what came out, what it cost, and where the number comes from: one draw of one cell.

    A cell is (task, condition, strategy, shots). ``shots``, ``draws`` and ``labels`` are 0 and ``draw`` is None for strategies
    that see no labels; a cell that failed or does not apply is a single record with a ``reason`` and no predictions.
    ``collections`` says of each collection the task belongs to how many tasks it has, so that a board knows a whole one.
    ``metrics`` is name -> {value, ci_low, ci_high, direction, low, high}, a value of None where the metric does not apply;
    ``cost`` is {gflops, parameters, backbones} per image; ``limit`` is None for a full result. ``key`` is the record key (all
    that changes the number), ``cell`` the cell key: letters, digits, ``.``, ``_``, ``-``; it names the file of predictions.
    """

    schema: int = SCHEMA
    task: str
    task_version: int | str
    collections: Mapping[str, int] = field(default_factory=dict)
    condition: str
    pool: tuple[str, ...]
    strategy: str
    family: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    shots: int
    draw: int | None
    draws: int
    seed: int
    limit: int | None
    n: int
    ids: str
    support: str | None = None
    labels: int
    status: str = "done"
    reason: str = ""
    metrics: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    cost: Mapping[str, float | int | None] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    key: str
    cell: str
    predictions: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "pool", tuple(self.pool))
        whose = f"the record of {self.strategy} on {self.task}"
        if self.status not in STATUSES:
            raise BadRecord(f"{whose}: 'status' must be one of {', '.join(STATUSES)}, not {self.status!r}.")
        if not isinstance(self.collections, Mapping):
            raise BadRecord(f"{whose}: 'collections' must say how many tasks each collection has, not only its name.")
        if not isinstance(self.cell, str) or not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}", self.cell):
            raise BadRecord(f"{whose}: 'cell' must be letters, digits, '.', '_' and '-', not {self.cell!r}.")
        if self.predictions not in (None, place(self.cell)):
            raise BadRecord(f"{whose}: 'predictions' must be {place(self.cell)} or null, not {self.predictions!r}.")
        for name in ("schema", "shots", "draws", "seed", "n", "labels"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool):
                raise BadRecord(f"{whose}: {name!r} must be a whole number, not {value!r}.")
        numbers = [(f"cost.{name}", value) for name, value in self.cost.items()]
        for metric, entry in self.metrics.items():
            numbers += [(f"metrics.{metric}.{name}", value) for name, value in entry.items() if name != "direction"]
        numbers += [("draw", self.draw), ("limit", self.limit)]
        for where, value in numbers:
            if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
                raise BadRecord(f"{whose}: {where!r} must be a number or null, not {value!r}.")
        _strict(vars(self), whose, "")

    @property
    def question(self) -> Question:
        """Task, condition, strategy, shots."""
        return self.task, self.condition, self.strategy, self.shots

    def line(self) -> str:
        """One line of strict JSON, without its newline."""
        return json.dumps(vars(self), allow_nan=False, ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def parse(cls, line: str, where: str) -> Record:
        """The record of one line; ``where`` names file and line in errors (``BadRecord``)."""
        try:
            found = json.loads(line, parse_constant=_no_constant)
        except ValueError as error:
            raise BadRecord(f"{where} is no strict JSON ({error}): mend or remove that line.") from None
        if not isinstance(found, dict):
            raise BadRecord(f"{where} holds no record: mend or remove that line.")
        if found.get("schema") != SCHEMA:
            raise BadRecord(
                f"{where} is a record of schema {found.get('schema')}, this version reads schema {SCHEMA}: read it with the "
                "ensemble-bench that wrote it, or give another folder."
            )
        known = {f.name for f in dataclasses.fields(cls)}
        required = {
            f.name
            for f in dataclasses.fields(cls)
            if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        }
        for problem, names in (("lacks", required - set(found)), ("has the unknown key", set(found) - known)):
            if names:
                raise BadRecord(f"{where}: the record {problem} {min(names)!r}: mend or remove that line.")
        try:
            return cls(**found)
        except BadRecord as error:
            raise BadRecord(f"{where}: {error}") from None
        except (AttributeError, TypeError) as error:
            raise BadRecord(f"{where} holds no record ({error}): mend or remove that line.") from None


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is no number of strict JSON")


def _strict(value: Any, whose: str, path: str) -> None:
    """Raise ``BadRecord`` unless ``value`` is made of text, finite numbers, truth values, null, lists and mappings."""
    if value is None or isinstance(value, (str, bool, int)):
        if isinstance(value, np.generic):  # np.str_ is a str
            raise BadRecord(f"{whose}: {path!r} is a {type(value).__name__}; records hold plain text and numbers.")
        return
    if isinstance(value, float) and not isinstance(value, np.generic):
        if not math.isfinite(value):
            raise BadRecord(f"{whose}: {path!r} is {value}; records hold finite numbers only, or null with a reason.")
        return
    if isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str):
                raise BadRecord(f"{whose}: {path!r} has the key {key!r}; keys of records are text.")
            _strict(item, whose, f"{path}.{key}" if path else key)
        return
    if isinstance(value, (list, tuple)):
        for number, item in enumerate(value):
            _strict(item, whose, f"{path}[{number}]")
        return
    raise BadRecord(f"{whose}: {path!r} is a {type(value).__name__}; records hold plain text, numbers, lists and null.")


def place(cell: str) -> str:
    """Where the predictions of a cell lie, relative to the results folder."""
    return f"{PREDICTIONS}/{cell}.npz"


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a strategy answered to every sample in every draw of one cell: s samples, d draws (one draw, -1, without labels).

    ``ids`` text [s], all different; ``labels`` int64 [s], class indices; ``draws`` int64 [d]; ``decisions`` int32 [d, s], -1 =
    no answer. Where they are known: ``top5`` bool [d, s], the label is among the five best; ``confidence`` in [0, 1], ``nll``
    in nats and ``brier``, per sample, float16 [d, s] (an ``nll`` beyond the largest float16, 65,504, is stored as that).
    """

    ids: NDArray[np.str_]
    labels: NDArray[np.int64]
    draws: NDArray[np.int64]
    decisions: NDArray[np.int32]
    top5: NDArray[np.bool_] | None = None
    confidence: NDArray[np.float16] | None = None
    nll: NDArray[np.float16] | None = None
    brier: NDArray[np.float16] | None = None

    OPTIONAL = ("top5", "confidence", "nll", "brier")

    def __post_init__(self) -> None:
        def put(name: str, kind: Any, integral: bool = False) -> NDArray[Any]:
            given = np.asarray(getattr(self, name))
            if given.dtype.kind not in ("iu" if integral else "biuf"):
                raise BadRecord(f"{name} of predictions must be {'whole ' if integral else ''}numbers, not {given.dtype}.")
            if given.dtype.kind == "f" and not np.isfinite(given).all():
                raise BadRecord(f"{name} of predictions hold NaN or infinite values.")
            if kind is np.float16:
                given = np.minimum(given, np.finfo(np.float16).max)
            array: NDArray[Any] = given.astype(kind, copy=False)
            object.__setattr__(self, name, array)
            return array

        ids = np.asarray(self.ids, dtype=np.str_)
        object.__setattr__(self, "ids", ids)
        s, d = len(ids), len(put("draws", np.int64, True))
        if ids.ndim != 1 or len(np.unique(ids)) != s:
            raise BadRecord("ids of predictions must be a list of different names.")
        if put("labels", np.int64, True).shape != (s,):
            raise BadRecord(f"labels of predictions must be [s] = [{s}], not {list(self.labels.shape)}.")
        put("decisions", np.int32, True)
        for name in self.OPTIONAL:
            if getattr(self, name) is not None:
                put(name, np.bool_ if name == "top5" else np.float16)
        for name in ("decisions", *self.OPTIONAL):
            array = getattr(self, name)
            if array is not None and array.shape != (d, s):
                raise BadRecord(f"{name} of predictions must be [d, s] = {[d, s]}, not {list(array.shape)}.")
        if len(set(self.draws.tolist())) != d or not d:
            raise BadRecord(f"draws of predictions must be different numbers, at least one, not {self.draws.tolist()}.")

    @property
    def right(self) -> NDArray[np.bool_]:
        """Bool [d, s]."""
        return np.asarray(self.decisions == self.labels)

    def by_id(self) -> Predictions:
        """The same with samples in the order of their ids, so that cells of one task line up."""
        order = np.argsort(self.ids, kind="stable")
        if bool((order == np.arange(len(order))).all()):
            return self
        parts: dict[str, Any] = {name: getattr(self, name) for name in ("decisions", *self.OPTIONAL)}
        taken: dict[str, Any] = {name: None if array is None else array[:, order] for name, array in parts.items()}
        return Predictions(ids=self.ids[order], labels=self.labels[order], draws=self.draws, **taken)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Name -> array, absent ones left out: what the file holds."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if getattr(self, f.name) is not None}


class Results:
    """One output folder: ``records`` (what counts: later lines replace earlier ones of the same cell) and predictions.

    ``Results(folder)`` reads what is there, which may be nothing yet; ``must_exist=True`` raises ``BadRecord`` where no records
    file is. A last line that a killed run left half-written is left out with a note in the log and cut off by the next
    ``append``; so is a cell of which only some draws were written. Any other broken line is ``BadRecord``.
    Several processes may append to one folder: each append holds a lock on the records file and first reads what is new.
    """

    def __init__(self, folder: str | os.PathLike[str], *, must_exist: bool = False) -> None:
        self.folder = Path(folder)
        self.path = self.folder / LINES
        self._cells: dict[Question, dict[int | None, Record]] = {}  # by draw, the last word on every question
        self._read_to, self._lines = 0, 0  # bytes and number of the whole lines that have been read
        if self.path.is_file():
            try:
                with self.path.open("rb") as file:
                    self._read(file)
            except OSError as error:
                raise BadRecord(f"{self.path} cannot be read: {error.strerror}.") from None
        elif must_exist:
            what = "is no results folder: it has no records.jsonl" if self.folder.is_dir() else "is not there"
            raise BadRecord(
                f"{self.folder} {what}. Give the folder that 'run' wrote to (its option -o, by default ./runs/...)."
            )
        for (task, condition, strategy, _), cell in self._cells.items():
            if not _whole(cell):
                where = f"{strategy} on {task} ({condition})"
                log.warning("%s: %s has only some of its draws and does not count; the next run mends it.", self.path, where)

    def __repr__(self) -> str:
        return f"Results({str(self.folder)!r}: {len(self.records)} records)"

    @property
    def records(self) -> tuple[Record, ...]:
        """What counts, in the order in which the questions were first answered."""
        return tuple(record for cell in self._cells.values() if _whole(cell) for record in cell.values())

    @property
    def keys(self) -> frozenset[str]:
        """Keys of the records that need not be made again: done with their predictions in place, or not applicable."""
        there = {path.stem for path in (self.folder / PREDICTIONS).glob("*.npz")}
        return frozenset(
            record.key
            for record in self.records
            if record.status == "not-applicable" or (record.status == "done" and record.cell in there)
        )

    def _holds(self, record: Record) -> bool:
        """Whether writing this record would add nothing."""
        cell = self._cells.get(record.question, {})
        same = [held for held in cell.values() if held.key == record.key and held.status == record.status]
        if record.status == "done":
            return bool(same) and _whole(cell) and (self.folder / place(record.cell)).is_file()
        return any(held.reason == record.reason for held in same)

    def _take(self, record: Record) -> None:
        """Let a record replace what it corrects: another draw of the same cell stays, everything else of its question goes."""
        cell = self._cells.setdefault(record.question, {})
        if any(held.cell != record.cell or {held.status, record.status} != {"done"} for held in cell.values()):
            cell.clear()
        cell[record.draw] = record

    def _read(self, file: IO[bytes]) -> None:
        file.seek(self._read_to)
        whole, newline, rest = file.read().rpartition(b"\n")
        for line in whole.split(b"\n") if newline else []:
            self._lines += 1
            where = f"{self.path}, line {self._lines},"
            try:
                text = line.decode()
            except UnicodeDecodeError:
                raise BadRecord(f"{where} is no UTF-8 text: mend or remove that line.") from None
            self._take(Record.parse(text, where))
        self._read_to += len(whole) + len(newline)
        if rest:
            log.warning("%s: the last line was only half written and does not count; the next run mends it.", self.path)

    def append(self, records: Sequence[Record], predictions: Predictions | None = None) -> int:
        """Write the records of one cell and its predictions; see ``extend``."""
        return self.extend([(records, predictions)])

    def extend(self, cells: Sequence[tuple[Sequence[Record], Predictions | None]]) -> int:
        """Write the records of several cells, each with its predictions, and return how many lines were new.

        Predictions come first, under a temporary name, then all lines in one write; both are on the disk when this returns.
        Records whose key is held already change nothing. Raises ``BadRecord`` for records that do not fit together, and
        when the disk is full.
        """
        cells = [(records, predictions) for records, predictions in cells if records]
        for records, predictions in cells:
            _fit_together(records, predictions)
        new: list[Record] = []
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with self.path.open("a+b") as file, _locked(file):
                self._mend(file)
                for records, predictions in cells:
                    lacking = [record for record in records if not self._holds(record)]
                    if lacking and predictions is not None:
                        cell = lacking[0].cell
                        self._store(cell, predictions)
                        lacking = [dataclasses.replace(record, predictions=place(cell)) for record in lacking]
                    new += lacking
                if not new:
                    return 0
                text = "".join(record.line() + "\n" for record in new).encode()
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            why = error.strerror or str(error)
            raise BadRecord(
                f"{self.folder} cannot be written: {why}. Finished work is kept; make room and run again."
            ) from None
        self._lines += len(new)
        self._read_to += len(text)
        for record in new:
            self._take(record)
        return len(new)

    def _mend(self, file: IO[bytes]) -> None:
        """Read what other processes have added since, and cut off a half-written last line."""
        if file.seek(0, os.SEEK_END) != self._read_to:
            if file.tell() < self._read_to:
                raise BadRecord(f"{self.path} has become shorter while it was in use: run again.")
            self._read(file)
            file.truncate(self._read_to)
            file.seek(0, os.SEEK_END)

    def _store(self, cell: str, predictions: Predictions) -> None:
        path = self.folder / place(cell)
        path.parent.mkdir(exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".part")
        try:
            with os.fdopen(handle, "wb") as file:
                np.savez_compressed(file, allow_pickle=False, **predictions.arrays())
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).chmod(0o644)
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise

    def predictions(self, cell: str) -> Predictions:
        """What was answered in that cell; ``BadRecord`` where the file is missing, damaged, or not what it should be."""
        path = self.folder / place(cell)
        cure = f"remove it and run the same command again with -o {self.folder}: only that cell is made anew"
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
                return Predictions(**{name: stored[name] for name in stored.files})
        except FileNotFoundError:
            raise BadRecord(
                f"{path} is missing, without which there are no intervals: run the same command again with -o {self.folder}."
            ) from None
        except BadRecord as error:
            raise BadRecord(f"{path}: {error} Cure: {cure}.") from None
        except (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError):
            raise BadRecord(f"{path} is damaged or no file of predictions: {cure}.") from None

    def check_same(
        self,
        *,
        pool: Sequence[str],
        shots: int,
        draws: int,
        seed: int,
        precision: str,
        limit: int | None,
        versions: Mapping[str, int | str],
        suites: Mapping[str, str] | None = None,
    ) -> None:
        """Raise ``BadRecord`` if this folder holds results of another configuration; more tasks or strategies are welcome.

        Shots and draws are compared with records that used labels, ``versions`` (task -> version) with records of those tasks,
        ``suites`` (name -> version and engine, as ``edition`` says them) with records of those corruption suites.
        """
        wanted = {f"suite {name}": value for name, value in (suites or {}).items()}
        for record in self.records:
            held = settings(record)
            asked: dict[str, Any] = {"pool": tuple(sorted(pool)), "seed": seed, "precision": precision, "limit": limit}
            if record.shots:
                asked |= {"shots": shots, "draws": draws}
            if record.task in versions:
                asked[f"version of {record.task}"] = versions[record.task]
            asked |= {name: value for name, value in wanted.items() if name in held}
            for name, value in asked.items():
                if held[name] != value:
                    raise BadRecord(
                        f"{self.folder} holds results with {name} {shown(held[name])}, this run has {name} {shown(value)}: "
                        f"give another folder with -o, or the same {name}."
                    )


class Held(Results):
    """Results that are kept in memory only: of what is measured, shown and not kept. ``name`` stands where a folder would."""

    def __init__(self, name: str) -> None:
        self.folder = Path(name)
        self._cells = {}
        self._predictions: dict[str, Predictions] = {}

    @property
    def keys(self) -> frozenset[str]:
        return frozenset(record.key for record in self.records if record.status != "failed")

    def append(self, records: Sequence[Record], predictions: Predictions | None = None) -> int:
        if not records:
            return 0
        _fit_together(records, predictions)
        for record in records:
            self._take(record)
        if predictions is not None:
            self._predictions[records[0].cell] = predictions
        return len(records)

    def predictions(self, cell: str) -> Predictions:
        return self._predictions[cell]


def _fit_together(records: Sequence[Record], predictions: Predictions | None) -> None:
    """Raise ``BadRecord`` unless these are the draws of one cell, with predictions where they are done."""
    done = [record for record in records if record.status == "done"]
    if len({(record.question, record.cell) for record in records}) > 1:
        raise BadRecord("records appended together must be the draws of one cell.")
    if bool(done) != (predictions is not None):
        raise BadRecord(f"{records[0].strategy} on {records[0].task}: done records come with predictions, others without.")
    if predictions is not None:
        draws = sorted(-1 if record.draw is None else record.draw for record in done)
        if draws != sorted(predictions.draws.tolist()) or len(done) != len(records):
            raise BadRecord(f"{records[0].strategy} on {records[0].task}: predictions and records are of different draws.")
        if any(record.n != len(predictions.ids) for record in done):
            raise BadRecord(f"{records[0].strategy} on {records[0].task}: predictions and records differ in samples.")


def _whole(cell: Mapping[int | None, Record]) -> bool:
    """Whether every draw that was asked for is there."""
    return all(record.status != "done" or record.draw is None or len(cell) >= record.draws for record in cell.values())


def settings(record: Record) -> dict[str, Any]:
    """What must be equal in all records that stand in one folder: pool, shots, draws, seed, precision, limit, card versions."""
    return {
        "pool": tuple(sorted(record.pool)),
        "shots": record.shots,
        "draws": record.draws,
        "seed": record.seed,
        "precision": record.provenance.get("precision"),
        "limit": record.limit,
        f"version of {record.task}": record.task_version,
        **({f"suite {suite['name']}": edition(suite)} if (suite := record.provenance.get("suite")) else {}),
    }


def edition(suite: Mapping[str, Any]) -> str:
    """What of a corruption suite must be equal in one folder: ``version 1, engine native``."""
    return f"version {suite['version']}, engine {suite['engine']}"


def shown(value: object) -> str:
    """A setting in a sentence: ``none`` for None, names joined by ``+``."""
    if isinstance(value, tuple):
        return " + ".join(map(str, value))
    return "none" if value is None else str(value)


@contextlib.contextmanager
def _locked(file: IO[bytes]) -> Iterator[None]:
    """Keep other processes from appending meanwhile; where the system has no such lock, there is one writer at a time."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    fcntl.flock(file, fcntl.LOCK_EX)  # released when the file is closed
    yield
