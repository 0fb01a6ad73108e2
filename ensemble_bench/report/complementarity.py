"""What backbones add to each other, for people: the pool, its pairs, its members, how it grows, what goes with gains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ensemble_bench.report.tables import NONE, Block, drawn, listed, what
from ensemble_bench.shift import usual

Row = dict[str, Any]

PAIRS = {
    "disagreement": "one\nright",
    "label_disagreement": "answers\ndiffer",
    "double_fault": "both\nwrong",
    "kappa": "kappa",
    "rho": "rho",
    "q": "Q",
}
POOL = {"best_single": "best\nsingle", "oracle": "oracle", "oracle_gap": "gap", "rescued": "rescued"}
POOL |= {"rescued_independent": "if inde-\npendent"}
MEMBERS = {
    "acc1": "acc1 %",
    "unique_correct": "alone\nright",
    "shapley_oracle": "Shapley\noracle",
    "shapley_log_avg": "Shapley\nlog-avg",
    "leave_one_out_log_avg": "lost without,\nlog-avg",
}
CURVES = {"oracle": "oracle", "log_avg": "log-avg"}
GAINS = {"complementarity": "comple-\nmentarity", "oracle_gap": "gap", **PAIRS}

POOL_NOTE = (
    "gap: oracle less best single backbone, in points. rescued: share of the best one's errors that another one has right; if "
    "independent: what backbones of these accuracies would rescue if their errors had nothing to do with each other.",
    "complementarity: (rescued - independent) / the larger of independent and its rest: 0 is what independence explains, below "
    "0 backbones fail on the same images, 1 and -1 are the ends.",
)
PAIR_NOTE = (
    "one right: exactly one of the two is, % of images (disagreement). kappa: error consistency; kappa, rho and Q are 0 for "
    "independent errors and 1 for equal ones. A saves B: A is right where B is wrong, % of B's errors. CKA: likeness of "
    "features, debiased.",
)
MEMBER_NOTE = (
    "alone right: nobody else is; also what the oracle loses without it. Shapley: its share of the accuracy of the oracle, or "
    "of log-avg over all subsets, in points. lost without: accuracy of log-avg with all, less without it.",
)
CURVE_NOTE = ("each line adds the backbone that helps most; chosen and measured on the same images.",)
GAIN_NOTE = ("*: the 95 % interval of the rank correlation over tasks does not hold 0.",)


def text(rows: Sequence[Row], *, markdown: bool, caption: str = "") -> str:
    """The tables as Markdown or for a terminal: all of one task or mean over tasks, and a line for every other."""
    parts = [caption.replace("\n", "  \n") if markdown else caption] if caption else []
    if not rows:
        return "\n\n".join(parts) + "\n"
    whole = [row for row in rows if row["class"] is None]
    conditions = list(dict.fromkeys(row["condition"] for row in rows))
    shown = [name for name in usual(conditions) if name in conditions] or conditions
    main = whole[0]["task"]
    names = _Names(rows)

    def put(blocks: Sequence[Block | None], notes: Sequence[str]) -> None:
        kept = [drawn(block, markdown) for block in blocks if block is not None]
        if kept:
            parts.extend([*kept, listed(notes, markdown)])

    for condition in shown:
        here = [row for row in whole if row["condition"] == condition]
        mine = [row for row in here if row["task"] == main]
        said = ("" if condition == "clean" else f", {condition}") + _limited(mine)
        title = f"{what(main)[0].upper()}{what(main)[1:]}" if main.startswith("mean(") else main
        put([_pool(here, "task", f"The pool, by task{said}")], [*POOL_NOTE, *_lacks(here)])
        put([_pairs(mine, names, f"Pairs: {title}{said}")], PAIR_NOTE)
        put([_members(mine, names, f"Backbones: {title}{said}")], [*MEMBER_NOTE, *_absent(mine)])
        put([_curve(mine, names, f"Pools that grow: {title}{said}")], CURVE_NOTE)
        gains = [row for row in here if row["subject"] == "correlation" and row["value"] is not None]
        put([_gains(gains, f"Gain over the best single backbone and diversity: rank correlation over tasks{said}")], GAIN_NOTE)
    if len(conditions) > 1:
        mine = [row for row in whole if row["task"] == main]
        put([_pool(mine, "condition", f"The pool, by condition: {what(main)}{_limited(mine)}")], POOL_NOTE)
    for condition in shown:
        for task in dict.fromkeys(row["task"] for row in rows if row["class"] is not None and row["condition"] == condition):
            own = [row for row in rows if (row["task"], row["condition"]) == (task, condition) and row["class"] is not None]
            said = "" if condition == "clean" else f", {condition}"
            put([_pool(own, "class", f"The pool, by class: {task}{said}{_limited(own)}")], POOL_NOTE)
    return "\n\n".join(part for part in parts if part) + "\n"


class _Names:
    """Backbones as they stand in tables: without what all of their names begin with."""

    def __init__(self, rows: Sequence[Row]) -> None:
        names = sorted({row["backbone"] for row in rows if row["backbone"]})
        folders = {name.rpartition("/")[0] for name in names}
        self.cut = len(folders.pop()) + 1 if len(folders) == 1 and "" not in folders else 0

    def __call__(self, name: str) -> str:
        return name[self.cut :]


def _pool(rows: Sequence[Row], key: str, title: str) -> Block | None:
    """A line a task, condition or class."""
    pool = {(row[key], row["measure"]): row for row in rows if row["subject"] == "pool"}
    lines = []
    for name in dict.fromkeys(name for name, _ in pool):
        headline = pool[name, "complementarity"]
        bounds = NONE
        if headline["ci_low"] is not None:
            bounds = f"{_signed(headline['ci_low'])} to {_signed(headline['ci_high'])}"
        cells = [_percent(pool.get((name, measure))) for measure in POOL]
        lines.append((name, f"{headline['n']:,}", *cells, _signed(headline["value"]), bounds))
    header = (key, "images", *(f"{head} %" for head in POOL.values()), "comple-\nmentarity", "95 % interval")
    means = tuple(line for line in lines if line[0].startswith("mean("))
    return Block(title, header, (("", means), ("", tuple(line for line in lines if line not in means)))) if lines else None


def _pairs(rows: Sequence[Row], names: _Names, title: str) -> Block | None:
    found = {(row["backbone"], row["other"], row["measure"]): row for row in rows if row["subject"] == "pair"}
    pairs = [(one, two) for one, two, measure in found if measure == "disagreement"]
    lines = [
        (
            f"{names(one)} + {names(two)}",
            *(_percent(found[one, two, name]) for name in ("disagreement", "label_disagreement", "double_fault")),
            *(_plain(found[one, two, name]) for name in ("kappa", "rho", "q")),
            _percent(found[two, one, "rescue"]),
            _percent(found[one, two, "rescue"]),
            _plain(found.get((one, two, "cka"))),
        )
        for one, two in pairs
    ]
    header = ("A + B", *PAIRS.values(), "A saves\nB", "B saves\nA", "CKA")
    return Block(title, header, (("", tuple(lines)),)) if lines else None


def _members(rows: Sequence[Row], names: _Names, title: str) -> Block | None:
    found = {(row["backbone"], row["measure"]): row for row in rows if row["subject"] == "backbone"}
    there = list(dict.fromkeys(name for name, _ in found))
    there.sort(key=lambda name: -(found[name, "acc1"]["value"] or 0))
    columns = [name for name in MEMBERS if any(measure == name for _, measure in found)]
    lines = []
    for name in there:
        cells = []
        for measure in columns:
            row = found[name, measure]
            half = "" if row["ci_low"] is None else f" ±{50 * (row['ci_high'] - row['ci_low']):.1f}"
            cells.append(f"{_percent(row)}{half}")
        lines.append((names(name), *cells))
    header = ("backbone", *(MEMBERS[name] for name in columns))
    return Block(title, header, (("", tuple(lines)),)) if lines else None


def _curve(rows: Sequence[Row], names: _Names, title: str) -> Block | None:
    found = {(row["measure"], row["k"]): row for row in rows if row["subject"] == "curve"}
    columns = [name for name in CURVES if (name, 1) in found]
    sizes = sorted({k for _, k in found})
    lines = [
        (str(k), *(cell for name in columns for cell in (names(found[name, k]["backbone"]), _percent(found[name, k]))))
        for k in sizes
    ]
    header = ("backbones", *(head for name in columns for head in (f"added for\n{CURVES[name]}", f"\n{CURVES[name]} %")))
    return Block(title, header, (("", tuple(lines)),)) if lines else None


def _gains(rows: Sequence[Row], title: str) -> Block | None:
    found = {(row["strategy"], row["shots"], row["measure"]): row for row in rows}
    lines = []
    for name, shots in dict.fromkeys((name, shots) for name, shots, _ in found):
        cells = []
        for measure in GAINS:
            row = found.get((name, shots, measure))
            sure = row is not None and row["ci_low"] is not None and not row["ci_low"] <= 0 <= row["ci_high"]
            cells.append(f"{'*' * sure}{_signed(None if row is None else row['value'])}")
        lines.append((name, str(shots), *cells))
    return Block(title, ("strategy", "shots", *GAINS.values()), (("", tuple(lines)),)) if lines else None


def _lacks(rows: Sequence[Row]) -> list[str]:
    """Why there is no headline number, per task."""
    lacking = [row for row in rows if row["measure"] == "complementarity" and row["subject"] == "pool" and row["value"] is None]
    return [f"{NONE} {row['status']}: {row['task']}: {row['reason']}" for row in lacking]


def _absent(rows: Sequence[Row]) -> list[str]:
    """Why there is no CKA or no value for log-avg."""
    lacking = [row for row in rows if row["subject"] == "pool" and row["measure"] in ("cka", "shapley_log_avg")]
    reasons = dict.fromkeys(row["reason"] for row in lacking if row["value"] is None)
    return [f"{NONE} no CKA, nothing for log-avg: {reason}" for reason in reasons]


def _limited(rows: Sequence[Row]) -> str:
    limit = rows[0]["limit"] if rows else None
    return "" if limit is None else f" (limit {limit}: NOT A FULL RESULT)"


def _percent(row: Row | None) -> str:
    return NONE if row is None or row["value"] is None else f"{round(100 * row['value'], 1) + 0.0:.1f}"


def _plain(row: Row | None) -> str:
    return NONE if row is None or row["value"] is None else f"{round(row['value'], 2) + 0.0:.2f}"


def _signed(value: float | None) -> str:
    """
    >>> _signed(-0.356), _signed(0.001), _signed(None)
    ('-0.36', '0.00', '-')
    """
    if value is None:
        return NONE
    rounded = round(value, 2) + 0.0
    return f"{rounded:+.2f}" if rounded else "0.00"
