"""What the report shows, gathered from records, stored answers and, where they are at hand, the images themselves."""

from __future__ import annotations

import base64
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensemble_bench import leaderboard, pictures, request, sources
from ensemble_bench.errors import BenchError
from ensemble_bench.leaderboard import Row
from ensemble_bench.records import Predictions, Record, Results
from ensemble_bench.report import tables
from ensemble_bench.report.page import figures
from ensemble_bench.report.page.figures import Chart
from ensemble_bench.sources.own import is_own
from ensemble_bench.sources.own import read as without_card
from ensemble_bench.task import Catalogue, Task

CLEAN = "clean"
SINGLE = "single:"
SIDE = 72
COLUMNS = {
    "acc1": "acc1 %",
    "mean_per_class_recall": "recall %",
    "ece": "ECE %",
    "gap_closed": "gap closed %",
    "gap_closed_honest": "honest gap %",
}
TELLING = ("log-avg", "mean-probability", "calibrated-log-avg", "super-learner", "nlc")
"""Strategies whose confidence is looked at, as far as they are there."""

Line = tuple[str, int]


@dataclass(frozen=True)
class Entry:
    """One cell of a table: what is shown, what it is sorted by, what is told on pointing at it, its shade from -1 to 1."""

    text: str
    sort: float | str = ""
    title: str = ""
    shade: float = 0.0
    best: bool = False


@dataclass(frozen=True)
class Strip:
    """One line of a table."""

    name: str
    group: str
    family: str
    condition: str
    entries: tuple[Entry, ...]


@dataclass(frozen=True)
class Sheet:
    """A table: its header and its lines."""

    header: tuple[str, ...]
    strips: tuple[Strip, ...]


@dataclass(frozen=True)
class Shot:
    """One image of the drill-down, with what every backbone said."""

    id: str
    label: str
    source: str
    answers: tuple[tuple[str, str, bool], ...]


@dataclass(frozen=True)
class Drill:
    """The images of a task that only one backbone has right, and those that none has."""

    task: str
    only: tuple[Shot, ...]
    nobody: tuple[Shot, ...]
    counts: tuple[int, int, int]
    lacking: str = ""


@dataclass
class Page:
    """Everything on the page."""

    title: str
    caption: str
    figures: list[tuple[str, str]]
    board: Sheet
    conditions: list[str]
    families: list[str]
    heat: Sheet
    missing: list[str]
    charts: dict[str, Chart] = field(default_factory=dict)
    pairs: Sheet | None = None
    drills: list[Drill] = field(default_factory=list)
    provenance: list[tuple[str, list[tuple[str, str]]]] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)


def gathered(results: Sequence[Results], thumbnails: int, cards: tuple[Path, ...]) -> Page:
    """The page of these results folders. Raises what ``leaderboard.rows`` raises."""
    rows = leaderboard.rows(results)
    view = _View(rows)
    page = Page(
        title="How much do these backbones complement each other?",
        caption=leaderboard.caption(results),
        figures=view.headlines(),
        board=view.board(),
        conditions=view.means,
        families=list(dict.fromkeys(row["family"] for row in rows)),
        heat=view.heat(),
        missing=view.missing(),
        provenance=_provenance(results),
        commands=[_command(one) for one in results],
    )
    page.charts = view.charts()
    answers = _answers(results)
    page.charts |= _reliable(results)
    if len(answers) and all(len(own.names) > 1 for own in answers.values()):
        right = np.concatenate([own.right for own in answers.values()], axis=1)
        names = next(iter(answers.values())).names
        page.charts["upset"] = figures.upset(names, right)
        page.pairs = _pairs(names, right)
        catalogue = Catalogue(cards)
        page.drills = [_drill(task, own, thumbnails, catalogue, results) for task, own in answers.items()]
    return page


def _name(line: Line) -> str:
    return line[0].removeprefix(SINGLE)


