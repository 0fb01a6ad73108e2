"""Rows for a paper: a booktabs table, lines grouped by what they were allowed to see, the best of each group in bold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ensemble_bench.report import tables

SINGLE = "single:"
_SIGNS = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "_": r"\_",
    "%": r"\%",
    "&": r"\&",
    "#": r"\#",
    "$": r"\$",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
}
MARKS = {"better": r"$^{\uparrow}$", "worse": r"$^{\downarrow}$"}


def escaped(text: str) -> str:
    """Text as LaTeX prints it.

    >>> escaped("nlc_2 & 50%")
    'nlc\\\\_2 \\\\& 50\\\\%'
    """
    return "".join(_SIGNS.get(sign, sign) for sign in text.replace("\n", " "))


def text(
    rows: Sequence[dict[str, Any]],
    *,
    condition: str,
    caption: str = "",
    verdicts: Mapping[tuple[str, int, str], str] | None = None,
    against: str = "",
) -> str:
    """A table of accuracies in per cent: the mean with its interval, then every task.

    ``verdicts`` by (strategy, shots, task) are marked: better or worse than the line ``against``.
    """
    rows = [row for row in rows if row["metric"] == "acc1" and row["condition"] == condition]
    found = {(row["strategy"], row["shots"], row["task"]): row for row in rows}
    every = list(dict.fromkeys(row["task"] for row in rows))
    means = [task for task in every if task.startswith("mean(")][:1]
    tasks = [task for task in every if not task.startswith("mean(")]
    head = means[0] if means else None
    about = {(row["strategy"], row["shots"]): row for row in rows}
    groups: dict[str, list[tuple[str, int]]] = {}
    for line, row in about.items():
        groups.setdefault(tables.group(row), []).append(line)
    columns = [*means, *tasks]
    names = [("mean" if task == head else escaped(task.rpartition("/")[2])) for task in columns]
    out = [
        "% made by ensemble-bench board --format latex; needs \\usepackage{booktabs}",
        "\\begin{table}",
        "\\centering\\small",
        f"\\begin{{tabular}}{{l{'r' * len(columns)}}}",
        "\\toprule",
        " & ".join(["strategy", *names]) + r" \\",
    ]
    for group, lines in groups.items():
        ceiling = group == tables.CEILING
        out += ["\\midrule", f"\\multicolumn{{{len(columns) + 1}}}{{l}}{{\\emph{{{escaped(group)}}}}} \\\\"]
        tops = {
            task: max((value for line in lines if (value := _value(found, line, task)) is not None), default=None)
            for task in columns
        }
        for line in sorted(lines, key=lambda line: (-(_value(found, line, columns[0]) or -1.0), line)):
            cells = [escaped(line[0].removeprefix(SINGLE))]
            for task in columns:
                value = _value(found, line, task)
                if value is None:
                    cells.append("--")
                    continue
                said = f"{100 * value:.1f}"
                if value == tops[task] and len(lines) > 1 and not ceiling:
                    said = f"\\textbf{{{said}}}"
                mark = MARKS.get((verdicts or {}).get((*line, task), ""), "")
                cells.append(said + mark + (_interval(found[(*line, task)]) if task == head else ""))
            out.append(" & ".join(cells) + r" \\")
    notes = escaped(caption.replace("\n", "; "))
    if verdicts:
        notes += f" Arrows: significantly better or worse than {escaped(against)}."
    out += ["\\bottomrule", "\\end{tabular}", f"\\caption{{Accuracy in \\%. {notes}}}", "\\end{table}"]
    return "\n".join(out) + "\n"


def _value(found: Mapping[tuple[str, int, str], dict[str, Any]], line: tuple[str, int], task: str) -> float | None:
    row = found.get((*line, task))
    return None if row is None else row["value"]


def _interval(row: Mapping[str, Any]) -> str:
    if row["ci_low"] is None:
        return ""
    return f" {{\\scriptsize [{100 * row['ci_low']:.1f}, {100 * row['ci_high']:.1f}]}}"
