"""CLIP_benchmark's own command line, with our ensembles as its models and our tasks and corruptions as its datasets.

Everything after 'clip-benchmark' is CLIP_benchmark's; 'ensemble-bench clip-benchmark eval --help' lists its options.

  --model_type ensemble_bench --model STRATEGY --pretrained POOL       any strategy without labels, over any pool
  --model_type ensemble_bench --model STRATEGY --pretrained POOL@FIT   one that learns, fitted by 'run --save-fits'
  --dataset eb/TASK, eb/TASK@SUITE:CORRUPTION:SEVERITY, eb/COLLECTION  any of our tasks, clean or corrupted

Give --no_amp for the numbers of 'run'. An evaluation that fails is told in a sentence and the others go on; exit code 2.
"""

from __future__ import annotations

import argparse

VERBATIM = True


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("words", nargs=argparse.REMAINDER, metavar="eval|build ...", help="as CLIP_benchmark has them")


def main(options: argparse.Namespace) -> int:
    from ensemble_bench.host.activate import main as run

    return run(options.words)
