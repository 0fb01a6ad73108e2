"""The stock host and we report the same of an exported task: single backbones by themselves, ensembles through its door."""

from __future__ import annotations

import hashlib
import json
import math
import re
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from ensemble_bench import backbones, fewshot, fits, runner, sources
from ensemble_bench import shards as exported
from ensemble_bench.backbones.mini.pool import expanded
from ensemble_bench.cube import Cube
from ensemble_bench.records import Results
from ensemble_bench.request import Request

POOL = backbones.POOLS["mini"]
METRICS = ("acc1", "acc5", "mean_per_class_recall")
NEAR = 1e-5  # between the two best of the host's logits, which are 100 times a cosine
STRATEGIES = ("log-avg", "confidence", "vote-top1", "mean-probability", "single:mini/vit-16", "nlc", "genetic")


FOG = "mini/faces@mini-c:fog:3"

Exported = Callable[[str, int, int | None], Path]


@pytest.fixture(scope="module", autouse=True)
def _store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One store for the whole file: what a test has encoded, the next one finds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ENSEMBLE_BENCH_CACHE", str(tmp_path_factory.mktemp("store")))
        yield


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """Where a task (or TASK@CONDITION) lies as so many shards: each written once."""
    folder = tmp_path_factory.mktemp("exports")

    @cache
    def made(name: str, shards: int, limit: int | None) -> Path:
        task, condition, suite = exported.named(name)
        out = folder / f"{re.sub('[^a-z0-9]+', '-', name)}-{shards}-{limit}"
        exported.written(exported.Export(task, out, condition, suite, shards=shards, limit=limit), workers=1)
        return out

    return made


def cubes(tasks: tuple[str, ...], limit: int | None) -> dict[str, Cube]:
    return {task: runner.cube(Request(tasks=(task,), limit=limit)) for task in tasks}


@cache
def scale(name: str) -> float:
    """What a backbone multiplies cosines with."""
    return backbones.find([name])[0].load().scale


def near(cube: Cube, row: int, place: int) -> list[str]:
    """Ids of the samples whose scores at ``place`` and the next, best first, are too close to call for one backbone."""
    if len(cube.classes) <= place + 1:
        return []
    best = (cube.logits[row] / scale(cube.backbones[row]) * 100).sort(descending=True).values
    apart = best[:, place] - best[:, place + 1]
    return [cube.ids[n] for n in (apart < NEAR).nonzero().squeeze(1).tolist()]


def weight(cube: Cube, metric: str) -> float:
    """The most that one sample can change a metric by."""
    count = cube.labels.bincount()
    count = count[count > 0]
    return 1 / len(cube) if metric != "mean_per_class_recall" else 1 / int(count.min()) / len(count)


def ours(folder: Path, **options: Any) -> Results:
    return runner.run(Request(output=folder, draws=1, **options)).results


def values(results: Results, name: str, strategy: str) -> dict[str, float | None]:
    """Our metrics of a task, or of TASK@CONDITION."""
    task, _, condition = name.partition("@")
    (record,) = [r for r in results.records if (r.task, r.strategy, r.condition) == (task, strategy, condition or "clean")]
    return {name: record.metrics[name]["value"] for name in METRICS}


def host_says(path: Path) -> dict[str, float | None]:
    said = json.loads(path.read_text())["metrics"]
    return {name: None if math.isnan(said[name]) else said[name] for name in METRICS}


def stock(asked: list[list[str]]) -> None:
    """Evaluations by CLIP_benchmark itself, in a process that does not know us."""
    command = [sys.executable, "-W", "ignore", str(Path(__file__).with_name("stock_host.py"))]
    said = subprocess.run(command, input=json.dumps(asked), capture_output=True, text=True, timeout=3000)
    assert said.returncode == 0, said.stderr[-3000:]


def compare(tmp_path: Path, export: Exported, tasks: tuple[str, ...], limit: int | None) -> None:
    """Every backbone of the pool on every task: one shard with one worker, eight with one and with four."""
    layouts = [(1, 1), (8, 1), (8, 4)]
    roots = {(task, shards): export(task, shards, limit) for task in tasks for shards in (1, 8)}
    asked: list[list[str]] = []
    places: dict[tuple[str, str, int, int], Path] = {}
    for name in POOL:
        folder = expanded(name.removeprefix("mini/"))
        for task in tasks:
            for shards, workers in layouts:
                out = tmp_path / f"{len(places)}.json"
                places[name, task, shards, workers] = out
                words = ["eval", "--model", f"local-dir:{folder}", "--pretrained", "", "--dataset", f"wds/{task}"]
                words += ["--dataset_root", str(roots[task, shards]), "--num_workers", str(workers)]
                text = tmp_path / f"{name.replace('/', '-')}-{task.replace('/', '-')}.pt"  # read once, not once a layout
                words += ["--load_clfs" if (shards, workers) != layouts[0] else "--save_clf", str(text)]
                asked.append([*words, "--no_amp", "--quiet", "--output", str(out)])
    stock(asked)
    strategies = tuple(f"single:{name}" for name in POOL)
    results = ours(tmp_path / "ours", tasks=tasks, strategies=strategies, limit=limit)
    shown = cubes(tasks, limit)
    for (name, task, shards, workers), out in places.items():
        theirs, mine, cube = host_says(out), values(results, task, f"single:{name}"), shown[task]
        row = cube.backbones.index(name)
        close = {"acc1": near(cube, row, 0), "acc5": near(cube, row, 4)}
        close["mean_per_class_recall"] = close["acc1"]
        for metric in METRICS:
            where = f"{metric} of {name} on {task}, {shards} shards, {workers} workers: host {theirs}, ours {mine}"
            if mine[metric] is None or theirs[metric] is None:
                assert mine[metric] is theirs[metric] is None, where
                continue
            if close[metric]:
                print(f"{name} on {task}: too close to call: {', '.join(close[metric])}")
            assert abs(mine[metric] - theirs[metric]) <= 1e-12 + len(close[metric]) * weight(cube, metric), where


