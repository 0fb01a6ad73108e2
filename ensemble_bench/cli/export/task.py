"""Write every split of a task as a webdataset in CLIP_benchmark's layout; a condition changes its test images only.

OUT appears when all of it is there; the same command again goes on where it was.
"""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from ensemble_bench.errors import BadOption

STOCK_WORKERS = 4  # what CLIP_benchmark starts by itself; with fewer shards it fails


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "task",
        metavar="TASK[@SUITE:CORRUPTION:SEVERITY]",
        help="a task, folder:PATH or wds:PATH; its test images corrupted or not",
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="a folder that is empty or not there")
    parser.add_argument("--shards", type=int, metavar="N", help="shards of each split (default: 8, or 1 for 5,000 images)")
    parser.add_argument("--test-only", action="store_true", help="no train images")
    parser.add_argument("--limit", type=int, metavar="N", help="only N test samples, those of 'run --limit N'")
    parser.add_argument("--jpeg", type=int, metavar="QUALITY", help="save as JPEG instead of PNG, which loses nothing")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of the corruption's draws (default: 0, as in run)")
    parser.add_argument("--workers", type=int, metavar="N", help="pictures that are worked on at once (default: one a core)")
    parser.add_argument("--cards", action="append", type=Path, default=[], metavar="DIR", help="more cards")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress bar")


def main(options: argparse.Namespace) -> int:
    for name, low, high in (("workers", 1, 1024), ("seed", 0, 2**63), ("jpeg", 1, 100)):
        value = getattr(options, name)
        if value is not None and not low <= value <= high:
            raise BadOption(f"--{name} must be from {low} to {high}, not {value}.")
    from ensemble_bench import shards
    from ensemble_bench.embed import cores
    from ensemble_bench.progress import watched

    task, condition, suite = shards.named(options.task, tuple(options.cards), options.seed)
    asked = shards.Export(task, options.out, condition, suite, options.shards, options.jpeg, options.limit, options.test_only)
    with watched(options.quiet).step(f"{options.task}: shards", asked.total()) as advance:
        done = shards.written(asked, options.workers or cores(), advance)
    print(f"{options.out}: {done.made} shards made, {done.kept} were there, {asked.total()} images")
    count = len(asked.blocks("test"))
    few = [f"--num_workers {count}"] if count < STOCK_WORKERS else []
    words = [
        "clip_benchmark eval --dataset",
        shlex.quote(f"wds/{task.name}"),
        "--dataset_root",
        shlex.quote(str(options.out)),
        *few,
    ]
    print(" ".join(words))
    return 0
