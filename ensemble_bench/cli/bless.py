"""Make a results folder the new baseline of 'check'; the reason is kept beside it, with all earlier ones."""

from __future__ import annotations

import argparse
from pathlib import Path


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("candidate", type=Path, metavar="CANDIDATE", help="results folder that is right")
    parser.add_argument("baseline", type=Path, metavar="BASELINE", help="folder that it replaces, or a new one")
    parser.add_argument("--reason", required=True, metavar="TEXT", help="why the numbers may differ from now on")


def main(options: argparse.Namespace) -> int:
    from ensemble_bench.check.bless import bless

    about = bless(options.candidate, options.baseline, options.reason)
    print(f"{options.baseline} is now what {options.candidate} holds: {about['reason']}")
    if "against" in about:
        print(f"against the one before: {about['against']}")
    for line in about.get("changes", []):
        print(f"  {line}")
    return 0
