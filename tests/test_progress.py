"""How far the work is: rates, shares of the peak, notes of steps; the peak itself."""

from __future__ import annotations

import pytest

from ensemble_bench import progress
from ensemble_bench.progress import Bars, Noted, Progress, reached


class Seen(Progress):
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[object] = []

    def say(self, line: str) -> None:
        self.told.append(line)


def test_steps_are_noted_and_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [10.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now[0])
    shown = Seen()
    noted = Noted(shown)
    assert noted.watched and not Progress.watched
    with noted.step("a: images", 30, 0.01) as advance:
        now[0] += 1.5
        advance(10)
        now[0] += 0.5
        advance(15)
    with noted.step("nothing to do", 0):
        now[0] += 1
    with pytest.raises(KeyError), noted.step("b: images", 4) as advance:
        advance(1)
        raise KeyError
    noted.say("hello")
    first, second = noted.steps
    assert (first.what, first.units, first.seconds, first.share, first.rate) == ("a: images", 25, 2.0, 0.01, 12.5)
    assert (second.units, second.seconds, second.rate) == (1, 0.0, 0.0), "what was done before it broke off"
    assert shown.told == ["hello"]


def test_bars_say_rate_and_share(monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.console import Console

    bars = progress._bars()
    bars.live.console = Console(width=120, record=True, force_terminal=True)
    task = bars.add_task("mini/x: test images x 2 backbones", total=400, share=0.002)
    bars._tasks[task].start_time = 0.0
    for second in range(11):
        bars.get_time = lambda second=second: float(second)
        bars.advance(task, 20)
    console = Console(width=120, record=True)
    console.print(bars.make_tasks_table(bars.tasks))
    text = console.export_text()
    assert "220/400" in text and "20/s, 4 % of peak" in text
    assert reached(20.0, None) == "20/s"


def test_a_step_with_nothing_to_do_shows_no_bar() -> None:
    bars = Bars()
    with bars.step("stored already", 0, None) as advance:
        advance(0)
    assert bars._bars is None
