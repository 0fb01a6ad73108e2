"""Rows for people: one table over tasks, one per task, lines grouped by what they were allowed to see."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

Row = dict[str, Any]
Line = tuple[str, int]

WIDTH = 120
NONE = "-"
SINGLE = "single:"
CEILING = "ceilings: they see the test labels"
GROUPS_NOTE = "Lines are ranked within their group only: groups differ in how many labels they see. Ceilings are not ranked."


@dataclass(frozen=True)
class Block:
    """A table with a title, a header, and lines in groups; an empty heading makes no rule. Numbers are text already."""

    title: str
    header: tuple[str, ...]
    groups: tuple[tuple[str, tuple[tuple[str, ...], ...]], ...]

    def columns(self, chosen: Sequence[int]) -> Block:
        """The same with the first column and the chosen ones."""
        places = [0, *chosen]
        groups = tuple(
            (heading, tuple(tuple(line[place] for place in places) for line in lines)) for heading, lines in self.groups
        )
        return Block(self.title, tuple(self.header[place] for place in places), groups)


def text(rows: Sequence[Row], *, markdown: bool, by: str, caption: str = "") -> str:
    """The board as Markdown or for a terminal; ``by`` says what a line is."""
    parts = [caption] if caption else []
    if not rows:
        parts = [caption or "nothing has been recorded yet"]
    conditions = list(dict.fromkeys(row["condition"] for row in rows))
    for condition in conditions:
        board = _Board([row for row in rows if row["condition"] == condition], condition, markdown)
        for block in [board.by_task()] if by == "task" else [board.overall(), *board.per_task()]:
            parts += [_markdown(block)] if markdown else _narrow(block)
        parts.append("\n".join(board.notes(by)))
    if markdown:
        parts = [part.replace("\n", "  \n") if part is caption else part for part in parts]
    return "\n\n".join(part for part in parts if part) + "\n"


def group(row: Row) -> str:
    """What the strategy of a row was allowed to see, as a heading.

    >>> group({"strategy": "nlc", "family": "adaptive", "shots": 1})
    '1 label per class'
    """
    if row["family"] == "oracle":
        return CEILING
    if row["strategy"].startswith(SINGLE):
        return "single backbones (no labels)"
    shots = row["shots"]
    return f"{shots} label{'s' * (shots > 1)} per class" if shots else "no labels"


class _Board:
    """The rows of one condition, arranged."""

    def __init__(self, rows: Sequence[Row], condition: str, markdown: bool) -> None:
        self.rows = rows
        self.markdown = markdown
        self.found = {(row["strategy"], row["shots"], row["task"], row["metric"]): row for row in rows}
        every = list(dict.fromkeys(row["task"] for row in rows))
        self.tasks = [task for task in every if not _over_tasks(task)]
        self.means = [task for task in every if _over_tasks(task)]
        self.head = self.means[0] if self.means else self.tasks[0]
        about = {(row["strategy"], row["shots"]): row for row in rows}
        self.groups: dict[str, list[Line]] = {}
        for line in sorted(about, key=lambda line: (_order(about[line]), -(self.value(line, self.head) or -1.0), line)):
            self.groups.setdefault(group(about[line]), []).append(line)
        self.about = about
        limit = next((row["limit"] for row in rows if row.get("limit") is not None), None)
        self.marks = "" if condition == "clean" else f", {condition}"
        self.marks += "" if limit is None else f" (limit {limit}: NOT A FULL RESULT)"

    def row(self, line: Line, task: str, metric: str = "acc1") -> Row | None:
        return self.found.get((*line, task, metric))

    def value(self, line: Line, task: str, metric: str = "acc1") -> float | None:
        row = self.row(line, task, metric)
        return None if row is None else row["value"]

    def overall(self) -> Block:
        """One line per strategy: accuracy over all tasks, what it costs, how much of the oracle gap it closes."""
        header = ("strategy", "labels", "backbones", "GFLOPs", "acc1 %", "95 % interval", "gap closed %", "honest gap %")
        groups = []
        for heading, lines in self.groups.items():
            made = []
            for line in lines:
                row = self.row(line, self.head) or {}
                made.append(
                    (
                        line[0].removeprefix(SINGLE),
                        *(_shown(row.get(key), form) for key, form in (("labels", "d"), ("backbones", "d"), ("gflops", ".3g"))),
                        _percent(row.get("value")),
                        NONE if row.get("ci_low") is None else f"{100 * row['ci_low']:.1f} to {100 * row['ci_high']:.1f}",
                        *(_percent(self.value(line, self.head, gap), 0) for gap in ("gap_closed", "gap_closed_honest")),
                    )
                )
            groups.append((heading, tuple(made)))
        return Block(self._title(self.head), header, tuple(groups))

    def _title(self, task: str) -> str:
        images = max((row["n"] for row in self.rows if row["task"] == task), default=0)
        what = f"Mean over {_inside(task)}" if _over_tasks(task) else task
        return f"{what}: {images:,} images{self.marks}"

    def per_task(self) -> list[Block]:
        """Accuracy of every strategy on every task; nothing where there is one task only."""
        if len(self.tasks) < 2:
            return []
        columns = [*self.means[1:], *self.tasks]
        prefix = self._prefix()
        best = {task: self._best(task) for task in columns}
        groups = [
            (
                heading,
                tuple(
                    (line[0].removeprefix(SINGLE), *(self._accuracy(line, task, best[task]) for task in columns))
                    for line in lines
                ),
            )
            for heading, lines in self.groups.items()
        ]
        images = (f"{max(row['n'] for row in self.rows if row['task'] == task)}" for task in columns)
        groups.append(("size", (("images", *images),)))
        header = ("strategy", *(task if _over_tasks(task) else task.removeprefix(prefix) for task in columns))
        return [Block(f"acc1 % per task{f' of {prefix[:-1]}' if prefix else ''}{self.marks}", header, tuple(groups))]

    def by_task(self) -> Block:
        """One line per task, a column per strategy (single backbones apart)."""
        lines = [line for heading, lines in self.groups.items() for line in lines if not line[0].startswith(SINGLE)]
        lines = lines or [line for lines in self.groups.values() for line in lines]
        budget = {line: heading for heading, lines in self.groups.items() for line in lines}
        tasks = [*self.means, *self.tasks]
        made = [
            (task, f"{max(row['n'] for row in self.rows if row['task'] == task):,}", *(self._cells(lines, task)))
            for task in tasks
        ]
        header = ("task", "images", *("\n".join(_broken(line[0], _short(budget[line]))) for line in lines))
        split = len(self.means)
        groups = (("", tuple(made[:split])), ("", tuple(made[split:])))
        return Block(f"acc1 % per task{self.marks}", header, groups)

    def _cells(self, lines: Iterable[Line], task: str) -> list[str]:
        best = self._best(task)
        return [self._accuracy(line, task, best) for line in lines]

    def _best(self, task: str) -> float | None:
        values = (self.value(line, task) for heading, lines in self.groups.items() if heading != CEILING for line in lines)
        return max((value for value in values if value is not None), default=None)

    def _accuracy(self, line: Line, task: str, best: float | None) -> str:
        value = self.value(line, task)
        if value is None or value != best or group(self.about[line]) == CEILING:
            return _percent(value)
        return f"**{_percent(value)}**" if self.markdown else f"*{_percent(value)}"

    def _prefix(self) -> str:
        """What the names of all tasks begin with, up to and with a slash."""
        prefixes = {task.rpartition("/")[0] for task in self.tasks}
        return f"{prefixes.pop()}/" if len(prefixes) == 1 and "" not in prefixes else ""

    def notes(self, by: str) -> list[str]:
        """What must be known to read the tables, and why cells are empty."""
        notes = [GROUPS_NOTE] if len(self.groups) > 1 else []
        if len(self.tasks) > 1 or by == "task":
            mark = "Bold" if self.markdown else "*"
            notes.append(f"{mark}: best of its {'line' if by == 'task' else 'column'} over all groups but the ceilings.")
        if by == "strategy":
            notes += [
                "labels: labelled examples seen, summed over tasks. GFLOPs: all image towers that run, per image.",
                "gap closed: share of the way from oracle-best-single (chosen on the test labels) to the oracle;",
                "honest gap: from best-single (chosen on the support) to the oracle.",
            ]
        empty: dict[tuple[str, str], dict[str, list[str]]] = {}
        for row in self.rows:
            whole = _over_tasks(row["task"])
            if row["metric"] == "acc1" and row["value"] is None and not whole:
                empty.setdefault((row["status"], row["reason"]), {}).setdefault(row["strategy"], []).append(row["task"])
        notes += [
            f"{NONE} {status}: {strategy} on {', '.join(tasks)}: {reason}"
            for (status, reason), strategies in empty.items()
            for strategy, tasks in strategies.items()
        ]
        for metric, name in (("gap_closed", "gap closed"), ("gap_closed_honest", "honest gap")) if by == "strategy" else ():
            rows = [row for row in self.rows if row["metric"] == metric and row["task"] == self.head]
            reasons = {row["reason"] for row in rows if row["value"] is None and self._accurate(row)}
            notes += [f"{NONE} {name}: {reason}" for reason in sorted(reasons)]
        return [f"- {note.removeprefix(f'{NONE} ')}" for note in notes] if self.markdown else notes

    def _accurate(self, row: Row) -> bool:
        return self.value((row["strategy"], row["shots"]), row["task"]) is not None


def _over_tasks(task: str) -> bool:
    return task.startswith("mean(")


def _inside(task: str) -> str:
    inside = task.removeprefix("mean(").removesuffix(")")
    return f"the {inside}" if inside.endswith(" tasks") else f"the tasks of {inside}"


def _order(row: Row) -> tuple[int, int]:
    heading = group(row)
    if heading == CEILING:
        return 3, 0
    return (2, 0) if row["strategy"].startswith(SINGLE) else (0, 0) if not row["shots"] else (1, row["shots"])


def _shown(value: float | None, form: str) -> str:
    return NONE if value is None else format(value, form)


def _percent(value: float | None, digits: int = 1) -> str:
    """
    >>> _percent(0.98765), _percent(None), _percent(-0.001, 0)
    ('98.8', '-', '0')
    """
    return NONE if value is None else f"{round(100 * value, digits) + 0.0:.{digits}f}"


def _short(heading: str) -> str:
    return "ceiling" if heading == CEILING else "single" if heading.startswith("single") else heading.removesuffix(" per class")


def _broken(name: str, budget: str) -> list[str]:
    """A strategy's name in short lines, its label budget below."""
    pieces = name.replace("-", "-\n").replace(":", ":\n").split("\n")
    lines = [pieces[0]]
    for piece in pieces[1:]:
        if len(lines[-1] + piece) <= 11:
            lines[-1] += piece
        else:
            lines.append(piece)
    return [*lines, f"({budget})"]


