"""What a run would do and cost: the text of ``run --dry-run``. Loads neither torch nor weights; writes and fetches nothing.

Samples that are on this machine are counted; of the others the cards say how many there are.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from ensemble_bench import calibration
from ensemble_bench.backbones.base import PRECISIONS, Backbone
from ensemble_bench.condition import CLEAN
from ensemble_bench.embed import Embedder, cores
from ensemble_bench.errors import BadData, BenchError, Missing, TooFew
from ensemble_bench.plan import MULTILABEL, Plan, Samples, planned, samples
from ensemble_bench.request import Request
from ensemble_bench.task import Task

RATE = 25.0  # GFLOP per second that a plain two-core machine reaches on small towers; larger machines are faster
SHARE = 0.7  # of the peak of matrix products that an image tower reaches, where only the peak was measured
ANSWER = 0.6  # milliseconds of one core for one strategy's answer on one image and all around it, until a run has measured it

# What CLIP_benchmark does again for every task, backbone and condition, in seconds of one core: docs/encoder-speed.md
HOST_START = 11.5  # importing it, and a model built from its checkpoint
HOST_IMAGE = 2.5e-3  # a photograph decoded and prepared
HOST_CORRUPTED = 30e-3  # one corrupted by imagecorruptions, the mean of nineteen corruptions at five severities

HEAVY = ("torchvision", "huggingface")  # sources whose libraries load torch: the plan goes by their cards


@dataclass(frozen=True)
class Outlook:
    """What is known of one task before a run: None where a number is not known, nothing to encode where it cannot be run.

    ``missing`` counts, by backbone id, the images still to be encoded; ``state`` says where its data is, ``note`` what to mind.
    """

    task: Task
    state: str
    test: int | None = None
    support: int | None = None
    missing: Mapping[str, int | None] | None = None
    note: str = ""


def _columns(rows: Sequence[Sequence[str]], left: Sequence[int] = (0,)) -> list[str]:
    """Rows as lines: the first column to the left, the others to the right."""
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    return [
        "  ".join(
            c.ljust(w) if place in left else c.rjust(w) for place, (c, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


@contextmanager
def _offline() -> Iterator[None]:
    """No call to the network meanwhile."""
    before = os.environ.get("HF_HUB_OFFLINE")
    os.environ["HF_HUB_OFFLINE"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["HF_HUB_OFFLINE"]
        else:
            os.environ["HF_HUB_OFFLINE"] = before


def outlook(plan: Plan, task: Task) -> Outlook:
    """What a run would find and do on one task."""
    if task.kind != "classification":
        return Outlook(task, "not applicable", task.counts.get("test"), note=MULTILABEL)
    if task.trouble:
        return Outlook(task, "not to be had", task.counts.get("test"), note=task.trouble)
    if task.source in HEAVY:
        return _by_card(plan, task, "to fetch, if it is not here")
    try:
        with _offline():
            shown = samples(task, plan.request)
    except TooFew:
        raise
    except Missing as error:
        return _by_card(plan, task, "to fetch") if task.source != "manual" else _by_card(plan, task, "by hand", str(error))
    except BadData as error:
        return Outlook(task, "not to be had", task.counts.get("test"), note=str(error))
    note = "" if task.verified else "not verified"
    return Outlook(
        task, "here", len(shown.query.ids), len(shown.support.ids), _missing(plan, task, shown), shown.withheld or note
    )


def _by_card(plan: Plan, task: Task, state: str, note: str = "") -> Outlook:
    """What its card says of a task: every image is to be encoded, and as many labelled examples as could be drawn at most."""
    request = plan.request
    test = task.counts.get("test")
    test = min(test, request.limit) if test is not None and request.limit is not None else test
    support = 0
    if "train" in task.splits or task.support:
        drawn = request.shots * request.draws * task.class_count
        support = min(drawn, task.counts.get("train", drawn))
    images = None if test is None else test * len(plan.conditions) + support
    notes = [note, "" if task.verified else "not verified"]
    notes.append(
        f"support from {task.support.task}" if task.support else f"no support: {task.unsupported}" if task.unsupported else ""
    )
    said = "; ".join(part for part in notes if part)
    return Outlook(task, state, test, support, {backbone.id: images for backbone in plan.backbones}, said)


def _missing(plan: Plan, task: Task, shown: Samples) -> dict[str, int]:
    """Images that each backbone would still have to encode; all of them where its weights are not at hand."""
    wanted = [("test", shown.query.ids, condition) for condition in plan.conditions]
    if shown.support.ids:
        wanted.append(("train", shown.support.ids, CLEAN))
    device = _device(plan.request)
    found: dict[str, int] = {}
    for backbone in plan.backbones:
        if not backbone.fetched():
            found[backbone.id] = sum(len(ids) for _, ids, _ in wanted)
            continue
        embedder = Embedder([backbone], device=device, precision=_precision(plan.request))
        found[backbone.id] = sum(
            embedder.missing(task, split, ids, condition, plan.said(shown.source, split, condition, ids))[backbone.id]
            for split, ids, condition in wanted
        )
    return found


def _precision(request: Request) -> str:
    """The precision that ``auto`` will probably stand for: that of the highest peak, float32 where none was measured."""
    if request.precision != "auto":
        return request.precision
    known = calibration.read(_device(request)).get("peaks", {})
    return max(PRECISIONS, key=lambda one: (known.get(one, 0) * (1 if one == "fp32" else 0.95), one == "fp32"))


def _device(request: Request) -> str:
    return "cpu" if request.device == "auto" else request.device


@dataclass(frozen=True)
class Pace:
    """How fast one backbone is here: seconds of one core for an image as we encode it and as the host does, and for one prompt.

    None where that is neither measured nor to be derived from what was.
    """

    ours: float | None
    host: float | None
    prompt: float | None


def pace(backbone: Backbone, request: Request) -> Pace:
    """What is known of a backbone on this machine: from a real run, a calibration of its architecture, or the peak alone."""
    device, precision = _device(request), _precision(request)
    known, architecture, words = calibration.read(device), "", None
    with contextlib.suppress(BenchError), _offline():
        architecture, words = backbone.architecture(), backbone.prompt_gflops()
    encoder = known.get("encoders", {}).get(calibration.name(architecture, precision), {})
    ours = known.get("rates", {}).get(calibration.name(backbone.id, precision)) or encoder.get("ms")
    plain = encoder.get("plain") or ours
    peak = calibration.peak(precision, device)
    if ours is None and peak and backbone.gflops is not None:
        ours = plain = 1000 * backbone.gflops / (SHARE * peak)
    if ours is None or plain is None:
        return Pace(None, None, None)
    prompt = plain * words / backbone.gflops if words is not None and backbone.gflops else None
    return Pace(ours / 1000, plain / 1000, None if prompt is None else prompt / 1000)


@dataclass(frozen=True)
class Span:
    """Seconds that pass: for the encoders, for all else of ours, and for CLIP_benchmark and imagecorruptions in our place."""

    encoding: float
    rest: float
    host: float

    @property
    def ours(self) -> float:
        return self.encoding + self.rest


def span(plan: Plan, seen: Sequence[Outlook]) -> Span | None:
    """How long the run will take by what was measured here, all cores at work; None where too little was.

    Encodings and answers are shared by the cores, a start is not. The host: for each task, backbone and condition a start,
    every prompt at its whole length, every picture decoded and encoded; and every picture corrupted once a condition.
    """
    paces = {backbone.id: pace(backbone, plan.request) for backbone in plan.backbones}
    if not paces or any(one.ours is None for one in paces.values()):
        return None
    run = calibration.read("cpu").get("run", {})
    workers = cores()
    encoding = rest = host = 0.0
    for one in seen:
        if one.missing is None:
            continue
        encoding += sum((number or 0) * (paces[name].ours or 0) for name, number in one.missing.items())
        rest += (one.test or 0) * len(plan.conditions) * len(plan.strategies) * run.get("answer", ANSWER) / 1000
        prompts = one.task.class_count * len(one.task.templates)
        for condition in plan.conditions:
            shared = sum(prompts * (p.prompt or 0) + (one.test or 0) * (HOST_IMAGE + (p.host or 0)) for p in paces.values())
            shared += (one.test or 0) * HOST_CORRUPTED * (condition != CLEAN)
            host += shared / workers + HOST_START * len(paces)
    return Span(encoding / workers, rest / workers + run.get("start", 0.0), host)


def _lasts(plan: Plan, seen: Sequence[Outlook]) -> list[str]:
    """How long it takes, ours and the host's, or how to find out."""
    found = span(plan, seen)
    if found is None:
        asked = " ".join(plan.request.backbones)
        return [f"that rate is an assumption, nothing was measured here yet: ensemble-bench calibrate -b {asked}"]
    ours = f"time: about {_time(found.ours)} on {cores()} cores by what was measured here"
    ours += f" (encoding {_time(found.encoding)}, all else {_time(found.rest)})"
    theirs = f"CLIP_benchmark, for each task, backbone and condition anew: about {_time(found.host)}"
    return [ours, f"{theirs}, {found.host / max(found.ours, 1e-9):.1f} times that"]


