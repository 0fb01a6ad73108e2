"""One line against another: differences, exact tests and verdicts worked out by hand; the table that shows them."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from ensemble_bench import comparison, leaderboard, report
from ensemble_bench.cli import main
from ensemble_bench.comparison import Accuracies
from ensemble_bench.errors import BadOption, BadRecord
from ensemble_bench.records import Results
from ensemble_bench.statistics import detectable, mcnemar

BASELINE = Path(__file__).resolve().parents[1] / "results" / "baseline"
Written = Callable[..., Results]
CLEAN = "clean"


def fates(*draws: str) -> list[list[int]]:
    """Decisions of which each is right (``1``) or wrong where all labels are 0."""
    return [[1 - int(digit) for digit in draw] for draw in draws]


CELLS = {
    ("x", CLEAN, "log-avg", 0): fates("1110"),
    ("x", CLEAN, "confidence", 0): fates("1001"),
    ("x", CLEAN, "nlc", 1): fates("1111", "0110"),
    ("y", CLEAN, "log-avg", 0): fates("1100"),
    ("y", CLEAN, "confidence", 0): fates("1110"),
    ("y", CLEAN, "nlc", 1): fates("1100", "1100"),
}
LABELS = {"x": [0] * 4, "y": [0] * 4}


def row(rows: Sequence[dict[str, Any]], strategy: str, task: str, condition: str = CLEAN) -> dict[str, Any]:
    found = [one for one in rows if (one["strategy"], one["task"], one["condition"]) == (strategy, task, condition)]
    assert len(found) == 1, (strategy, task)
    return found[0]


def test_differences_by_hand(written: Written) -> None:
    rows = comparison.rows([written("out", CELLS, LABELS)], "log-avg")
    assert {one["strategy"] for one in rows} == {"confidence", "nlc"} and len(rows) == 2 * 3
    one = row(rows, "confidence", "x")
    assert (one["value"], one["gained"], one["lost"], one["p"]) == (-0.25, 1, 2, 1.0)
    assert (one["against"], one["against_shots"], one["n"], one["wins"]) == ("log-avg", 0, 4, None)
    mean = row(rows, "confidence", "mean(hand)")
    assert mean["value"] == 0 and (mean["wins"], mean["ties"], mean["losses"]) == (1, 0, 1)
    assert mean["verdict"] == "not separable" and mean["gained"] is None and mean["n"] == 8
    nlc = row(rows, "nlc", "x")
    assert nlc["value"] == (1 + 1 / 2) / 2 - 3 / 4
    assert (nlc["gained"], nlc["lost"]) == (1, 1)  # the last image in one draw of two, the first in one draw less
    assert (row(rows, "nlc", "mean(hand)")["wins"], row(rows, "nlc", "mean(hand)")["ties"]) == (0, 2)


def test_ranks_by_hand(written: Written) -> None:
    mean = row(comparison.rows([written("out", CELLS, LABELS)], "log-avg"), "nlc", "mean(hand)")
    assert mean["rank"] == (1.5 + 2.5) / 2 and mean["rank_against"] == (1.5 + 2.5) / 2 and mean["p_rank"] == 1
    assert mean["critical_difference"] == pytest.approx(2.343 * (3 * 4 / (6 * 2)) ** 0.5, abs=2e-3)


def test_every_row_is_there_once_and_strict(written: Written) -> None:
    rows = comparison.rows([written("out", CELLS, LABELS)], "log-avg")
    keys = [(one["strategy"], one["task"], one["condition"], one["shots"]) for one in rows]
    assert len(set(keys)) == len(keys) and len({tuple(one) for one in rows}) == 1
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows


BETTER = {
    ("x", CLEAN, "log-avg", 0): fates("1" * 60 + "0" * 40),
    ("x", CLEAN, "confidence", 0): fates("1" * 72 + "0" * 28),
    ("y", CLEAN, "log-avg", 0): fates("1" * 60 + "0" * 40),
    ("y", CLEAN, "confidence", 0): fates("1" * 66 + "0" * 34),
    ("z", CLEAN, "log-avg", 0): fates("1" * 60 + "0" * 40),
    ("z", CLEAN, "confidence", 0): fates("0" * 5 + "1" * 60 + "0" * 35),
}


def test_verdicts_by_hand(written: Written) -> None:
    """12 gains: p = 2/2^12, adjusted for three tasks; 6 gains: p = 2/2^6 = .031, times two is more than .05."""
    results = [written("out", BETTER, {task: [0] * 100 for task in "xyz"})]
    rows = comparison.rows(results, "log-avg")
    sure, unsure, equal = (row(rows, "confidence", task) for task in "xyz")
    assert sure["p_holm"] == pytest.approx(3 * 2 / 2**12) and sure["verdict"] == "better"
    assert unsure["p"] == pytest.approx(2 / 2**6) and unsure["p_holm"] == pytest.approx(4 / 2**6)
    assert unsure["verdict"] == equal["verdict"] == "not separable" and unsure["ci_low"] > 0
    assert (equal["value"], equal["gained"], equal["lost"]) == (0, 5, 5)
    assert equal["detectable"] == pytest.approx(detectable(100, 0.1))
    mean = row(rows, "confidence", "mean(hand)")
    assert mean["verdict"] == "better" and (mean["better"], mean["worse"]) == (1, 0) and mean["ci_low"] > 0
    back = row(comparison.rows(results, "confidence"), "log-avg", "x")
    assert back["verdict"] == "worse" and back["value"] == -sure["value"] and back["p"] == sure["p"]
    assert (back["ci_low"], back["ci_high"]) == (-sure["ci_high"], -sure["ci_low"])


def test_a_gain_in_one_draw_of_two_is_not_sure(written: Written) -> None:
    """Ten images gained in the first draw, none in the second: the test alone would say better."""
    cells = {
        ("x", CLEAN, "log-avg", 0): fates("1" * 50 + "0" * 50),
        ("x", CLEAN, "nlc", 1): fates("1" * 60 + "0" * 40, "1" * 50 + "0" * 50),
    }
    found = row(comparison.rows([written("out", cells, {"x": [0] * 100})], "log-avg"), "nlc", "x")
    assert (found["gained"], found["lost"]) == (10, 0) and found["p_holm"] == mcnemar(10, 0) < 0.01
    assert found["ci_low"] == 0 and found["verdict"] == "not separable"


def test_shots_meet_their_own_kind(written: Written) -> None:
    cells = {
        ("x", CLEAN, "log-avg", 0): fates("1100"),
        ("x", CLEAN, "nlc", 1): fates("1110"),
        ("x", CLEAN, "nlc", 4): fates("1111"),
        ("x", CLEAN, "best-single", 1): fates("1000"),
    }
    rows = comparison.rows([written("out", cells, LABELS)], "best-single")
    found = {(one["strategy"], one["shots"]): one for one in rows}
    assert found["nlc", 1]["value"] == 0.5 and found["log-avg", 0]["value"] == 0.25
    lost = found["nlc", 4]
    assert (lost["value"], lost["status"], lost["verdict"]) == (None, "missing", None) and "at 4 shots" in lost["reason"]
    rows = comparison.rows([written("out", cells, LABELS)], "nlc")
    assert {(one["strategy"], one["shots"]): one["against_shots"] for one in rows} == {("log-avg", 0): 1, ("best-single", 1): 1}


def test_never_over_different_tasks(written: Written) -> None:
    cells = {key: said for key, said in CELLS.items() if key[:3] != ("y", CLEAN, "nlc")}
    rows = comparison.rows([written("out", cells, LABELS)], "log-avg")
    mean = row(rows, "nlc", "mean(hand)")
    assert (mean["value"], mean["status"], mean["reason"]) == (None, "missing", "y: not in these results")
    assert row(rows, "nlc", "y")["status"] == "missing" and row(rows, "nlc", "x")["value"] == 0
    against = row(comparison.rows([written("out", cells, LABELS)], "nlc"), "log-avg", "mean(hand)")
    assert against["value"] is None and against["reason"] == "nlc: y: not in these results"


def test_under_corruption_the_mean_is_one_of_the_same_images(written: Written) -> None:
    cells = {
        ("x", condition, strategy, 0): fates(said)
        for condition, one, two in (("clean", "1111", "1110"), ("c:fog:1", "1100", "1000"), ("c:fog:2", "1000", "1001"))
        for strategy, said in (("log-avg", one), ("confidence", two))
    }
    results = [written("out", cells, LABELS)]
    rows = comparison.rows(results, "log-avg")
    assert [one["condition"] for one in rows] == ["clean", "mean(c)"]
    mean = row(rows, "confidence", "x", "mean(c)")
    assert mean["value"] == 0 and (mean["gained"], mean["lost"], mean["n"]) == (1, 1, 4)
    only = comparison.rows(results, "log-avg", condition="c:fog:1")
    assert [(one["condition"], one["value"]) for one in only] == [("c:fog:1", -0.25)]
    with pytest.raises(BadOption, match="c:fog:1"):
        comparison.rows(results, "log-avg", condition="c:fog:3")
    lacking = {key: said for key, said in cells.items() if key[:3] != ("x", "c:fog:2", "confidence")}
    found = row(comparison.rows([written("other", lacking, LABELS)], "log-avg"), "confidence", "x", "mean(c)")
    assert found["value"] is None and found["reason"] == "c:fog:2: not in these results"


def test_other_images_make_no_comparison(written: Written) -> None:
    one = written("one", {key: said for key, said in CELLS.items() if key[2] == "log-avg"}, LABELS)
    two = written("two", {key: said for key, said in CELLS.items() if key[2] == "nlc"}, LABELS, ids="others")
    with pytest.raises(BadRecord, match="different images"):
        comparison.rows([one, two], "log-avg")


def test_a_name_that_is_not_there(written: Written) -> None:
    with pytest.raises(BadOption, match=r"called 'log-ave'.*Did you mean log-avg"):
        comparison.rows([written("out", CELLS, LABELS)], "log-ave")


def test_what_board_and_comparison_say_is_the_same() -> None:
    if not BASELINE.is_dir():
        pytest.skip(f"the reference results are not here: {BASELINE}")
    results = [Results(BASELINE)]
    board = {(one["strategy"], one["task"]): one["value"] for one in leaderboard.rows(results) if one["metric"] == "acc1"}
    known = Accuracies(results)
    for line in known.lines:
        for name, tasks in {**known.collections(CLEAN), "mini/digits": ("mini/digits",)}.items():
            assert known.of(line, CLEAN, tasks).value == pytest.approx(board[line[0], name], abs=1e-12)
    rows = comparison.rows(results, "log-avg")
    assert row(rows, "nlc", "mean(mini)")["value"] == pytest.approx(board["nlc", "mean(mini)"] - board["log-avg", "mean(mini)"])
    assert {one["verdict"] for one in rows} == {"better", "worse", "not separable"}


# The table ------------------------------------------------------------------------------------------------------------


def test_the_verb_prints_each_form(written: Written, capsys: pytest.CaptureFixture[str]) -> None:
    results = written("out", BETTER, {task: [0] * 100 for task in "xyz"})
    words = ["board", str(results.folder), "--compare", "log-avg"]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert re.search(r"confidence +\+6\.0 +\+2\.\d to \+9\.\d +2-1-0 +1-0 +1\.2 +4\.\d +better", said)
    assert re.search(r"confidence +\*\+12\.0 +\+6\.0 +0\.0", said)
    assert max(map(len, said.splitlines())) <= 120
    assert main([*words, "--format", "markdown"]) == 0
    assert "| confidence " in capsys.readouterr().out
    assert main([*words, "--format", "json"]) == 0
    rows = comparison.rows([results], "log-avg")
    assert json.loads(capsys.readouterr().out) == rows
    assert main([*words, "--format", "csv"]) == 0
    found = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [float(one["value"]) for one in found] == [one["value"] for one in rows] and found[0]["verdict"] == "better"
    assert main([*words, "--by", "task"]) == 2
    assert "--compare prints a table of its own" in capsys.readouterr().err


def test_cells_that_are_empty_say_why(written: Written) -> None:
    cells = {key: said for key, said in CELLS.items() if key[:3] != ("y", CLEAN, "nlc")}
    rows = comparison.rows([written("out", cells, LABELS)], "log-avg")
    for form in ("table", "markdown"):
        assert "- missing: nlc on y: not in these results" in report.compared(rows, form)
    limited = report.compared(comparison.rows([written("few", CELLS, LABELS, limit=4)], "log-avg"))
    assert "(limit 4: NOT A FULL RESULT)" in limited


def test_alone_there_is_nothing_to_compare(written: Written) -> None:
    rows = comparison.rows([written("out", {("x", CLEAN, "log-avg", 0): fates("1100")}, LABELS)], "log-avg")
    assert rows == [] and report.compared(rows, caption="one line") == "one line\n"


@pytest.mark.parametrize(
    "words", [["board", "--compare", "log-avg"], ["diversity", "--no-features"], ["claims", "--no-features"]]
)
def test_no_torch_is_needed(written: Written, words: list[str]) -> None:
    cells = {**CELLS, **{(task, CLEAN, f"single:p/{name}", 0): fates("1010") for task in "xy" for name in "ab"}}
    folder = written("out", cells, LABELS).folder
    code = "import sys; from ensemble_bench.cli import main; assert main(sys.argv[1:]) == 0; "
    code += "assert not {'torch', 'pandas'} & set(sys.modules)"
    verb, *options = words
    done = subprocess.run(
        [sys.executable, "-c", code, verb, str(folder), *options], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
