"""Our results in CLIP_benchmark's format, and its results as rows of our board."""

from __future__ import annotations

import ast
import csv
import functools
import hashlib
import json
import math
import re
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ensemble_bench import fits, leaderboard
from ensemble_bench.backbones import POOLS
from ensemble_bench.corrupt.manifest import whole
from ensemble_bench.errors import BadOption, BadRecord
from ensemble_bench.host.datasets import PREFIX
from ensemble_bench.leaderboard import ALWAYS, SCORED, Row
from ensemble_bench.records import Record, Results
from ensemble_bench.strategies import registry
from ensemble_bench.strategies.spelling import parsed

KEYS = ("dataset", "model", "pretrained", "task", "metrics", "language")
OURS = "ensemble_bench"
NO_PREDICTIONS = "no predictions"
ZERO_SHOT = "zeroshot_classification"
_BESIDE = frozenset({*KEYS, OURS, "model_fullname", "classnames", "templates"})
_KEPT = ("task", "condition", "strategy", "family", "shots", "draws", "labels", "n", "limit", "gflops", "backbones")
_LENGTH = 200  # of a file's name, with room for its ending

Entry = dict[str, Any]


def pool_name(pool: Sequence[str]) -> str:
    """What ``--pretrained`` calls a pool: its name, or its backbones with commas."""
    return next((name for name, members in POOLS.items() if set(members) == set(pool)), ",".join(pool))


def written(results: Sequence[Results], folder: Path) -> tuple[list[Path], list[str]]:
    """One JSON file for every (task, condition, strategy, shots) that was answered, and what was left out, as sentences.

    The host's six keys are kept: ``dataset`` is ``eb/TASK[@CONDITION]``, ``model`` the strategy, ``pretrained`` the pool;
    ``metrics`` holds acc1, acc5 and mean_per_class_recall where they are numbers. ``task`` is zeroshot_classification,
    fewshot_classification (it saw labelled examples) or oracle (it saw the answers: a ceiling). Everything else, intervals and
    provenance among it, is under the key ``ensemble_bench``.
    """
    about = {record.question: record for one in results for record in one.records}
    grouped: dict[tuple[str, str, str, int], list[Row]] = {}
    for row in leaderboard.rows(results):
        question = row["task"], row["condition"], row["strategy"], row["shots"]
        if question in about and row["metric"] in (*ALWAYS, *SCORED):
            grouped.setdefault(question, []).append(row)
    made: dict[str, Entry] = {}
    left_out = []
    for question, rows in grouped.items():
        acc1 = next(row for row in rows if row["metric"] == "acc1")
        if acc1["value"] is None:
            left_out.append(f"{question[2]} on {question[0]} ({question[1]}): {acc1['status']}: {acc1['reason']}")
            continue
        entry = _entry(rows, about[question])
        name = _file(entry, question[3])
        if name in made:
            name = f"{name}_{_digest(question)}"
        made[name] = entry
    paths = [folder / f"{name}.json" for name in made]
    for path, entry in zip(paths, made.values(), strict=True):
        with whole(path) as file:
            file.write(json.dumps(entry, allow_nan=False, ensure_ascii=False, indent=1).encode() + b"\n")
    return paths, left_out


def _entry(rows: Sequence[Row], record: Record) -> Entry:
    first = rows[0]
    family, shots = first["family"], first["shots"]
    numbers = {row["metric"]: {name: row[name] for name in ("value", "ci_low", "ci_high")} for row in rows}
    return {
        "dataset": PREFIX + first["task"] + ("" if first["condition"] == "clean" else f"@{first['condition']}"),
        "model": first["strategy"],
        "pretrained": pool_name(record.pool),
        "task": "oracle" if family == "oracle" else "fewshot_classification" if shots else ZERO_SHOT,
        "metrics": {name: numbers[name]["value"] for name in ALWAYS if numbers[name]["value"] is not None},
        "language": "en",
        OURS: {
            "schema": record.schema,
            **{name: first[name] for name in _KEPT},
            "pool": list(record.pool),
            "seed": record.seed,
            "metrics": {name: own for name, own in numbers.items() if own["value"] is not None},
            "provenance": dict(record.provenance),
        },
    }


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:12]


