"""Claims for people: one line each, what the number is of below."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ensemble_bench.report.tables import NONE, Block, drawn, listed

Row = dict[str, Any]

NOTE = (
    "here: points of accuracy, unless it is a CKA or a rank correlation. published: Rodriguez-Opazo et al., ICLR 2025, on "
    "other data and backbones: beside, not against. *: with linear heads."
)


def text(rows: Sequence[Row], *, markdown: bool, caption: str = "") -> str:
    """The claims as Markdown or for a terminal."""
    lines = []
    for row in rows:
        scale, form = (100, "+.1f") if row["unit"] == "points" else (1, "+.2f" if row["unit"] != "CKA" else ".2f")
        ends = [None if row[name] is None else format(scale * row[name] + 0.0, form) for name in ("value", "ci_low", "ci_high")]
        bounds = NONE if ends[1] is None else f"{ends[1]} to {ends[2]}"
        lines.append((row["brief"], ends[0] or NONE, bounds, row["published"], row["verdict"]))
    limit = rows[0]["limit"] if rows else None
    title = "The claims of the paper, on these results" + ("" if limit is None else f" (limit {limit}: NOT A FULL RESULT)")
    block = Block(title, ("claim", "here", "95 % interval", "published", "verdict"), (("", tuple(lines)),))
    notes = [f"{row['brief']}: {row['reason']}." for row in rows]
    parts = [caption.replace("\n", "  \n") if markdown else caption, drawn(block, markdown), listed([*notes, NOTE], markdown)]
    return "\n\n".join(part for part in parts if part) + "\n"