class _View:
    """Board rows, found by what they are about."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = rows
        self.found = {(row["strategy"], row["shots"], row["task"], row["condition"], row["metric"]): row for row in rows}
        conditions = list(dict.fromkeys(row["condition"] for row in rows))
        self.clean = CLEAN if CLEAN in conditions else conditions[0] if conditions else CLEAN
        tasks = list(dict.fromkeys(row["task"] for row in rows if row["condition"] == self.clean))
        self.tasks = [task for task in tasks if not task.startswith("mean(")]
        over = [task for task in tasks if task.startswith("mean(")]
        self.head = over[0] if over else self.tasks[0] if self.tasks else ""
        self.suites = [name[5:-1] for name in conditions if name.startswith("mean(") and ":" not in name]
        self.means = [self.clean, *(f"mean({suite})" for suite in self.suites)]
        self.all_conditions = conditions
        about = {(row["strategy"], row["shots"]): row for row in rows}
        groups = list(dict.fromkeys(tables.group(row) for row in rows))
        self.about = about
        self.lines: list[Line] = sorted(
            about, key=lambda line: (groups.index(tables.group(about[line])), -(self.value(line, self.head) or -1.0), line)
        )

    def value(self, line: Line, task: str, condition: str = "", metric: str = "acc1") -> float | None:
        """One number of the board, or None."""
        row = self.found.get((*line, task, condition or self.clean, metric))
        return None if row is None else row["value"]

    def headlines(self) -> list[tuple[str, str]]:
        """The figures at the top: a label and a number each."""

        def shown(text: str, value: float | None, unit: str = " %") -> list[tuple[str, str]]:
            return [] if value is None else [(text, f"{100 * value:.1f}{unit}")]

        best, oracle = (self.value((name, 0), self.head) for name in ("oracle-best-single", "oracle"))
        ranked = [line for line in self.lines if self.about[line]["family"] != "oracle" and not line[0].startswith(SINGLE)]
        values = [(value, line) for line in ranked if (value := self.value(line, self.head)) is not None]
        found = shown("best single backbone of each task (chosen on test labels)", best)
        if values:
            value, line = max(values)
            found += shown(f"best combination: {_name(line)}", value)
        found += shown("oracle: some backbone is right", oracle)
        if best is not None and oracle is not None:
            found += shown("oracle gap", oracle - best, " points")
        row = self.found.get(("oracle", 0, self.head, self.clean, "complementarity"))
        if row and row["value"] is not None:
            found.append(("complementarity beyond chance", f"{row['value']:.2f}"))
        return found

    def board(self) -> Sheet:
        """Means over tasks, a line a strategy and condition."""
        strips = []
        for condition in self.means:
            for line in self.lines:
                entries = [self._number(line, self.head, condition, metric) for metric in COLUMNS]
                about = next(
                    (row for row in self.rows if (row["strategy"], row["shots"]) == line and row["task"] == self.head), None
                )
                labels = about["labels"] if about else self.about[line]["labels"]
                gflops = about["gflops"] if about else None
                cost = Entry("–" if gflops is None else f"{gflops:.3g}", -1.0 if gflops is None else gflops)
                strips.append(self._strip(line, condition, (Entry(f"{labels:,}", labels), cost, *entries)))
        return Sheet(("strategy", "labels", "GFLOPs", *COLUMNS.values()), tuple(strips))

    def _strip(self, line: Line, condition: str, entries: Iterable[Entry]) -> Strip:
        row = self.about[line]
        return Strip(_name(line), tables.group(row), row["family"], condition, tuple(entries))

    def _number(self, line: Line, task: str, condition: str, metric: str) -> Entry:
        row = self.found.get((*line, task, condition, metric))
        if row is None:
            return Entry("", -1e9, "there is no such cell")
        if row["value"] is None:
            return Entry("–", -1e9, f"{row['status']}: {row['reason']}")
        value, low, high = (None if row[key] is None else 100 * row[key] for key in ("value", "ci_low", "ci_high"))
        assert value is not None
        said = "" if low is None or high is None else f"95 % interval {low:.1f} to {high:.1f}"
        return Entry(f"{value:.1f}", value, said)

    def heat(self) -> Sheet:
        """Accuracy of every strategy on every task, shaded by its distance from the best single backbone there."""
        strips = []
        tops = {
            (task, group): max(
                (value for line in self.lines if self._group(line) == group and (value := self.value(line, task)) is not None),
                default=None,
            )
            for task in self.tasks
            for group in {self._group(line) for line in self.lines}
        }
        for line in self.lines:
            entries = []
            for task in self.tasks:
                plain, value = self._number(line, task, self.clean, "acc1"), self.value(line, task)
                base = self.value(("oracle-best-single", 0), task)
                shade = 0.0 if value is None or base is None else float(np.clip((value - base) / 0.15, -1, 1))
                best = value is not None and value == tops[task, self._group(line)]
                entries.append(Entry(plain.text, plain.sort, plain.title, shade, best))
            strips.append(self._strip(line, self.clean, entries))
        folders = {task.rpartition("/")[0] for task in self.tasks}
        names = [task.rpartition("/")[2] if len(folders) == 1 else task for task in self.tasks]
        return Sheet(("strategy", *names), tuple(strips))

    def _group(self, line: Line) -> str:
        return tables.group(self.about[line])

    def missing(self) -> list[str]:
        """A sentence for every cell that has no number: nothing is left out in silence."""
        found: dict[str, None] = {}
        for row in self.rows:
            if row["metric"] == "acc1" and row["value"] is None and not row["task"].startswith("mean("):
                name = row["strategy"].removeprefix(SINGLE)
                found[f"{name} on {row['task']} ({row['condition']}): {row['status']}: {row['reason']}"] = None
        return list(found)

    def charts(self) -> dict[str, Chart]:
        """What is drawn from the board alone."""
        made: dict[str, Chart] = {}
        ranked = [line for line in self.lines if self.about[line]["family"] != "oracle"]
        ceiling = [(self.value(("oracle-best-single", 0), task), self.value(("oracle", 0), task)) for task in self.tasks]
        combined = [line for line in ranked if not line[0].startswith(SINGLE) and self.value(line, self.head) is not None]
        whole = [line for line in combined if all(self.value(line, task) is not None for task in self.tasks)]
        if whole and all(value is not None for pair in ceiling for value in pair):
            top = max(whole, key=lambda line: self.value(line, self.head) or 0)
            best, oracle = ([float(pair[end] or 0) for pair in ceiling] for end in (0, 1))
            made["gaps"] = figures.gaps(
                self.tasks, best, [float(self.value(top, task) or 0) for task in self.tasks], oracle, _name(top)
            )
        priced = [
            (line, row["gflops"], row["value"])
            for line in ranked
            if (row := self.found.get((*line, self.head, self.clean, "acc1"))) and row["value"] is not None and row["gflops"]
        ]
        if len(priced) > 1:
            names = [_name(line) for line, _, _ in priced]
            families = ["single" if line[0].startswith(SINGLE) else self.about[line]["family"] for line, _, _ in priced]
            made["pareto"] = figures.pareto(names, [one[1] for one in priced], [one[2] for one in priced], families)
        every = [line for line in ranked if all(self.value(line, task) is not None for task in self.tasks)][:24]
        table = np.array([[self.value(line, task) or 0.0 for line in every] for task in self.tasks])
        if every and (drawn := figures.ranks([_name(line) for line in every], table)):
            made["ranks"] = drawn
        for suite in self.suites:
            curves, strong = self._curves(suite)
            if curves:
                made[f"severities {suite}"] = figures.severities(suite, curves, strong)
        return made

    def _curves(self, suite: str) -> tuple[dict[str, dict[int, float]], list[str]]:
        start = f"mean({suite}:*:"
        levels = {int(name[len(start) : -1]): name for name in self.all_conditions if name.startswith(start)} | {0: self.clean}
        curves = {}
        for line in self.lines:
            curve = {level: self.value(line, self.head, name) for level, name in levels.items()}
            known = {level: value for level, value in curve.items() if value is not None}
            if len(known) > 1:
                curves[_name(line)] = known
        wanted = ["oracle", "oracle-best-single", "log-avg", "nlc", "best-single"]
        return curves, [name for name in wanted if name in curves]


@dataclass(frozen=True)
class _Singles:
    """What the single backbones answered on one task: ids, labels, decisions [b, s]."""

    names: list[str]
    ids: NDArray[np.str_]
    labels: NDArray[np.int64]
    decisions: NDArray[np.int64]

    @property
    def right(self) -> NDArray[np.bool_]:
        return np.asarray(self.decisions == self.labels)


def _cells(results: Sequence[Results]) -> dict[tuple[str, str], tuple[Results, Record]]:
    """The first record of every finished clean cell, by task and strategy."""
    found: dict[tuple[str, str], tuple[Results, Record]] = {}
    for one in results:
        for record in one.records:
            if record.status == "done" and record.condition in (CLEAN, "all"):
                found.setdefault((record.task, record.strategy), (one, record))
    return found


def _predictions(results: Results, record: Record) -> Predictions | None:
    try:
        return results.predictions(record.cell).by_id()
    except BenchError:
        return None


def _answers(results: Sequence[Results]) -> dict[str, _Singles]:
    """Answers of the single backbones by task, of the tasks where all of them are stored."""
    cells = _cells(results)
    pool = sorted({strategy for _, strategy in cells if strategy.startswith(SINGLE)})
    found = {}
    for task in dict.fromkeys(task for task, _ in cells):
        own = [_predictions(*cells[task, name]) for name in pool if (task, name) in cells]
        there = [one for one in own if one is not None]
        if pool and len(there) == len(pool) and all(np.array_equal(one.ids, there[0].ids) for one in there):
            decisions = np.stack([one.decisions[0] for one in there]).astype(np.int64)
            names = [name.removeprefix(SINGLE) for name in pool]
            found[task] = _Singles(names, there[0].ids, there[0].labels, decisions)
    return found


def _reliable(results: Sequence[Results]) -> dict[str, Chart]:
    """The reliability diagram of strategies whose confidence is stored, all tasks together."""
    curves: dict[str, list[tuple[NDArray[Any], NDArray[Any]]]] = {}
    for (_, strategy), (one, record) in _cells(results).items():
        if strategy in TELLING and (seen := _predictions(one, record)) is not None and seen.confidence is not None:
            curves.setdefault(strategy, []).append((seen.confidence.ravel().astype(float), seen.right.ravel().astype(float)))
    joined = {
        name: (np.concatenate([one for one, _ in parts]), np.concatenate([other for _, other in parts]))
        for name in TELLING
        if (parts := curves.get(name))
    }
    return {"reliability": figures.reliability(joined)} if joined else {}


def _pairs(names: Sequence[str], right: NDArray[np.bool_]) -> Sheet:
    """How often one backbone is right where another is wrong, all images together."""
    strips = []
    for a, name in enumerate(names):
        entries = []
        for b, other in enumerate(names):
            wrong = int((~right[a]).sum())
            if a == b or not wrong:
                entries.append(Entry("", -1.0))
                continue
            share = float(right[b][~right[a]].mean())
            said = f"of the {wrong:,} images that {name} has wrong, {other} has {100 * share:.1f} % right"
            entries.append(Entry(f"{100 * share:.0f}", share, said, shade=share))
        alone = float((right[a] & (right.sum(0) == 1)).mean())
        entries.append(Entry(f"{100 * alone:.1f}", alone, f"{name} alone is right on {100 * alone:.1f} % of all images"))
        strips.append(Strip(name, "", "", CLEAN, tuple(entries)))
    return Sheet(("wrong: rescued by", *names, "right alone %"), tuple(strips))


def _drill(task: str, own: _Singles, wanted: int, catalogue: Catalogue, results: Sequence[Results]) -> Drill:
    """The drill-down of a task; without its pictures where these are not at hand, with the reason."""
    hits = own.right.sum(0)
    chosen = {"only": np.flatnonzero(hits == 1), "nobody": np.flatnonzero(hits == 0)}
    counts = (len(chosen["only"]), len(chosen["nobody"]), len(hits))
    shown = {kind: _spread(rows, wanted) for kind, rows in chosen.items()}
    every = np.concatenate(list(shown.values()))
    shots: dict[int, str] = {}
    card, lacking = _card(task, catalogue, results)
    if card is not None and len(every):
        try:
            source = sources.named(sources.of(card))
            card = source.task  # with the names of the classes, where these come with the images
            ids = [str(own.ids[row]) for row in every]
            for row, picture in zip(every, source.pictures("test", ids), strict=True):
                shots[int(row)] = _thumbnail(picture)
        except BenchError as error:
            lacking = f"the images are not at hand: {error}"

    def name(label: int) -> str:
        return "no answer" if label < 0 else card.classes[label] if card is not None and card.classes else f"class {label}"

    def shot(row: int) -> Shot:
        answers = zip(own.names, own.decisions[:, row], own.right[:, row], strict=True)
        said = tuple((backbone, name(int(answer)), bool(right)) for backbone, answer, right in answers)
        return Shot(str(own.ids[row]), name(int(own.labels[row])), shots.get(row, ""), said)

    parts = {kind: tuple(shot(int(row)) for row in rows) for kind, rows in shown.items()}
    return Drill(task, parts["only"], parts["nobody"], counts, lacking)


def _spread(rows: NDArray[np.intp], wanted: int) -> NDArray[np.intp]:
    """At most ``wanted`` of these rows, evenly spread."""
    if len(rows) <= wanted:
        return rows
    return rows[np.linspace(0, len(rows) - 1, wanted).astype(int)] if wanted else rows[:0]


def _card(task: str, catalogue: Catalogue, results: Sequence[Results]) -> tuple[Task | None, str]:
    """The card of a task as the records used it, or why there is none."""
    versions = {record.task_version for one in results for record in one.records if record.task == task}
    try:
        card = _without_card(task, results) or catalogue.task(task)
    except BenchError as error:
        return None, f"the images are not at hand: {error}"
    if versions != {card.version}:
        return (
            None,
            f"the images are not at hand: these results are of version {', '.join(map(str, sorted(versions)))} of the card",
        )
    return card, ""


def _without_card(task: str, results: Sequence[Results]) -> Task | None:
    """The task as ``folder:PATH`` or ``wds:PATH``, if that is how one of these runs asked for it; None otherwise."""
    for one in results:
        path = one.folder / "config.toml"
        for text in request.read(path).get("tasks", ()) if path.is_file() else ():
            if is_own(text) and (found := without_card(text)).name == task:
                return found
    return None


def _thumbnail(picture: pictures.Picture) -> str:
    """A small JPEG of a picture as the source of an ``img``."""
    from PIL import Image

    image = Image.fromarray(picture)
    image.thumbnail((SIDE, SIDE))
    data = pictures.encoded(np.asarray(image), 82)
    return "data:image/jpeg;base64," + base64.b64encode(data).decode()


def _provenance(results: Sequence[Results]) -> list[tuple[str, list[tuple[str, str]]]]:
    """What the records of each folder say of where they come from, each different value once."""
    found = []
    for one in results:
        said: dict[str, dict[str, None]] = {}
        for record in one.records:
            for name, value in _flat(record.provenance):
                said.setdefault(name, {})[value] = None
        times = sorted(said.pop("time", {}))
        facts = [(name, " · ".join(list(values)[:6]) + (" · …" if len(values) > 6 else "")) for name, values in said.items()]
        found.append((str(one.folder), [*facts, *([("time", f"{times[0]} to {times[-1]}")] if times else [])]))
    return found


def _flat(values: Mapping[str, Any], before: str = "") -> Iterable[tuple[str, str]]:
    for name, value in values.items():
        if name in ("card", "prompts", "work"):  # one a task: they are in the records
            continue
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{name} ")
        else:
            yield f"{before}{name}", str(value)


def _command(results: Results) -> str:
    """The command that makes these results again, from the configuration beside them."""
    path = results.folder / "config.toml"
    if not path.is_file():
        return f"# {results.folder} has no config.toml: its command is not known"
    flags = {"tasks": "-t", "backbones": "-b", "strategies": "-s", "corruptions": "-c"}
    words = ["ensemble-bench", "run"]
    defaults = request.Request()
    try:
        config = request.read(path)
    except BenchError as error:
        return f"# {error}"
    for name, value in config.items():
        if value == getattr(defaults, name):
            continue
        if name in flags:
            words += [flags[name], *value]
        elif isinstance(value, tuple):
            for item in value:
                words += [f"--{name.removesuffix('s')}" if name == "plugins" else f"--{name}", str(item)]
        elif value is True:
            words.append("--" + name.replace("_", "-"))
        elif value is not None and value is not False:
            words += ["--" + name.replace("_", "-"), str(value)]
    return shlex.join(words)
