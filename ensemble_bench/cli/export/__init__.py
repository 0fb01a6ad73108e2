"""Write what the benchmark has in a form that others read: one kind of thing, one module of this package."""

from __future__ import annotations

import argparse
import importlib

# Each kind is a module here with the same name, that has ``arguments`` and ``main`` as a verb has.
KINDS = {
    "task": "a task as a webdataset that CLIP_benchmark reads without us",
    "archive": "the scores of a pool on a task, as a prediction archive",
}


def arguments(parser: argparse.ArgumentParser) -> None:
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="KIND")
    for kind, summary in KINDS.items():
        module = importlib.import_module(f"{__name__}.{kind}")
        one = kinds.add_parser(kind, help=summary, description=module.__doc__, allow_abbrev=False)
        one.formatter_class = argparse.RawDescriptionHelpFormatter
        module.arguments(one)
        one.set_defaults(exported=module.main)


def main(options: argparse.Namespace) -> int:
    code: int = options.exported(options)
    return code
