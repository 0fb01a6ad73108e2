"""Charts of the report, drawn by matplotlib as SVG that stands in the page as an image with its description."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ensemble_bench import statistics

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C564B", "#555555")  # told apart by all eyes
INK, FAINT = "#1b1f24", "#9aa4af"
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "ensemble-bench",
    "text.parse_math": False,
    "font.family": "sans-serif",
    "font.sans-serif": ["Helvetica", "Arial", "DejaVu Sans"],
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "text.color": INK,
}


@dataclass(frozen=True)
class Chart:
    """A picture for an ``img``: its source and what it shows, in words."""

    source: str
    says: str


@contextmanager
def _axes(width: float, height: float) -> Iterator[tuple[Figure, Axes]]:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure, figure.add_subplot()


def _chart(figure: Figure, says: str) -> Chart:
    out = io.BytesIO()
    figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    return Chart("data:image/svg+xml;base64," + base64.b64encode(out.getvalue()).decode(), says)


def _short(name: str) -> str:
    return name if len(name) <= 34 else name[:33] + "…"


def gaps(tasks: Sequence[str], best: Sequence[float], combined: Sequence[float], oracle: Sequence[float], name: str) -> Chart:
    """A bar a task from the best single backbone to the oracle, with a mark where a combination stands; accuracies [t]."""
    with _axes(8, 0.9 + 0.3 * len(tasks)) as (figure, axes):
        place = np.arange(len(tasks))[::-1]
        low, high = 100 * np.asarray(best), 100 * np.asarray(oracle)
        axes.barh(place, low, color="#dfe4ea", height=0.62, label="best single backbone (chosen on test labels)")
        axes.barh(place, high - low, left=low, color="#9ecae1", height=0.62, label="only the oracle gets these")
        axes.plot(100 * np.asarray(combined), place, "D", color=COLOURS[1], markersize=5, label=_short(name))
        axes.set_yticks(place, [_short(task) for task in tasks])
        axes.set_xlim(0, 100)
        axes.set_xlabel("accuracy, %")
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, frameon=False, fontsize=9)
        mean = float(np.mean(high - low))
        return _chart(
            figure, f"Oracle gap per task: the oracle is {mean:.1f} points above the best single backbone on average."
        )


def pareto(names: Sequence[str], gflops: Sequence[float], accuracy: Sequence[float], families: Sequence[str]) -> Chart:
    """Accuracy against GFLOPs an image; the front (nothing is both cheaper and better) is drawn and named."""
    with _axes(8, 4.6) as (figure, axes):
        cost, value = np.asarray(gflops), 100 * np.asarray(accuracy)
        for colour, family in zip(COLOURS, dict.fromkeys(families), strict=False):
            mine = [place for place, other in enumerate(families) if other == family]
            axes.plot(cost[mine], value[mine], "o", color=colour, label=family, markersize=6, alpha=0.85)
        front = on_front(cost, value)
        axes.step(cost[front], value[front], where="post", color=FAINT, zorder=0)
        for number, place in enumerate(front):
            axes.annotate(
                _short(names[place]),
                (cost[place], value[place]),
                xytext=(6, 6 if number % 2 else -12),
                textcoords="offset points",
                fontsize=9,
            )
        if cost.min() > 0 and cost.max() > 4 * cost.min():
            from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel("GFLOPs of the image towers, an image")
        axes.set_ylabel("accuracy, %")
        axes.margins(x=0.14)
        axes.legend(frameon=False, fontsize=9)
        said = ", ".join(names[place] for place in front)
        return _chart(figure, f"Accuracy against cost. On the front, from cheap to dear: {said}.")


def on_front(cost: Any, value: Any) -> list[int]:
    """Places on the Pareto front, from cheap to dear.

    >>> on_front([1, 2, 3, 2], [5, 4, 9, 7])
    [0, 3, 2]
    """
    best, found = -np.inf, []
    for place in sorted(range(len(cost)), key=lambda place: (cost[place], -value[place])):
        if value[place] > best:
            best = value[place]
            found.append(place)
    return found


def severities(suite: str, curves: Mapping[str, Mapping[int, float]], strong: Sequence[str]) -> Chart:
    """Accuracy by severity (0 is clean), a line a strategy; those in ``strong`` stand out."""
    with _axes(8, 4.2) as (figure, axes):
        shown = sorted({severity for curve in curves.values() for severity in curve})
        for name, curve in curves.items():
            there = [severity for severity in shown if severity in curve]
            values = [100 * curve[severity] for severity in there]
            if name in strong:
                colour = COLOURS[strong.index(name) % len(COLOURS)]
                axes.plot(there, values, "o-", color=colour, label=_short(name), linewidth=2, zorder=3)
            else:
                axes.plot(there, values, "-", color="#c9d1d9", linewidth=1, zorder=1)
        axes.set_xticks(shown, ["clean" if severity == 0 else str(severity) for severity in shown])
        axes.set_xlabel(f"severity ({suite}, mean over corruptions)")
        axes.set_ylabel("accuracy, %")
        axes.legend(frameon=False, fontsize=9)
        return _chart(figure, f"Accuracy by severity of {suite}; grey lines are the other strategies.")


def ranks(names: Sequence[str], values: Any) -> Chart | None:
    """Critical-difference diagram (Demsar 2006) from accuracies [tasks, strategies]; None where there is nothing to rank."""
    if len(names) < 3 or len(values) < 2:
        return None
    found = statistics.ranks(np.asarray(values, float))
    order = np.argsort(found.mean, kind="stable")
    half = (len(order) + 1) // 2
    with _axes(8, 1.3 + 0.27 * half) as (figure, axes):
        low, high = 1, len(names)
        axes.set_xlim(low - 0.45 * high, high + 0.45 * high)
        depth = half + 2
        axes.set_ylim(-depth, 2.2)
        axes.axis("off")
        axes.plot([low, high], [0, 0], color=INK, linewidth=1)
        for tick in range(low, high + 1):
            axes.plot([tick, tick], [0, 0.18], color=INK, linewidth=1)
            axes.text(tick, 0.3, str(tick), ha="center", va="bottom", fontsize=9)
        axes.plot([low, low + found.critical_difference], [1.45, 1.45], color=INK, linewidth=2)
        axes.text(low + found.critical_difference / 2, 1.55, f"CD {found.critical_difference:.2f}", ha="center", va="bottom")
        for number, place in enumerate(order):
            left = number < half
            level = -(1.6 + (number if left else len(order) - 1 - number))
            end = low - 0.1 if left else high + 0.1
            mean = found.mean[place]
            axes.plot([mean, mean, end], [0, level, level], color=FAINT, linewidth=0.8)
            text = f"{_short(names[place])} {mean:.2f}" if left else f"{mean:.2f} {_short(names[place])}"
            axes.text(end + (-0.05 if left else 0.05), level, text, ha="right" if left else "left", va="center", fontsize=9)
        sorted_ranks = found.mean[order]
        groups, reach = [], 0
        for start, value in enumerate(sorted_ranks):
            stop = int(np.searchsorted(sorted_ranks, value + found.critical_difference, side="right"))
            if stop - start > 1 and stop > reach:
                groups.append((sorted_ranks[start], sorted_ranks[stop - 1]))
                reach = stop
        for number, (start, stop) in enumerate(groups):
            level = -0.35 - 0.28 * number
            axes.plot([start - 0.04, stop + 0.04], [level, level], color=COLOURS[0], linewidth=3, solid_capstyle="round")
        said = ", ".join(f"{names[place]} {found.mean[place]:.2f}" for place in order)
        tail = f" Friedman's p is {found.p:.2g}." if found.p is not None else ""
        says = f"Mean ranks over {len(values)} tasks: {said}. A bar joins what cannot be told apart.{tail}"
        return _chart(figure, says)


def reliability(curves: Mapping[str, tuple[Any, Any]]) -> Chart:
    """Accuracy against confidence in 10 bins, from confidences and truth values of each strategy's answers."""
    with _axes(6.4, 4.6) as (figure, axes):
        axes.plot([0, 1], [0, 1], color=FAINT, linestyle="--", linewidth=1)
        said = []
        for colour, (name, (confidence, right)) in zip(COLOURS, curves.items(), strict=False):
            number = np.clip(np.ceil(np.asarray(confidence, float) * 10).astype(int) - 1, 0, 9)
            count = np.bincount(number, minlength=10)
            there = count >= 20  # fewer say nothing
            sure = np.bincount(number, confidence, 10)[there] / count[there]
            good = np.bincount(number, right, 10)[there] / count[there]
            axes.plot(sure, good, "o-", color=colour, label=_short(name), markersize=4)
            over = float(np.mean(confidence) - np.mean(right))
            said.append(f"{name} is {abs(100 * over):.0f} points too {'sure' if over > 0 else 'modest'}")
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", ylabel="share of right answers")
        axes.legend(frameon=False, fontsize=9)
        return _chart(figure, "Reliability: " + "; ".join(said) + ".")


