"""Pages of the reference, written from the registries, the cards, the command line and the docstrings: never by hand."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ensemble_bench import listing, metrics
from ensemble_bench.cli import ALIASES, VERBS, parser_of

MARK = "<!-- written by docs/reference.py: do not edit -->"


def cell(value: object) -> str:
    """A value in a Markdown table."""
    if isinstance(value, (list, tuple)):
        value = ", ".join(map(str, value))
    return str("" if value is None else value).replace("|", "\\|").replace("\n", " ")


def table(things: Sequence[Mapping[str, Any]]) -> str:
    """Things as a Markdown table, a column per key."""
    names = list(dict.fromkeys(name for thing in things for name in thing))
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    lines += ["| " + " | ".join(cell(thing.get(name)) for name in names) + " |" for thing in things]
    return "\n".join(lines)


def noun(kind: str, about: str) -> str:
    """A page that lists one kind of thing."""
    return f"# {kind.capitalize()}\n\n{MARK}\n\n{about}\n\n{table(listing.things(kind))}\n"


def verbs() -> str:
    """The page of the command line."""
    parts = ["# Command line", MARK, "Results go to standard output, progress and logs to standard error. Exit codes: 0 done,"]
    parts[-1] += " 1 a gate failed, 2 something for you to mend, 130 interrupted. Also accepted: "
    parts[-1] += ", ".join(f"`{alias}` for `{verb}`" for alias, verb in ALIASES.items()) + "."
    for verb, summary in VERBS.items():
        text = parser_of(verb, formatter=lambda prog: argparse.RawDescriptionHelpFormatter(prog, width=100)).format_help()
        parts.append(f"## {verb}\n\n{summary[0].upper()}{summary[1:]}.\n\n```text\n{text.rstrip()}\n```")
    return "\n\n".join(parts) + "\n"


def figures() -> str:
    """The page of the metrics."""
    rows = [
        {
            "metric": one.name,
            "better": "more" if one.direction > 0 else "less",
            "from": "" if one.low is None else f"{one.low:g}",
            "to": "" if one.high is None else f"{one.high:g}",
            "what it says": one.summary,
            "needs": one.needs,
        }
        for one in metrics.METRICS.values()
    ]
    return f"# Metrics\n\n{MARK}\n\n{table(rows)}\n"


def python() -> str:
    """The page of the Python interface."""
    parts = ["# Python", MARK, "What `import ensemble_bench as eb` offers, and what a plug-in stands on."]
    for function in ("run", "load_cube", "evaluate"):
        parts.append(f"```{{eval-rst}}\n.. autofunction:: ensemble_bench.{function}\n```")
    for module, names in MODULES.items():
        for name in names:
            thing = getattr(importlib.import_module(module), name)
            kind = "autoclass" if isinstance(thing, type) else "autofunction"
            members = "\n   :members:" if isinstance(thing, type) else ""
            parts.append(f"```{{eval-rst}}\n.. {kind}:: {module}.{name}{members}\n```")
    return "\n\n".join(parts) + "\n"


MODULES = {
    "ensemble_bench.cube": ("Cube",),
    "ensemble_bench.strategies.base": ("Strategy",),
    "ensemble_bench.records": ("Record", "Predictions", "Results"),
    "ensemble_bench.leaderboard": ("rows",),
    "ensemble_bench.testing.strategies": ("check_strategy", "parametrize_with_checks", "strategy_checks"),
}

PAGES = {
    "verbs": verbs,
    "python": python,
    "metrics": figures,
    "tasks": lambda: noun("tasks", "`ensemble-bench show task NAME` prints a whole card."),
    "strategies": lambda: noun("strategies", "`ensemble-bench show strategy NAME` prints a definition and where it stands."),
    "backbones": lambda: noun("backbones", "Any other open_clip model is `ARCH,TAG`, a checkpoint `ARCH,PATH`."),
    "corruptions": lambda: noun("corruptions", "Suites; `ensemble-bench show corruption NAME --sheet FILE.png` draws one."),
}


def write(folder: Path) -> None:
    """Every page of the reference into a folder; files that would not change are left alone."""
    folder.mkdir(exist_ok=True)
    for name, page in PAGES.items():
        path, text = folder / f"{name}.md", page()
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write(Path(__file__).resolve().parent / "reference")