def _narrow(block: Block) -> list[str]:
    """The block drawn so that it fits WIDTH: closer together, or as several of about equal width with some of its columns."""
    columns = len(block.header) - 1
    drawn: list[str] = []
    for number in range(1, columns + 1):
        size = -(-columns // number)
        parts = [block.columns(range(start, min(start + size, columns + 1))) for start in range(1, columns + 1, size)]
        for gap in (2, 1):
            drawn = [_terminal(part, gap) for part in parts]
            if all(len(line) <= WIDTH for one in drawn for line in one.splitlines()[1:]):
                return drawn
    return drawn


def _terminal(block: Block, gap: int = 2) -> str:
    """Title and table in a box; headings stand in the rules. The header may take several lines."""
    from tabulate import DataRow, Line, TableFormat, tabulate

    box = TableFormat(
        lineabove=Line("╭─", "─", "─" * gap, "─╮"),
        linebelowheader=None,
        linebetweenrows=None,
        linebelow=Line("╰─", "─", "─" * gap, "─╯"),
        headerrow=DataRow("│ ", " " * gap, " │"),
        datarow=DataRow("│ ", " " * gap, " │"),
        padding=0,
        with_header_hide=None,
    )
    names = [name.split("\n") for name in block.header]
    height = max(map(len, names))
    header = [[name[place] if place < len(name) else "" for name in names] for place in range(height)]
    lines = [*header, *(line for _, lines in block.groups for line in lines)]
    drawn = tabulate(lines, tablefmt=box, disable_numparse=True, colalign=("left", *["right"] * (len(names) - 1))).splitlines()
    width = max(len(drawn[0]), *(len(heading) + 6 for heading, _ in block.groups))
    drawn = [line[:-1] + line[-2] * (width - len(line)) + line[-1] for line in drawn]
    made, body = drawn[: 1 + height], iter(drawn[1 + height : -1])
    for heading, group_lines in block.groups:
        if group_lines:
            label = f"├─ {heading} " if heading else "├"
            made.append(label.ljust(width - 1, "─") + "┤")
            made += [next(body) for _ in group_lines]
    return "\n".join([block.title, *made, drawn[-1]])


def _markdown(block: Block) -> str:
    """Title and table; headings are lines in bold."""
    from tabulate import tabulate

    empty = [""] * (len(block.header) - 1)
    rows: list[Sequence[str]] = []
    for heading, group_lines in block.groups:
        if heading and group_lines:
            rows.append([f"**{heading}**", *empty])
        rows += [[cell.replace("|", "\\|") for cell in line] for line in group_lines]
    alignment = ("left", *["right"] * (len(block.header) - 1))
    header = [name.replace("|", "\\|").replace("\n", "<br>") for name in block.header]
    table = tabulate(rows, header, "pipe", disable_numparse=True, colalign=alignment)
    return f"### {block.title}\n\n{table}"
