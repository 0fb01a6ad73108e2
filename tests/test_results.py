"""The committed reference results: generated files are what the records say, and the embedded pool carries signal."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest

from ensemble_bench import leaderboard, report, runner
from ensemble_bench.leaderboard import Row
from ensemble_bench.records import Results
from ensemble_bench.request import Request
from ensemble_bench.task import Catalogue

ROOT = Path(__file__).resolve().parents[1]
BASELINE = ROOT / "results" / "baseline"
CURE = "run .ci/remake and commit what it makes"


@pytest.fixture(scope="module")
def baseline() -> Results:
    return Results(BASELINE, must_exist=True)


@pytest.fixture(scope="module")
def rows(baseline: Results) -> list[Row]:
    return leaderboard.rows([baseline])


@pytest.fixture(scope="module")
def accuracy(rows: list[Row]) -> dict[tuple[str, str], float]:
    """Accuracy by strategy and task."""
    return {(row["strategy"], row["task"]): row["value"] for row in rows if row["metric"] == "acc1"}


def test_boards_are_what_the_records_say(baseline: Results, rows: list[Row]) -> None:
    caption = leaderboard.caption([baseline])
    markdown = (ROOT / "results" / "LEADERBOARD.md").read_text(encoding="utf-8")
    assert markdown == report.text(rows, "markdown", caption=caption), CURE
    assert report.text(rows, "table", caption=caption) in (ROOT / "README.md").read_text(encoding="utf-8"), CURE


def test_the_baseline_is_of_the_cards_and_weights_at_hand(baseline: Results) -> None:
    from ensemble_bench import backbones

    catalogue = Catalogue()
    weights = {backbone.id: backbone.weights() for backbone in backbones.find(["mini"])}
    assert {record.task for record in baseline.records} == set(catalogue.collections["mini"])
    for record in baseline.records:
        assert record.provenance["card"] == catalogue.task(record.task).card_digest, CURE
        assert record.provenance["weights"] == weights, CURE
        assert record.status == "done" and record.limit is None


def test_a_run_today_gives_the_same_answers(baseline: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENSEMBLE_BENCH_CACHE", str(tmp_path / "store"))
    asked = Request(
        tasks=("mini/digits", "mini/shapes"), limit=40, strategies=("single", "log-avg", "nlc"), output=tmp_path / "out"
    )
    today = runner.run(asked).results
    cells = {(record.task, record.strategy): record.cell for record in baseline.records}
    seen = differ = 0
    for key, cell in {(record.task, record.strategy): record.cell for record in today.records}.items():
        then, now = baseline.predictions(cells[key]), today.predictions(cell)
        place = {name: column for column, name in enumerate(then.ids.tolist())}
        before = then.decisions[:, [place[name] for name in now.ids.tolist()]]
        seen += before.size
        differ += int((before != now.decisions).sum())
    assert seen == 2 * 40 * (5 + 1 + 5)
    assert differ <= seen // 200, f"{differ} of {seen} answers are not those of results/baseline: {CURE}"


def _singles(accuracy: dict[tuple[str, str], float], task: str) -> dict[str, float]:
    return {line: value for (line, where), value in accuracy.items() if where == task and line.startswith("single:")}


def test_the_embedded_pool_carries_signal(accuracy: dict[tuple[str, str], float]) -> None:
    catalogue = Catalogue()
    tasks = catalogue.tasks(catalogue.collections["mini"])
    above: dict[str, int] = {}
    best: dict[str, int] = {}
    for task in tasks:
        singles = _singles(accuracy, task.name)
        n = task.counts["test"]
        for line, value in singles.items():
            above[line] = above.get(line, 0) + (binomtest(round(value * n), n, task.chance, "greater").pvalue < 0.01)
        top = max(singles.values())
        for line in (line for line, value in singles.items() if value == top):
            best[line] = best.get(line, 0) + 1
    assert len(above) >= 5 and min(above.values()) >= 2 / 3 * len(tasks), above
    assert sum(count >= 2 for count in best.values()) >= 2, best


@pytest.mark.parametrize("classes", [2, 5])
def test_the_oracle_gains_over_the_best_single_backbone(accuracy: dict[tuple[str, str], float], classes: int) -> None:
    catalogue = Catalogue()
    names = [task.name for task in catalogue.tasks(catalogue.collections["mini"]) if len(task.classes) >= classes]
    best = np.mean([accuracy["oracle-best-single", name] for name in names])
    gain = np.mean([accuracy["oracle", name] - accuracy["oracle-best-single", name] for name in names])
    assert best >= 0.60
    assert gain >= 0.08
