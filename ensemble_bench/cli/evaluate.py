"""Evaluate strategies on a prediction archive: somebody's logits, probabilities or bare decisions. No images, no weights.

ARCHIVE is an imported name, a .npz file, a folder with archive.toml, or a CSV file: see 'import' and docs/archives.md.
Where it names conditions there are results of each beside those of all samples; where it has a train split, strategies learn
from that.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ensemble_bench.report import FORMS

if TYPE_CHECKING:
    from ensemble_bench.archive import Archive


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("archive", metavar="ARCHIVE", help="an imported name, or a path")
    parser.add_argument(
        *("-s", "--strategies"),
        nargs="+",
        action="extend",
        default=[],
        metavar="STRATEGY",
        help="NAME or NAME:key=value; also 'default' and 'all' (default: those of the default that need no more than there is)",
    )
    parser.add_argument("--format", choices=FORMS, default="table", help="default: table, for a terminal (text = table)")
    parser.add_argument(
        "--shots", type=int, default=1, metavar="K", help="labelled examples per class in each draw (default: 1)"
    )
    parser.add_argument("--draws", type=int, default=5, metavar="N", help="independent draws of them (default: 5)")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="seed of draws and fits (default: 0)")
    parser.add_argument("--plugin", action="append", type=Path, default=[], metavar="FILE.py", help="a file with strategies")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress bar")


def main(options: argparse.Namespace) -> int:
    from ensemble_bench import archive, assessment, leaderboard, report
    from ensemble_bench.cli.board import show
    from ensemble_bench.progress import watched
    from ensemble_bench.strategies.plugin import add_file

    for path in options.plugin:
        add_file(path)
    protocol = assessment.Protocol(options.shots, options.draws, options.seed)
    found = archive.find(options.archive)
    done = assessment.assessed(found, options.strategies, protocol, watched(options.quiet))
    order = {name: place for place, name in enumerate([archive.ALL, *found.conditions()])}
    rows = sorted(leaderboard.rows([done.results], suites=False), key=lambda row: order[row["condition"]])
    show(report.text(rows, options.format, caption=_caption(found)), FORMS[options.format] == "table")
    for line in done.left_out:
        print(f"ensemble-bench: left out of the default: {line}.", file=sys.stderr)
    for line in done.failures:
        print(f"ensemble-bench: {line}", file=sys.stderr)
    if done.failures:
        print(f"ensemble-bench: {len(done.failures)} strategies failed; the others are finished.", file=sys.stderr)
    return 2 if done.failures else 0


def _caption(found: Archive) -> str:
    """What the board is of, in two lines."""
    _, _, classes = found.cube.shape
    conditions = len(found.conditions())
    parts = [f"{len(found.query):,} samples", f"{classes:,} classes", f"has {', '.join(sorted(found.cube.has))}"]
    parts += [f"{conditions} condition{'s' * (conditions > 1)}"] if conditions else []
    return " · ".join([found.name, *parts]) + f"\npool of {len(found.cube.backbones)}: {', '.join(found.cube.backbones)}"
