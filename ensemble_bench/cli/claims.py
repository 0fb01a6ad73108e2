"""Check the claims of the paper on results at hand: value, interval, verdict, and the published number beside it.

Several folders are taken together: runs at more shots, under corruption, or of the four cheapest backbones of the pool make
more claims testable.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ensemble_bench.report import FORMS


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR", help="results folder (option -o of 'run')")
    parser.add_argument("--no-features", action="store_true", help="do not look for features in the store")
    parser.add_argument("--format", choices=FORMS, default="table", help="default: table, for a terminal (text = table)")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="write to this file instead of printing")


def main(options: argparse.Namespace) -> int:
    from ensemble_bench import claims, leaderboard, report
    from ensemble_bench.cli.board import put
    from ensemble_bench.cli.diversity import stored
    from ensemble_bench.records import Results

    results = [Results(folder, must_exist=True) for folder in options.folders]
    rows = claims.rows(results, stored=None if options.no_features else stored)
    put(report.judged(rows, options.format, caption=leaderboard.caption(claims.judged(results))), options)
    return 0
