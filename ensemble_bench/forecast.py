"""What a run would do and cost: the text of ``run --dry-run``. Loads neither torch nor weights, writes nothing."""

from __future__ import annotations

from collections.abc import Sequence

from ensemble_bench.backbones.base import Backbone
from ensemble_bench.condition import CLEAN
from ensemble_bench.embed import Embedder
from ensemble_bench.plan import Plan, Samples, planned, samples
from ensemble_bench.request import Request
from ensemble_bench.task import Task

RATE = 25.0  # GFLOP per second that a plain two-core machine reaches on small towers; larger machines are faster


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as lines: the first column to the left, the others to the right."""
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    return [
        "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))]) for row in rows
    ]


def _missing(plan: Plan, task: Task, shown: Samples) -> dict[str, int]:
    """Images that each backbone would still have to encode; all of them where its weights are not at hand."""
    wanted = [("test", shown.query.ids, condition) for condition in plan.conditions]
    if shown.support.ids:
        wanted.append(("train", shown.support.ids, CLEAN))
    device = "cpu" if plan.request.device == "auto" else plan.request.device
    found: dict[str, int] = {}
    for backbone in plan.backbones:
        if not backbone.fetched():
            found[backbone.id] = sum(len(ids) for _, ids, _ in wanted)
            continue
        embedder = Embedder([backbone], device=device, precision=plan.request.precision)
        found[backbone.id] = sum(
            embedder.missing(task, split, ids, condition, plan.said(shown.source, split, condition))[backbone.id]
            for split, ids, condition in wanted
        )
    return found


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _cost(backbone: Backbone, images: int) -> str:
    return "?" if backbone.gflops is None else f"{backbone.gflops * images:,.0f}"


def text(request: Request) -> str:
    """The plan: per task and backbone the GFLOPs still to be spent, what is stored, what would have to be fetched."""
    plan = planned(request)
    pool = plan.backbones
    rows = [["task", "test images", "support", "to encode", *(backbone.id for backbone in pool)]]
    total, encodings = 0.0, 0
    for task in plan.tasks:
        shown = samples(task, request)
        missing = _missing(plan, task, shown)
        encodings += sum(missing.values())
        total += sum((backbone.gflops or 0) * missing[backbone.id] for backbone in pool)
        numbers = [len(shown.query.ids), len(shown.support.ids), sum(missing.values())]
        rows.append([task.name, *(f"{number:,}" for number in numbers), *(_cost(b, missing[b.id]) for b in pool)])
    absent = [backbone.id for backbone in pool if not backbone.fetched()]
    unknown = [backbone.id for backbone in pool if backbone.gflops is None]
    sizes = (len(plan.tasks), "tasks"), (len(pool), "backbones"), (len(plan.strategies), "strategies")
    lines = [
        " x ".join(f"{size} {noun}" for size, noun in (*sizes, (len(plan.conditions), "conditions")))
        + f", {request.shots} per class, {request.draws} draws; results would go to {plan.output}",
        "",
        "GFLOPs of the image towers still to be spent:",
        *_columns(rows),
        "",
        *_columns(
            [["backbone", "GFLOPs an image", "parameters", "weights"]]
            + [
                [
                    b.id,
                    "?" if b.gflops is None else f"{b.gflops:.3g}",
                    "?" if b.parameters is None else f"{b.parameters / 1e6:.1f} M",
                    "at hand" if b.fetched() else "to fetch",
                ]
                for b in pool
            ]
        ),
        "",
        "strategies: " + ", ".join(plan.strategies),
        f"to encode: {encodings:,} images x backbones, {total:,.0f} GFLOPs, about {_time(total / RATE)} at {RATE:.0f} GFLOP/s"
        + (f" (not counting {', '.join(unknown)}, whose cost is known once loaded)" if unknown else ""),
        "to fetch: " + (", ".join(absent) if absent else "nothing"),
    ]
    return "\n".join(lines)
