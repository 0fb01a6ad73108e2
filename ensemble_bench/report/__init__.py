"""Board rows to text: for a terminal, for Markdown, for spreadsheets, for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ensemble_bench.errors import BadOption

FORMS = {"table": "table", "text": "table", "markdown": "markdown", "github": "markdown", "csv": "csv", "json": "json"}
BOARD_FORMS = {**FORMS, "wide": "wide", "latex": "latex", "model-index": "model-index"}
BY = ("strategy", "task")


def text(rows: Sequence[dict[str, Any]], form: str = "table", *, by: str = "strategy", caption: str = "") -> str:
    """The rows in one of FORMS, or ``wide``, ending in a newline. ``by`` and ``caption`` matter to tables only."""
    if form == "wide":
        from ensemble_bench.report import data

        return data.wide(rows)
    if form not in FORMS:
        raise BadOption(f"a board can be written as {', '.join(FORMS)}, not as {form!r}.")
    if by not in BY:
        raise BadOption(f"a board has a line by {' or by '.join(BY)}, not by {by!r}.")
    if FORMS[form] in ("csv", "json"):
        from ensemble_bench.report import data

        return data.csv(rows) if FORMS[form] == "csv" else data.json(rows)
    from ensemble_bench.report import tables

    return tables.text(rows, markdown=FORMS[form] == "markdown", by=by, caption=caption)


def compared(rows: Sequence[dict[str, Any]], form: str = "table", *, caption: str = "") -> str:
    """The rows of ``comparison.rows`` in one of FORMS, ending in a newline."""
    if FORMS[form] in ("csv", "json"):
        return text(rows, form)
    from ensemble_bench.report import comparison

    return comparison.text(rows, markdown=FORMS[form] == "markdown", caption=caption)


def pooled(rows: Sequence[dict[str, Any]], form: str = "table", *, caption: str = "") -> str:
    """The rows of ``complementarity.rows`` in one of FORMS, ending in a newline."""
    if FORMS[form] in ("csv", "json"):
        return text(rows, form)
    from ensemble_bench.report import complementarity

    return complementarity.text(rows, markdown=FORMS[form] == "markdown", caption=caption)


def judged(rows: Sequence[dict[str, Any]], form: str = "table", *, caption: str = "") -> str:
    """The rows of ``claims.rows`` in one of FORMS, ending in a newline."""
    if FORMS[form] in ("csv", "json"):
        return text(rows, form)
    from ensemble_bench.report import claims

    return claims.text(rows, markdown=FORMS[form] == "markdown", caption=caption)


def standings(rows: Sequence[dict[str, Any]], form: str = "table", *, caption: str = "") -> str:
    """The rows of ``standings.standings`` in one of FORMS, ending in a newline."""
    if form not in FORMS:
        raise BadOption(f"standings can be written as {', '.join(FORMS)}, not as {form!r}.")
    if FORMS[form] in ("csv", "json"):
        return text(rows, form)
    from ensemble_bench.report import ranking

    return ranking.text(rows, markdown=FORMS[form] == "markdown", caption=caption)


def latex(
    rows: Sequence[dict[str, Any]], *, condition: str, caption: str, verdicts: Mapping[tuple[str, int, str], str], against: str
) -> str:
    """The rows of one condition as a booktabs table; ``verdicts`` on (strategy, shots, task) against a line are marked."""
    from ensemble_bench.report import paper

    return paper.text(rows, condition=condition, caption=caption, verdicts=verdicts, against=against)


def model_index(rows: Sequence[dict[str, Any]], strategy: str | None, pool: Sequence[str]) -> str:
    """The rows of one strategy as the head of a model card of the Hugging Face Hub."""
    from importlib.metadata import version

    from ensemble_bench.report import hub

    if strategy is None:
        raise BadOption("a model card is of one strategy: name it with --strategy.")
    return hub.model_index(rows, strategy, pool, version("ensemble-bench"))


def schema() -> str:
    """The JSON Schema of ``board --format json``."""
    from importlib.resources import files

    return (files("ensemble_bench.report") / "board.schema.json").read_text(encoding="utf-8")
