"""Hold a results folder against a baseline, answer by answer: exit 1 if something got worse, 2 if nothing can be compared.

A row regresses where McNemar's exact one-sided test finds more answers lost than gained (level 0.02, Holm over the rows of
a strategy) and accuracy drops by a point or more. Rows of the baseline that the candidate lacks fail too.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("baseline", type=Path, metavar="BASELINE", help="results folder that is known to be right")
    parser.add_argument("candidate", type=Path, metavar="CANDIDATE", help="results folder to be looked at")
    parser.add_argument("--config", type=Path, metavar="gate.toml", help="tolerances, level, tasks and strategies from a file")
    parser.add_argument(
        "--tolerance",
        action="append",
        default=[],
        metavar="TEXT",
        help="acc1:0.5pp (smallest drop of a row that counts), mean:0.2pp (of a strategy over all rows), gflops:5%%, time:20%%",
    )
    parser.add_argument("-t", "--tasks", nargs="+", metavar="GLOB", help="only rows of these tasks")
    parser.add_argument("-s", "--strategies", nargs="+", metavar="GLOB", help="only rows of these strategies")
    parser.add_argument("--flips", type=int, default=10, metavar="N", help="name N flipped samples of each row (default: 10)")
    parser.add_argument("--junit", type=Path, metavar="FILE.xml", help="write a test report too")
    parser.add_argument("--summary", type=Path, metavar="FILE.md", help="append a summary in Markdown to this file")


def main(options: argparse.Namespace) -> int:
    from ensemble_bench.check import rules, said
    from ensemble_bench.check.compare import compared
    from ensemble_bench.errors import BadOption
    from ensemble_bench.records import Results

    if options.flips < 0:
        raise BadOption(f"--flips must be at least 0, not {options.flips}.")
    asked = rules.read(options.config) if options.config else rules.Rules()
    asked = asked.tolerating(options.tolerance, "--tolerance")
    tasks, strategies = options.tasks or asked.tasks, options.strategies or asked.strategies
    asked = replace(asked, tasks=tuple(tasks), strategies=tuple(strategies))
    found = compared(Results(options.baseline, must_exist=True), Results(options.candidate, must_exist=True), asked)
    print(said.text(found, options.flips), end="")
    for path, text, mode in (
        (options.junit, said.junit(found), "w"),
        (options.summary, said.markdown(found, options.flips), "a"),
    ):
        if path is not None:
            try:
                with path.open(mode, encoding="utf-8") as file:
                    file.write(text)
            except OSError as error:
                raise BadOption(f"{path} cannot be written: {error.strerror}.") from None
    return int(found.fails)
