"""Other shapes of a board: standings, history, LaTeX, wide CSV, model cards, the schema."""

from __future__ import annotations

import csv
import io
import itertools
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import rankdata

from ensemble_bench import history, leaderboard, report, standings
from ensemble_bench.cli import main
from ensemble_bench.errors import BadOption
from ensemble_bench.records import Results
from ensemble_bench.report import paper

BASELINE = Path(__file__).parents[1] / "results" / "baseline"


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    """The board of the reference results."""
    return leaderboard.rows([Results(BASELINE, must_exist=True)])


def row(
    strategy: str, task: str, value: float | None, *, family: str = "static", shots: int = 0, **more: Any
) -> dict[str, Any]:
    about = {"metric": "acc1", "condition": "clean", "status": "done" if value is not None else "failed", "reason": ""}
    numbers = {"ci_low": None, "ci_high": None, "gflops": 1.0, "backbones": 1, "labels": 0, "n": 4, "limit": None, "draws": 0}
    return {"strategy": strategy, "task": task, "value": value, "family": family, "shots": shots, **about, **numbers, **more}


def table(values: dict[str, list[float | None]], **more: Any) -> list[dict[str, Any]]:
    return [row(name, f"t{place}", value, **more) for name, own in values.items() for place, value in enumerate(own)]


def test_standings_worked_out_by_hand() -> None:
    found = standings.standings(table({"a": [0.9, 0.8], "b": [0.5, 0.8], "c": [0.1, 0.2]}))
    by = {one["strategy"]: one for one in found}
    assert [one["strategy"] for one in found] == ["a", "b", "c"]
    assert [by[name]["mean_rank"] for name in "abc"] == [1.25, 1.75, 3.0]
    assert [by[name]["borda"] for name in "abc"] == [3.5, 2.5, 0.0]
    assert [by[name]["win_rate"] for name in "abc"] == [0.875, 0.625, 0.0]
    assert by["a"]["mean"] == pytest.approx(0.85) and by["a"]["tasks"] == ["t0", "t1"]
    assert (by["a"]["rank_low"], by["a"]["rank_high"]) == (1.0, 1.5)  # both tasks twice, at the ends


def test_ranks_are_those_of_scipy(rows: list[dict[str, Any]]) -> None:
    found = [one for one in standings.standings(rows) if one["budget"] == "1 label per class"]
    values = {(one["strategy"], one["task"]): one["value"] for one in rows if one["metric"] == "acc1"}
    names, tasks = [one["strategy"] for one in found], found[0]["tasks"]
    wanted = rankdata([[-round(values[name, task], 12) for name in names] for task in tasks], axis=1).mean(0)
    assert [one["mean_rank"] for one in found] == pytest.approx(list(wanted))
    assert len(tasks) == 11


def test_never_a_mean_over_other_tasks() -> None:
    found = standings.standings(table({"a": [0.9, 0.8], "b": [0.99, None]}))
    by = {one["strategy"]: one for one in found}
    assert by["b"]["mean"] is None and by["b"]["status"] == "missing" and by["b"]["reason"] == "no value on t1"
    assert "not ranked:\n- b: no value on t1" in report.standings(found)


def test_budgets_are_ranked_apart_and_oracles_not_at_all() -> None:
    made = table({"log-avg": [0.5, 0.5]}) + table({"nlc": [0.9, 0.9]}, family="adaptive", shots=1)
    made += table({"oracle": [1.0, 1.0], "oracle-best-single": [0.4, 0.6]}, family="oracle")
    by = {one["strategy"]: one for one in standings.standings(made)}
    assert by["log-avg"]["mean_rank"] == by["nlc"]["mean_rank"] == 1.0
    assert by["oracle"]["mean_rank"] is None and by["oracle"]["mean"] == 1.0
    assert by["nlc"]["gap_closed"] == pytest.approx(0.8)


def test_less_is_better_for_losses() -> None:
    made = table({"a": [0.1, 0.2], "b": [0.3, 0.4]}, metric="nll")
    assert [one["strategy"] for one in standings.standings(made, metric="nll")] == ["a", "b"]
    with pytest.raises(BadOption, match="nothing under the condition"):
        standings.standings(made, condition="fog", metric="nll")


