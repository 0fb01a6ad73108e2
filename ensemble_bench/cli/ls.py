"""List what there is: tasks, collections, backbones, pools, strategies or corruptions."""

from __future__ import annotations

import argparse
import fnmatch
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ensemble_bench import listing


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("kind", help=f"one of {', '.join(listing.KINDS)}")
    parser.add_argument("pattern", nargs="?", default="*", help="only names that this glob pattern matches")
    parser.add_argument("--format", choices=("table", "json", "markdown"), default="table", help="default: table")
    parser.add_argument(
        "--json", action="store_const", const="json", dest="format", help="the same as --format json: all there is"
    )
    parser.add_argument("--cards", action="append", type=Path, default=[], metavar="DIR", help="more cards")
    parser.add_argument("--plugin", action="append", type=Path, default=[], metavar="FILE.py", help="more strategies")


def _cell(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return "" if value is None else " ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def main(options: argparse.Namespace) -> int:
    kind = listing.kind(options.kind)
    every = listing.things(kind, cards=tuple(options.cards), plugins=tuple(options.plugin))
    things = [thing for thing in every if fnmatch.fnmatch(thing["name"], options.pattern)]
    if options.format == "json":
        print(json.dumps(things, indent=1, allow_nan=False))
    elif not things:
        print(f"no {kind} {'at all' if not every else f'called {options.pattern}'}")
    else:
        print("\n".join(lines(kind, things, markdown=options.format == "markdown")))
    return 0


def lines(kind: str, things: Sequence[listing.Thing], *, markdown: bool = False) -> list[str]:
    """The things of one kind as the lines of a table."""
    columns = listing.COLUMNS.get(kind, tuple(things[0]))
    keys = [key for key in columns if any(thing.get(key) not in (None, "", []) for thing in things)]
    rows = [[_cell(thing.get(key)) for key in keys] for thing in things]
    return _markdown(keys, rows) if markdown else _table(keys, rows)


def _table(keys: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[place]) for row in [keys, *rows]) for place in range(len(keys))]
    return ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in [keys, *rows]]


def _markdown(keys: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [keys, ["---"] * len(keys), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return [f"| {' | '.join(line)} |" for line in lines]
