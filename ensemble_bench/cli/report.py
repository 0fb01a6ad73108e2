"""Write one self-contained HTML page about results folders: board, gaps, cost, complementarity, images, provenance."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR", help="results folder (option -o of 'run')")
    parser.add_argument("-o", "--output", type=Path, default=Path("report.html"), metavar="FILE", help="default: report.html")
    parser.add_argument(
        "--thumbnails", type=int, default=8, metavar="N", help="images of each task that one backbone, or none, has right"
    )
    parser.add_argument("--cards", action="append", type=Path, default=[], metavar="DIR", help="a folder with more tasks/")


def main(options: argparse.Namespace) -> int:
    from ensemble_bench.errors import BadOption
    from ensemble_bench.records import Results
    from ensemble_bench.report.page import html

    if options.thumbnails < 0:
        raise BadOption(f"--thumbnails must be at least 0, not {options.thumbnails}.")
    results = [Results(folder, must_exist=True) for folder in options.folders]
    text = html(results, thumbnails=options.thumbnails, cards=tuple(options.cards))
    try:
        options.output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise BadOption(f"{options.output} cannot be written: {error.strerror}.") from None
    print(f"{options.output}: {len(text.encode()) / 1e6:.1f} MB", file=sys.stderr)
    return 0
