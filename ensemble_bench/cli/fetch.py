"""Download data sets ahead: test images, and the train images that supports are drawn from; then --offline needs no network.

What comes lies in $ENSEMBLE_BENCH_CACHE/datasets with a list of lengths and digests. A download that broke off is gone on with
by the same command. Of a large train split only the shards are fetched that --shots needs (give the same --shots and --seed to
run); --whole fetches them all. Data sets that lie in folders need no fetching.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from ensemble_bench.errors import BadOption


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        *("-t", "--tasks", "--dataset"),
        nargs="+",
        action="extend",
        required=True,
        metavar="NAME",
        help="tasks, collections, or wds:ADDRESS",
    )
    parser.add_argument("--shots", type=int, default=1, metavar="K", help="labelled examples per class (default: 1, as in run)")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of the draws (default: 0, as in run)")
    parts = parser.add_mutually_exclusive_group()
    parts.add_argument("--test-only", action="store_true", help="no train images")
    parts.add_argument("--support-only", action="store_true", help="no test images")
    parts.add_argument("--whole", action="store_true", help="all train images")
    parser.add_argument("--mirror", metavar="URL", help="take URL/NAME for the repository OWNER/NAME of the hub")
    parser.add_argument("--cards", action="append", type=Path, default=[], metavar="DIR", help="more cards")
    parser.add_argument("--offline", action="store_true", help="make no network call: only say what is missing")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress bars")


def main(options: argparse.Namespace) -> int:
    from ensemble_bench import sources
    from ensemble_bench.errors import BadData, Missing
    from ensemble_bench.progress import watched
    from ensemble_bench.sources import webdataset
    from ensemble_bench.sources.base import Wanted
    from ensemble_bench.task import Catalogue

    for name, low in (("shots", 1), ("seed", 0)):
        if getattr(options, name) < low:
            raise BadOption(f"--{name} must be at least {low}, not {getattr(options, name)}.")
    if options.mirror:
        os.environ[webdataset.MIRROR] = options.mirror
    if options.offline:
        os.environ["HF_HUB_OFFLINE"] = "1"
    wanted = Wanted(
        shots=0 if options.test_only else options.shots,
        seed=options.seed,
        test=not options.support_only,
        whole=options.whole,
    )
    catalogue = Catalogue(tuple(options.cards))
    tasks = sources.chosen(options.tasks, catalogue)
    progress, failed = watched(options.quiet), 0
    for task in tasks:
        try:
            done = sources.fetch(task, wanted, catalogue, progress)
        except (BadData, Missing) as error:
            failed += 1
            sentence = str(error) if task.name in str(error) else f"{task.name}: {error}"
            print(f"ensemble-bench: {sentence}", file=sys.stderr)
            continue
        if done.where is None:
            print(f"{task.name}: nothing to fetch", flush=True)
        else:
            came = f"{done.files} files came ({done.bytes / 1e6:,.1f} MB), {done.kept} were there"
            print(f"{task.name}: {came}, in {done.where}", flush=True)
    if failed:
        print(f"ensemble-bench: {failed} of {len(tasks)} data sets could not be fetched.", file=sys.stderr)
    return 2 if failed else 0
