"""Write the scores of a pool on a task as a prediction archive: a .npz file if OUT ends so, else a folder.

It holds logits, features, labels and ids of the test samples and, where the task has them, of the train samples, with ``split``
saying which is which: 'evaluate OUT' then gives what 'run' gives.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ensemble_bench import request


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("task", metavar="TASK", help="the name of a task")
    parser.add_argument("out", type=Path, metavar="OUT", help="a new .npz file or folder")
    parser.add_argument(
        "-b", "--backbones", nargs="+", action="extend", metavar="BACKBONE", help="backbones or a pool (default: mini)"
    )
    parser.add_argument("--device", choices=request.DEVICES, default="auto", help="default: auto")
    parser.add_argument("--precision", choices=request.PRECISIONS, default="fp32", help="as in run (default: fp32)")
    parser.add_argument("--cards", action="append", type=Path, default=[], metavar="DIR", help="a folder with more tasks/")
    parser.add_argument("--offline", action="store_true", help="make no network call")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress bars")


def main(options: argparse.Namespace) -> int:
    from ensemble_bench import archive, runner
    from ensemble_bench.errors import BadArchive
    from ensemble_bench.progress import watched

    if options.out.exists():
        raise BadArchive(f"{options.out} is already there: remove it, or give another name.")
    asked = request.Request(
        tasks=(options.task,),
        backbones=tuple(options.backbones or ("mini",)),
        strategies=("best-single",),
        device=options.device,
        precision=options.precision,
        cards=tuple(options.cards),
        offline=options.offline,
    )
    cubes = runner.cubes(asked, watched(options.quiet))
    archive.write(archive.joined(options.task, cubes), options.out)
    print(f"{options.out}: {sum(map(len, cubes.values())):,} samples, {len(next(iter(cubes.values())).backbones)} backbones")
    return 0
