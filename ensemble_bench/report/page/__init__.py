"""The report: one self-contained HTML page about one or more results folders."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from ensemble_bench.records import Results

THUMBNAILS = 8


def html(results: Sequence[Results], *, thumbnails: int = THUMBNAILS, cards: tuple[Path, ...] = ()) -> str:
    """The whole page as text. ``thumbnails``: pictures a task and kind in the drill-down, where the images are at hand."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    from ensemble_bench.report.page.facts import gathered

    here = files("ensemble_bench.report.page")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string((here / "page.html").read_text(encoding="utf-8"))
    style, script = (Markup((here / name).read_text(encoding="utf-8")) for name in ("style.css", "script.js"))
    return template.render(page=gathered(results, thumbnails, cards), style=style, script=script)
