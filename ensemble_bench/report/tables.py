"""Rows for people: one table over tasks, one per task, lines grouped by what they were allowed to see."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from textwrap import fill
from typing import Any

Row = dict[str, Any]
Line = tuple[str, int]

WIDTH = 120
NONE = "-"
CLEAN = "clean"
SINGLE = "single:"
CEILING = "ceilings: they see the test labels"
POOL_NOTES = (
    "severity: mean over corruptions. oracle gap: oracle minus oracle-best-single, in points of accuracy.",
    "disagreement: share of images on which one of two backbones is right and the other wrong, mean over pairs.",
    "complementarity: errors of the best backbone that others have right, beyond independence: -1 to 1, 0 is independent.",
)
SHIFTS = {"acc1": "acc1 %", "retained": "kept %", "mce": "mCE %", "mce_alexnet": "mCE %"}
SHIFT_HEADS = {"mce_alexnet": "AlexNet"}
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
    boards: dict[str, list[Row]] = {}
    for row in rows:
        boards.setdefault(row["condition"], []).append(row)
    suites = _suites(boards)
    apart = [name for name in boards if not any(name in (*means, *members) for means, members in suites.values())]
    for condition in [*apart, *(f"mean({suite})" for suite in suites if by == "task" or CLEAN not in boards)]:
        board = _Board(boards[condition], condition, markdown)
        shifted = {suite: _Board(boards[f"mean({suite})"], suite, markdown) for suite in suites if condition == CLEAN}
        for block in [board.by_task()] if by == "task" else [board.overall(shifted), *board.per_task()]:
            parts += [_markdown(block)] if markdown else _narrow(block)
        notes = board.notes(by)
        if by == "strategy":
            for suite, other in shifted.items():
                said = other.shift_notes(board, len(suites[suite][1]))
                notes += [f"- {note}" if markdown else fill(note, WIDTH, subsequent_indent="  ") for note in said]
        parts.append("\n".join(notes))
    for suite, (means, members) in suites.items() if by == "strategy" else ():
        if members:
            views = {name: _Board(boards[name], name, markdown) for name in (CLEAN, *means, *members) if name in boards}
            for block in _severities(suite, views, markdown):
                parts += [_markdown(block)] if markdown else _narrow(block)
            parts.append("\n".join(f"- {note}" for note in POOL_NOTES) if markdown else "\n".join(POOL_NOTES))
    if markdown:
        parts = [part.replace("\n", "  \n") if part is caption else part for part in parts]
    return "\n\n".join(part for part in parts if part) + "\n"


def _suites(conditions: Iterable[str]) -> dict[str, tuple[list[str], list[str]]]:
    """The means and the conditions of every suite that has a mean over it.

    >>> _suites(["clean", "mean(c)", "mean(c:*:3)", "mean(c:fog)", "c:fog:3"])
    {'c': (['mean(c)', 'mean(c:*:3)', 'mean(c:fog)'], ['c:fog:3'])}
    """
    conditions = list(conditions)
    names = [name[5:-1] for name in conditions if name.startswith("mean(") and ":" not in name]
    return {
        name: (
            [one for one in conditions if one == f"mean({name})" or one.startswith(f"mean({name}:")],
            [one for one in conditions if one.startswith(f"{name}:")],
        )
        for name in names
    }


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
        for line in sorted(about, key=lambda line: (order(about[line]), -(self.value(line, self.head) or -1.0), line)):
            self.groups.setdefault(group(about[line]), []).append(line)
        self.about = about
        limit = next((row["limit"] for row in rows if row.get("limit") is not None), None)
        self.condition = condition
        self.limited = "" if limit is None else f" (limit {limit}: NOT A FULL RESULT)"
        self.marks = ("" if condition == CLEAN else f", {condition}") + self.limited

    def row(self, line: Line, task: str, metric: str = "acc1") -> Row | None:
        return self.found.get((*line, task, metric))

    def value(self, line: Line, task: str, metric: str = "acc1") -> float | None:
        row = self.row(line, task, metric)
        return None if row is None else row["value"]

    def overall(self, shifted: Mapping[str, _Board] | None = None) -> Block:
        """One line per strategy: accuracy over all tasks, what it costs, how much of the oracle gap it closes.

        ``shifted`` are the boards of the means over suites: of each, accuracy, what is kept of the clean one, and errors.
        """
        header: tuple[str, ...] = ("strategy", "labels", "backbones", "GFLOPs", "acc1 %", "95 % interval")
        header += ("gap closed %", "honest gap %")
        more = [(other, metric) for other in (shifted or {}).values() for metric in other.shift_metrics(self.head)]
        header += tuple(
            f"{SHIFT_HEADS.get(metric, other.condition if metric == 'acc1' else '')}\n{SHIFTS[metric]}"
            for other, metric in more
        )
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
                        *(_percent(other.value(line, self.head, metric)) for other, metric in more),
                    )
                )
            groups.append((heading, tuple(made)))
        return Block(self._title(self.head), header, tuple(groups))

    def _title(self, task: str) -> str:
        name = what(task)
        return f"{name[0].upper() + name[1:] if _over_tasks(task) else name}: {self._images(task)} images{self.marks}"

    def _images(self, task: str) -> str:
        """How many there are, or that it is not known: another program's results do not say it."""
        known = [row["n"] for row in self.rows if row["task"] == task and row["n"] is not None]
        return f"{max(known):,}" if known else "?"

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
        images = (self._images(task).replace(",", "") for task in columns)
        groups.append(("size", (("images", *images),)))
        header = ("strategy", *(task if _over_tasks(task) else task.removeprefix(prefix) for task in columns))
        return [Block(f"acc1 % per task{f' of {prefix[:-1]}' if prefix else ''}{self.marks}", header, tuple(groups))]

    def by_task(self) -> Block:
        """One line per task, a column per strategy (single backbones apart)."""
        lines = [line for heading, lines in self.groups.items() for line in lines if not line[0].startswith(SINGLE)]
        lines = lines or [line for lines in self.groups.values() for line in lines]
        budget = {line: heading for heading, lines in self.groups.items() for line in lines}
        tasks = [*self.means, *self.tasks]
        made = [(task, self._images(task), *(self._cells(lines, task))) for task in tasks]
        header = ("task", "images", *("\n".join(_broken(line[0], _short(budget[line]))) for line in lines))
        split = len(self.means)
        groups = (("", tuple(made[:split])), ("", tuple(made[split:])))
        return Block(f"acc1 % per task{self.marks}", header, groups)

    def disagreement(self, task: str) -> float | None:
        """Mean over pairs of single backbones of the share of images on which one of the two is right and one is wrong."""
        values = [self.value(line, task, "disagreement") for line in self.about if line[0].startswith(SINGLE)]
        known = [value for value in values if value is not None]
        return sum(known) / len(known) if known and len(known) == len(values) else None

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
            notes += self._headline()
        notes += self._empty()
        for metric, name in (("gap_closed", "gap closed"), ("gap_closed_honest", "honest gap")) if by == "strategy" else ():
            rows = [row for row in self.rows if row["metric"] == metric and row["task"] == self.head]
            reasons = {row["reason"] for row in rows if row["value"] is None and self._accurate(row)}
            notes += [f"{NONE} {name}: {reason}" for reason in sorted(reasons)]
        return [f"- {note.removeprefix(f'{NONE} ')}" for note in notes] if self.markdown else notes

    def _headline(self) -> list[str]:
        """How much the pool complements itself, or why that is not known."""
        row = self.row(("oracle", 0), self.head, "complementarity")
        if row is None:
            return []
        if row["value"] is None:
            return [f"{NONE} complementarity: {row['reason']}"] if self._accurate(row) else []
        bounds = "" if row["ci_low"] is None else f" ({row['ci_low']:+.2f} to {row['ci_high']:+.2f})"
        found = [f"complementarity {row['value']:+.2f}{bounds}: {row['reason']}."]
        hoped = self.row(("oracle", 0), self.head, "oracle_chance")
        if hoped is not None and hoped["value"] is not None:
            found.append(f"With shuffled labels the oracle would still be right on {100 * hoped['value']:.1f} %.")
        return found

    def _empty(self) -> list[str]:
        """Why cells are empty."""
        empty: dict[tuple[str, str], dict[str, list[str]]] = {}
        for row in self.rows:
            whole = _over_tasks(row["task"])
            if row["metric"] == "acc1" and row["value"] is None and not whole:
                empty.setdefault((row["status"], row["reason"]), {}).setdefault(row["strategy"], []).append(row["task"])
        return [
            f"{NONE} {status}: {strategy} on {', '.join(tasks)}: {reason}"
            for (status, reason), strategies in empty.items()
            for strategy, tasks in strategies.items()
        ]

    def shift_metrics(self, task: str) -> list[str]:
        """What the means over this suite add to the board of clean images; errors against AlexNet where there are any."""
        return [name for name in SHIFTS if name != "mce_alexnet" or self._said(name, task, True)]

    def _said(self, metric: str, task: str, valued: bool) -> list[str]:
        """Different reasons of the rows that have a value, or of those that have none."""
        rows = [row for row in self.rows if (row["metric"], row["task"], row["value"] is not None) == (metric, task, valued)]
        return sorted({row["reason"] for row in rows if self._accurate(row)})

    def shift_notes(self, clean: _Board, conditions: int) -> list[str]:
        """What must be known to read the columns of this suite in the table of clean images."""
        suite, task = self.condition, clean.head
        if task not in (*self.means, *self.tasks):
            return [f"{suite}: not on every task of this table; see its own below."]
        part = "".join(f" ({said})" for said in self._said("acc1", task, True) if said)
        notes = [f"{suite}: mean over {conditions} condition{'s' * (conditions > 1)}{part}; kept: share of the clean accuracy."]
        notes += [f"mCE: errors under {suite} {said}: 100 is as many." for said in self._said("mce", task, True)]
        notes += [f"AlexNet mCE: {said}." for said in self._said("mce_alexnet", task, True)]
        notes += [f"No mCE against AlexNet, {said}." for said in self._said("mce_alexnet", task, False)]
        notes += [f"mCE: {said}." for said in self._said("mce", task, False)]
        notes += [note.removeprefix(f"{NONE} ") for note in self._empty()]
        return notes

    def _accurate(self, row: Row) -> bool:
        return self.value((row["strategy"], row["shots"]), row["task"]) is not None


