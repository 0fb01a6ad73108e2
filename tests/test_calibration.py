"""What is measured of a machine: kept by real runs and by the verb, read by forecasts without torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from ensemble_bench import calibration, cli, runner
from ensemble_bench.backbones import tuning
from ensemble_bench.errors import BadStore
from ensemble_bench.plan import planned
from ensemble_bench.request import Request


@pytest.fixture(autouse=True)
def _store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENSEMBLE_BENCH_CACHE", str(tmp_path / "store"))


def test_the_file_says_what_machine_it_is_of() -> None:
    calibration.note("peaks", {"fp32": 50.0})
    calibration.note("run", {"start": 1.5})
    calibration.note("run", {"answer": 0.5})
    whole = json.loads(calibration.path().read_text(encoding="utf-8"))
    assert whole["processor"] == calibration.processor() and whole["torch"] == torch.__version__.partition("+")[0]
    assert calibration.read() == {"peaks": {"fp32": 50.0}, "run": {"start": 1.5, "answer": 0.5}}
    assert calibration.read("cuda") == {} and calibration.peak("fp32") == 50.0 and calibration.peak("bf16") is None


def test_devices_are_kept_apart() -> None:
    calibration.note("peaks", {"fp32": 50.0})
    calibration.note("peaks", {"fp32": 9000.0}, "cuda:0")
    assert calibration.peak("fp32") == 50.0 and calibration.peak("fp32", "cuda") == 9000.0


def test_another_processor_or_torch_has_another_file(monkeypatch: pytest.MonkeyPatch) -> None:
    calibration.note("peaks", {"fp32": 50.0})
    monkeypatch.setattr(calibration, "version", lambda name: "9.9")
    assert calibration.read() == {}
    calibration.note("peaks", {"fp32": 60.0})
    monkeypatch.setattr(calibration, "processor", lambda: {"name": "another", "abilities": ""})
    assert calibration.read() == {}
    assert len(list(calibration.path().parent.iterdir())) == 2


def test_reading_loads_no_torch() -> None:
    code = "import sys; from ensemble_bench import calibration; calibration.read(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def work(spent: dict[str, tuple[int, float]], answered: int, device: str = "cpu") -> Any:
    return SimpleNamespace(
        embedder=SimpleNamespace(spent=spent, precision="fp32"),
        answered=answered,
        device=device,
        plan=SimpleNamespace(backbones=["a", "b"]),
    )


def test_a_run_leaves_the_speed_of_encoding_and_of_all_the_rest() -> None:
    runner._measured(work({"a": (100, 2.0), "b": (200, 1.0)}, answered=1000), seconds=8.0)
    assert calibration.read() == {"rates": {"a fp32": 20.0, "b fp32": 5.0}, "run": {"answer": 5.0}}


def test_little_work_says_nothing_of_the_speed() -> None:
    runner._measured(work({"a": (100, 2.0), "b": (20, 1.0)}, answered=1000), seconds=8.0)
    assert calibration.read() == {"rates": {"a fp32": 20.0}}  # what was in the store already would make answers look cheap
    runner._measured(work({}, answered=1000), seconds=8.0)
    assert calibration.read() == {"rates": {"a fp32": 20.0}}


def test_a_store_that_cannot_be_written_stops_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise BadStore("no space left")

    monkeypatch.setattr(calibration, "note", full)
    runner._measured(work({"a": (100, 2.0)}, answered=1000), seconds=8.0)


def test_auto_becomes_the_precision_that_is_used_before_anything_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "quickest", lambda backbones, device: "bf16")
    request = Request(tasks=("mini/digits",), device="cpu", precision="auto")
    decided = runner._decided(planned(request))
    assert decided.request == request.changed(precision="bf16")
    assert decided.output == planned(request.changed(precision="bf16")).output
    plain = planned(request.changed(precision="fp32"))
    assert runner._decided(plain) is plain


def test_the_verb_measures_and_keeps(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "SHAPE", (320, 64, 64))
    assert cli.main(["calibrate", "-b", "mini/rn-narrow"]) == 0
    out = capsys.readouterr().out
    assert "GFLOP/s of one thread" in out and "mini/rn-narrow: " in out and str(calibration.path()) in out
    known = calibration.read()
    assert set(known) == {"peaks", "rates", "run"} and known["rates"]["mini/rn-narrow fp32"] > 0 and known["run"]["start"] > 0


def test_compiling_must_be_chosen_anew(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["calibrate", "--compile"]) == 2
    assert "--compile needs --again" in capsys.readouterr().err
