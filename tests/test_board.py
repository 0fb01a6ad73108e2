"""The board as text, and the verb that prints it."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ensemble_bench import leaderboard, report
from ensemble_bench.cli import main
from ensemble_bench.errors import BadOption
from ensemble_bench.records import Predictions, Record, Results

TASKS = ("mini/digits", "mini/faces", "mini/letters")
STRATEGIES = {
    "log-avg": ("static", 0, 0.6),
    "vote-top1": ("static", 0, 0.5),
    "nlc": ("adaptive", 1, 0.7),
    "best-single": ("control", 1, 0.4),
    "single:mini/rn-wide": ("static", 0, 0.55),
    "oracle": ("oracle", 0, 0.9),
    "oracle-best-single": ("oracle", 0, 0.58),
}


def row(strategy: str = "log-avg", task: str = "mini/digits", **more: Any) -> dict[str, Any]:
    family, shots, value = STRATEGIES.get(strategy, ("static", 0, 0.5))
    return {
        "strategy": strategy,
        "task": task,
        "metric": "acc1",
        "condition": "clean",
        "shots": shots,
        "labels": 10 * shots,
        "n": 100,
        "value": value,
        "ci_low": value - 0.05,
        "ci_high": value + 0.05,
        "family": family,
        "gflops": 1.25,
        "backbones": 5,
        "draws": 5 * shots,
        "limit": None,
        "status": "done",
        "reason": "",
        **more,
    }


def board(tasks: Sequence[str] = TASKS, strategies: Sequence[str] = tuple(STRATEGIES)) -> list[dict[str, Any]]:
    names = ["mean(mini)", *tasks] if len(tasks) > 1 else tasks
    return [
        row(strategy, task, metric=metric, **({"value": 0.123} if metric != "acc1" else {}))
        for task in names
        for strategy in strategies
        for metric in ("acc1", "gap_closed", "gap_closed_honest")
    ]


def write(folder: Path, tasks: int, strategies: int, draws: int, images: int) -> Results:
    """Random answers, fast."""
    rng = np.random.default_rng(0)
    results = Results(folder)
    named = {f"s{number}": ("adaptive", 1, 0.0) for number in range(strategies - 3)}
    named |= {name: STRATEGIES[name] for name in ("best-single", "oracle", "oracle-best-single")}
    for task in range(tasks):
        labels = rng.integers(0, 10, images)
        for strategy, (family, shots, _) in named.items():
            number = draws if shots else 1
            decisions = np.where(
                rng.random((number, images)) < (0.9 if strategy == "oracle" else 0.5), labels, (labels + 1) % 10
            )
            sure = rng.random((number, images))
            said = Predictions(
                ids=np.array([f"mini/t{task}/test/{place:04d}" for place in range(images)]),
                labels=labels,
                draws=np.arange(number) if shots else np.array([-1]),
                decisions=decisions,
                **dict.fromkeys(("top5",), decisions == labels),
                **dict.fromkeys(("confidence", "nll", "brier"), sure),
            )
            values = {"acc1", "acc5", "mean_per_class_recall", "nll", "ece", "brier"}
            results.append(
                [
                    Record(
                        task=f"mini/t{task}",
                        task_version=1,
                        collections={"mini": tasks},
                        condition="clean",
                        pool=("mini/a", "mini/b"),
                        strategy=strategy,
                        family=family,
                        shots=shots,
                        draw=draw if shots else None,
                        draws=draws if shots else 0,
                        seed=0,
                        limit=None,
                        n=images,
                        ids=f"ids {task}",
                        labels=10 * shots,
                        metrics={name: {"value": float((decisions[draw] == labels).mean())} for name in values},
                        cost={"gflops": 1.0, "parameters": 1, "backbones": 2},
                        provenance={"precision": "fp32"},
                        key=f"{task}-{strategy}-{draw}",
                        cell=f"{task}-{strategy}",
                    )
                    for draw in range(number)
                ],
                said,
            )
    return results


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("runs") / "out", 2, 5, 2, 20).folder


def lines(text: str) -> list[str]:
    return text.splitlines()


def test_groups_by_what_a_strategy_may_see_each_ranked_by_itself() -> None:
    text = report.text(board())
    order = ("no labels", "log-avg", "vote-top1", "1 label per class", "nlc", "best-single", "single backbones (no labels)")
    order += ("mini/rn-wide", "ceilings: they see the test labels", "oracle ", "oracle-best-single")
    places = [text.index(f"─ {name} ─" if name[0].isdigit() or " " in name.strip() else f"│ {name}") for name in order]
    assert places == sorted(places)
    assert "ranked within their group only" in text


def test_a_line_of_the_board() -> None:
    line = next(line for line in lines(report.text(board())) if line.startswith("│ nlc"))
    assert re.split(r"\s{2,}", line.strip("│ ")) == ["nlc", "10", "5", "1.25", "70.0", "65.0 to 75.0", "12", "12"]


def test_the_best_of_a_task_is_marked_but_no_ceiling() -> None:
    rows = board()
    for one in rows:
        if (one["strategy"], one["task"], one["metric"]) == ("vote-top1", "mini/faces", "acc1"):
            one["value"] = 0.8
    per_task = report.text(rows).split("\n\n")[1]
    header = next(line for line in lines(per_task) if "strategy" in line)
    assert header.strip("│ ").split() == ["strategy", "digits", "faces", "letters"]
    cells = {line.strip("│ ").split()[0]: line.strip("│ ").split()[1:] for line in lines(per_task) if line.startswith("│")}
    assert cells["nlc"] == ["*70.0", "70.0", "*70.0"] and cells["vote-top1"] == ["50.0", "*80.0", "50.0"]
    assert cells["oracle"] == ["90.0"] * 3 and cells["images"] == ["100"] * 3


def test_all_lines_are_of_one_width_and_fit() -> None:
    names = ("bindings", "colours", "counting", "digits", "faces", "letters", "patterns", "positions", "relations", "shapes")
    for tasks in (
        TASKS,
        ["mini/a", "mini/b"],
        [f"mini/{name}" for name in names],
        [f"mini/a-rather-long-name-{number}" for number in range(9)],
    ):
        for by in report.BY:
            for part in report.text(board(tasks), by=by).split("\n\n"):
                drawn = {len(line) for line in lines(part) if line[0] in "╭│├╰"}
                assert len(drawn) <= 1 and max(drawn, default=0) <= 120


def test_many_columns_become_several_tables() -> None:
    tasks = [f"mini/a-rather-long-name-{number}" for number in range(9)]
    text = report.text(board(tasks))
    for task in tasks:
        assert text.count(task.removeprefix("mini/")) == 1
    assert text.count("│ nlc") > 2


def test_one_task_needs_no_second_table() -> None:
    text = report.text(board(["mini/digits"]))
    assert text.startswith("mini/digits: 100 images\n") and text.count("│ nlc") == 1 and "mean(" not in text
    single = report.text([row()], caption="one")
    assert single.startswith("one\n\nmini/digits: 100 images\n") and "ranked" not in single


def test_nothing_recorded() -> None:
    assert report.text([]) == "nothing has been recorded yet\n"
    assert report.text([], "json") == "[]\n" and len(lines(report.text([], "csv"))) == 1
    assert report.text([], "markdown", by="task", caption="no run") == "no run\n"


@pytest.mark.parametrize("form", ["table", "markdown"])
def test_missing_and_failed_cells_are_shown_and_explained(form: str) -> None:
    rows = board()
    for one in rows:
        if one["strategy"] == "nlc" and one["task"] in ("mini/faces", "mean(mini)"):
            one |= {"value": None, "ci_low": None, "ci_high": None, "status": "failed", "reason": "out of luck"}
        if one["strategy"] == "vote-top1" and one["task"] != "mini/digits":
            one |= {"value": None, "ci_low": None, "ci_high": None, "status": "missing", "reason": "not in these results"}
    text = report.text(rows, form)
    assert "- failed: nlc on mini/faces: out of luck" in text
    assert "- missing: vote-top1 on mini/faces, mini/letters: not in these results" in text
    nlc = [re.findall(r"[^│|\s*]+", line) for line in lines(text) if re.match(r"[│|] nlc", line)]
    assert nlc[0][-4:] == ["-"] * 4 and nlc[1] == ["nlc", "70.0", "-", "70.0"]


def test_a_gap_that_lacks_its_ends_says_what_to_run() -> None:
    rows = board(["mini/digits"], ["nlc", "log-avg", "oracle"])
    for one in rows:
        if one["metric"] == "gap_closed":
            one |= {"value": None, "status": "missing", "reason": "needs oracle-best-single in the same results"}
    assert report.text(rows).count("- gap closed: needs oracle-best-single in the same results") == 1


def test_the_headline_number_stands_below() -> None:
    value = row("oracle", "mini/digits", metric="complementarity", value=-0.254, ci_low=-0.3, ci_high=0.1, reason="why so")
    rows = [*board(["mini/digits"]), value]
    assert "complementarity -0.25 (-0.30 to +0.10): why so.\n" in report.text(rows)
    assert "- complementarity -0.25 (-0.30 to +0.10): why so.\n" in report.text(rows, "markdown")
    value |= {"value": None, "ci_low": None, "ci_high": None, "status": "missing", "reason": "needs single:mini/b"}
    assert "- complementarity: needs single:mini/b\n" in report.text(rows)


def test_a_limited_run_says_so_everywhere() -> None:
    rows = [{**one, "limit": 20} for one in board()]
    for form in ("table", "markdown"):
        for by in report.BY:
            assert "limit 20: NOT A FULL RESULT" in report.text(rows, form, by=by)
            assert "NOT A FULL" not in report.text(board(), form, by=by)


def test_conditions_have_tables_of_their_own() -> None:
    foggy = [{**one, "condition": "mini-c:fog:3"} for one in board(["mini/digits"], ["nlc"])]
    text = report.text(board(["mini/digits"], ["nlc"]) + foggy)
    assert "mini/digits: 100 images\n" in text and "mini/digits: 100 images, mini-c:fog:3\n" in text


def test_by_task_has_a_line_per_task() -> None:
    text = report.text(board(), by="task")
    assert "rn-wide" not in text  # single backbones are too many to be columns
    line = next(line for line in lines(text) if line.startswith("│ mini/faces"))
    assert line.strip("│ ").split() == ["mini/faces", "100", "60.0", "50.0", "*70.0", "40.0", "90.0", "58.0"]
    assert any(line.startswith("│ mean(mini)") for line in lines(text))
    assert "(1 label)" in text and "(no labels)" in text and "(ceiling)" in text


def test_markdown_is_a_table_whatever_the_names() -> None:
    rows = [*board(), *(row("odd|name", task) for task in ("mean(mini)", *TASKS))]
    for by in report.BY:
        text = report.text(rows, "github", by=by, caption="first\nsecond")
        assert text.startswith("first  \nsecond\n\n### ")
        for table in re.findall(r"(?:^\|.*\n)+", text, re.M):
            assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines(table)}) == 1
        assert r"odd\|name" in text if by == "strategy" else r"odd\|name" in text.replace("<br>", "")
    assert "**70.0**" in report.text(rows, "markdown") and "**no labels**" in report.text(rows, "markdown")


def test_csv_cannot_be_taken_for_a_formula() -> None:
    dangerous = ["=HYPERLINK(1)", "+1", "-1", "@SUM(1)", "\tx", "\rx"]
    rows = [row(name, value=-0.5, ci_low=None, reason='a "quoted", text\nof two lines') for name in dangerous]
    found = list(csv.DictReader(io.StringIO(report.text(rows, "csv"), newline="")))
    assert [one["strategy"] for one in found] == ["'=HYPERLINK(1)", "'+1", "'-1", "'@SUM(1)", "'\tx", "'\nx"]
    for one in found:
        assert float(one["value"]) == -0.5 and one["ci_low"] == "" and one["gflops"] == "1.25"
        assert one["reason"] == 'a "quoted", text\nof two lines'
    assert list(found[0])[:5] == ["strategy", "task", "metric", "condition", "shots"]


def test_json_is_strict() -> None:
    rows = board()
    assert json.loads(report.text(rows, "json")) == rows
    with pytest.raises(ValueError, match="JSON"):
        report.text([row(value=float("nan"))], "json")


def test_unknown_forms_are_sentences() -> None:
    with pytest.raises(BadOption, match="table, text, markdown, github, csv, json, not as 'latex'"):
        report.text([], "latex")
    with pytest.raises(BadOption, match="strategy or by task"):
        report.text([], by="model")


def test_the_verb_prints_each_form(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = leaderboard.rows([Results(folder)])
    assert main(["board", str(folder), "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == rows
    for form in ("table", "text", "markdown", "github", "csv"):
        assert main(["board", str(folder), "--format", form, "--by", "task"]) == 0
        said = capsys.readouterr()
        assert said.out == report.text(rows, form, by="task", caption=leaderboard.caption([Results(folder)]))
        assert not said.err and "\x1b" not in said.out
    assert main(["leaderboard", str(folder)]) == 0
    assert "Mean over the tasks of mini: 40 images" in capsys.readouterr().out


def test_the_verb_writes_a_file(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "board.md"
    assert main(["board", str(folder), "--format", "markdown", "-o", str(target)]) == 0
    assert not capsys.readouterr().out and target.read_text().count("###") == 2
    assert main(["board", str(folder), "-o", str(tmp_path / "no" / "folder.md")]) == 2
    assert "cannot be written" in capsys.readouterr().err


def test_what_is_no_results_folder_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for where in (tmp_path, tmp_path / "nowhere"):
        assert main(["board", str(where)]) == 2
        said = capsys.readouterr()
        assert not said.out and said.err.count("\n") == 1 and str(where) in said.err
    (tmp_path / "records.jsonl").write_text("")
    assert main(["board", str(tmp_path), "--format", "json"]) == 0
    assert capsys.readouterr().out == "[]\n"


def test_a_terminal_gets_colours(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert main(["board", str(folder)]) == 0
    said = capsys.readouterr().out
    assert "\x1b[" in said
    plain = re.sub(r"\x1b\[[0-9;]*m", "", said)
    assert plain == report.text(leaderboard.rows([Results(folder)]), caption=leaderboard.caption([Results(folder)]))


def test_a_board_needs_no_torch(folder: Path) -> None:
    code = "import sys; from ensemble_bench.cli import main; assert main(sys.argv[1:]) == 0; "
    code += "assert not {'torch', 'pandas'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, "board", str(folder)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_large_board_takes_seconds(tmp_path: Path) -> None:
    """11 tasks x 40 strategies x 5 draws x 400 images; measured in this process's own time, as the machine may be busy."""
    results = write(tmp_path, 11, 40, 5, 400)
    start = time.process_time()
    rows = leaderboard.rows([results])
    assert len(rows) == 12 * (40 * 8 + 3)  # two oracles have their chance, one of them the pool's complementarity
    assert time.process_time() - start < 6  # 2.5 s on one 2020s core
