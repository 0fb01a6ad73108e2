"""What many tests start from."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ensemble_bench import backbones, corrupt, sources, strategies
from ensemble_bench.cube import Cube
from ensemble_bench.records import Predictions, Record, Results
from ensemble_bench.testing.toy import poorer, toy

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(autouse=True)
def _registries_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test adds to a registry is gone after it: no later test meets the strategies of an earlier one."""
    for noun in (backbones, corrupt, sources, strategies):
        monkeypatch.setattr(noun.registry, "_added", dict(noun.registry._added))


@pytest.fixture
def support() -> Cube:
    """A labelled toy cube: 4 backbones, 6 classes, 3 examples of each."""
    return toy(18, 1)


@pytest.fixture
def query() -> Cube:
    """A labelled toy cube of other samples: 4 backbones, 6 classes, 240 samples."""
    return toy(240, 2)


@pytest.fixture(params=["logits", "probabilities", "decisions"])
def poor(request: pytest.FixtureRequest, query: Cube) -> Cube:
    """The query with less to say: without features, with probabilities only, with decisions only."""
    return poorer(query, request.param)


@pytest.fixture(scope="module")
def host() -> Iterator[Any]:
    """Our doors open; what the host itself warns of is its own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from ensemble_bench.host import activate

        activate.activate()
        yield activate


@pytest.fixture(scope="session")
def real_predictions() -> Path:
    """Folder of real models' predictions, kept outside the repository."""
    folder = SHARED / "real_predictions"
    if not folder.is_dir():
        pytest.skip(f"the real predictions are not here: {folder}")
    return folder


Cells = Mapping[tuple[str, str, str, int], Sequence[Sequence[int]]]
"""Decisions [d, s] by task, condition, strategy and shots."""


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., Results]:
    """Writes a results folder of which every answer is known: ``written(name, cells, labels)``, labels by task."""
    families = {"oracle": "oracle", "oracle-best-single": "oracle", "best-single": "control", "nlc": "adaptive"}
    families |= {"super-learner": "calibrated"}

    def write(name: str, cells: Cells, labels: Mapping[str, Sequence[int]], **more: Any) -> Results:
        results = Results(tmp_path / name)
        tasks = sorted({task for task, *_ in cells})
        costs = more.pop("gflops", {})
        for (task, condition, strategy, shots), answers in cells.items():
            decisions, wanted = np.asarray(answers, np.int32), np.asarray(labels[task])
            about: dict[str, Any] = {
                "task": task,
                "task_version": 1,
                "collections": {"hand": len(tasks)} if len(tasks) > 1 else {},
                "condition": condition,
                "pool": ("p/a", "p/b"),
                "strategy": strategy,
                "family": families.get(strategy, "static"),
                "shots": shots,
                "draws": len(decisions) if shots else 0,
                "seed": 0,
                "limit": None,
                "n": len(wanted),
                "ids": f"ids of {task}",
                "labels": 2 * shots,
                "cost": {"gflops": costs.get(strategy, 1.0), "parameters": 1, "backbones": 1},
                "provenance": {"precision": "fp32"},
                **more,
            }
            if condition != "clean":
                suite = {"name": condition.partition(":")[0], "version": 1, "engine": "native"}
                about["provenance"] = {**about["provenance"], "suite": suite}
            cell = re.sub(r"[^A-Za-z0-9._-]", "_", f"{task}-{condition}-{strategy}-{shots}")
            draws = list(range(len(decisions))) if shots else [None]
            records = [
                Record(
                    **about,
                    draw=draw,
                    metrics={"acc1": {"value": float((row == wanted).mean())}},
                    key=f"{cell}-{draw}",
                    cell=cell,
                )
                for draw, row in zip(draws, decisions, strict=True)
            ]
            said = Predictions(
                ids=np.array([f"{task}/{place:04d}" for place in range(len(wanted))]),
                labels=wanted,
                draws=np.array([-1 if draw is None else draw for draw in draws]),
                decisions=decisions,
            )
            results.append(records, said)
        return results

    return write
