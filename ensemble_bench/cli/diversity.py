"""Print how much backbones complement each other: the pool's headline number, its pairs, its members, how it grows.

Counted from what 'run' recorded of single backbones; no images, no weights. CKA and what backbones are worth to log-avg also
need features: they are read from the store, where they are still there.

A prediction archive may stand instead of a results folder: its single backbones are evaluated first. Its conditions are those
that it names, and all samples together are 'all'.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ensemble_bench.report import FORMS

if TYPE_CHECKING:
    from ensemble_bench.records import Results
    from ensemble_bench.stored import Stored


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folders", nargs="+", type=Path, metavar="DIR", help="results folder (option -o of 'run'), or a prediction archive"
    )
    parser.add_argument(
        "-t",
        "--tasks",
        nargs="+",
        action="extend",
        default=[],
        metavar="TASK",
        help="only these; also means, mean(mini)",
    )
    parser.add_argument(
        "-c", "--condition", metavar="NAME", help="only this one: clean, SUITE:CORRUPTION:SEVERITY, mean(SUITE)"
    )
    parser.add_argument("--per-class", action="store_true", help="also the images of each class by themselves")
    parser.add_argument("--no-features", action="store_true", help="do not look for features: no CKA, nothing for log-avg")
    parser.add_argument("--format", choices=FORMS, default="table", help="default: table, for a terminal (text = table)")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="write to this file instead of printing")


def main(options: argparse.Namespace) -> int:
    from ensemble_bench import complementarity, leaderboard, report
    from ensemble_bench.cli.board import put

    results = [found(folder) for folder in options.folders]
    rows = complementarity.rows(
        results,
        tasks=options.tasks,
        condition=options.condition,
        per_class=options.per_class,
        stored=None if options.no_features else stored(results),
    )
    put(report.pooled(rows, options.format, caption=leaderboard.caption(results)), options)
    return 0


def found(place: Path) -> Results:
    """The results in a folder, or those of the single backbones of an archive."""
    from ensemble_bench.records import LINES, Results

    if (place / LINES).is_file():
        return Results(place, must_exist=True)

    from ensemble_bench import archive  # for its weight
    from ensemble_bench.assessment import assessed

    archived = place.suffix in (".npz", ".csv") or (place / archive.CARD).is_file()
    if not (archived or (not place.exists() and str(place) in archive.names())):
        return Results(place, must_exist=True)
    return assessed(archive.find(str(place)), ["single"]).results


def stored(results: Sequence[Results]) -> Stored:
    """Where the features of these runs are looked for."""
    from ensemble_bench.stored import Stored

    return Stored(results)
