"""Check a prediction archive and keep it under a name, for 'evaluate NAME': a .npz or .csv file, or a folder with archive.toml.

It is stored below $ENSEMBLE_BENCH_CACHE (default ~/.cache/ensemble_bench), in archives/NAME. To forget it, remove that folder.
"""

from __future__ import annotations

import argparse
from pathlib import Path


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help="a .npz or .csv file, or a folder with archive.toml")
    parser.add_argument("--as", dest="name", required=True, metavar="NAME", help="lower case letters, digits and hyphens")


def main(options: argparse.Namespace) -> int:
    from ensemble_bench import archive

    place = archive.keep(options.file, options.name)
    print(f"{options.name}: {place}")
    return 0
