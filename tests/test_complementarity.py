"""Rows and tables of what backbones add to each other: by hand, beside the board, with and without features."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ensemble_bench import complementarity, leaderboard, report, runner
from ensemble_bench.cli import main
from ensemble_bench.errors import BadOption
from ensemble_bench.records import Results
from ensemble_bench.request import Request
from ensemble_bench.stored import Stored

BASELINE = Path(__file__).resolve().parents[1] / "results" / "baseline"
Written = Callable[..., Results]
CLEAN = "clean"
A, B = "single:p/a", "single:p/b"

# Decisions of two backbones to eight images of two classes, on two tasks; the first four images are of class 0.
LABELS = {"x": [0, 0, 0, 0, 1, 1, 1, 1], "y": [0, 0, 0, 0, 1, 1, 1, 1]}
CELLS = {
    ("x", CLEAN, A, 0): [[0, 0, 0, 1, 1, 1, 0, 2]],  # 5 right
    ("x", CLEAN, B, 0): [[0, 1, 1, 0, 0, 0, 1, 0]],  # 3 right; saves images 3 and 6 of the errors 3, 6, 7
    ("y", CLEAN, A, 0): [[1, 1, 1, 1, 1, 1, 0, 0]],  # 2 right
    ("y", CLEAN, B, 0): [[0, 0, 0, 1, 1, 0, 0, 0]],  # 4 right
}


def find(rows: Sequence[dict[str, Any]], task: str, subject: str, measure: str, **more: Any) -> dict[str, Any]:
    wanted = {"task": task, "subject": subject, "measure": measure, "condition": CLEAN, "class": None, **more}
    found = [one for one in rows if all(one[name] == value for name, value in wanted.items())]
    assert len(found) == 1, (wanted, len(found))
    return found[0]


@pytest.fixture
def rows(written: Written) -> list[dict[str, Any]]:
    return complementarity.rows([written("out", CELLS, LABELS)])


@pytest.mark.parametrize(
    ("task", "subject", "measure", "more", "value"),
    [
        ("x", "pool", "best_single", {}, 5 / 8),
        ("x", "pool", "oracle", {}, 7 / 8),
        ("x", "pool", "oracle_gap", {}, 2 / 8),
        ("x", "pool", "rescued", {}, 2 / 3),
        ("x", "pool", "rescued_independent", {}, 3 / 8),
        ("x", "pool", "complementarity", {}, (2 / 3 - 3 / 8) / (5 / 8)),
        ("x", "pool", "oracle_independent", {}, 1 - 3 / 8 * 5 / 8),
        ("x", "pool", "oracle_guessing", {}, 3 / 4),
        ("x", "pair", "disagreement", {"backbone": "p/a", "other": "p/b"}, 6 / 8),
        ("x", "pair", "label_disagreement", {"backbone": "p/a", "other": "p/b"}, 7 / 8),
        ("x", "pair", "double_fault", {"backbone": "p/a", "other": "p/b"}, 1 / 8),
        ("x", "pair", "rescue", {"backbone": "p/a", "other": "p/b"}, 2 / 3),
        ("x", "pair", "rescue", {"backbone": "p/b", "other": "p/a"}, 4 / 5),
        ("x", "backbone", "unique_correct", {"backbone": "p/a"}, 4 / 8),
        ("x", "backbone", "shapley_oracle", {"backbone": "p/a"}, (4 + 1 / 2) / 8),
        ("x", "backbone", "leave_one_out_oracle", {"backbone": "p/b"}, 2 / 8),
        ("x", "curve", "oracle", {"k": 1, "backbone": "p/a"}, 5 / 8),
        ("x", "curve", "oracle", {"k": 2, "backbone": "p/b"}, 7 / 8),
        ("y", "pool", "rescued", {}, 1 / 4),
        ("y", "pool", "complementarity", {}, (1 / 4 - 1 / 4) / (3 / 4)),
        ("mean(hand)", "pool", "best_single", {}, (5 + 4) / 16),
        ("mean(hand)", "pool", "rescued", {}, (2 + 1) / (3 + 4)),
        ("mean(hand)", "pool", "rescued_independent", {}, (3 * 3 / 8 + 4 * 1 / 4) / (3 + 4)),
        ("mean(hand)", "pair", "rescue", {"backbone": "p/b", "other": "p/a"}, (4 + 1) / (5 + 4)),
        ("mean(hand)", "pair", "q", {"backbone": "p/a", "other": "p/b"}, (1 - 8 + 3 - 3) / (1 + 8 + 3 + 3)),
        ("mean(hand)", "curve", "oracle", {"k": 1, "backbone": "p/a"}, (5 + 2) / 16),
        ("mean(hand)", "curve", "oracle", {"k": 2, "backbone": "p/b"}, (7 + 5) / 16),
    ],
)
def test_values_by_hand(
    rows: list[dict[str, Any]], task: str, subject: str, measure: str, more: dict[str, Any], value: float
) -> None:
    assert find(rows, task, subject, measure, **more)["value"] == pytest.approx(value)


def test_rows_are_there_once_strict_and_alike(rows: list[dict[str, Any]]) -> None:
    names = ("task", "condition", "class", "subject", "measure", "backbone", "other", "k", "strategy", "shots")
    keys = [tuple(one[name] for name in names) for one in rows]
    assert len(set(keys)) == len(keys) and len({tuple(one) for one in rows}) == 1
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows
    assert rows[0]["task"] == "mean(hand)"
    assert find(rows, "mean(hand)", "pool", "oracle")["n"] == 16
    features = {one["measure"]: one for one in rows if one["task"] == "x" and one["status"] == "missing"}
    assert set(features) == {"cka", "shapley_log_avg", "leave_one_out_log_avg"}
    assert {one["reason"] for one in features.values()} == {"features were not asked for"}


def test_classes_add_up_to_their_task(written: Written) -> None:
    rows = complementarity.rows([written("out", CELLS, LABELS)], tasks=["x"], per_class=True)
    classes = sorted({one["class"] for one in rows if one["class"] is not None})
    assert classes == ["0", "1"] and {one["task"] for one in rows} == {"x"}
    first = find(rows, "x", "pool", "complementarity", **{"class": "0"})
    assert first["value"] == pytest.approx((1 - 2 / 4) / (2 / 4)) and first["n"] == 4
    assert find(rows, "x", "pool", "oracle_guessing", **{"class": "0"})["value"] == 0.75  # of the task's two classes
    for measure in ("disagreement", "double_fault", "label_disagreement"):
        parts = [find(rows, "x", "pair", measure, backbone="p/a", **{"class": name})["value"] for name in classes]
        assert np.mean(parts) == pytest.approx(find(rows, "x", "pair", measure, backbone="p/a")["value"])
    assert not [one for one in rows if one["class"] is not None and one["subject"] == "curve"]


def test_classes_have_their_names_where_the_card_is_here(written: Written) -> None:
    cells = {("mini/surfaces", CLEAN, name, 0): [[0, 1, 1]] for name in (A, B)}
    rows = complementarity.rows([written("out", cells, {"mini/surfaces": [0, 1, 0]})], per_class=True)
    from ensemble_bench.task import Catalogue

    card = Catalogue().task("mini/surfaces")
    assert card.version == 1
    assert {one["class"] for one in rows} - {None} == set(card.classes[:2])


def test_what_is_not_defined_is_null_and_says_why(written: Written) -> None:
    cells = {("x", CLEAN, A, 0): [LABELS["x"]], ("x", CLEAN, B, 0): CELLS["x", CLEAN, B, 0]}
    rows = complementarity.rows([written("out", cells, LABELS)])
    for one, reason in (
        (find(rows, "x", "pool", "complementarity"), "the best single backbone makes no errors"),
        (find(rows, "x", "pair", "rescue", backbone="p/a"), "the first makes no errors"),
        (find(rows, "x", "pair", "rho"), "a backbone is always right or wrong"),
    ):
        assert (one["value"], one["ci_low"], one["status"], one["reason"]) == (None, None, "not-applicable", reason)
    assert find(rows, "x", "pair", "rescue", backbone="p/b")["value"] == 1


@pytest.mark.parametrize(
    ("change", "status", "says"),
    [
        ({("y", CLEAN, B, 0): None}, "missing", "needs single:p/b in the same results"),
        (
            {("y", CLEAN, A, 0): None, ("y", CLEAN, B, 0): None, ("y", CLEAN, "log-avg", 0): [[0] * 8]},
            "missing",
            "single:p/a, single",
        ),
    ],
)
def test_without_a_backbone_there_is_no_pool(written: Written, change: dict[Any, Any], status: str, says: str) -> None:
    cells = {key: said for key, said in {**CELLS, **change}.items() if said is not None}
    rows = complementarity.rows([written("out", cells, LABELS)])
    for task in ("y", "mean(hand)"):
        (one,) = (one for one in rows if one["task"] == task and one["subject"] != "correlation")
        assert one["measure"] == "complementarity" and one["status"] == status and says in one["reason"]
        assert ("y: " in one["reason"]) == (task != "y")
    assert find(rows, "x", "pool", "oracle")["value"] == 7 / 8


def test_one_backbone_is_no_pool(written: Written) -> None:
    rows = complementarity.rows([written("out", {("x", CLEAN, A, 0): [[0] * 8]}, LABELS, pool=("p/a",))])
    assert [(one["status"], one["reason"]) for one in rows] == [
        ("not-applicable", "a pool of one backbone has nobody to rescue it")
    ]


def test_conditions_and_their_means(written: Written) -> None:
    cells = {("x", CLEAN, name, 0): CELLS["x", CLEAN, name, 0] for name in (A, B)}
    cells |= {("x", "c:fog:1", name, 0): CELLS["y", CLEAN, name, 0] for name in (A, B)}
    cells |= {("x", "c:snow:1", name, 0): [[0] * 4 + [1, 0, 0, 0]] for name in (A, B)}
    results = [written("out", cells, LABELS)]
    rows = complementarity.rows(results)
    conditions = list(dict.fromkeys(one["condition"] for one in rows))
    assert conditions == ["clean", "c:fog:1", "c:snow:1", "mean(c)", "mean(c:fog)", "mean(c:snow)", "mean(c:*:1)"]
    mean = find(rows, "x", "pool", "rescued", condition="mean(c)")
    assert mean["value"] == pytest.approx((1 + 0) / (4 + 3)) and mean["n"] == 8
    assert find(rows, "x", "pair", "disagreement", condition="mean(c)")["value"] == pytest.approx(4 / 16)
    only = complementarity.rows(results, condition="mean(c)")
    assert only == [one for one in rows if one["condition"] == "mean(c)"]
    lacking = {key: said for key, said in cells.items() if key[1:3] != ("c:snow:1", B)}
    rows = complementarity.rows([written("other", lacking, LABELS)], condition="mean(c)")
    assert [one["reason"] for one in rows] == ["x, c:snow:1: needs single:p/b in the same results"]


@pytest.mark.parametrize(("options", "says"), [({"tasks": ["z"]}, "task 'z'"), ({"condition": "c:fog:1"}, "There are: clean")])
def test_what_is_not_there_is_a_sentence(written: Written, options: dict[str, Any], says: str) -> None:
    with pytest.raises(BadOption, match=says):
        complementarity.rows([written("out", CELLS, LABELS)], **options)


def test_gains_go_with_diversity_over_tasks(written: Written) -> None:
    """Six tasks; log-avg gains k images over the best backbone where the other one alone is right k times."""
    cells, labels = {}, {}
    for k in range(6):
        task = f"t{k}"
        first = [0] * 10 + [1] * 10
        second = [1] * 10 + [0] * k + [1] * (10 - k)
        labels[task] = [0] * 20
        cells |= {(task, CLEAN, A, 0): [first], (task, CLEAN, B, 0): [second]}
        cells |= {(task, CLEAN, "log-avg", 0): [[0] * (10 + k) + [1] * (10 - k)]}
    rows = complementarity.rows([written("out", cells, labels)])
    found = {one["measure"]: one for one in rows if one["subject"] == "correlation"}
    assert set(found) == {"complementarity", "oracle_gap", *complementarity.MEASURES}
    gap, kappa = found["oracle_gap"], found["kappa"]
    assert gap["value"] == pytest.approx(1) and gap["ci_low"] > 0.9 and gap["n"] == 6 and gap["task"] == "mean(hand)"
    assert (gap["strategy"], gap["shots"]) == ("log-avg", 0) and kappa["value"] == pytest.approx(-1)
    few = {key: said for key, said in cells.items() if key[0] < "t4"}
    rows = complementarity.rows([written("few", few, labels)])
    assert find(rows, "mean(hand)", "correlation", "oracle_gap")["reason"] == "fewer than 5 tasks"
    assert find(rows, "mean(hand)", "correlation", "q")["reason"] == "the measure is not known on every task"


@pytest.fixture(scope="module")
def baseline() -> list[Results]:
    if not BASELINE.is_dir():
        pytest.skip(f"the reference results are not here: {BASELINE}")
    return [Results(BASELINE)]


def test_the_headline_number_is_that_of_the_board(baseline: list[Results]) -> None:
    rows = complementarity.rows(baseline, tasks=["mean(mini)", "mini/digits"])
    board = [one for one in leaderboard.rows(baseline) if one["metric"] == "complementarity"]
    (mini,) = (one for one in board if one["task"] == "mean(mini)")
    said = " ".join((BASELINE.parents[1] / "docs" / "complementarity.md").read_text(encoding="utf-8").split())
    assert f"backbones: {mini['value']:.2f} ({mini['ci_low']:.2f} to {mini['ci_high']:.2f}); {mini['reason']}" in said
    for task in ("mean(mini)", "mini/digits"):
        (one,) = (one for one in board if one["task"] == task)
        other = find(rows, task, "pool", "complementarity")
        assert other["value"] == pytest.approx(one["value"], abs=1e-12)
        assert (other["ci_low"], other["ci_high"]) == pytest.approx((one["ci_low"], one["ci_high"]), abs=2e-6)
        shares = [one["value"] for one in rows if one["task"] == task and one["measure"] == "shapley_oracle"]
        assert len(shares) == 5 and sum(shares) == pytest.approx(find(rows, task, "pool", "oracle")["value"])
        curve = [one["value"] for one in rows if one["task"] == task and one["subject"] == "curve"]
        assert curve == sorted(curve) and curve[-1] == find(rows, task, "pool", "oracle")["value"]


# With features --------------------------------------------------------------------------------------------------------

ASKED = Request(
    tasks=("mini/digits", "mini/surfaces"),
    limit=64,
    corruptions=("mini-c:fog:4",),
    strategies=("single", "log-avg", "oracle", "oracle-best-single"),
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Results]:
    """The store and the results of a small run."""
    store = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ENSEMBLE_BENCH_CACHE", str(store))
        return store, runner.run(ASKED.changed(output=tmp_path_factory.mktemp("run") / "out")).results


def test_features_in_the_store_are_found(run: tuple[Path, Results], monkeypatch: pytest.MonkeyPatch) -> None:
    store, results = run
    monkeypatch.setenv("ENSEMBLE_BENCH_CACHE", str(store))
    rows = complementarity.rows([results], stored=Stored([results]))
    board = {
        (one["task"], one["condition"]): one["value"]
        for one in leaderboard.rows([results])
        if (one["strategy"], one["metric"]) == ("log-avg", "acc1")
    }
    for task, classes in (("mini/digits", 10), ("mini/surfaces", 3)):
        for condition in (CLEAN, "mini-c:fog:4"):
            here = [one for one in rows if (one["task"], one["condition"]) == (task, condition)]
            whole = next(one for one in here if (one["measure"], one["k"]) == ("log_avg", 5))
            assert whole["value"] == pytest.approx(board[task, condition])
            shares = [one["value"] for one in here if one["measure"] == "shapley_log_avg"]
            assert len(shares) == 5 and sum(shares) == pytest.approx(whole["value"] - 1 / classes)
            first = next(one for one in here if (one["measure"], one["k"]) == ("log_avg", 1))
            assert first["value"] == max(one["value"] for one in here if one["measure"] == "acc1")
            cka = [one for one in here if (one["subject"], one["measure"]) == ("pair", "cka")]
            assert len(cka) == 10 and all(one["ci_low"] < one["value"] < one["ci_high"] for one in cka)
            assert 0 < find(rows, task, "pool", "cka", condition=condition)["value"] < 0.95
    text = report.pooled(rows)
    assert "Shapley\n" not in text and "log-avg %" in text and "no CKA" not in text


def test_features_that_are_gone_are_said_to_be(
    run: tuple[Path, Results], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, results = run
    monkeypatch.setenv("ENSEMBLE_BENCH_CACHE", str(tmp_path))
    rows = complementarity.rows([results], condition=CLEAN, stored=Stored([results]))
    assert find(rows, "mini/digits", "pool", "cka")["reason"] == "not at hand: features are not in the store"
    assert find(rows, "mini/digits", "pool", "oracle")["value"] is not None
    assert "no CKA, nothing for log-avg: not at hand" in report.pooled(rows).replace("\n  ", " ")
    assert not list(tmp_path.rglob("*.safetensors"))  # nothing was encoded


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"provenance": {"precision": "fp32", "weights": {"mini/vit-8": "others"}}}, "weights of the pool"),
        ({"task_version": 99}, "not the task that was run"),
    ],
)
def test_features_of_something_else_are_not_taken(
    run: tuple[Path, Results], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], says: str
) -> None:
    import shutil

    store, results = run
    monkeypatch.setenv("ENSEMBLE_BENCH_CACHE", str(store))
    other = tmp_path / "other"
    shutil.copytree(results.folder, other)
    lines = (other / "records.jsonl").read_text().splitlines()
    (other / "records.jsonl").write_text("".join(json.dumps({**json.loads(line), **change}) + "\n" for line in lines))
    held = [Results(other)]
    rows = complementarity.rows(held, condition=CLEAN, tasks=["mini/digits"], stored=Stored(held))
    assert says in find(rows, "mini/digits", "pool", "cka")["reason"]


# The table ------------------------------------------------------------------------------------------------------------


def test_the_verb_prints_each_form(written: Written, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    results = written("out", CELLS, LABELS)
    words = ["diversity", str(results.folder), "--no-features"]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert said == report.pooled(complementarity.rows([results]), caption=leaderboard.caption([results]))
    assert max(map(len, said.splitlines())) <= 120
    pool = next(line for line in said.splitlines() if line.startswith("│ mean(hand)")).strip("│ ").split()
    assert pool[1:7] == ["16", "56.2", "75.0", "18.8", "42.9", "30.4"]
    assert main([*words, "--format", "json", "--per-class"]) == 0
    assert json.loads(capsys.readouterr().out) == complementarity.rows([results], per_class=True)
    assert main([*words, "--format", "csv", "-t", "x"]) == 0
    found = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert {one["task"] for one in found} == {"x"} and {"subject", "backbone", "other", "k", "class"} <= set(found[0])
    target = tmp_path / "pool.md"
    assert main([*words, "--format", "markdown", "-o", str(target)]) == 0
    assert "### The pool, by task" in target.read_text() and "| a + b " in target.read_text()
    assert main([*words, "-t", "nowhere"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_tables_fit_and_say_what_is_missing(written: Written) -> None:
    cells = {key: said for key, said in CELLS.items() if key != ("y", CLEAN, B, 0)}
    text = report.pooled(complementarity.rows([written("out", cells, LABELS, limit=8)], per_class=True))
    assert "- missing: y: needs single:p/b in the same results" in text and "NOT A FULL RESULT" in text
    assert "The pool, by class: x" in text and max(map(len, text.splitlines())) <= 120
    assert report.pooled([], caption="no run") == "no run\n"
