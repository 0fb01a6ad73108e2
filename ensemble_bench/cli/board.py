"""Print the leaderboard of one or more results folders: what 'run' recorded, with intervals, ceilings apart."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ensemble_bench.report import BY, FORMS

if TYPE_CHECKING:
    from ensemble_bench.records import Results

HOST = "clip-benchmark"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folders", nargs="*", type=Path, metavar="DIR", help="results folder (option -o of 'run')")
    parser.add_argument(
        "--format",
        choices=(*FORMS, HOST),
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
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="write to this file (or folder) instead of printing")


def main(options: argparse.Namespace) -> int:
    from ensemble_bench import leaderboard, report
    from ensemble_bench.errors import BadOption
    from ensemble_bench.records import Results
    from ensemble_bench.registry import near

    if not options.folders and not options.hosts:
        raise BadOption("there is nothing to show: give a results folder (option -o of 'run'), or --from FILE.")
    results = [Results(folder, must_exist=True) for folder in options.folders]
    if options.format == HOST:
        return _written(results, options)
    caption = leaderboard.caption(results) if results else ""
    rows = leaderboard.rows(results, mce=options.mce) if results else []
    if options.hosts:
        rows = _beside(rows, _imported(options))
    if options.condition is not None:
        names = list(dict.fromkeys(row["condition"] for row in rows))
        if options.condition not in names:
            there = near(options.condition, names) or f" There are: {', '.join(names)}."
            raise BadOption(f"there is nothing under the condition {options.condition!r} in these results.{there}")
        rows = [row for row in rows if row["condition"] == options.condition]
    text = report.text(rows, options.format, by=options.by, caption=caption)
    if options.output is None:
        show(text, FORMS[options.format] == "table")
        return 0
    try:
        options.output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise BadOption(f"{options.output} cannot be written: {error.strerror}.") from None
    return 0


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
    if FORMS[options.format] != "table" and FORMS[options.format] != "markdown":
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
