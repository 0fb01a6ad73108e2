"""Plans without data: what the cards say is added up, and what cannot be run is said."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from ensemble_bench import backbones, cli, forecast
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
