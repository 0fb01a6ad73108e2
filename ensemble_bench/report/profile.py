"""Where the time of a run went: a table for the terminal, a picture as SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from ensemble_bench.profile import STEPS, Stopwatch
from ensemble_bench.progress import Step, reached

WAITING = "waiting"
REST = "in no step"
COLOURS = {
    "imports": "#b8b8b8",
    "plan": "#8c8c8c",
    "loading": "#5f6b7a",
    "decode": "#9ecae1",
    "corrupt": "#3182bd",
    "preprocess": "#6baed6",
    "encode": "#e6550d",
    "text": "#fdae6b",
    "store": "#756bb1",
    "strategies": "#31a354",
    "statistics": "#74c476",
    "records": "#c7e9c0",
    "board": "#e7cb94",
}


WIDE, HIGH, LEFT, TOP = 860, 240, 46, 56
LINE = 18
PALE = 'fill="#555"'


@dataclass(frozen=True)
class Account:
    """A profile that is over, the steps of its progress, and the machine: ``cores`` of it, ``device`` cpu or cuda."""

    profile: Stopwatch
    steps: Sequence[Step]
    cores: int
    device: str = "cpu"

    @property
    def headline(self) -> str:
        """How long the run took, how much of the machine it used, and how near encoding came to what is possible."""
        spent = self.profile
        busy = spent.cpu / spent.wall if spent.wall else 0.0
        said = f"{spent.wall:.1f} s on the clock, {spent.cpu:.1f} s of CPU: {busy:.1f} of {self.cores} cores busy in the mean"
        return said if self.efficiency is None else f"{said}; encoding at {100 * self.efficiency:.0f} % of peak"

    @property
    def efficiency(self) -> float | None:
        """The share of the peak of matrix products that image towers reached while they ran; None where it is not known.

        On a CPU of the cores they were given, by their CPU time: that others use the machine too does not count.
        """
        spent = self.profile.spent.get("encode")
        ideal = sum(step.units * step.share for step in self.steps if step.share)
        if not ideal or spent is None:
            return None
        return ideal * self.cores / spent.cpu if self.device == "cpu" else ideal / spent.wall

    def rows(self) -> list[tuple[str, float | None, float, str]]:
        """Step, seconds of threads in it, CPU seconds, what it is; the CPU column adds up to that of the run."""
        there = [(name, self.profile.spent[name], about) for name, about in STEPS.items() if name in self.profile.spent]
        rest = self.profile.cpu - sum(spent.cpu for _, spent, _ in there)
        rows: list[tuple[str, float | None, float, str]] = [(name, one.wall, one.cpu, about) for name, one, about in there]
        rows.append((REST, None, max(rest, 0.0), "threads that libraries start of their own, and what is in none of these"))
        return sorted(rows, key=lambda row: row[0] == WAITING)

    def lines(self) -> list[str]:
        """What every step of the progress did, from its beginning to its end."""
        found = []
        for step in self.steps:
            said = reached(step.rate, step.share)
            found.append(f"{step.what}: {step.units:,} in {step.seconds:.1f} s{f', {said}' if said else ''}")
        return found

    def table(self) -> str:
        """Seconds by step, and the rate of every step of the progress; lines for a terminal.

        The seconds in threads are summed over threads that work side by side: they may add up to more than the run.
        """
        lines = [self.headline, "", f"{'step':<12} {'in threads':>10} {'CPU':>8} {'of CPU':>7}"]
        for name, wall, cpu, about in self.rows():
            share = 100 * cpu / self.profile.cpu if self.profile.cpu else 0.0
            lines.append(
                f"{name:<12} {'' if wall is None else f'{wall:.2f} s':>10} {f'{cpu:.2f} s':>8} {share:>5.1f} %  {about}"
            )
        lines += ["", *self.lines()] if self.steps else []
        return "\n".join(lines) + "\n"

    def svg(self) -> str:
        """The picture: how many threads were busy with what through the run, and below it the seconds of every step."""
        below = TOP + HIGH + 46
        width, height = LEFT + WIDE + 20, below + LINE * (len(self.rows()) + len(self.steps) + 2)
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
            'font-family="sans-serif" font-size="12" shape-rendering="crispEdges">',
            f'<rect width="{width}" height="{height}" fill="white"/>',
            f'<text x="{LEFT}" y="22" font-size="15">{escape(self.headline)}</text>',
            f'<text x="{LEFT}" y="{TOP - 12}" {PALE}>busy threads, by what they did; the dashed line is every core</text>',
        ]
        return "\n".join([*parts, *self._areas(), *self._legend(below), "</svg>"]) + "\n"

    def _areas(self) -> list[str]:
        """Busy threads through the run, stacked."""
        slot, timeline = self.profile.slot, self.profile.timeline
        names = [name for name in COLOURS if name in timeline]
        slots = max((len(timeline[name]) for name in names), default=0)
        busy = {name: [seconds / slot for seconds in timeline[name]] + [0.0] * (slots - len(timeline[name])) for name in names}
        most = max([float(self.cores), *(sum(busy[name][place] for name in names) for place in range(slots))])
        span = max(self.profile.wall, slots * slot, 1e-9)

        def y(threads: float) -> float:
            return TOP + HIGH * (1 - threads / most)

        parts = []
        for place in range(slots):
            at, base = f'x="{LEFT + WIDE * place * slot / span:.2f}" width="{WIDE * slot / span:.2f}"', 0.0
            for name in names:
                if busy[name][place]:
                    top = base + busy[name][place]
                    parts.append(f'<rect {at} y="{y(top):.2f}" height="{y(base) - y(top):.2f}" fill="{COLOURS[name]}"/>')
                    base = top
        ends = f'x1="{LEFT}" x2="{LEFT + WIDE}"'
        return [
            *parts,
            f'<line {ends} y1="{y(self.cores):.1f}" y2="{y(self.cores):.1f}" stroke="#333" stroke-dasharray="5 4"/>',
            f'<line {ends} y1="{y(0):.1f}" y2="{y(0):.1f}" stroke="#333"/>',
            f'<text x="{LEFT - 8}" y="{y(self.cores) + 4:.1f}" text-anchor="end">{self.cores}</text>',
            f'<text x="{LEFT}" y="{y(0) + 18:.1f}">0 s</text>',
            f'<text x="{LEFT + WIDE}" y="{y(0) + 18:.1f}" text-anchor="end">{span:.1f} s</text>',
        ]

    def _legend(self, below: float) -> list[str]:
        """Colour, name and seconds of every step, and what the steps of the progress did, from this height on."""
        columns = LEFT + 20, LEFT + 190, LEFT + 260, LEFT + 280
        parts = [
            f'<text x="{columns[0]}" y="{below}" {PALE}>step</text>',
            f'<text x="{columns[1]}" y="{below}" text-anchor="end" {PALE}>in threads, s</text>',
            f'<text x="{columns[2]}" y="{below}" text-anchor="end" {PALE}>CPU, s</text>',
        ]
        rows = self.rows()
        for number, (name, wall, cpu, about) in enumerate(rows, 1):
            y = below + LINE * number
            parts += [
                f'<rect x="{LEFT}" y="{y - 10}" width="12" height="12" fill="{COLOURS.get(name, "white")}" stroke="#999"/>',
                f'<text x="{columns[0]}" y="{y}">{name}</text>',
                f'<text x="{columns[1]}" y="{y}" text-anchor="end">{"" if wall is None else f"{wall:.2f}"}</text>',
                f'<text x="{columns[2]}" y="{y}" text-anchor="end">{cpu:.2f}</text>',
                f'<text x="{columns[3]}" y="{y}" {PALE}>{escape(about)}</text>',
            ]
        for number, line in enumerate(self.lines(), len(rows) + 2):
            parts.append(f'<text x="{LEFT}" y="{below + LINE * number}">{escape(line)}</text>')
        return parts
