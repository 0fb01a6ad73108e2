"""Where the time goes: exclusive seconds by step and thread, the account of a run, its picture."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from xml.etree import ElementTree

import pytest

from ensemble_bench import calibration, cli, profile
from ensemble_bench.profile import STEPS, Profile, Spent, Stopwatch
from ensemble_bench.progress import Step
from ensemble_bench.report.profile import COLOURS, REST, WAITING, Account


class Clock:
    """Time that stands still unless it is moved: on the clock, and computing of this thread."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.wall = self.cpu = 0.0
        monkeypatch.setattr(profile.time, "perf_counter", lambda: self.wall)
        monkeypatch.setattr(profile.time, "thread_time", lambda: self.cpu)
        monkeypatch.setattr(profile, "_computed", lambda: self.cpu)

    def move(self, wall: float, cpu: float = 0.0) -> None:
        self.wall += wall
        self.cpu += cpu


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_a_step_inside_another_is_counted_once(clock: Clock) -> None:
    watch = Stopwatch()
    clock.move(1.0)
    with watch.step("strategies"):
        clock.move(2.0, 1.5)
        with watch.step("store"):
            clock.move(0.5, 0.25)
        clock.move(4.0, 3.0)
        with pytest.raises(KeyError), watch.step("store"):
            clock.move(0.25)
            raise KeyError
    clock.move(1.0)
    watch.stop()
    assert watch.spent == {"strategies": Spent(6.0, 4.5, 1), "store": Spent(0.75, 0.25, 2)}
    assert (watch.wall, watch.cpu) == (8.75, 4.75)


def test_the_timeline_is_the_same_seconds_by_when_they_were(clock: Clock) -> None:
    watch = Stopwatch()
    with watch.step("encode"):
        clock.move(0.07)
    clock.move(0.05)
    with watch.step("text"):
        clock.move(0.01)
    assert watch.slot == 0.05
    assert watch.timeline["encode"] == pytest.approx([0.05, 0.02])
    assert watch.timeline["text"] == pytest.approx([0, 0, 0.01])
    with watch.step("encode"):  # more than all slots hold: they become wider, and nothing is lost
        clock.move(100.0)
    assert watch.slot * profile.SLOTS > 100.13 and max(map(len, watch.timeline.values())) <= profile.SLOTS
    for name, spent in watch.spent.items():
        assert sum(watch.timeline[name]) == pytest.approx(spent.wall)
        assert max(watch.timeline[name]) <= watch.slot + 1e-9


def test_threads_have_steps_of_their_own() -> None:
    watch = Stopwatch()
    meeting = threading.Barrier(3)

    def work() -> None:
        with watch.step("encode"):
            meeting.wait(20)
            time.sleep(0.05)

    threads = [threading.Thread(target=work) for _ in range(3)]
    with watch.step("waiting"):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    watch.stop()
    assert watch.spent["encode"].times == 3 and watch.spent["encode"].wall >= 3 * 0.05
    assert watch.spent["waiting"].wall <= watch.wall, "one thread waits no longer than the run"


def test_not_measuring_costs_next_to_nothing() -> None:
    silent = Profile()
    start = time.thread_time()
    for _ in range(20_000):
        with silent.step("encode"):
            pass
    assert (time.thread_time() - start) / 20_000 < 20e-6, "microseconds, a few times a batch"
    assert vars(silent) == {}


@pytest.fixture
def account(clock: Clock) -> Account:
    watch = Stopwatch()
    with watch.step("encode"):
        clock.move(4.0, 3.0)
    with watch.step("waiting"):
        clock.move(2.0, 0.0)
    clock.move(2.0, 1.0)
    watch.stop()
    return Account(watch, [Step("mini/x: test <images>", 300, 6.0, 0.002), Step("mini/x: strategies", 6, 2.0)], cores=2)


def test_the_account_by_hand(account: Account) -> None:
    assert [(name, wall, cpu) for name, wall, cpu, _ in account.rows()] == [
        ("encode", 4.0, 3.0),
        (REST, None, 1.0),
        (WAITING, 2.0, 0.0),
    ]
    # 300 units at 0.002 of both cores a second are 0.6 s of both cores: 1.2 s of one, of the 3 s that encoding took
    assert account.efficiency == pytest.approx(0.4)
    assert account.headline == "8.0 s on the clock, 4.0 s of CPU: 0.5 of 2 cores busy in the mean; encoding at 40 % of peak"
    assert account.lines() == [
        "mini/x: test <images>: 300 in 6.0 s, 50/s, 10 % of peak",
        "mini/x: strategies: 6 in 2.0 s, 3.0/s",
    ]
    assert "encode           4.00 s   3.00 s  75.0 %  image towers" in account.table()
    assert Account(account.profile, account.steps, 2, "cuda").efficiency == pytest.approx(0.6 / 4.0)
    assert Account(account.profile, [], 2).efficiency is None


def test_the_picture_is_drawn_to_scale(account: Account) -> None:
    root = ElementTree.fromstring(account.svg())
    name = "{http://www.w3.org/2000/svg}"
    bars = [bar for bar in root.iter(f"{name}rect") if bar.get("fill") == COLOURS["encode"] and bar.get("stroke") is None]
    left = min(float(str(bar.get("x"))) for bar in bars)
    right = max(float(str(bar.get("x"))) + float(str(bar.get("width"))) for bar in bars)
    high = {round(float(str(bar.get("height"))), 1) for bar in bars}
    assert (right - left) / 860 == pytest.approx(0.5, abs=0.01), "half of the run"
    assert high == {120.0}, "one thread of two"
    texts = [text.text for text in root.iter(f"{name}text")]
    assert account.headline in texts and "mini/x: test <images>: 300 in 6.0 s, 50/s, 10 % of peak" in texts


def test_every_step_has_a_colour() -> None:
    assert set(COLOURS) == set(STEPS) - {WAITING}
    assert len(set(COLOURS.values())) == len(COLOURS)


def test_a_run_says_where_its_time_went(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ENSEMBLE_BENCH_CACHE", str(tmp_path / "store"))
    picture = tmp_path / "where.svg"
    words = ["run", "-t", "mini/faces", "-b", "mini/vit-16", "-s", "log-avg", "-c", "mini-c:fog:2", "--limit", "8"]
    assert cli.main([*words, "-o", str(tmp_path / "out"), "--profile", str(picture)]) == 0
    out, err = capsys.readouterr()
    assert "on the clock" not in out
    lines = err.splitlines()
    headline = next(line for line in lines if "on the clock" in line)
    assert "encoding at" in headline and "% of peak" in headline
    shown = {line.split()[0] for line in lines if line.split() and line.split()[0] in STEPS}
    assert shown == set(STEPS), "everything happens in such a run"
    assert any(line.startswith("mini/faces: test images x 1 backbones x 2 conditions: 16 in ") for line in lines)
    assert headline in [text.text for text in ElementTree.parse(picture).getroot().iter("{http://www.w3.org/2000/svg}text")]
    assert calibration.peak("fp32"), "the peak is measured once a machine"


def test_another_kind_of_file_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert cli.main(["run", "--profile", str(tmp_path / "where.png"), "-o", str(tmp_path / "out")]) == 2
    assert "--profile draws a picture, FILE.svg, not " in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
