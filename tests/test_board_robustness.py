"""Boards under corruption: rows by hand on four images, tables that can be read, real models' curves."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ensemble_bench import leaderboard, report, robustness
from ensemble_bench.cli import main
from ensemble_bench.errors import BadOption, BadRecord
from ensemble_bench.records import Predictions, Record, Results

FAMILY = {"oracle": "oracle", "oracle-best-single": "oracle", "best-single": "control"}
GFLOPS = {"single:mini/a": 0.25, "single:mini/b": 0.5}
LABELS = [0, 0, 1, 1]

# Right answers by condition and strategy. Backbone b is wrong with class 2, all others with the other of 0 and 1.
HAND: dict[str, dict[str, Sequence[str]]] = {
    "clean": {
        "single:mini/a": ["1110"],
        "single:mini/b": ["1101"],
        "log-avg": ["1111"],
        "best-single": ["1110", "1101"],
        "oracle": ["1111"],
        "oracle-best-single": ["1110"],
    },
    "hand-c:fog:1": {
        "single:mini/a": ["1100"],
        "single:mini/b": ["1001"],
        "log-avg": ["1100"],
        "best-single": ["1100", "1001"],
        "oracle": ["1101"],
        "oracle-best-single": ["1100"],
    },
    "hand-c:fog:3": {
        "single:mini/a": ["1000"],
        "single:mini/b": ["0001"],
        "log-avg": ["1001"],
        "best-single": ["1000", "0001"],
        "oracle": ["1001"],
        "oracle-best-single": ["1000"],
    },
    "hand-c:snow:1": {
        "single:mini/a": ["1110"],
        "single:mini/b": ["1000"],
        "log-avg": ["1111"],
        "best-single": ["1110", "1000"],
        "oracle": ["1110"],
        "oracle-best-single": ["1110"],
    },
    "hand-c:snow:3": {
        "single:mini/a": ["0000"],
        "single:mini/b": ["0001"],
        "log-avg": ["0001"],
        "best-single": ["0000", "0001"],
        "oracle": ["0001"],
        "oracle-best-single": ["0001"],
    },
}
SUITE = {"name": "hand-c", "version": 1, "engine": "native", "digest": "0"}


def put(results: Results, task: str, condition: str, strategy: str, decisions: Any, labels: Any, **more: Any) -> None:
    """One cell: decisions [d, s]."""
    decisions, labels = np.asarray(decisions, np.int32), np.asarray(labels)
    right = decisions == labels
    fitted = FAMILY.get(strategy) == "control"
    numbers: list[int | None] = list(range(len(right))) if fitted else [None]
    suite = more.pop("suite", {**SUITE, "name": condition.partition(":")[0]})
    names = more.pop("names", [f"{task}/{place:04d}" for place in range(len(labels))])
    about: dict[str, Any] = {
        "task": task,
        "task_version": 1,
        "collections": {},
        "condition": condition,
        "pool": ("mini/a", "mini/b"),
        "strategy": strategy,
        "family": FAMILY.get(strategy, "static"),
        "shots": 1 if fitted else 0,
        "draws": len(right) if fitted else 0,
        "seed": 0,
        "limit": None,
        "n": len(labels),
        "ids": f"ids of {names[0]}",
        "labels": 2 if fitted else len(labels) if strategy.startswith("oracle") else 0,
        "cost": {"gflops": GFLOPS.get(strategy, 0.75), "parameters": 1, "backbones": 1 if "single" in strategy else 2},
        "provenance": {"precision": "fp32", **({} if condition == "clean" else {"suite": suite})},
        **more,
    }
    cell = re.sub(r"[^A-Za-z0-9._-]", "_", f"{task}-{condition}-{strategy}")
    records = [
        Record(**about, draw=number, metrics={"acc1": {"value": float(row.mean())}}, key=f"{cell}-{number}", cell=cell)
        for number, row in zip(numbers, right, strict=True)
    ]
    draws = np.array([-1 if number is None else number for number in numbers])
    results.append(records, Predictions(ids=np.array(names), labels=labels, draws=draws, decisions=decisions))


def answers(strategy: str, draws: Sequence[str]) -> list[list[int]]:
    wrong = [2, 2, 2, 2] if strategy == "single:mini/b" else [1 - label for label in LABELS]
    return [
        [label if digit == "1" else other for digit, label, other in zip(draw, LABELS, wrong, strict=True)] for draw in draws
    ]


def filled(folder: Path, hand: Mapping[str, Mapping[str, Sequence[str]]] = HAND, task: str = "mini/x", **more: Any) -> Results:
    results = Results(folder)
    for condition, cells in hand.items():
        for strategy, draws in cells.items():
            put(results, task, condition, strategy, answers(strategy, draws), LABELS, **more)
    return results


def row(
    rows: Sequence[dict[str, Any]], strategy: str, condition: str, metric: str = "acc1", task: str = "mini/x"
) -> dict[str, Any]:
    wanted = (strategy, condition, metric, task)
    found = [one for one in rows if (one["strategy"], one["condition"], one["metric"], one["task"]) == wanted]
    assert len(found) == 1, wanted
    return found[0]


@pytest.fixture
def results(tmp_path: Path) -> Results:
    return filled(tmp_path / "out")


@pytest.fixture
def rows(results: Results) -> list[dict[str, Any]]:
    return leaderboard.rows([results])


A, B, LOG = "single:mini/a", "single:mini/b", "log-avg"
ALL, FOG, SNOW = "mean(hand-c)", "mean(hand-c:fog)", "mean(hand-c:snow)"


@pytest.mark.parametrize(
    ("strategy", "condition", "metric", "value"),
    [
        (LOG, "hand-c:fog:1", "acc1", 1 / 2),
        (LOG, FOG, "acc1", 1 / 2),
        (LOG, SNOW, "acc1", (4 + 1) / 8),
        (LOG, "mean(hand-c:*:1)", "acc1", (2 + 4) / 8),
        (LOG, "mean(hand-c:*:3)", "acc1", (2 + 1) / 8),
        (LOG, ALL, "acc1", (2 + 2 + 4 + 1) / 16),
        ("best-single", ALL, "acc1", (4 + 2 + 4 + 1) / 32),
        (LOG, "hand-c:snow:3", "retained", 1 / 4),
        (LOG, ALL, "retained", 9 / 16),
        (A, ALL, "retained", (6 / 16) / (3 / 4)),
        (LOG, FOG, "ce", (2 + 2) / (2 + 3)),
        (LOG, SNOW, "ce", (0 + 3) / (1 + 4)),
        (LOG, ALL, "mce", (4 / 5 + 3 / 5) / 2),
        (LOG, FOG, "relative_ce", (4 - 0) / (5 - 2)),
        (LOG, ALL, "relative_mce", (4 / 3 + 3 / 3) / 2),
        (B, SNOW, "relative_ce", (3 + 3 - 2) / (1 + 4 - 2)),
        (A, ALL, "mce", 1.0),
        (A, ALL, "relative_mce", 1.0),
        ("oracle", "clean", "oracle_gap", 1 / 4),
        ("oracle", "hand-c:fog:3", "oracle_gap", 1 / 4),
        ("oracle", "mean(hand-c:*:1)", "oracle_gap", (6 - 5) / 8),
        ("oracle", ALL, "oracle_gap", (9 - 7) / 16),
        ("oracle", "clean", "complementarity", (1 - 3 / 4) / (3 / 4)),
        ("oracle", "mean(hand-c:fog)", "complementarity", (2 / 5 - (2 / 4 * 2 + 1 / 4 * 3) / 5) / (1 - 7 / 20)),
        (LOG, ALL, "gap_closed", (9 - 7) / (9 - 7)),
        ("best-single", "mean(hand-c:*:3)", "gap_closed", (3 / 16 - 2 / 8) / (3 / 8 - 2 / 8)),
        ("oracle", "clean", "oracle_chance", (1 + 1 + 1 + 2) / 8),  # a and b say {0}, {0}, {1, 2}, {0, 1}
        ("oracle", "hand-c:snow:1", "oracle_chance", (1 + 1 + 1 + 1) / 8),  # {0}, {0, 2}, {1, 2}, {0, 2}
        ("oracle", ALL, "oracle_chance", (5 + 5 + 4 + 5) / 32),
        ("oracle-best-single", ALL, "oracle_chance", 1 / 2),
        (A, "clean", "disagreement", 2 / 4),
        (A, ALL, "disagreement", (2 + 2 + 2 + 1) / 16),
        (B, "mean(hand-c:*:3)", "disagreement", (2 + 1) / 8),
        (B, "hand-c:fog:1", "label_disagreement", 3 / 4),
        (A, ALL, "label_disagreement", (3 + 4 + 3 + 4) / 16),
    ],
)
def test_values_by_hand(rows: list[dict[str, Any]], strategy: str, condition: str, metric: str, value: float) -> None:
    assert row(rows, strategy, condition, metric)["value"] == pytest.approx(value, abs=1e-12)


def test_every_row_is_there_once_and_keeps_the_keys_of_a_board(rows: list[dict[str, Any]]) -> None:
    keys = [(one["strategy"], one["task"], one["metric"], one["condition"], one["shots"]) for one in rows]
    assert len(keys) == len(set(keys))
    conditions = list(dict.fromkeys(one["condition"] for one in rows))
    means = [ALL, "mean(hand-c:*:1)", "mean(hand-c:*:3)", FOG, SNOW]
    assert conditions == ["clean", *list(HAND)[1:], *means]
    clean = [one for one in rows if one["condition"] == "clean"]
    assert {tuple(one) for one in rows} == {tuple(clean[0])}
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows
    for one in rows:
        assert one["n"] == 4 and one["draws"] == (2 if one["strategy"] == "best-single" else 0)
    mean = row(rows, "best-single", ALL)
    assert (mean["labels"], mean["gflops"], mean["backbones"], mean["shots"]) == (2, 0.75, 1, 1)
    assert row(rows, "oracle", ALL)["labels"] == 4


def test_what_no_suite_asked_for_is_not_there(tmp_path: Path) -> None:
    clean = leaderboard.rows([filled(tmp_path, {"clean": HAND["clean"]})])
    always = {"acc1", "acc5", "mean_per_class_recall", "gap_closed", "gap_closed_honest", "complementarity", "oracle_chance"}
    assert {one["metric"] for one in clean} == always
    odd = Results(tmp_path / "odd")
    put(odd, "mini/x", "contrast:c05", LOG, answers(LOG, ["1110"]), LABELS, provenance={"precision": "fp32"})
    assert {one["condition"] for one in leaderboard.rows([odd])} == {"contrast:c05"}


def test_a_mean_is_over_the_same_conditions_or_not_at_all(tmp_path: Path) -> None:
    hand = {
        name: {line: draws for line, draws in cells.items() if (name, line) != ("hand-c:snow:3", LOG)}
        for name, cells in HAND.items()
    }
    rows = leaderboard.rows([filled(tmp_path, hand)])
    for condition in (ALL, SNOW, "mean(hand-c:*:3)"):
        one = row(rows, LOG, condition)
        assert one["value"] is None and one["status"] == "missing"
        assert one["reason"] == "hand-c:snow:3: not in these results"
        assert row(rows, LOG, condition, "retained")["value"] is None
    assert row(rows, LOG, FOG)["value"] == 0.5 and row(rows, A, ALL)["value"] == 6 / 16
    assert row(rows, LOG, FOG, "ce")["value"] == pytest.approx(4 / 5)
    assert row(rows, LOG, ALL, "mce")["value"] is None and "snow:3" in row(rows, LOG, ALL, "mce")["reason"]


def test_without_the_reference_there_are_no_corruption_errors(tmp_path: Path) -> None:
    hand = {
        name: {line: draws for line, draws in cells.items() if (name, line) != ("hand-c:snow:3", A)}
        for name, cells in HAND.items()
    }
    rows = leaderboard.rows([filled(tmp_path / "one", hand)])
    one = row(rows, LOG, ALL, "mce")
    assert one["status"] == "missing" and one["reason"].startswith("single:mini/a, the reference: hand-c:snow:3")
    hand = {name: {LOG: cells[LOG]} for name, cells in HAND.items()}
    rows = leaderboard.rows([filled(tmp_path / "two", hand)])
    assert "needs single backbones" in row(rows, LOG, ALL, "mce")["reason"]
    assert row(rows, LOG, ALL)["value"] == 9 / 16


def test_tasks_of_different_conditions_have_no_common_mean(tmp_path: Path) -> None:
    results = filled(tmp_path)
    filled(tmp_path, {name: HAND[name] for name in ("clean", "hand-c:fog:1")}, task="mini/y")
    rows = leaderboard.rows([Results(tmp_path)])
    assert results.folder == tmp_path
    assert row(rows, LOG, "hand-c:fog:1", task="mean(2 tasks)")["value"] == 0.5
    both = row(rows, LOG, ALL, task="mean(2 tasks)")
    assert both["value"] is None and both["reason"].startswith("mini/y: hand-c:fog:3, hand-c:snow:1, hand-c:snow:3: not in")
    assert row(rows, LOG, ALL)["value"] == 9 / 16


def test_over_tasks_errors_are_summed_before_they_are_divided(tmp_path: Path) -> None:
    filled(tmp_path)
    easier = {name: {**cells, A: ["1111"] if name == "clean" else ["1110"]} for name, cells in HAND.items()}
    filled(tmp_path, easier, task="mini/y")
    rows = leaderboard.rows([Results(tmp_path)])
    own = row(rows, LOG, FOG, "ce", "mini/y")
    assert own["value"] == pytest.approx(4 / 2)
    assert row(rows, LOG, FOG, "ce", "mean(2 tasks)")["value"] == pytest.approx((4 + 4) / (5 + 2))
    assert row(rows, LOG, FOG, "relative_ce", "mean(2 tasks)")["value"] == pytest.approx((4 + 4) / (3 + 2))
    assert row(rows, A, ALL, "retained", "mean(2 tasks)")["value"] == pytest.approx((6 / 16 + 3 / 4) / (3 / 4 + 1))


def test_the_reference_can_be_chosen_and_is_named(results: Results) -> None:
    default = row(leaderboard.rows([results]), LOG, ALL, "mce")
    assert default["reason"] == "against mini/a, the backbone with the fewest GFLOPs"
    for name in ("mini/b", "single:mini/b"):
        chosen = row(leaderboard.rows([results], mce=name), LOG, ALL, "mce")
        assert chosen["value"] == pytest.approx((4 / 5 + 3 / 6) / 2) and chosen["reason"] == "against mini/b"
    with pytest.raises(BadOption, match=r"called 'mini/c'.* Did you mean mini/[ab]"):
        leaderboard.rows([results], mce="mini/c")


def test_errors_need_corruption(tmp_path: Path) -> None:
    clean = filled(tmp_path, {"clean": HAND["clean"]})
    with pytest.raises(BadOption, match="only under corruption"):
        leaderboard.rows([clean], mce="alexnet")


def test_against_alexnet_only_by_name(results: Results) -> None:
    refused = row(leaderboard.rows([results]), LOG, ALL, "mce_alexnet")
    assert refused["value"] is None and refused["status"] == "not-applicable"
    for reason in ("not the images and labels of ImageNet", "corrupted in memory", "13 of the 15 corruptions", "severities"):
        assert reason in refused["reason"]
    rows = leaderboard.rows([results], mce="alexnet")
    asked = row(rows, LOG, ALL, "mce_alexnet")
    assert asked["value"] == pytest.approx((0.5 / robustness.ALEXNET["fog"] + 0.375 / robustness.ALEXNET["snow"]) / 2)
    assert asked["reason"].startswith("against AlexNet; asked for by name") and "corrupted in memory" in asked["reason"]
    assert asked["ci_low"] < asked["value"] < asked["ci_high"]
    relative = row(rows, LOG, ALL, "relative_mce_alexnet")["value"]
    added = [robustness.ALEXNET[name] - robustness.ALEXNET_CLEAN for name in ("fog", "snow")]
    assert relative == pytest.approx((0.5 / added[0] + 0.375 / added[1]) / 2)
    assert row(rows, LOG, ALL, "mce")["value"] == pytest.approx(0.7)  # the pool's own figure stays beside it


def test_the_published_files_compare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(robustness, "IMAGES", 4)
    suite = {**SUITE, "name": "imagenet-c-disk", "engine": "disk"}
    one = {LOG: ["1100"]}
    hand = {"clean": {LOG: ["1110"]}}
    hand |= {f"imagenet-c-disk:{name}:{severity}": one for name in robustness.ALEXNET for severity in range(1, 6)}
    rows = leaderboard.rows([filled(tmp_path / "disk", hand, task="imagenet1k", suite=suite)])
    found = row(rows, LOG, "mean(imagenet-c-disk)", "mce_alexnet", "imagenet1k")
    assert found["value"] == pytest.approx(np.mean([0.5 / error for error in robustness.ALEXNET.values()]))
    assert found["reason"] == "against AlexNet"
    relative = row(rows, LOG, "mean(imagenet-c-disk)", "relative_mce_alexnet", "imagenet1k")["value"]
    assert relative == pytest.approx(np.mean([0.25 / (error - 0.4348) for error in robustness.ALEXNET.values()]))
    memory = filled(tmp_path / "memory", hand, task="imagenet1k", suite={**suite, "engine": "native"})
    refused = row(leaderboard.rows([memory]), LOG, "mean(imagenet-c-disk)", "mce_alexnet", "imagenet1k")
    assert refused["value"] is None and refused["reason"].endswith("with it: corrupted in memory, not the published files")


def test_corruptions_that_alexnet_was_never_shown(tmp_path: Path) -> None:
    hand = {"clean": {LOG: ["1110"]}, "t:rotation:1": {LOG: ["1100"]}}
    rows = leaderboard.rows([filled(tmp_path, hand)], mce="alexnet")
    found = row(rows, LOG, "mean(t)", "mce_alexnet")
    assert found["value"] is None and "are not published" in found["reason"]


def test_part_of_a_suite_says_so(tmp_path: Path) -> None:
    results = filled(tmp_path, suite={**SUITE, "conditions": 6})
    rows = leaderboard.rows([results])
    assert row(rows, LOG, ALL)["reason"] == "over 4 of the 6 conditions of hand-c"
    assert "hand-c: mean over 4 conditions (over 4 of the 6 conditions of hand-c)" in report.text(rows)


def test_suites_of_two_engines_make_no_common_board(tmp_path: Path) -> None:
    one = filled(tmp_path / "one")
    two = filled(tmp_path / "two", {"hand-c:fog:5": {LOG: ["1000"]}}, suite={**SUITE, "engine": "identical"})
    with pytest.raises(BadRecord, match="suite hand-c is version 1, engine native in one and version 1, engine identical"):
        leaderboard.rows([one, two])


def _random(results: Results, names: Mapping[str, list[str]]) -> None:
    rng = np.random.default_rng(5)
    labels = rng.integers(0, 2, 200)
    clean = np.where(rng.random(200) < 0.7, labels, 1 - labels)
    for condition, own in names.items():
        put(results, "mini/x", condition, LOG, [clean], labels, names=own)


def test_conditions_of_the_same_images_are_paired(tmp_path: Path) -> None:
    same, others = ([f"{kind}/{place:03d}" for place in range(200)] for kind in ("same", "others"))
    paired, apart = Results(tmp_path / "paired"), Results(tmp_path / "apart")
    _random(paired, {"clean": same, "hand-c:fog:1": same, "hand-c:fog:2": same})
    _random(apart, {"clean": same, "hand-c:fog:1": others, "hand-c:fog:2": others})
    found = row(leaderboard.rows([paired]), LOG, FOG, "retained")
    assert (found["value"], found["ci_low"], found["ci_high"]) == (1.0, 1.0, 1.0)
    found = row(leaderboard.rows([apart]), LOG, FOG, "retained")
    assert found["value"] == 1.0 and found["ci_low"] < 0.95 and found["ci_high"] > 1.05
    paired_rows = leaderboard.rows([paired])
    clean, fog, mean = (row(paired_rows, LOG, condition) for condition in ("clean", "hand-c:fog:1", FOG))
    assert [clean[key] for key in ("value", "ci_low", "ci_high")] == [fog[key] for key in ("value", "ci_low", "ci_high")]
    assert (mean["ci_low"], mean["ci_high"]) == (clean["ci_low"], clean["ci_high"])


# Tables ---------------------------------------------------------------------------------------------------------------


def cells(text: str, name: str, table: int = 0) -> list[str]:
    """The cells of a line of the table drawn at that place."""
    drawn = [part for part in text.split("\n\n") if "╭" in part][table]
    line = next(line for line in drawn.splitlines() if line.startswith(f"│ {name} "))
    return line.strip("│ ").removeprefix(name).split()


def test_the_board_gains_columns_and_a_table(rows: list[dict[str, Any]]) -> None:
    text = report.text(rows, caption="first")
    assert cells(text, "log-avg")[-3:] == ["56.2", "56.2", "70.0"]
    assert cells(text, "mini/a")[-3:] == ["37.5", "50.0", "100.0"]
    assert "acc1 % per corruption and severity of hand-c: mini/x\n" in text
    assert cells(text, "log-avg", 1) == ["*100.0", "*56.2", "*75.0", "*37.5", "*50.0", "*50.0", "*100.0", "*25.0"]
    assert cells(text, "oracle gap", 1) == ["25.0", "12.5", "12.5", "12.5", "25.0", "25.0", "0.0", "0.0"]
    assert cells(text, "disagreement", 1) == ["50.0", "43.8", "50.0", "37.5", "50.0", "50.0", "50.0", "25.0"]
    assert cells(text, "complementarity", 1)[0] == "+0.33" and len(cells(text, "complementarity", 1)) == 8
    header = [line.strip("│ ").split() for line in text.split("per corruption and severity")[1].splitlines()[2:4]]
    assert header == [["strategy", "severity", "fog", "snow"], ["clean", "mean", "1", "3", "1", "3", "1", "3"]]
    assert "mCE: errors under hand-c against mini/a, the backbone with the fewest GFLOPs: 100 is as many." in text
    assert "No mCE against AlexNet" in text and text.count("╭") == 2


def test_a_suite_of_many_conditions_fits(tmp_path: Path) -> None:
    hand = {"clean": HAND["clean"]}
    hand |= {f"imagenet-c:{name}:{severity}": HAND["hand-c:fog:1"] for name in robustness.ALEXNET for severity in range(1, 6)}
    filled(tmp_path, hand)
    filled(tmp_path, hand, task="mini/y")
    rows = leaderboard.rows([Results(tmp_path)])
    text = report.text(rows)
    for part in text.split("\n\n"):
        drawn = {len(line) for line in part.splitlines() if line[0] in "╭│├╰"}
        assert len(drawn) <= 1 and max(map(len, part.splitlines())) <= 120
    under = [part for part in text.split("\n\n") if part.startswith("acc1 % per corruption")]
    assert 2 < len(under) < 9
    for part in under[1:]:
        severities = next(line for line in part.splitlines()[2:] if re.fullmatch(r"│[ 1-5]+│", line))
        assert re.fullmatch("(12345)+", severities.replace(" ", "").strip("│"))  # no corruption is torn apart
    assert sum(len(cells("x\n\n" + part, "log-avg")) for part in under) == 2 + 5 + 75


def test_markdown_names_every_column(rows: list[dict[str, Any]]) -> None:
    text = report.text(rows, "markdown")
    header = next(line for line in text.splitlines() if "fog<br>1" in line)
    names = [cell.strip() for cell in header.strip("|").split("|")]
    assert names == [
        "strategy",
        "clean",
        "mean",
        "severity<br>1",
        "severity<br>3",
        *(f"{name}<br>{severity}" for name in ("fog", "snow") for severity in (1, 3)),
    ]
    for table in re.findall(r"(?:^\|.*\n)+", text, re.M):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1


def test_tasks_as_lines(rows: list[dict[str, Any]]) -> None:
    text = report.text(rows, by="task")
    assert "acc1 % per task\n" in text and "acc1 % per task, mean(hand-c)\n" in text
    assert cells(text, "mini/x", 1)[0:2] == ["4", "*56.2"]


def test_the_verb_takes_a_condition_and_a_reference(results: Results, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(results.folder)
    assert main(["board", folder]) == 0
    said = capsys.readouterr().out
    assert said == report.text(leaderboard.rows([results]), caption=leaderboard.caption([results]))
    assert said.splitlines()[0].endswith("· 1 shot · 2 draws · hand-c: 4 conditions · seed 0 · fp32")
    assert main(["board", folder, "--condition", "hand-c:fog:1"]) == 0
    assert "mini/x: 4 images, hand-c:fog:1\n" in capsys.readouterr().out
    assert main(["board", folder, "--condition", ALL, "--format", "json"]) == 0
    assert {one["condition"] for one in json.loads(capsys.readouterr().out)} == {ALL}
    assert main(["board", folder, "--mce", "alexnet"]) == 0
    said = capsys.readouterr().out
    assert "AlexNet mCE: against AlexNet; asked for by name" in said and cells(said, "log-avg", 1)[-1] == "52.1"
    for wrong, says in ((["--condition", "hand-c:fog:2"], "hand-c:fog:1"), (["--mce", "mini/c"], "Did you mean mini/")):
        assert main(["board", folder, *wrong]) == 2
        said_wrong = capsys.readouterr()
        assert not said_wrong.out and says in said_wrong.err and said_wrong.err.count("\n") == 1


# Real models ----------------------------------------------------------------------------------------------------------

LEVELS = ("0.03", "0.05", "0.10", "0.20", "0.35")  # a suite of five severities, and another of the two that are stronger


def test_curves_of_real_models(tmp_path: Path, real_predictions: Path) -> None:
    """Uniform noise shown to two CLIPs: every level has images of its own; figures counted elsewhere."""
    with np.load(real_predictions / "mvh_uniform-noise.npz", allow_pickle=False) as stored:
        said = {name: stored[name] for name in stored.files}
    models = said["models"].tolist()
    pool = {"single:mini/a": models.index("clip"), "single:mini/b": models.index("clip-14")}
    place = {"0.00": "clean", "0.60": "strong:noise:1", "0.90": "strong:noise:2"}
    place |= {level: f"noise-c:noise:{number}" for number, level in enumerate(LEVELS, 1)}
    results = Results(tmp_path)
    for level, condition in place.items():
        mine = said["condition"] == level
        labels, answers = said["label"][mine].astype(int), {name: said["pred"][row][mine] for name, row in pool.items()}
        more = {"names": said["images"][mine].tolist()}
        for name, decisions in answers.items():
            put(results, "noise", condition, name, [decisions], labels, **more)
        right = np.stack([decisions == labels for decisions in answers.values()])
        put(results, "noise", condition, "oracle", [np.where(right.any(0), labels, -1)], labels, **more)
        best = list(answers.values())[int(right.sum(1).argmax())]
        put(results, "noise", condition, "oracle-best-single", [best], labels, **more)
    rows = leaderboard.rows([results])

    def value(strategy: str, condition: str, metric: str = "acc1") -> float:
        found: float = row(rows, strategy, condition, metric, "noise")["value"]
        return found

    counted = {"0.00": (149, 156), "0.03": (144, 157), "0.05": (138, 151), "0.10": (121, 130), "0.20": (75, 103)}
    counted |= {"0.35": (25, 61), "0.60": (9, 17), "0.90": (10, 10)}
    for level, (small, large) in counted.items():
        assert 160 * value(A, place[level]) == pytest.approx(small) and 160 * value(B, place[level]) == pytest.approx(large)
    small, large = (sum(counted[level][which] for level in LEVELS) for which in (0, 1))
    assert value(A, "mean(noise-c)") == pytest.approx(small / 800)
    assert value(A, "mean(noise-c)", "retained") == pytest.approx((small / 800) / (149 / 160))
    assert value(B, "mean(noise-c)", "mce") == pytest.approx((800 - large) / (800 - small))
    added = (800 - large - 5 * (160 - 156)) / (800 - small - 5 * (160 - 149))
    assert value(B, "mean(noise-c)", "relative_mce") == pytest.approx(added)
    for metric, expected in (("disagreement", 0.164062), ("label_disagreement", 612 / 1280)):
        parts = value(A, "clean", metric), value(A, "mean(noise-c)", metric), value(A, "mean(strong)", metric)
        assert np.dot(parts, (1, 5, 2)) / 8 == pytest.approx(expected, abs=1e-6)
        assert value(A, "mean(strong)", metric) == pytest.approx(value(B, "mean(strong)", metric))
    gaps = [value("oracle", place[level], "oracle_gap") for level in ("0.00", *LEVELS)]
    assert all(0 <= gap < 0.3 for gap in gaps) and gaps[-1] != gaps[0]