def test_history_says_where_a_number_moved(tmp_path: Path) -> None:
    copy = Path(shutil.copytree(BASELINE, tmp_path / "later"))
    lines = [json.loads(line) for line in (copy / "records.jsonl").read_text().splitlines()]
    for line in lines:
        line["provenance"]["time"] = "2999-01-01T00:00:00Z"
        if (line["strategy"], line["task"]) == ("log-avg", "mini/digits"):
            line["metrics"]["acc1"]["value"] += 0.01
            line["key"] = "another"
        line["provenance"]["versions"] = {**line["provenance"]["versions"], "torch": "99"}
    (copy / "records.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = history.history([Results(copy), Results(BASELINE)])  # in the order of time, whatever was given first
    (moved,) = [one for one in found if one["moves"]]
    assert (moved["strategy"], moved["task"]) == ("log-avg", "mini/digits")
    assert moved["moves"][0]["change"] == pytest.approx(0.01) and moved["moves"][0]["question"] is True
    said = history.text(found)
    assert f"1 of {len(found)} numbers moved:" in said
    assert "first in [1]: log-avg on mini/digits: 0.720 -> 0.730 (asked otherwise, torch" in said
    with pytest.raises(BadOption, match="at least two"):
        history.history([Results(copy)])


def test_latex(rows: list[dict[str, Any]]) -> None:
    marks = {("nlc", 1, "mini/digits"): "better"}
    text = report.latex(rows, condition="clean", caption="11 tasks", verdicts=marks, against="best-single")
    body = text[text.index("\\toprule") : text.index("\\bottomrule")]
    lines = [line for line in body.splitlines() if line.endswith(r"\\") and "multicolumn" not in line]
    assert {line.count(" & ") for line in lines} == {12}  # a mean and eleven tasks
    assert text.count("\\uparrow") == 1 and "significantly better or worse than best-single" in text
    assert len(re.findall(r"\\textbf", text)) >= 3 * 12
    assert "textbf" not in body[body.index("ceilings") :]
    assert text.count("{") == text.count("}")


@pytest.mark.parametrize("name", ["a_b", "50%", "x & y", "{c}", "\\input{x}", "#1", "$x$", "~^", "<b>", "a\nb"])
def test_latex_specials_are_text(name: str) -> None:
    text = paper.text([row(name, "t", 0.5), row("b", "t", 0.4)], condition="clean")
    line = next(line for line in text.splitlines() if line.endswith(r"\\") and "50.0" in line)
    assert line.count("&") - line.count("\\&") == 1
    known = r"\\(textbackslash|textasciitilde|textasciicircum|textless|textgreater)\{\}|\\[{}_%&#$]|\\textbf\{50.0\}"
    assert not set("{}_%#$~^<>") & set(re.sub(known, "", line))


def test_wide_csv_holds_every_value(rows: list[dict[str, Any]]) -> None:
    read = list(csv.DictReader(io.StringIO(report.text(rows, "wide"))))
    values = {(r["strategy"], r["shots"], r["metric"], r["task"]): r["value"] for r in rows}
    seen = 0
    for line, task in itertools.product(read, {r["task"] for r in rows}):
        value = values.get((line["strategy"], int(line["shots"]), line["metric"], task))
        assert line[task] == ("" if value is None else str(value))
        seen += value is not None
    assert seen > 1000


def test_a_model_card(rows: list[dict[str, Any]]) -> None:
    import yaml
    from huggingface_hub.repocard_data import model_index_to_eval_results

    text = report.model_index(rows, "nlc", ["a", "b"])
    data = yaml.safe_load(text.strip("-\n"))
    _, results = model_index_to_eval_results(data["model-index"])
    digits = [one for one in results if one.dataset_type == "mini/digits" and one.metric_name == "Accuracy, 1 label per class"]
    wanted = next(r["value"] for r in rows if (r["strategy"], r["task"], r["metric"]) == ("nlc", "mini/digits", "acc1"))
    assert [one.metric_value for one in digits] == [wanted]
    with pytest.raises(BadOption, match="name it with --strategy"):
        report.model_index(rows, None, ["a"])


def test_rows_keep_the_schema(rows: list[dict[str, Any]]) -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed (extra 'test')")
    validator = jsonschema.Draft202012Validator(json.loads(report.schema()))
    validator.check_schema(validator.schema)
    validator.validate(json.loads(report.text(rows, "json")))
    for wrong in ({"value": "0.5"}, {"shots": -1}, {"family": "magic"}, {"value": None, "status": "done"}):
        assert not validator.is_valid([{**rows[0], **wrong}])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "needs results"),
        (["DIR", "--standings", "--history"], "give one of them"),
        (["DIR", "--standings", "--format", "latex"], "can be written as"),
        (["DIR", "--history"], "at least two"),
        (["DIR", "--strategy", "nlcc"], "Did you mean nlc"),
        (["DIR", "--format", "model-index"], "name it with --strategy"),
        (["DIR", "--standings", "--condition", "fog"], "nothing under the condition"),
    ],
)
def test_a_question_that_has_no_answer(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["board", *(str(BASELINE) if word == "DIR" else word for word in words)]) == 2
    assert said in capsys.readouterr().err


def test_the_verb(capsys: pytest.CaptureFixture[str]) -> None:
    for words, said in (
        (["--standings"], "Borda"),
        (["--standings", "--format", "json"], '"win_rate"'),
        (["--format", "latex"], "\\toprule"),
        (["--format", "wide"], "strategy,shots,condition,metric,family"),
        (["--strategy", "nlc", "--format", "model-index"], "model-index:"),
    ):
        assert main(["board", str(BASELINE), *words]) == 0
        assert said in capsys.readouterr().out
    assert main(["board", "--schema"]) == 0
    assert json.loads(capsys.readouterr().out)["type"] == "array"