def _file(entry: Entry, shots: int) -> str:
    """A file's name in the host's manner, without its ending, that every file system takes."""
    parts = [entry["dataset"], entry["pretrained"], entry["model"], entry["language"], entry["task"]]
    name = re.sub(r"[^\w.@=+,-]", "_", "_".join([*parts, *([f"{shots}shot"] if shots else [])]))
    return name if len(name) <= _LENGTH else f"{name[: _LENGTH - 13]}_{_digest(name)}"


# From the host ------------------------------------------------------------------------------------------------------------


def rows(paths: Iterable[Path]) -> list[Row]:
    """Board rows of the host's JSON files, folders of them, or CSV files: a single backbone each, without intervals.

    What is called like one of our strategies is a row of that. Metrics keep the host's names; one that is no number is a row
    without a value. Rows of several tasks get a mean over those that have the metric, as on our own board. A file that we
    wrote comes back as it was. Of two files with the same number the one that knows its interval counts. Raises BadRecord.
    """
    found: dict[tuple[Any, ...], Row] = {}
    for path in paths:
        for where, entry in _entries(path):
            for row in _of_entry(entry, where):
                key = tuple(row[name] for name in ("strategy", "task", "metric", "condition", "shots"))
                known = found.get(key, row)
                if not _same(known["value"], row["value"]):
                    raise BadRecord(f"{where}: another file has another {row['metric']} of {row['strategy']} on {row['task']}.")
                found[key] = row if known["ci_low"] is None else known
    return [*_means(list(found.values())), *found.values()]


def _same(one: float | None, other: float | None) -> bool:
    """Whether two numbers are the same but for the order of a sum."""
    return one == other if one is None or other is None else math.isclose(one, other, rel_tol=1e-9)


def _files(path: Path) -> list[Path]:
    """The file itself, or the JSON files of a folder, as the host takes them."""
    if path.is_dir():
        found = sorted(path.glob("*.json"))
        if not found:
            raise BadRecord(f"{path} holds no JSON file.")
        return found
    return [path]


def _entries(path: Path) -> Iterator[tuple[str, Entry]]:
    """Where each result stands, and the result."""
    for file in _files(path):
        if file.suffix.lower() == ".csv":
            yield from _of_csv(file)
        else:
            yield str(file), checked(file)


