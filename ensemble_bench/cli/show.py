"""Print everything known about one task, collection, backbone, pool, strategy or corruption."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from ensemble_bench import listing
from ensemble_bench.errors import BadOption


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("kind", help=f"one of {', '.join(listing.KINDS)}")
    parser.add_argument("name")
    parser.add_argument("--json", action="store_true", help="a JSON object")
    parser.add_argument("--sheet", type=Path, metavar="FILE", help="also draw images: of a task, a collection, a corruption")
    parser.add_argument("--cards", action="append", type=Path, default=[], metavar="DIR", help="more cards")
    parser.add_argument("--plugin", action="append", type=Path, default=[], metavar="FILE.py", help="more strategies")


def _draw(kind: str, thing: listing.Thing, options: argparse.Namespace) -> None:
    if kind not in ("tasks", "collections", "corruptions"):
        raise BadOption(f"--sheet draws tasks, collections and corruptions, not {kind}.")
    from ensemble_bench import sheet

    if kind == "corruptions":
        suites = listing.suites(tuple(options.cards))
        sheet.draw_corruptions(list(suites.values()), thing["name"], options.sheet)
        return
    from ensemble_bench.task import Catalogue

    names = [thing["name"]] if kind == "tasks" else thing["tasks"]
    sheet.draw(Catalogue(tuple(options.cards)).tasks(names), options.sheet)


def main(options: argparse.Namespace) -> int:
    kind = listing.kind(options.kind)
    thing = listing.details(kind, options.name, cards=tuple(options.cards), plugins=tuple(options.plugin))
    if options.sheet:
        _draw(kind, thing, options)
    if options.json:
        print(json.dumps(thing, indent=1, allow_nan=False))
        return 0
    width = max(len(key) for key in thing)
    for key, value in thing.items():
        for place, line in enumerate(map(str, value) if isinstance(value, (list, tuple)) else str(value).splitlines() or [""]):
            print(f"{key if not place else '':<{width}}  {line}")
    return 0
