"""Look for what is wrong with a data set before it costs hours: labels, class names, prompts, ids, counts, images, overlap.

NAME is a task, a collection, folder:PATH or wds:PATH. An error makes numbers wrong or a run impossible (exit code 2), a warning
is a thing to look at.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path

from ensemble_bench.errors import BadOption


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", nargs="*", metavar="NAME", help="what to look at")
    parser.add_argument("-t", "--tasks", "--dataset", nargs="+", action="extend", default=[], metavar="NAME", help="the same")
    parser.add_argument("--quick", action="store_true", help="without decoding images")
    parser.add_argument("--limit", "-L", type=int, metavar="N", help="only N images of each split")
    parser.add_argument("--cards", action="append", type=Path, default=[], metavar="DIR", help="more cards")
    parser.add_argument("--json", action="store_true", help="a JSON list with an object for each task")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress bars")


def main(options: argparse.Namespace) -> int:
    from ensemble_bench import sources
    from ensemble_bench.progress import watched
    from ensemble_bench.sources.examination import examined
    from ensemble_bench.task import Catalogue

    if options.limit is not None and options.limit < 1:
        raise BadOption(f"--limit must be at least 1, not {options.limit}.")
    if not options.names + options.tasks:
        raise BadOption("check-task: name a task, a collection, folder:PATH or wds:PATH.")
    progress = watched(options.quiet)
    tasks = sources.chosen(options.names + options.tasks, Catalogue(tuple(options.cards)))
    reports = []
    for task in tasks:
        report = examined(task, quick=options.quick, limit=options.limit, progress=progress)
        reports.append(report)
        if not options.json:
            seen = " and ".join(f"{count:,} {split}" for split, count in report.images.items())
            looked = "names, labels and counts" if options.quick else f"{seen or 'no'} images"
            looked = "nothing more" if any(finding.check == "source" for finding in report.findings) else looked
            print(f"{task.name}: {'fine' if report.fine else 'to be mended'}; {looked} looked at", flush=True)
            for finding in report.findings:
                print(f"  {finding.severity}: {finding}")
    if options.json:
        said = [
            {
                "name": one.task,
                "fine": one.fine,
                "images": one.images,
                "findings": [dataclasses.asdict(f) for f in one.findings],
            }
            for one in reports
        ]
        print(json.dumps(said, indent=1, ensure_ascii=False, allow_nan=False))
    bad = sum(not report.fine for report in reports)
    if bad:
        print(f"ensemble-bench: {bad} of {len(reports)} data sets are to be mended.", file=sys.stderr)
    return 2 if bad else 0