def upset(names: Sequence[str], right: Any, shown: int = 18) -> Chart:
    """Which backbones are right together: the largest sets of backbones that are exactly those right on an image; [b, s]."""
    truth = np.asarray(right, bool)
    patterns, counts = np.unique(truth.T, axis=0, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:shown]
    patterns, counts = patterns[order], counts[order]
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8, 3.2 + 0.25 * len(names)), layout="constrained")
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, max(1.2, 0.42 * len(names))])
        place = np.arange(len(counts))
        above.bar(place, counts, color=["#c9d1d9" if not p.any() or p.all() else COLOURS[0] for p in patterns], width=0.66)
        for x, count in zip(place, counts, strict=True):
            above.text(x, count, f"{count:,}", ha="center", va="bottom", fontsize=8)
        above.set_ylabel("images")
        below.set_yticks(range(len(names)), [_short(name) for name in names])
        below.set_ylim(len(names) - 0.5, -0.5)
        for x, pattern in zip(place, patterns, strict=True):
            rows = np.flatnonzero(pattern)
            below.plot([x] * len(names), range(len(names)), "o", color="#dfe4ea", markersize=7, zorder=1)
            below.plot([x] * len(rows), rows, "o-", color=INK, markersize=7, zorder=2)
        below.set_xticks([])
        for side in ("bottom", "left"):
            below.spines[side].set_visible(False)
        below.tick_params(length=0)
        nobody = int((~truth.any(0)).sum())
        everybody = int(truth.all(0).sum())
        says = (
            f"Of {truth.shape[1]:,} images every backbone has {everybody:,} right and none {nobody:,}; the rest divides them."
        )
        return _chart(figure, says)
