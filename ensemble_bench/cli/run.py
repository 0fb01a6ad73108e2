"""Evaluate backbones and every way of combining them on tasks, keep the records, print the board.

With no option: the embedded tasks with the embedded backbones. The same command again goes on where it was.
Lists take names, collections or pools, globs, list files (one name a line), commas and repeats.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ensemble_bench import request
from ensemble_bench.errors import BadOption
from ensemble_bench.profile import Profile, Stopwatch
from ensemble_bench.progress import Noted, Progress, watched

if TYPE_CHECKING:
    from ensemble_bench.report.profile import Account

WORK = {
    "loads": "models loaded",
    "class_builds": "class embeddings built",
    "decodes": "images decoded",
    "corruptions": "corrupted",
    "encodes": "encoded",
}

_LISTS = {
    "tasks": (("-t", "--tasks", "--dataset"), "tasks, collections, folder:PATH or wds:PATH (default: mini)"),
    "backbones": (("-b", "--backbones"), "ARCH,TAG or TAG/ARCH, checkpoints as ARCH,PATH, or pools (default: mini)"),
    "strategies": (("-s", "--strategies"), "strategies, NAME or NAME:key=value; also 'default' and 'all'"),
    "corruptions": (("-c", "--corruptions"), "SUITE[:CORRUPTION[:SEVERITY]] or 'clean' (default: clean)"),
}


def arguments(parser: argparse.ArgumentParser) -> None:
    for name, (flags, text) in _LISTS.items():
        parser.add_argument(*flags, dest=name, nargs="+", action="extend", metavar=name[:-1].upper(), help=text)
    parser.add_argument("--config", "-C", type=Path, metavar="FILE.toml", help="options from a file; flags win over it")
    parser.add_argument("--shots", type=int, metavar="K", help="labelled examples per class in each draw (default: 1)")
    parser.add_argument("--draws", type=int, metavar="N", help="independent draws of them (default: 5)")
    parser.add_argument("--seed", type=int, metavar="S", help="seed of draws and fits (default: 0)")
    parser.add_argument("--limit", "-L", type=int, metavar="N", help="only N test samples of each task: not a full result")
    parser.add_argument("--device", choices=request.DEVICES, help="default: auto")
    parser.add_argument(
        "--precision",
        choices=request.PRECISIONS,
        help="of the image towers (default: fp32); auto: the quickest here that keeps the features",
    )
    parser.add_argument(
        "-o", "--output", "--output-path", type=Path, metavar="DIR", help="results folder (default: runs/DIGEST)"
    )
    parser.add_argument("--cards", action="append", type=Path, metavar="DIR", help="a folder with more tasks/ or corruptions/")
    parser.add_argument(
        "--plugin", action="append", type=Path, dest="plugins", metavar="FILE.py", help="a file with strategies"
    )
    parser.add_argument("--save-fits", action="store_true", default=None, help="keep what every strategy learnt")
    parser.add_argument("--dry-run", action="store_true", help="print the plan and do nothing")
    parser.add_argument("--offline", action="store_true", default=None, help="make no network call")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress bars")
    parser.add_argument(
        "--profile", type=Path, metavar="FILE.svg", help="say where the time went: a table on standard error, a picture here"
    )
    parser.add_argument("--skip-existing", action="store_true", help="always so; accepted because other tools ask for it")


def _request(options: argparse.Namespace) -> request.Request:
    values: dict[str, Any] = request.read(options.config) if options.config else {}
    for name in request.NAMES:
        given = getattr(options, name, None)
        if given is not None:
            values[name] = tuple(given) if isinstance(given, list) else given
    return request.Request(**values)


def main(options: argparse.Namespace) -> int:
    asked = _request(options)
    if options.profile and options.profile.suffix != ".svg":
        raise BadOption(f"--profile draws a picture, FILE.svg, not {options.profile}.")
    if options.dry_run:
        from ensemble_bench import forecast

        print(forecast.text(asked))
        return 0

    profile = Stopwatch() if options.profile else Profile()
    with profile.step("imports"):
        from ensemble_bench import leaderboard, reference, report, runner
        from ensemble_bench.cli.board import show
        from ensemble_bench.embed import cores
        from ensemble_bench.report.profile import Account

    progress: Progress = watched(options.quiet)
    progress = Noted(progress) if options.profile else progress
    start = time.monotonic()
    outcome = runner.run(asked, progress, profile)
    took = time.monotonic() - start
    with profile.step("board"):
        caption = leaderboard.caption([outcome.results])
        rows = leaderboard.rows([outcome.results])
        show(report.text(rows, "table", caption=caption), True)
        if said := reference.verdict(reference.compare(rows)):
            print(f"\n{said}", end="")
    print(f"\nrecords: {outcome.results.folder}")
    if isinstance(profile, Stopwatch) and isinstance(progress, Noted):
        profile.stop()
        _account(Account(profile, progress.steps, cores(), runner.device(asked.device)), options.profile)
    print(f"ensemble-bench: {_work(outcome.work)}, in {took:.1f} s", file=sys.stderr)
    for line in outcome.warnings:
        print(f"ensemble-bench: warning: {line}", file=sys.stderr)
    for line in dict.fromkeys(outcome.failures):
        print(f"ensemble-bench: {line}", file=sys.stderr)
    if outcome.failures:
        print(f"ensemble-bench: {len(outcome.failures)} cells failed; the others are finished.", file=sys.stderr)
    return 2 if outcome.failures else 0


def _work(counts: Mapping[str, int]) -> str:
    """What a run really did, in one line."""
    return ", ".join(f"{counts[name]:,} {noun}" for name, noun in WORK.items())


def _account(account: Account, path: Path) -> None:
    """Say where the time went, and draw it."""
    print(f"\n{account.table()}", file=sys.stderr)
    try:
        path.write_text(account.svg(), encoding="utf-8")
    except OSError as error:
        raise BadOption(f"{path} cannot be written: {error.strerror}.") from None
