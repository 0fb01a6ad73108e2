"""Print the leaderboard of one or more results folders: what 'run' recorded, with intervals, ceilings apart."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ensemble_bench.report import BOARD_FORMS, BY, FORMS

if TYPE_CHECKING:
    from ensemble_bench.records import Results

AGAINST = "best-single"  # what the arrows of a LaTeX table compare with

HOST = "clip-benchmark"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folders", nargs="*", type=Path, metavar="DIR", help="results folder (option -o of 'run')")
    parser.add_argument(
        "--format",
        choices=(*BOARD_FORMS, HOST),
        default="table",
        help="default: table, for a terminal (text = table); clip-benchmark writes its JSON files into the folder -o",
    )
    parser.add_argument(
        "--from",
        dest="hosts",
        nargs="+",
        type=Path,
        default=[],
        metavar="FILE",
        help="results of CLIP_benchmark, JSON (or a folder of it) or CSV: rows of single backbones",
    )
    parser.add_argument("--by", choices=BY, default="strategy", help="what a line of a table is; default: strategy")
    parser.add_argument("--condition", metavar="NAME", help="only this one: clean, SUITE:CORRUPTION:SEVERITY, mean(SUITE), ...")
    parser.add_argument(
        "--mce",
        metavar="BACKBONE",
        help="measure corruption errors against this backbone of the pool (default: the one with the fewest GFLOPs); 'alexnet' "
        "gives mCE against AlexNet even where it compares with nothing published",
    )
    parser.add_argument(
        "--compare",
        metavar="STRATEGY",
        help="against this one: paired differences, exact tests, wins and losses, ranks",
    )
    parser.add_argument(
        "--standings", action="store_true", help="mean, mean rank with interval, win rate, Borda and gap closed side by side"
    )
    parser.add_argument("--history", action="store_true", help="folders of several dates side by side; where a number moved")
    parser.add_argument("--reference", action="store_true", help="single backbones beside published zero-shot accuracies")
    parser.add_argument("--strategy", metavar="NAME", help="only this strategy; --format model-index needs one")
    parser.add_argument("--schema", action="store_true", help="print the JSON Schema of --format json and exit")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="write to this file (or folder) instead of printing")


def main(options: argparse.Namespace) -> int:
    from ensemble_bench import report
    from ensemble_bench.errors import BadOption

    if options.schema:
        put(report.schema(), options)
        return 0
    if not options.folders and not options.hosts:
        raise BadOption("a board needs results: give at least one folder that 'run' wrote to, or --from FILE.")
    asked = [name for name in ("compare", "standings", "history", "reference") if getattr(options, name)]
    if len(asked) > 1:
        raise BadOption(f"--{asked[0]} and --{asked[1]} print tables of their own: give one of them.")
    if asked and (options.format not in FORMS or options.hosts):
        raise BadOption(f"--{asked[0]} is of results folders and can be written as {', '.join(FORMS)}.")
    if asked and (options.mce is not None or options.by != "strategy" or options.strategy is not None):
        raise BadOption(f"--{asked[0]} prints a table of its own: leave --by, --mce and --strategy out.")

    from ensemble_bench import leaderboard
    from ensemble_bench.records import Results

    results = [Results(folder, must_exist=True) for folder in options.folders]
    if options.format == HOST:
        return _written(results, options)
    if options.history:
        put(_history(results, options), options)
        return 0
    caption = leaderboard.caption(results) if results else ""
    own = {"compare": _compared, "standings": _standings, "reference": _referenced}
    made = own[asked[0]] if asked else _board
    put(made(results, options, caption), options)
    return 0


def _history(results: Sequence[Results], options: argparse.Namespace) -> str:
    from ensemble_bench import history, report
    from ensemble_bench.errors import BadOption

    if BOARD_FORMS[options.format] not in ("table", "json") or options.condition is not None:
        raise BadOption("--history prints a table or JSON, of all conditions.")
    rows = history.history(results)
    return report.text(rows, "json") if options.format == "json" else history.text(rows)


def _standings(results: Sequence[Results], options: argparse.Namespace, caption: str) -> str:
    from ensemble_bench import leaderboard, report, standings

    rows = leaderboard.rows(results)
    return report.standings(
        standings.standings(rows, condition=options.condition or standings.CLEAN), options.format, caption=caption
    )


def _compared(results: Sequence[Results], options: argparse.Namespace, caption: str) -> str:
    from ensemble_bench import comparison, report

    rows = comparison.rows(results, options.compare, condition=options.condition)
    return report.compared(rows, options.format, caption=caption)


def _referenced(results: Sequence[Results], options: argparse.Namespace, caption: str) -> str:
    from ensemble_bench import leaderboard, reference
    from ensemble_bench.errors import BadOption
    from ensemble_bench.report import data

    form = BOARD_FORMS[options.format]
    if form == "csv" or options.condition is not None:
        raise BadOption("--reference prints a table, markdown or JSON, of clean images.")
    found = reference.compare(leaderboard.rows(results))
    if form == "json":
        return data.json(reference.as_rows(found))
    if not found:
        return "reference: none of these numbers has been published for the same backbone, task and metric.\n"
    said = f"\n{reference.verdict(found)}" if form == "table" else ""
    return reference.table(found, markdown=form == "markdown") + said


def _board(results: Sequence[Results], options: argparse.Namespace, caption: str) -> str:
    from ensemble_bench import leaderboard, report
    from ensemble_bench.errors import BadOption
    from ensemble_bench.registry import near

    rows = leaderboard.rows(results, mce=options.mce) if results else []
    if options.hosts:
        rows = _beside(rows, _imported(options))
    if options.condition is not None:
        names = list(dict.fromkeys(row["condition"] for row in rows))
        if options.condition not in names:
            there = near(options.condition, names) or f" There are: {', '.join(names)}."
            raise BadOption(f"there is nothing under the condition {options.condition!r} in these results.{there}")
        rows = [row for row in rows if row["condition"] == options.condition]
    if options.strategy is not None:
        lines = list(dict.fromkeys(row["strategy"] for row in rows))
        if options.strategy not in lines:
            raise BadOption(f"there is no strategy {options.strategy!r} in these results.{near(options.strategy, lines)}")
        rows = [row for row in rows if row["strategy"] == options.strategy]
    if options.format == "model-index":
        pool = sorted({name for one in results for record in one.records for name in record.pool})
        return report.model_index(rows, options.strategy, pool)
    if options.format == "latex":
        condition = options.condition or "clean"
        marks = _verdicts(results, condition)
        return report.latex(rows, condition=condition, caption=caption, verdicts=marks, against=AGAINST)
    return report.text(rows, options.format, by=options.by, caption=caption)


def _verdicts(results: Sequence[Results], condition: str) -> dict[tuple[str, int, str], str]:
    """What every line is against the honest best single backbone on every task and mean; nothing where that is not there."""
    from ensemble_bench import comparison
    from ensemble_bench.errors import BenchError

    try:
        rows = comparison.rows(results, AGAINST, condition=condition)
    except BenchError:
        return {}
    return {(row["strategy"], row["shots"], row["task"]): row["verdict"] for row in rows if row.get("verdict")}


def put(text: str, options: argparse.Namespace) -> None:
    """Print a text, or write it to the file that ``--output`` names."""
    if options.output is None:
        show(text, BOARD_FORMS[options.format] == "table")
        return
    try:
        options.output.write_text(text, encoding="utf-8")
    except OSError as error:
        from ensemble_bench.errors import BadOption

        raise BadOption(f"{options.output} cannot be written: {error.strerror}.") from None


def _written(results: list[Results], options: argparse.Namespace) -> int:
    """Write the results as files of CLIP_benchmark's into a folder."""
    from ensemble_bench.errors import BadOption
    from ensemble_bench.host.results import written

    if options.output is None or options.hosts or options.condition or options.mce:
        raise BadOption(f"--format {HOST} wants results folders and -o FOLDER, and nothing else.")
    made, left_out = written(results, options.output)
    print(f"{options.output}: {len(made)} files")
    for line in left_out:
        print(f"ensemble-bench: left out: {line}", file=sys.stderr)
    return 0


