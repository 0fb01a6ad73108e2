"""Write a corrupted copy of a folder of pictures, or of a webdataset (shards that end in .tar), with a list of digests.

OUT/CORRUPTION/SEVERITY/PATH holds each file, manifest.jsonl says where it comes from and its sha256. The same command again
goes on where it was. Pictures are converted to RGB (grey, palette, 16 bits, CMYK; transparency is dropped); what is no whole
picture is listed with the reason, and the exit code is then 2.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ensemble_bench.errors import BadOption


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", type=Path, metavar="IN", help="a folder of pictures, or of shards, or one shard")
    parser.add_argument("out", type=Path, metavar="OUT", help="the folder of the copy")
    parser.add_argument(
        *("-c", "--suite"),
        dest="corruptions",
        nargs="+",
        action="extend",
        required=True,
        metavar="SUITE",
        help="SUITE[:CORRUPTION[:SEVERITY]], parts of one suite",
    )
    parser.add_argument("--workers", type=int, metavar="N", help="pictures that are worked on at once (default: one a core)")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of the random draws (default: 0, as in run)")
    parser.add_argument("--jpeg", type=int, metavar="QUALITY", help="save as JPEG (ImageNet-C: 85) instead of PNG")
    parser.add_argument("--cards", action="append", type=Path, default=[], metavar="DIR", help="more cards")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress bar")


def main(options: argparse.Namespace) -> int:
    for name, low, high in (("workers", 1, 1024), ("seed", 0, 2**63), ("jpeg", 1, 100)):
        value = getattr(options, name)
        if value is not None and not low <= value <= high:
            raise BadOption(f"--{name} must be from {low} to {high}, not {value}.")
    from ensemble_bench.corrupt import copy, manifest, suite
    from ensemble_bench.embed import cores
    from ensemble_bench.progress import watched

    suites, conditions = suite.chosen(options.corruptions, tuple(options.cards), options.seed)
    if len(suites) != 1:
        names = ", ".join(suites) or "none"
        raise BadOption(f"--suite: a copy is made with one suite, and these are {names}. Give each a folder of its own.")
    asked = copy.Copy(options.source, options.out, next(iter(suites.values())), conditions, options.jpeg)
    with watched(options.quiet).step(f"{options.source}: {len(conditions)} conditions", asked.total()) as advance:
        done = copy.made(asked, options.workers or cores(), advance)
    print(f"{options.out}: {done.made} files made, {done.kept} were there, {len(done.failures)} failed")
    if done.left_out:
        some = ", ".join(done.left_out[:5]) + (" ..." if len(done.left_out) > 5 else "")
        print(f"{len(done.left_out)} files whose endings are no picture's were left out: {some}", file=sys.stderr)
    for line in done.failures:
        print(f"ensemble-bench: {line}", file=sys.stderr)
    if done.failures:
        print(
            f"ensemble-bench: {len(done.failures)} failed; the others are finished, see {options.out / manifest.NAME}.",
            file=sys.stderr,
        )
    return 2 if done.failures else 0