def _severities(suite: str, views: Mapping[str, _Board], markdown: bool) -> list[Block]:
    """Accuracy per corruption and severity, a column per condition: one block for Markdown, else as many as fit WIDTH.

    ``views`` are the boards of clean images, of the suite's means and of its conditions. A corruption is never torn apart.
    """
    mean = views[f"mean({suite})"]
    task = mean.head
    units: dict[str, list[tuple[str, str, str]]] = {"": []}  # corruption -> condition, first and last line of its header
    for name in views:
        corruption, _, severity = name.removeprefix(f"mean({suite}").removeprefix(f"{suite}").strip(":)").rpartition(":")
        if name == CLEAN or name == f"mean({suite})":
            units[""].append((name, "", CLEAN if name == CLEAN else "mean"))
        elif corruption == "*":
            units[""].append((name, "severity" if markdown or len(units[""]) == 1 + (CLEAN in views) else "", severity))
        elif corruption:
            first = corruption if markdown or corruption not in units else ""
            units.setdefault(corruption, []).append((name, first, severity))

    def block(chosen: Sequence[str], title: str) -> Block:
        columns = [column for unit in chosen for column in units[unit]]
        heads = [[*first.replace("_", "_\n").split("\n"), last] if first else [last] for _, first, last in columns]
        height = max(map(len, heads))
        best = {name: views[name]._best(task) for name, _, _ in columns}
        groups = [
            (
                heading,
                tuple(
                    (line[0].removeprefix(SINGLE), *(views[name]._accuracy(line, task, best[name]) for name in best))
                    for line in lines
                ),
            )
            for heading, lines in mean.groups.items()
        ]
        gap = ("oracle gap", *(_percent(views[name].value(("oracle", 0), task, "oracle_gap")) for name in best))
        differ = ("disagreement", *(_percent(views[name].disagreement(task)) for name in best))
        value = (views[name].value(("oracle", 0), task, "complementarity") for name in best)
        together = ("complementarity", *(_shown(one, "+.2f") for one in value))
        groups.append(("the pool", tuple(line for line in (gap, differ, together) if set(line[1:]) != {NONE})))
        header = ("strategy", *("\n".join(["", *head] if markdown else [""] * (height - len(head)) + head) for head in heads))
        return Block(title, tuple(name.removeprefix("\n") if markdown else name for name in header), tuple(groups))

    title = f"acc1 % per corruption and severity of {suite}: {what(task)}{mean.limited}"
    if markdown:
        return [block(list(units), title)]
    blocks: list[list[str]] = [[]]
    for unit in units:
        wider = [*blocks[-1], unit]
        if blocks[-1] and max(map(len, _terminal(block(wider, ""), 1).splitlines())) > WIDTH:
            blocks.append([unit])
        else:
            blocks[-1] = wider
    return [block(chosen, title if number == 0 else f"{title}, continued") for number, chosen in enumerate(blocks)]


def _over_tasks(task: str) -> bool:
    return task.startswith("mean(")


def what(task: str) -> str:
    """A task, or what a mean is over, as it stands in a title."""
    return f"mean over {_inside(task)}" if _over_tasks(task) else task


def _inside(task: str) -> str:
    inside = task.removeprefix("mean(").removesuffix(")")
    return f"the {inside}" if inside.endswith(" tasks") else f"the tasks of {inside}"


def order(row: Row) -> tuple[int, int]:
    """Where the group of a row stands on a board."""
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


def drawn(block: Block, markdown: bool) -> str:
    """The block as Markdown, or for a terminal in as many tables as fit WIDTH."""
    return _markdown(block) if markdown else "\n\n".join(_narrow(block))


def listed(notes: Sequence[str], markdown: bool) -> str:
    """Notes below a table, as a list or in lines that fit WIDTH."""
    if markdown:
        return "\n".join(f"- {note.removeprefix(f'{NONE} ')}" for note in notes)
    return "\n".join(fill(note, WIDTH, subsequent_indent="  ") for note in notes)


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