def _time(seconds: float) -> str:
    for unit, name, digits in ((86400, "days", 0), (3600, "h", 1), (60, "min", 0)):
        if seconds >= 2 * unit:
            return f"{seconds / unit:,.{digits}f} {name}"
    return f"{seconds:.0f} s"


def _number(value: int | None) -> str:
    return "?" if value is None else f"{value:,}"


def _cost(backbone: Backbone, images: int | None) -> str:
    return "?" if backbone.gflops is None or images is None else f"{backbone.gflops * images:,.0f}"


def _spent(pool: Sequence[Backbone], seen: Sequence[Outlook]) -> list[str]:
    """The table of GFLOPs by task and backbone."""
    rows = [["task", "test images", "support", "to encode", *(backbone.id for backbone in pool)]]
    for one in seen:
        if one.missing is None:
            rows.append([one.task.name, _number(one.test), *["-"] * (2 + len(pool))])
            continue
        images = list(one.missing.values())
        whole = None if None in images else sum(number for number in images if number is not None)
        rows.append([one.task.name, _number(one.test), _number(one.support), _number(whole)])
        rows[-1] += [_cost(backbone, one.missing[backbone.id]) for backbone in pool]
    return _columns(rows)


def _data(seen: Sequence[Outlook]) -> list[str]:
    """The table of the data that is not simply here, and how much would have to be fetched; nothing where all is here."""
    rows = [["data", "state", "MB of test images", "note"]]
    for one in seen:
        if one.state != "here" or one.note:
            size = one.task.downloads.get("test")
            shown = "" if one.state == "here" else "?" if size is None else f"{size:,.0f}"
            rows.append([one.task.name, one.state, shown, one.note])
    if len(rows) == 1:
        return []
    fetched = [one for one in seen if one.state.startswith("to fetch")]
    known = [one.task.downloads["test"] for one in fetched if "test" in one.task.downloads]
    said = f"data to fetch: {len(fetched)} tasks, {sum(known) / 1000:,.1f} GB of test images for {len(known)} of them"
    said += "; how large the others are is not known" if len(known) < len(fetched) else ""
    return ["", *_columns(rows, left=(0, 1, 3)), said] if fetched else ["", *_columns(rows, left=(0, 1, 3))]


