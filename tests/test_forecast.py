"""Plans without data: what the cards say is added up, and what cannot be run is said."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from ensemble_bench import backbones, calibration, cli, forecast
from ensemble_bench.embed import cores
from ensemble_bench.plan import planned
from ensemble_bench.request import Request
from ensemble_bench.task import Catalogue


@pytest.fixture(autouse=True)
def _store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENSEMBLE_BENCH_CACHE", str(tmp_path / "store"))
    monkeypatch.chdir(tmp_path)


def _outlook(name: str, **options: object) -> forecast.Outlook:
    plan = planned(Request(tasks=(name,), backbones=("openai",), **options))  # type: ignore[arg-type]
    return forecast.outlook(plan, plan.tasks[0])


def test_every_image_and_as_many_examples_as_can_be_drawn() -> None:
    eurosat = _outlook("vtab/eurosat", shots=4, draws=3)
    assert (eurosat.state, eurosat.test, eurosat.support) == ("to fetch", 5400, 4 * 3 * 10)
    assert eurosat.missing == {backbone.id: 5520 for backbone in backbones.find(["openai"])}
    assert eurosat.note == "not verified"


def test_no_more_examples_than_there_are_and_no_more_images_than_the_limit() -> None:
    flowers = _outlook("vtab/flowers", shots=16, draws=5, limit=100)
    assert (flowers.test, flowers.support) == (100, 1020)


def test_conditions_multiply_the_images_and_not_the_examples() -> None:
    shown = _outlook("vtab/eurosat", corruptions=("mini-c:fog:1", "mini-c:fog:2"), draws=1)
    assert shown.missing is not None and set(shown.missing.values()) == {3 * 5400 + 10}


def test_borrowed_and_lacking_support_is_said() -> None:
    sketch = _outlook("imagenet_sketch")
    assert sketch.support == 5 * 1000 and "support from imagenet1k" in sketch.note
    sun = _outlook("sun397")
    assert sun.support == 0 and "no support: torchvision's SUN397 has no splits" in sun.note


@pytest.mark.parametrize(
    ("name", "state", "note"),
    [
        ("voc2007_multilabel", "not applicable", "several labels may be right"),
        ("vtab/cub", "by hand", "vtab/cub must be brought by hand"),
        ("fashion-mnist", "to fetch, if it is not here", "not verified"),
        ("mini/digits", "here", ""),
    ],
)
def test_states(name: str, state: str, note: str) -> None:
    seen = _outlook(name)
    assert seen.state == state and note in seen.note
    assert (seen.missing is None) == (state == "not applicable")


def test_vtab_plus_with_the_nine_backbones_as_one_plan(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert cli.main(["run", "-t", "vtab+", "-b", "openai", "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "36 tasks x 9 backbones" in out and list(tmp_path.iterdir()) == []
    tasks = Catalogue().tasks(Catalogue().collections["vtab+"])
    images = sum(task.counts["test"] for task in tasks if task.kind == "classification")
    pool = backbones.find(["openai"])
    examples = sum(
        min(5 * task.class_count, task.counts.get("train", 10**9))
        for task in tasks
        if task.kind == "classification" and ("train" in task.splits or task.support)
    )
    match = re.search(r"to encode: ([\d,]+) images x backbones, ([\d,]+) GFLOPs, about ([\d,]+) days at 25 GFLOP/s", out)
    assert match is not None
    assert int(match[1].replace(",", "")) == 9 * (images + examples)
    spent = sum(backbone.gflops or 0 for backbone in pool) * (images + examples)
    assert int(match[2].replace(",", "")) == pytest.approx(spent, abs=1)
    assert int(match[3].replace(",", "")) == round(spent / 25 / 86400)
    known = [task.downloads["test"] for task in tasks if task.kind == "classification" and "test" in task.downloads]
    assert f"data to fetch: 35 tasks, {sum(known) / 1000:.1f} GB of test images for {len(known)} of them" in out
    assert re.search(r"voc2007_multilabel +not applicable", out)


def test_every_task_there_is_can_be_planned(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run", "-t", "all", "-b", "mini", "--dry-run"]) == 0
    out = capsys.readouterr().out
    for name in Catalogue().paths:
        assert re.search(rf"(?m)^{re.escape(name)} ", out), name


def test_the_network_is_asked_nothing_and_left_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str | None] = []

    def spy(*_: object) -> None:
        seen.append(os.environ.get("HF_HUB_OFFLINE"))
        raise forecast.Missing("not here")

    monkeypatch.setattr(forecast, "samples", spy)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    _outlook("vtab/eurosat")
    assert seen == ["1"] and "HF_HUB_OFFLINE" not in os.environ
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    _outlook("vtab/eurosat")
    assert seen == ["1", "1"] and os.environ["HF_HUB_OFFLINE"] == "0"


def _span(**options: object) -> forecast.Span | None:
    plan = planned(Request(**options))  # type: ignore[arg-type]
    return forecast.span(plan, [forecast.outlook(plan, task) for task in plan.tasks])


def test_without_a_measurement_the_rate_is_called_an_assumption(capsys: pytest.CaptureFixture[str]) -> None:
    assert _span(tasks=("mini/digits",)) is None
    assert cli.main(["run", "-t", "mini/digits", "-b", "mini/vit-8", "--dry-run"]) == 0
    assert "assumption, nothing was measured here yet: ensemble-bench calibrate -b mini/vit-8" in capsys.readouterr().out
    assert not calibration.path().exists()


def test_what_was_measured_is_multiplied_out(capsys: pytest.CaptureFixture[str]) -> None:
    calibration.note("rates", {"mini/vit-8 fp32": 5.0, "mini/vit-16 fp32": 3.0})
    calibration.note("run", {"start": 10.0, "answer": 0.5})
    options = {"tasks": ("mini/digits",), "backbones": ("mini/vit-8", "mini/vit-16"), "strategies": ("vote-top1", "log-avg")}
    found, plan = _span(**options), planned(Request(**options))  # type: ignore[arg-type]
    (seen,) = (forecast.outlook(plan, task) for task in plan.tasks)
    assert found is not None and seen.test is not None and seen.missing is not None
    images = seen.missing["mini/vit-8"]
    assert images == seen.test + (seen.support or 0)
    assert found.encoding == pytest.approx(images * (0.005 + 0.003) / cores())
    assert found.rest == pytest.approx(10 + seen.test * 2 * 0.0005 / cores())
    vits = backbones.find(["mini/vit-8", "mini/vit-16"])
    prompts = seen.task.class_count * len(seen.task.templates)
    words = sum(
        prompts * ms / 1000 * (one.prompt_gflops() or 0) / (one.gflops or 1) for one, ms in zip(vits, (5, 3), strict=True)
    )
    shown = seen.test * (0.005 + 0.003 + 2 * forecast.HOST_IMAGE)
    assert found.host == pytest.approx((words + shown) / cores() + 2 * forecast.HOST_START)
    assert cli.main(["run", "-t", "mini/digits", "-b", "mini/vit-8", "mini/vit-16", "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert f"on {cores()} cores by what was measured here" in out and "CLIP_benchmark, for each task, backbone and" in out


def test_every_condition_costs_the_host_a_start_and_a_corruption() -> None:
    calibration.note("rates", {"mini/vit-8 fp32": 5.0})
    options = {"tasks": ("mini/digits",), "backbones": ("mini/vit-8",)}
    one, two = _span(**options), _span(**options, corruptions=("mini-c:fog:1",))
    assert one is not None and two is not None
    plan = planned(Request(**options))  # type: ignore[arg-type]
    test = forecast.outlook(plan, plan.tasks[0]).test or 0
    assert two.host == pytest.approx(2 * one.host + test * forecast.HOST_CORRUPTED / cores())


def test_what_is_known_of_an_architecture_or_only_of_the_peak() -> None:
    (backbone,) = backbones.find(["openai/ViT-B-32"])
    request = Request(backbones=("openai/ViT-B-32",))
    assert forecast.pace(backbone, request) == forecast.Pace(None, None, None)
    calibration.note("peaks", {"fp32": 70.0, "bf16": 10.0, "fp16": 12.0})
    by_peak = forecast.pace(backbone, request)
    assert by_peak.ours == by_peak.host == pytest.approx(8.82 / (0.7 * 70))
    name = calibration.name(backbone.architecture(), "fp32")
    calibration.note("encoders", {name: {"setting": {}, "ms": 120.0, "plain": 130.0}})
    measured = forecast.pace(backbone, request)
    assert (measured.ours, measured.host) == (0.12, 0.13)
    assert measured.prompt == pytest.approx(0.13 * 5.96 / 8.82, rel=1e-3)
    assert forecast.pace(backbone, request.changed(precision="auto")) == measured  # bf16 is slower here
    calibration.note("peaks", {"bf16": 300.0})
    assert forecast.pace(backbone, request.changed(precision="auto")).ours == pytest.approx(8.82 / (0.7 * 300))
    assert forecast.pace(backbone, request.changed(device="cuda")) == forecast.Pace(None, None, None)
