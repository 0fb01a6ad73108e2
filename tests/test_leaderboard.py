"""Rows of a board, worked out by hand on two tasks of four images."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats

from ensemble_bench import leaderboard
from ensemble_bench.errors import BadRecord
from ensemble_bench.records import Predictions, Record, Results, place

FAMILY = {"oracle": "oracle", "oracle-best-single": "oracle", "best-single": "control", "nlc": "adaptive"}
LABELS = [0, 0, 1, 1]

# Right answers per draw: one string for what sees no labels, two for what is fitted.
HAND: dict[tuple[str, str], Sequence[str]] = {
    ("mini/x", "log-avg"): ["1110"],
    ("mini/y", "log-avg"): ["1100"],
    ("mini/x", "single:mini/a"): ["1110"],
    ("mini/y", "single:mini/a"): ["1000"],
    ("mini/x", "best-single"): ["1110", "0110"],
    ("mini/y", "best-single"): ["1000", "1000"],
    ("mini/x", "nlc"): ["1111", "1110"],
    ("mini/y", "nlc"): ["1100", "1000"],
    ("mini/x", "oracle-best-single"): ["1110"],
    ("mini/y", "oracle-best-single"): ["1000"],
    ("mini/x", "oracle"): ["1111"],
    ("mini/y", "oracle"): ["1110"],
}


def put(results: Results, task: str, strategy: str, draws: Sequence[str], **more: Any) -> None:
    """One cell of which every sample's fate is known; with ``scores``, also a confidence of .8 and a loss of .5 everywhere."""
    scores = more.pop("scores", False)
    right = np.array([[digit == "1" for digit in draw] for draw in draws])
    labels = np.array((LABELS * (right.shape[1] // 4 + 1))[: right.shape[1]])
    fitted = FAMILY.get(strategy, "static") in ("adaptive", "control")
    numbers: list[int | None] = list(range(len(draws))) if fitted else [None]
    about: dict[str, Any] = {
        "task": task,
        "task_version": 1,
        "collections": {"mini": 2},
        "condition": "clean",
        "pool": ("mini/a", "mini/b"),
        "strategy": strategy,
        "family": FAMILY.get(strategy, "static"),
        "shots": 1 if fitted else 0,
        "draws": len(draws) if fitted else 0,
        "seed": 0,
        "limit": None,
        "n": right.shape[1],
        "ids": f"ids of {task}",
        "labels": 2 if fitted else 4 if strategy.startswith("oracle") else 0,
        "cost": {
            "gflops": 0.25 if "single" in strategy else 1.0,
            "parameters": 1,
            "backbones": 1 if "single" in strategy else 2,
        },
        "provenance": {"precision": "fp32"},
        **more,
    }
    cell = f"{strategy}-{task}-{about['condition']}-{about['shots']}".translate(str.maketrans("/:=", "___"))
    records = []
    for number, draw in zip(numbers, right, strict=True):
        metrics: dict[str, dict[str, Any]] = {
            "acc1": {"value": float(draw.mean())},
            "acc5": {"value": None},
            "mean_per_class_recall": {"value": float(np.mean([draw[labels == c].mean() for c in set(labels.tolist())]))},
        }
        if scores:
            metrics |= {"nll": {"value": 0.5}, "brier": {"value": 0.25}, "ece": {"value": abs(0.8 - float(draw.mean()))}}
        records.append(Record(**about, draw=number, metrics=metrics, key=f"{cell}-{number}", cell=cell))
    constant = {name: np.full(right.shape, value) for name, value in (("confidence", 0.8), ("nll", 0.5), ("brier", 0.25))}
    said = Predictions(
        ids=np.array([f"{task}/{place}" for place in range(right.shape[1])]),
        labels=labels,
        draws=np.array([-1 if number is None else number for number in numbers]),
        decisions=np.where(right, labels, 1 - labels),
        **(constant if scores else {}),
    )
    results.append(records, said)


def fail(results: Results, task: str, strategy: str, status: str, reason: str) -> None:
    results.append(
        [
            Record(
                task=task,
                task_version=1,
                collections={"mini": 2},
                condition="clean",
                pool=("mini/a", "mini/b"),
                strategy=strategy,
                family=FAMILY.get(strategy, "static"),
                shots=1,
                draw=None,
                draws=2,
                seed=0,
                limit=None,
                n=4,
                ids=f"ids of {task}",
                labels=0,
                status=status,
                reason=reason,
                provenance={"precision": "fp32"},
                key=f"{task}-{strategy}",
                cell="none",
            )
        ]
    )


def filled(folder: Path, cells: Mapping[tuple[str, str], Sequence[str]] = HAND, **more: Any) -> Results:
    results = Results(folder)
    for (task, strategy), draws in cells.items():
        put(results, task, strategy, draws, **more)
    return results


def row(rows: Sequence[dict[str, Any]], strategy: str, task: str, metric: str = "acc1") -> dict[str, Any]:
    found = [one for one in rows if (one["strategy"], one["task"], one["metric"]) == (strategy, task, metric)]
    assert len(found) == 1, (strategy, task, metric)
    return found[0]


@pytest.fixture
def rows(tmp_path: Path) -> list[dict[str, Any]]:
    return leaderboard.rows([filled(tmp_path)])


@pytest.mark.parametrize(
    ("strategy", "task", "metric", "value"),
    [
        ("log-avg", "mini/x", "acc1", 3 / 4),
        ("log-avg", "mini/x", "mean_per_class_recall", (1 + 1 / 2) / 2),
        ("log-avg", "mini/y", "mean_per_class_recall", 1 / 2),
        ("nlc", "mini/x", "acc1", (1 + 3 / 4) / 2),
        ("nlc", "mean(mini)", "acc1", (7 / 8 + 3 / 8) / 2),
        ("best-single", "mini/x", "acc1", (3 / 4 + 2 / 4) / 2),
        ("log-avg", "mini/x", "gap_closed", 0.0),
        ("log-avg", "mini/y", "gap_closed", (2 / 4 - 1 / 4) / (3 / 4 - 1 / 4)),
        ("log-avg", "mean(mini)", "gap_closed", (0 + 1 / 4) / (1 / 4 + 2 / 4)),  # ratio of sums, not the mean of 0 and 1/2
        ("log-avg", "mini/x", "gap_closed_honest", (6 / 8 - 5 / 8) / (8 / 8 - 5 / 8)),
        ("log-avg", "mean(mini)", "gap_closed_honest", (1 / 8 + 2 / 8) / (3 / 8 + 4 / 8)),
        ("nlc", "mean(mini)", "gap_closed_honest", (2 / 8 + 1 / 8) / (3 / 8 + 4 / 8)),
        ("best-single", "mean(mini)", "gap_closed", (-1 / 8) / (3 / 4)),
        ("oracle", "mean(mini)", "gap_closed", 1.0),
        ("oracle-best-single", "mean(mini)", "gap_closed", 0.0),
        ("single:mini/a", "mean(mini)", "gap_closed_honest", (1 / 8) / (7 / 8)),
        ("oracle-best-single", "mean(mini)", "oracle_chance", 1 / 2),  # half of the labels are each class
    ],
)
def test_values_by_hand(rows: list[dict[str, Any]], strategy: str, task: str, metric: str, value: float) -> None:
    assert row(rows, strategy, task, metric)["value"] == pytest.approx(value, abs=1e-12)


def test_a_row_says_what_was_asked_and_what_it_cost(rows: list[dict[str, Any]]) -> None:
    one = row(rows, "nlc", "mini/x")
    assert {key: one[key] for key in ("shots", "labels", "n", "family", "gflops", "backbones", "condition", "draws")} == {
        "shots": 1,
        "labels": 2,
        "n": 4,
        "family": "adaptive",
        "gflops": 1.0,
        "backbones": 2,
        "condition": "clean",
        "draws": 2,
    }
    mean = row(rows, "nlc", "mean(mini)")
    assert (mean["labels"], mean["n"], mean["gflops"], mean["backbones"]) == (4, 8, 1.0, 2)
    assert row(rows, "oracle", "mini/x")["labels"] == 4 and row(rows, "log-avg", "mini/x")["labels"] == 0
    assert row(rows, "single:mini/a", "mini/x")["shots"] == 0
    for one in rows:
        for key in ("shots", "n", "backbones", "labels"):
            assert type(one[key]) is int


def test_every_strategy_task_and_metric_has_one_row(rows: list[dict[str, Any]]) -> None:
    keys = [(one["strategy"], one["task"], one["metric"]) for one in rows]
    metrics = {"acc1", "acc5", "mean_per_class_recall", "gap_closed", "gap_closed_honest"}
    strategies = {strategy for _, strategy in HAND}
    own = {key for key in keys if key[2] == "oracle_chance"}
    assert {strategy for strategy, _, _ in own} == {"oracle", "oracle-best-single"} and len(own) == 2 * 3
    assert len(keys) == len(set(keys)) == len(strategies) * 3 * len(metrics) + 3 + len(own)
    assert {metric for _, _, metric in keys} == {*metrics, "complementarity", "oracle_chance"}  # nothing here is a probability
    assert {strategy for strategy, _, metric in keys if metric == "complementarity"} == {"oracle"}
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows


def test_oracles_by_chance(tmp_path: Path) -> None:
    """Labels 0 0 1 1. Backbone a says 0 0 1 0 and b 0 1 1 1: right on 3 each, and shuffled labels meet one of them by halves.

    Together they say {0}, {0, 1}, {1}, {0, 1}. a is as good as b on 0 and comes first, b is best on 1: a label of 0 asks a,
    which says 0 on all but the third image, and a label of 1 asks b, which says 1 on all but the first.
    """
    cells = {
        "single:mini/a": "1110",
        "single:mini/b": "1011",
        "oracle": "1111",
        "oracle:k=1": "1110",
        "oracle-per-class": "1111",
    }
    family = {name: "oracle" if name.startswith("oracle") else "static" for name in cells}
    results = Results(tmp_path / "whole")
    for name, draw in cells.items():
        put(results, "mini/x", name, [draw], family=family[name])
    board = leaderboard.rows([results])
    found = {name: row(board, name, "mini/x", "oracle_chance") for name in cells if family[name] == "oracle"}
    assert {name: one["value"] for name, one in found.items()} == {
        "oracle": (1 + 2 + 1 + 2) / 8,
        "oracle:k=1": 1 / 2,
        "oracle-per-class": (1 + 2 + 1 + 2) / 8,
    }
    assert all(one["ci_low"] <= one["value"] <= one["ci_high"] for one in found.values())
    assert found["oracle"]["ci_low"] < found["oracle"]["ci_high"] and found["oracle:k=1"]["ci_low"] == 1 / 2
    part = Results(tmp_path / "part")
    for name in ("single:mini/a", "oracle"):
        put(part, "mini/x", name, [cells[name]], family=family[name])
    one = row(leaderboard.rows([part]), "oracle", "mini/x", "oracle_chance")
    assert (one["value"], one["status"]) == (None, "missing") and "every backbone of the pool" in one["reason"]


def test_fewer_than_five_classes_have_no_fifth_place(rows: list[dict[str, Any]]) -> None:
    for task in ("mini/x", "mean(mini)"):
        one = row(rows, "nlc", task, "acc5")
        assert one["value"] is one["ci_low"] is one["ci_high"] is None
        assert one["status"] == "not-applicable" and "fewer than 5 classes" in one["reason"]


def test_order_of_writing_does_not_matter(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    assert leaderboard.rows([filled(tmp_path / "other", dict(reversed(HAND.items())))]) == rows


def test_folders_add_up(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    one = filled(tmp_path / "one", {key: draws for key, draws in HAND.items() if key[0] == "mini/x"})
    two = filled(tmp_path / "two", {key: draws for key, draws in HAND.items() if key[1] != "oracle"})
    three = filled(tmp_path / "three", {key: draws for key, draws in HAND.items() if key[1] == "oracle"})
    assert leaderboard.rows([one, two, three]) == leaderboard.rows([three, two, one]) == rows


def test_means_are_over_the_same_tasks_or_not_at_all(tmp_path: Path) -> None:
    results = filled(tmp_path, {key: draws for key, draws in HAND.items() if key != ("mini/y", "nlc")})
    rows = leaderboard.rows([results])
    missing = row(rows, "nlc", "mini/y")
    assert (missing["value"], missing["status"], missing["family"], missing["n"]) == (None, "missing", "adaptive", 4)
    mean = row(rows, "nlc", "mean(mini)")
    assert mean["value"] is None and mean["status"] == "missing" and mean["reason"] == "mini/y: not in these results"
    assert row(rows, "nlc", "mini/x")["value"] == 7 / 8
    assert row(rows, "nlc", "mini/x", "gap_closed")["value"] == pytest.approx(0.5)
    assert row(rows, "nlc", "mean(mini)", "gap_closed")["value"] is None
    assert row(rows, "log-avg", "mean(mini)")["value"] == 5 / 8


def test_failed_cells_say_why(tmp_path: Path) -> None:
    results = filled(tmp_path, {key: draws for key, draws in HAND.items() if key[1] != "nlc"})
    fail(results, "mini/x", "nlc", "failed", "nlc: the disk was on fire")
    fail(results, "mini/y", "nlc", "not-applicable", "no train split")
    rows = leaderboard.rows([results])
    one = row(rows, "nlc", "mini/x")
    assert (one["value"], one["status"], one["reason"]) == (None, "failed", "nlc: the disk was on fire")
    assert row(rows, "nlc", "mini/y")["status"] == "not-applicable"
    mean = row(rows, "nlc", "mean(mini)", "gap_closed")
    assert mean["status"] == "failed" and "mini/x" in mean["reason"] and "mini/y: no train split" in mean["reason"]
    assert not [one for one in rows if one["metric"] == "nll"]


def test_a_part_of_a_collection_is_not_called_by_its_name(tmp_path: Path) -> None:
    part = leaderboard.rows([filled(tmp_path / "part", collections={"mini": 9})])
    assert {one["task"] for one in part} == {"mini/x", "mini/y", "mean(2 tasks)"}
    results = filled(tmp_path / "more")
    put(results, "mine", "log-avg", ["1110"], collections={})
    tasks = list(dict.fromkeys(one["task"] for one in leaderboard.rows([results])))
    assert tasks == ["mean(3 tasks)", "mean(mini)", "mine", "mini/x", "mini/y"]


def test_one_task_has_no_mean_and_none_has_no_rows(tmp_path: Path) -> None:
    one = leaderboard.rows([filled(tmp_path / "one", {key: draws for key, draws in HAND.items() if key[0] == "mini/x"})])
    assert {entry["task"] for entry in one} == {"mini/x"}
    assert leaderboard.rows([]) == leaderboard.rows([Results(tmp_path / "none")]) == []
    assert leaderboard.caption([]) == "nothing has been recorded yet"


def test_without_a_gap_there_is_nothing_to_close(tmp_path: Path) -> None:
    cells = {("mini/x", name): ["1110"] for name in ("log-avg", "oracle", "oracle-best-single")}
    rows = leaderboard.rows([filled(tmp_path, cells)])
    one = row(rows, "log-avg", "mini/x", "gap_closed")
    assert one["value"] is None and one["status"] == "not-applicable" and "no gap" in one["reason"]
    honest = row(rows, "log-avg", "mini/x", "gap_closed_honest")
    assert honest["status"] == "missing" and "best-single" in honest["reason"]


def test_shots_are_lines_of_their_own(tmp_path: Path) -> None:
    results = filled(tmp_path)
    for task, draws in (("mini/x", ["1111", "1111"]), ("mini/y", ["1110", "1110"])):
        put(results, task, "nlc", draws, shots=4)
        put(results, task, "best-single", draws, shots=4)
    rows = leaderboard.rows([results])
    found = {one["shots"]: one for one in rows if (one["strategy"], one["task"], one["metric"]) == ("nlc", "mini/x", "acc1")}
    assert found[1]["value"] == 7 / 8 and found[4]["value"] == 1.0
    honest = [one for one in rows if one["strategy"] == "nlc" and one["metric"] == "gap_closed_honest" and one["shots"] == 4]
    assert {one["status"] for one in honest} == {"not-applicable"}  # its best-single of four shots leaves no gap


def test_conditions_are_boards_of_their_own(tmp_path: Path) -> None:
    results = filled(tmp_path)
    put(results, "mini/x", "log-avg", ["0000"], condition="mini-c:fog:3")
    rows = leaderboard.rows([results])
    conditions = [one["condition"] for one in rows]
    assert conditions == sorted(conditions) and conditions[0] == "clean" and conditions[-1] == "mini-c:fog:3"
    foggy = [one for one in rows if one["condition"] != "clean" and one["metric"] == "acc1"]
    assert {one["task"] for one in foggy} == {"mini/x"}
    assert {one["strategy"]: one["status"] for one in foggy} == {
        name: "done" if name == "log-avg" else "missing" for _, name in HAND
    }


def test_probabilities_have_scores(tmp_path: Path) -> None:
    results = filled(tmp_path, {key: draws for key, draws in HAND.items() if key[1] != "log-avg"})
    for task in ("mini/x", "mini/y"):
        put(results, task, "log-avg", HAND[task, "log-avg"], scores=True)
    rows = leaderboard.rows([results])
    assert {one["strategy"] for one in rows if one["metric"] in ("nll", "ece", "brier")} == {"log-avg"}
    one = row(rows, "log-avg", "mean(mini)", "nll")
    assert (one["value"], one["ci_low"], one["ci_high"]) == (0.5, 0.5, 0.5)
    ece = row(rows, "log-avg", "mean(mini)", "ece")
    assert ece["value"] == pytest.approx((0.05 + 0.3) / 2) and 0 <= ece["ci_low"] < ece["value"] < ece["ci_high"]


def _random(seed: int, draws: int, accuracy: float) -> list[str]:
    rng = np.random.default_rng(seed)
    return ["".join("01"[int(right)] for right in rng.random(200) < accuracy) for _ in range(draws)]


def test_intervals_against_scipy(tmp_path: Path) -> None:
    cells = {("mini/x", "log-avg"): _random(0, 1, 0.6), ("mini/y", "log-avg"): _random(1, 1, 0.8)}
    rows = leaderboard.rows([filled(tmp_path, cells)])
    one, two = ([float(digit) for digit in draws[0]] for draws in cells.values())
    for task, sample in (("mini/x", (one,)), ("mean(mini)", (one, two))):
        interval = scipy.stats.bootstrap(
            sample,
            lambda *parts, axis: sum(part.mean(axis) for part in parts) / len(parts),
            method="percentile",
            n_resamples=5000,
        ).confidence_interval
        found = row(rows, "log-avg", task)
        assert (found["ci_low"], found["ci_high"]) == pytest.approx((interval.low, interval.high), abs=0.012)


def test_the_gap_is_paired(tmp_path: Path) -> None:
    """A strategy equal to the baseline has closed nothing in every resample, and the oracle everything."""
    base, best = _random(2, 1, 0.6), _random(3, 1, 0.9)
    oracle = ["".join("1" if "1" in pair else "0" for pair in zip(base[0], best[0], strict=True))]
    names = {"oracle-best-single": base, "log-avg": base, "oracle": oracle, "confidence": best}
    rows = leaderboard.rows([filled(tmp_path, {("mini/x", name): draws for name, draws in names.items()})])
    for strategy, value in (("log-avg", 0.0), ("oracle", 1.0)):
        found = row(rows, strategy, "mini/x", "gap_closed")
        assert (found["value"], found["ci_low"], found["ci_high"]) == (value, value, value)
    found = row(rows, "confidence", "mini/x", "gap_closed")
    assert found["ci_low"] < found["value"] < found["ci_high"] < 1


POOL = {
    ("mini/x", "single:mini/a"): ["1110"],  # one error, which b rescues with accuracy 1/2
    ("mini/x", "single:mini/b"): ["0101"],
    ("mini/x", "oracle"): ["1111"],
    ("mini/y", "single:mini/a"): ["0001"],
    ("mini/y", "single:mini/b"): ["1100"],  # two errors, of which a rescues one with accuracy 1/4
    ("mini/y", "oracle"): ["1101"],
}


def test_the_headline_number_by_hand(tmp_path: Path) -> None:
    rows = leaderboard.rows([filled(tmp_path, POOL)])
    one, two, both = (row(rows, "oracle", task, "complementarity") for task in ("mini/x", "mini/y", "mean(mini)"))
    assert one["value"] == pytest.approx((1 - 1 / 2) / (1 / 2))
    assert two["value"] == pytest.approx((1 / 2 - 1 / 4) / (3 / 4))
    rescued, independent = (1 + 1) / (1 + 2), (1 * 1 / 2 + 2 * 1 / 4) / (1 + 2)  # ratios of sums over the tasks
    assert both["value"] == pytest.approx((rescued - independent) / (1 - independent))
    assert one["reason"] == "others rescue 100.0 % of the best one's errors, independent ones would 50.0 %"
    assert both["ci_low"] <= both["value"] <= both["ci_high"]
    assert two["ci_low"] is None  # 1 of 16 resamples of its four images has no error: more than an interval may leave out


@pytest.mark.parametrize(
    ("change", "status", "says"),
    [
        ({("mini/x", "single:mini/b"): None}, "missing", "needs single:mini/b in the same results"),
        ({("mini/x", "single:mini/a"): ["1111"]}, "not-applicable", "makes no errors"),
    ],
)
def test_where_there_is_no_headline_number(tmp_path: Path, change: dict[tuple[str, str], Any], status: str, says: str) -> None:
    cells = {key: draws for key, draws in {**POOL, **change}.items() if draws is not None and key[0] == "mini/x"}
    found = row(leaderboard.rows([filled(tmp_path, cells)]), "oracle", "mini/x", "complementarity")
    assert found["value"] is None and found["status"] == status and says in found["reason"]


def test_a_lone_backbone_has_nobody(tmp_path: Path) -> None:
    cells = {("mini/x", name): ["1110"] for name in ("single:mini/a", "oracle")}
    rows = leaderboard.rows([filled(tmp_path, cells, pool=("mini/a",))])
    assert row(rows, "oracle", "mini/x", "complementarity")["status"] == "not-applicable"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"pool": ("mini/a",)}, "pool is mini/a + mini/b in one and mini/a in the other"),
        ({"seed": 1}, "seed is 0 in one and 1"),
        ({"limit": 2}, "limit is none in one and 2"),
        ({"task_version": 2}, "version of mini/x is 1 in one and 2"),
        ({"ids": "other"}, "different images of mini/x"),
        ({"provenance": {"precision": "fp32", "weights": {"mini/a": "new"}}}, "weights of mini/a is old in one and new"),
    ],
)
def test_what_has_no_common_board(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    one, two = Results(tmp_path / "one"), Results(tmp_path / "two")
    put(one, "mini/x", "log-avg", ["1110"], provenance={"precision": "fp32", "weights": {"mini/a": "old"}})
    put(two, "mini/x", "confidence", ["1100"], **change)
    with pytest.raises(BadRecord) as error:
        leaderboard.rows([one, two])
    assert says in str(error.value) and "one by one" in str(error.value)


def test_a_folder_of_two_sets_of_weights_has_no_board(tmp_path: Path) -> None:
    results = Results(tmp_path)
    for strategy, digest in (("log-avg", "old"), ("confidence", "new")):
        put(results, "mini/x", strategy, ["1110"], provenance={"precision": "fp32", "weights": {"mini/a": digest}})
    with pytest.raises(BadRecord, match=r"different weights of mini/a \(old and new\)"):
        leaderboard.rows([results])


def test_no_board_without_its_predictions(tmp_path: Path) -> None:
    results = filled(tmp_path)
    path = tmp_path / place(results.records[0].cell)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(BadRecord, match="damaged"):
        leaderboard.rows([results])


def test_the_caption(tmp_path: Path) -> None:
    first, second = leaderboard.caption([filled(tmp_path)]).splitlines()
    assert first == "2 tasks · 8 images · 1 shot · 2 draws · seed 0 · fp32"
    assert second == "pool of 2: mini/a, mini/b"