def text(request: Request) -> str:
    """The plan: per task and backbone the GFLOPs still to be spent, what is stored, what would have to be fetched."""
    plan = planned(request)
    pool = plan.backbones
    seen = [outlook(plan, task) for task in plan.tasks]
    missing = [one.missing for one in seen if one.missing is not None]
    encodings = sum(number or 0 for one in missing for number in one.values())
    total = sum((backbone.gflops or 0) * (one[backbone.id] or 0) for one in missing for backbone in pool)
    absent = [backbone.id for backbone in pool if not backbone.fetched()]
    left_out = [backbone.id for backbone in pool if backbone.gflops is None]
    left_out += [one.task.name for one in seen if one.missing is not None and None in one.missing.values()]
    sizes = (len(plan.tasks), "tasks"), (len(pool), "backbones"), (len(plan.strategies), "strategies")
    lines = [
        " x ".join(f"{size} {noun}" for size, noun in (*sizes, (len(plan.conditions), "conditions")))
        + f", {request.shots} per class, {request.draws} draws; results would go to {plan.output}",
        "",
        "GFLOPs of the image towers still to be spent:",
        *_spent(pool, seen),
        *_data(seen),
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
        + (f" (not counting {', '.join(left_out)}, whose cost is known once loaded)" if left_out else ""),
        *_lasts(plan, seen),
        "to fetch: " + (", ".join(absent) if absent else "nothing"),
    ]
    return "\n".join(lines)
