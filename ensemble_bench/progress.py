"""How far the work is: bars on a terminal, silence elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

Advance = Callable[[int], None]


class Progress:
    """Shows nothing. What everything that works long is handed unless somebody watches."""

    watched = False
    """Whether anybody sees the steps, so that it is worth finding out their ``share``."""

    @contextmanager
    def step(self, what: str, total: int, share: float | None = None) -> Iterator[Advance]:
        """A step of ``total`` units named ``what``; call what it yields with the number of units done.

        ``share`` is how much of what the machine can do one unit a second takes: times the rate, the share that is reached.
        """
        yield lambda units: None

    def say(self, line: str) -> None:
        """One line for whoever watches."""


class Bars(Progress):
    """Bars with rate and time left on standard error, each gone when its step is done; several threads may have steps."""

    watched = True

    def __init__(self) -> None:
        self._bars: RichProgress | None = None
        self._steps = 0
        self._lock = Lock()

    @contextmanager
    def step(self, what: str, total: int, share: float | None = None) -> Iterator[Advance]:
        if not total:  # nothing to wait for
            yield lambda units: None
            return
        with self._lock:
            self._bars = bars = self._bars or _bars()
            self._steps += 1
            bars.start()
        task = bars.add_task(what, total=total, share=share)
        try:
            yield lambda units: bars.advance(task, units)
        finally:
            with self._lock:
                bars.remove_task(task)
                self._steps -= 1
                if not self._steps:
                    bars.stop()

    def say(self, line: str) -> None:
        print(line, file=sys.stderr)


@dataclass(frozen=True)
class Step:
    """A step that is over: its units and its seconds, from its beginning to its end; ``share`` as in ``Progress.step``."""

    what: str
    units: int
    seconds: float
    share: float | None = None

    @property
    def rate(self) -> float:
        """Units a second."""
        return self.units / self.seconds if self.seconds else 0.0


class Noted(Progress):
    """What it is given to show, shown by another one; and every step that had something to do, in ``steps``."""

    watched = True

    def __init__(self, shown: Progress) -> None:
        self.shown = shown
        self.steps: list[Step] = []

    @contextmanager
    def step(self, what: str, total: int, share: float | None = None) -> Iterator[Advance]:
        start, done = time.perf_counter(), 0
        with self.shown.step(what, total, share) as advance:

            def advanced(units: int) -> None:
                nonlocal done
                done += units
                advance(units)

            try:
                yield advanced
            finally:
                if done:
                    self.steps.append(Step(what, done, time.perf_counter() - start, share))

    def say(self, line: str) -> None:
        self.shown.say(line)


def _bars() -> RichProgress:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress
    from rich.progress import Task as RichTask
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: RichTask) -> Text:
            return Text(reached(task.finished_speed or task.speed, task.fields["share"]))

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Rate(), TimeRemainingColumn())
    return RichProgress(*columns, console=Console(stderr=True), transient=True)


def reached(rate: float | None, share: float | None) -> str:
    """A rate, and the share of the machine's peak that it is.

    >>> reached(1510.4, 0.0002), reached(0.5, None), reached(None, 0.1)
    ('1,510/s, 30 % of peak', '0.5/s', '')
    """
    if not rate:
        return ""
    return f"{rate:,.{0 if rate >= 10 else 1}f}/s" + (f", {100 * rate * share:.0f} % of peak" if share else "")


def watched(quiet: bool = False) -> Progress:
    """Bars if somebody sits before standard error, else silence."""
    return Bars() if sys.stderr.isatty() and not quiet else Progress()