def test_the_stock_host_and_we_agree(tmp_path: Path, export: Exported) -> None:
    compare(tmp_path, export, ("mini/faces", "mini/surfaces", "mini/shapes"), limit=32)


def test_the_stock_host_and_we_agree_on_a_corrupted_export(tmp_path: Path, export: Exported) -> None:
    """What ``export task TASK@CONDITION`` wrote is that condition to CLIP_benchmark too."""
    name, out = "mini/vit-8", tmp_path / "theirs.json"
    words = ["eval", "--model", f"local-dir:{expanded(name.removeprefix('mini/'))}", "--pretrained", "", "--dataset", "wds/fog"]
    stock([[*words, "--dataset_root", str(export(FOG, 4, 32)), "--no_amp", "--quiet", "--output", str(out)]])
    task, _, condition = FOG.partition("@")
    made = ours(tmp_path / "ours", tasks=(task,), strategies=(f"single:{name}",), corruptions=(condition,), limit=32)
    mine = values(made, FOG, f"single:{name}")
    assert host_says(out) == {key: value and pytest.approx(value, abs=1e-12) for key, value in mine.items()}


READ = """
import hashlib, json, sys, numpy
from clip_benchmark.datasets.builder import build_dataset
made = build_dataset("wds/any", root=sys.argv[1], transform=numpy.asarray, split="test")
shown = sorted([hashlib.sha256(picture.tobytes()).hexdigest(), int(label)] for picture, label in made)
print(json.dumps([made.classes, made.templates, shown]))
assert not any(name.partition(".")[0] == "ensemble_bench" for name in sys.modules)
"""


def test_the_stock_loader_reads_a_corrupted_export_byte_for_byte(export: Exported) -> None:
    """With nothing worked around: names, templates, labels and every pixel."""
    words = [sys.executable, "-W", "ignore", "-c", READ, str(export(FOG, 4, 32))]
    said = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert said.returncode == 0, said.stderr[-3000:]
    task, condition, suite = exported.named(FOG)
    assert suite is not None
    alter, source = suite.alter(condition), sources.of(task)
    index = source.index("test")
    places = fewshot.limited(index.ids, 32)
    ids = [index.ids[place] for place in places]
    pictures = [alter(name, picture) for name, picture in zip(ids, source.pictures("test", ids), strict=True)]
    wanted = sorted(
        [hashlib.sha256(picture.tobytes()).hexdigest(), index.labels[place]]
        for place, picture in zip(places, pictures, strict=True)
    )
    assert json.loads(said.stdout.splitlines()[-1]) == [list(task.classes), list(task.templates), wanted]


@pytest.mark.slow
def test_the_stock_host_and_we_agree_on_whole_tasks(tmp_path: Path, export: Exported) -> None:
    compare(tmp_path, export, ("mini/faces", "mini/surfaces", "mini/shapes", "mini/counting", "mini/letters"), limit=None)


@pytest.fixture(scope="module")
def host() -> Any:
    """Our door to the host, open; what the host itself warns of is its own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from ensemble_bench.host import activate

        activate.activate()
    return activate


def test_ensembles_through_the_door_are_ours(tmp_path: Path, host: Any, export: Exported) -> None:
    tasks, limit = ("mini/faces", "mini/shapes"), 32
    results = ours(tmp_path / "ours", tasks=tasks, strategies=STRATEGIES, limit=limit, save_fits=True)
    saved = fits.of(tmp_path / "ours" / "fits")
    for task in tasks:
        root = export(task, 8, limit)
        for strategy in STRATEGIES:
            fit = [name for name, facts in saved.items() if (facts["task"], facts["strategy"]) == (task, strategy)]
            out = tmp_path / "theirs" / task / f"{strategy.replace('/', '_')}.json"  # folders that are not there yet
            words = ["eval", "--model_type", "ensemble_bench", "--model", strategy, "--pretrained", "@".join(["mini", *fit])]
            words += ["--dataset", f"wds/{task}", "--dataset_root", str(root), "--num_workers", "0", "--no_amp"]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                assert host.main([*words, "--batch_size", "7", "--quiet", "--output", str(out)]) == 0
            theirs, mine = host_says(out), values(results, task, strategy)
            for metric in METRICS:
                assert theirs[metric] == (mine[metric] and pytest.approx(mine[metric], abs=1e-12)), (strategy, task, metric)
