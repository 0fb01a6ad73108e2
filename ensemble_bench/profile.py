"""Where the time of a run goes: seconds by step, summed over threads, and when they were spent."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from threading import Lock

STEPS = {
    "imports": "loading Python's libraries",
    "plan": "cards, data and weights looked up, results read",
    "loading": "models opened",
    "decode": "pictures read from their files",
    "corrupt": "pictures altered",
    "preprocess": "pictures resized and normalised",
    "encode": "image towers",
    "text": "class embeddings",
    "store": "features read and written",
    "strategies": "fitting and answering",
    "statistics": "metrics and intervals",
    "records": "records written, where they come from",
    "board": "the board",
    "waiting": "a thread waiting for another one",
}
"""Every step there is, in the order of the road, with what it is."""

WIDTH = 0.05  # seconds of the first slots of the timeline
SLOTS = 240  # of them at most; beyond, two become one

_NOTHING: AbstractContextManager[None] = nullcontext()


class Profile:
    """Measures nothing. What everything that works long is handed unless somebody asked where the time goes."""

    def step(self, name: str) -> AbstractContextManager[None]:
        """A stretch of this thread's time that belongs to one of ``STEPS``; a step inside another is not counted twice."""
        return _NOTHING


@dataclass
class Spent:
    """Seconds that threads were in a step (``wall``), those of them that they computed (``cpu``), and how often it began."""

    wall: float = 0.0
    cpu: float = 0.0
    times: int = 0


@dataclass
class _Open:
    """A step that has begun: since when it has been counted up to now, on the clock and of this thread's computing."""

    name: str
    wall: float
    cpu: float


class Stopwatch(Profile):
    """Measures until ``stop``: ``spent`` by step, seconds by step and slot in ``timeline``, the whole in ``wall`` and ``cpu``.

    A step's seconds are summed over threads, so that all steps together may be longer than the run. ``cpu`` is that of the
    process and of its children that have ended: what it has beyond the steps are threads that libraries start of their own,
    and all that is in no step.
    """

    def __init__(self) -> None:
        self._start, self._before = time.perf_counter(), _computed()
        self.spent: dict[str, Spent] = {}
        self.timeline: dict[str, list[float]] = {}
        self.slot = WIDTH
        self.wall = self.cpu = 0.0
        self._lock = Lock()
        self._open = threading.local()

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        assert name in STEPS, name
        steps: list[_Open] = self._open.__dict__.setdefault("steps", [])
        now, computed = time.perf_counter(), time.thread_time()
        if steps:
            self._count(steps[-1], now, computed)
        steps.append(_Open(name, now, computed))
        with self._lock:
            self.spent.setdefault(name, Spent()).times += 1
        try:
            yield
        finally:
            now, computed = time.perf_counter(), time.thread_time()
            self._count(steps.pop(), now, computed)
            if steps:
                steps[-1].wall, steps[-1].cpu = now, computed

    def stop(self) -> None:
        """The run is over: settle its whole wall and CPU seconds."""
        self.wall, self.cpu = time.perf_counter() - self._start, _computed() - self._before

    def _count(self, step: _Open, now: float, computed: float) -> None:
        """Give a step the time since it was last counted."""
        with self._lock:
            spent = self.spent[step.name]
            spent.wall += now - step.wall
            spent.cpu += computed - step.cpu
            self._draw(step.name, step.wall - self._start, now - self._start)

    def _draw(self, name: str, start: float, end: float) -> None:
        """Add a stretch to the slots of the timeline, which become wider where it does not fit."""
        while end >= SLOTS * self.slot:
            self.slot *= 2
            for line in self.timeline.values():
                line.append(0.0)
                line[:] = [one + other for one, other in zip(line[::2], line[1::2], strict=False)]
        line = self.timeline.setdefault(name, [])
        last = int(end / self.slot)
        line.extend([0.0] * (last + 1 - len(line)))
        for place in range(int(start / self.slot), last + 1):
            line[place] += min(end, (place + 1) * self.slot) - max(start, place * self.slot)


def _computed() -> float:
    """CPU seconds of this process and of its children that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
