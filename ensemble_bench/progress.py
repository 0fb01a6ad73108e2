"""How far the work is: bars on a terminal, silence elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

Advance = Callable[[int], None]


class Progress:
    """Shows nothing. What everything that works long is handed unless somebody watches."""

    @contextmanager
    def step(self, what: str, total: int) -> Iterator[Advance]:
        """A step of ``total`` units named ``what``; call what it yields with the number of units done."""
        yield lambda units: None

    def say(self, line: str) -> None:
        """One line for whoever watches."""


class Bars(Progress):
    """Bars with rate and time left on standard error, each gone when its step is done; several threads may have steps."""

    def __init__(self) -> None:
        self._bars: RichProgress | None = None
        self._steps = 0
        self._lock = Lock()

    @contextmanager
    def step(self, what: str, total: int) -> Iterator[Advance]:
        with self._lock:
            self._bars = bars = self._bars or _bars()
            self._steps += 1
            bars.start()
        task = bars.add_task(what, total=total)
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


def _bars() -> RichProgress:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress
    from rich.progress import Task as RichTask
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: RichTask) -> Text:
            return Text(f"{task.speed:.0f}/s" if task.speed else "")

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Rate(), TimeRemainingColumn())
    return RichProgress(*columns, console=Console(stderr=True), transient=True)


def watched(quiet: bool = False) -> Progress:
    """Bars if somebody sits before standard error, else silence."""
    return Bars() if sys.stderr.isatty() and not quiet else Progress()
