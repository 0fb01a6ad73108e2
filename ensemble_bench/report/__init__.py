"""Board rows to text: for a terminal, for Markdown, for spreadsheets, for programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ensemble_bench.errors import BadOption

FORMS = {"table": "table", "text": "table", "markdown": "markdown", "github": "markdown", "csv": "csv", "json": "json"}
BY = ("strategy", "task")


def text(rows: Sequence[dict[str, Any]], form: str = "table", *, by: str = "strategy", caption: str = "") -> str:
    """The rows in one of FORMS, ending in a newline. ``by`` and ``caption`` (what the board is of) matter to tables only."""
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