def _beside(rows: list[dict[str, Any]], others: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Our rows and those of others, which have no means of their own there: they may be of other tasks."""
    from ensemble_bench.errors import BadRecord

    def key(row: dict[str, Any]) -> tuple[Any, ...]:
        return tuple(row[name] for name in ("strategy", "task", "metric", "condition", "shots"))

    held = {key(row): row["value"] for row in rows}
    found = [*rows]
    for row in others if held else ():
        if row["task"].startswith("mean("):
            continue
        if key(row) not in held:
            found.append(row)
        elif held[key(row)] != row["value"]:
            raise BadRecord(
                f"{row['metric']} of {row['strategy']} on {row['task']} is {held[key(row)]} in these results and "
                f"{row['value']} in the files of --from: show them one by one."
            )
    return found if held else others


def _imported(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Rows of CLIP_benchmark's files; a table has no place for those of tasks without an accuracy, which are named."""
    from ensemble_bench.host.results import rows

    found = rows(options.hosts)
    if FORMS.get(options.format) not in ("table", "markdown"):
        return found
    shown = {row["task"] for row in found if row["metric"] == "acc1"}
    if others := sorted({row["task"] for row in found} - shown):
        print(f"ensemble-bench: no acc1, so not in this table: {', '.join(others)}", file=sys.stderr)
    return [row for row in found if row["task"] in shown]


def show(text: str, table: bool) -> None:
    """Print to standard output; a table on a terminal gets colours: headings, and the best of each column."""
    if not (table and sys.stdout.isatty()):
        sys.stdout.write(text)
        return
    from rich.console import Console
    from rich.text import Text

    coloured = Text(text, no_wrap=True, overflow="ignore")
    coloured.highlight_regex(r"(?m)(?<=^├─ )[^─┼┤]+", "bold cyan")
    coloured.highlight_regex(r"\*[0-9.]+", "bold green")
    coloured.highlight_regex(r"NOT A FULL RESULT", "bold yellow")
    Console().print(coloured, end="", soft_wrap=True)