def checked(path: Path) -> Entry:
    """The result of one JSON file; BadRecord where the host itself could not use it."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadRecord(f"{path} cannot be read: {error.strerror}.") from None
    except ValueError as error:
        raise BadRecord(f"{path} is cut off, or no JSON ({error}): evaluate again.") from None
    if not isinstance(found, dict) or not isinstance(found.get("metrics"), dict):
        raise BadRecord(f"{path} is no result of CLIP_benchmark: it has no 'metrics'.")
    lost = [key for key in KEYS if key not in found]
    if lost:
        raise BadRecord(f"{path} is no result of CLIP_benchmark: it has no {lost[0]!r}.")
    return found


def _of_csv(path: Path) -> Iterator[tuple[str, Entry]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            table = list(csv.DictReader(file))
    except OSError as error:
        raise BadRecord(f"{path} cannot be read: {error.strerror}.") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadRecord(f"{path} is no CSV file: {error}.") from None
    for number, line in enumerate(table, 2):
        where = f"{path}, line {number}"
        entry: Entry = {"language": "en", "metrics": {}}
        for name, value in line.items():
            if name in _BESIDE:
                entry |= {name: value or entry.get(name)}
            elif name is None or value is None:
                raise BadRecord(f"{where} has not as many cells as the header.")
            elif value:
                try:
                    entry["metrics"][name] = float(value)
                except ValueError:
                    raise BadRecord(f"{where}: {name} must be a number, not {value!r}.") from None
        lost = [key for key in ("dataset", "model", "pretrained") if not entry.get(key)]
        if lost:
            raise BadRecord(f"{where}: there is no {lost[0]!r}; a table of CLIP_benchmark's has dataset, model, pretrained.")
        if own := entry.pop(OURS, None):  # what the host made of a JSON object: the text of a Python one
            try:
                entry[OURS] = ast.literal_eval(own)
            except (ValueError, SyntaxError, MemoryError, RecursionError):
                raise BadRecord(f"{where}: what stands under {OURS!r} is cut off: build the table again.") from None
        yield where, entry


def _of_entry(entry: Entry, where: str) -> list[Row]:
    if isinstance(own := entry.get(OURS), dict):
        try:
            about = {name: own[name] for name in _KEPT}
            return [_row(about, metric, **number) for metric, number in own["metrics"].items()]
        except (KeyError, TypeError, AttributeError):
            raise BadRecord(f"{where}: what stands under {OURS!r} was not written by this version.") from None
    name = parsed(entry["model"])[0]
    ours = name in registry
    facts = registry.row(name).facts if ours else {}
    learns = facts.get("labels") == "support"
    task, _, condition = entry["dataset"].removeprefix(PREFIX).partition("@")
    if (entry.get("language") or "en") != "en":
        task = f"{task} ({entry['language']})"
    about = {
        "task": task,
        "condition": condition or "clean",
        "strategy": entry["model"] if ours else f"single:{entry['pretrained'] or 'none'}/{entry['model']}",
        "family": facts.get("family", "static") if ours else "static",
        "shots": _shots(entry["pretrained"]) if learns else 0,
        "draws": 0,
        "labels": None if learns else 0,  # the file does not say, and 0 would be a boast
        "n": None,
        "limit": None,
        "gflops": None,
        "backbones": None if ours else 1,
    }
    made = []
    for metric, value in entry["metrics"].items():
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            raise BadRecord(f"{where}: {metric} must be a number, not {value!r}.")
        made.append(_row(about, metric, value if math.isfinite(value) else None))
    return made


def _shots(pretrained: str) -> int:
    """Labelled examples a class of the fit POOL@FIT, if it is on this machine's shelf; 0 where nobody knows."""
    fit = pretrained.rpartition("@")[2]
    return int(fits.of(fits.shelf()).get(fit, {}).get("shots", 0))


def _row(about: Row, metric: str, value: float | None, ci_low: float | None = None, ci_high: float | None = None) -> Row:
    told = (
        ("done", NO_PREDICTIONS if ci_low is None else "")
        if value is not None
        else ("not-applicable", "the file has no number")
    )
    head = {name: about[name] for name in ("strategy", "task")}
    numbers = {"value": value, "ci_low": ci_low, "ci_high": ci_high, "status": told[0], "reason": told[1]}
    return {**head, "metric": metric, **{name: about[name] for name in _KEPT if name not in head}, **numbers}


def _means(found: Sequence[Row]) -> list[Row]:
    """A row over all tasks for every line, condition and metric of a classification."""
    made = []
    columns: dict[tuple[str, str], dict[tuple[str, int], dict[str, Row]]] = {}
    for row in found:
        if row["metric"] in ("acc1", "mean_per_class_recall"):
            lines = columns.setdefault((row["condition"], row["metric"]), {})
            lines.setdefault((row["strategy"], row["shots"]), {})[row["task"]] = row
    for (_, metric), lines in columns.items():
        tasks = {task for own in lines.values() for task in own}
        for own in lines.values() if len(tasks) > 1 else ():
            values = [row["value"] for row in own.values() if row["value"] is not None]
            first = next(iter(own.values()))
            about = {**first, "task": f"mean({len(tasks)} tasks)", "n": None}
            row = _row(about, metric, sum(values) / len(tasks) if len(values) == len(tasks) else None)
            if row["value"] is None:
                row |= {"status": "missing", "reason": f"{len(tasks) - len(values)} of {len(tasks)} tasks are lacking"}
            made.append(row)
    return made


def checked_first(original: Callable[[Namespace], Any]) -> Callable[[Namespace], Any]:
    """``main_build`` that looks at all files before it writes, so that one which is cut off is named."""

    @functools.wraps(original)
    def main_build(base: Namespace) -> Any:
        for path in map(Path, base.files):
            for file in _files(path):
                checked(file)
        try:
            Path(base.output).parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BadOption(f"--output {base.output}: its folder cannot be made: {error.strerror}.") from None
        return original(base)

    return main_build
