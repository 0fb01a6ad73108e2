"""Print the leaderboard of one or more results folders: what 'run' recorded, with intervals, ceilings apart."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ensemble_bench.report import BY, FORMS

if TYPE_CHECKING:
    from ensemble_bench.records import Results


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR", help="results folder (option -o of 'run')")
    parser.add_argument("--format", choices=FORMS, default="table", help="default: table, for a terminal (text = table)")
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
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="write to this file instead of printing")


def main(options: argparse.Namespace) -> int:
    from ensemble_bench import leaderboard
    from ensemble_bench.records import Results

    results = [Results(folder, must_exist=True) for folder in options.folders]
    caption = leaderboard.caption(results)
    put(_compared(results, options, caption) if options.compare else _board(results, options, caption), options)
    return 0


def _compared(results: Sequence[Results], options: argparse.Namespace, caption: str) -> str:
    from ensemble_bench import comparison, report
    from ensemble_bench.errors import BadOption

    if options.mce is not None or options.by != "strategy":
        raise BadOption("--compare prints a table of its own: leave --by and --mce out.")
    rows = comparison.rows(results, options.compare, condition=options.condition)
    return report.compared(rows, options.format, caption=caption)


def _board(results: Sequence[Results], options: argparse.Namespace, caption: str) -> str:
    from ensemble_bench import leaderboard, report
    from ensemble_bench.errors import BadOption
    from ensemble_bench.registry import near

    rows = leaderboard.rows(results, mce=options.mce)
    if options.condition is not None:
        names = list(dict.fromkeys(row["condition"] for row in rows))
        if options.condition not in names:
            there = near(options.condition, names) or f" There are: {', '.join(names)}."
            raise BadOption(f"there is nothing under the condition {options.condition!r} in these results.{there}")
        rows = [row for row in rows if row["condition"] == options.condition]
    return report.text(rows, options.format, by=options.by, caption=caption)


def put(text: str, options: argparse.Namespace) -> None:
    """Print a text, or write it to the file that ``--output`` names."""
    if options.output is None:
        show(text, FORMS[options.format] == "table")
        return
    try:
        options.output.write_text(text, encoding="utf-8")
    except OSError as error:
        from ensemble_bench.errors import BadOption

        raise BadOption(f"{options.output} cannot be written: {error.strerror}.") from None


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
