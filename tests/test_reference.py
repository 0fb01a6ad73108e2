"""Published figures: copied rightly, and compared with the right rows of a board."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from ensemble_bench import cards, cli, reference
from ensemble_bench.records import Results
from ensemble_bench.reference import Comparison, Published
from ensemble_bench.task import Catalogue

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data" / "published"
FIGURES = (
    Published("cats", "acc1", "openai/RN50", 0.60, "one"),
    Published("cats", "acc1", "openai/RN50", 0.63, "other"),
    Published("cats", "mean_per_class_recall", "openai/RN50", 0.50, "one"),
    Published("mnist", "acc1", "openai/RN50", 0.50, "one"),
)


def row(**more: Any) -> dict[str, Any]:
    plain = {
        "strategy": "single:openai/RN50",
        "task": "cats",
        "metric": "acc1",
        "condition": "clean",
        "value": 0.6,
        "limit": None,
    }
    return plain | more


@pytest.mark.parametrize(
    ("value", "off"),
    [(0.60, False), (0.61, False), (0.6101, True), (0.62, False), (0.64, False), (0.6401, True), (0.5899, True)],
)
def test_a_point_from_the_nearest_source_is_allowed(value: float, off: bool) -> None:
    found = reference.compare([row(value=value)], FIGURES)
    assert [one.source for one in found] == ["one", "other"]
    assert {one.off for one in found} == {off}
    assert found[0].difference == pytest.approx(value - 0.60)


@pytest.mark.parametrize(
    "more",
    [
        {"strategy": "log-avg"},
        {"strategy": "single:mini/vit-8"},
        {"strategy": "single:laion2b_e16/RN50"},
        {"task": "dogs"},
        {"task": "mean(cats)"},
        {"metric": "acc5"},
        {"condition": "mini-c:fog:1"},
        {"value": None},
        {"limit": 100},
    ],
)
def test_only_the_same_question_is_compared(more: dict[str, Any]) -> None:
    assert reference.compare([row(**more)], FIGURES) == []


def test_the_metric_of_the_source_is_the_one_compared() -> None:
    (found,) = reference.compare([row(metric="mean_per_class_recall", value=0.58)], FIGURES)
    assert found.published == 0.50 and found.off


def test_quick_gelu_is_the_same_checkpoint() -> None:
    assert len(reference.compare([row(strategy="single:openai/RN50-quickgelu")], FIGURES)) == 2


def test_tasks_on_which_publications_differ_raise_no_alarm() -> None:
    (found,) = reference.compare([row(task="mnist", value=0.70)], FIGURES)
    assert not found.off and found.difference == pytest.approx(0.20)
    assert "no gate" in reference.table([found])
    assert len(reference.UNGATED) == 5 and set(Catalogue().paths) >= reference.UNGATED


def test_the_verdict() -> None:
    assert reference.verdict([]) == ""
    good = reference.compare([row()], FIGURES)
    assert reference.verdict(good) == "reference: 1 of 1 numbers of single backbones are within a point of published ones.\n"
    bad = reference.compare([row(), row(metric="mean_per_class_recall", value=0.4)], FIGURES)
    said = reference.verdict(bad)
    assert said.startswith(
        "reference: 1 of 2 numbers of single backbones are within a point of published ones; these are not:\n"
    )
    assert "-10.00" in said and "acc1" not in said


def test_as_markdown_and_as_rows() -> None:
    found = [Comparison("openai/RN50", "cats", "acc1", 0.5, 0.6, "one", True)]
    assert (
        reference.table(found, markdown=True).splitlines()[2]
        == "| openai/RN50 | cats | acc1 | 50.00 | 60.00 | -10.00 | one | OFF |"
    )
    assert json.loads(json.dumps(reference.as_rows(found)))[0]["difference"] == -0.1


def test_the_published_figures_are_of_tasks_and_backbones_that_there_are() -> None:
    from ensemble_bench import backbones

    figures = reference.published()
    assert len(figures) == 9 * (30 + 23)
    assert {figure.task for figure in figures} <= set(Catalogue().paths)
    assert {figure.backbone for figure in figures} == {backbone.id for backbone in backbones.find(["openai"])}
    assert all(0 < figure.value < 1 for figure in figures)
    for figure in figures:
        metric = Catalogue().task(figure.task).metric
        assert figure.metric == (metric if figure.source == "openclip" else "acc1"), figure


def test_both_publications_agree_as_the_readme_says() -> None:
    by: dict[tuple[str, str, str], dict[str, float]] = {}
    for figure in reference.published():
        by.setdefault((figure.backbone, figure.task, figure.metric), {})[figure.source] = figure.value
    apart = {key: abs(both["openclip"] - both["lovm"]) for key, both in by.items() if len(both) == 2}
    assert max(gap for (_, task, _), gap in apart.items() if task != "vtab/svhn") == pytest.approx(0.006)
    assert max(apart.values()) == pytest.approx(0.2066) and len(apart) == 9 * 18


def test_they_are_those_of_lovm() -> None:
    path = SHARED / "lovm_eval_table.csv"
    if not path.is_file():
        pytest.skip(f"the published table is not here: {path}")
    with path.open(encoding="utf-8") as file:
        theirs = {(r["dataset"], r["model"]): float(r["acc1"]) for r in csv.DictReader(file) if r["pretrained"] == "openai"}
    ours = [figure for figure in reference.published() if figure.source == "lovm"]
    for figure in ours:
        dataset, model = figure.task.removeprefix("vtab/"), figure.backbone.removeprefix("openai/")
        assert figure.value == pytest.approx(theirs[dataset, model], abs=5.1e-5), figure


def test_they_are_those_of_open_clip() -> None:
    path = SHARED / "openclip_classification_results.csv"
    if not path.is_file():
        pytest.skip(f"the published table is not here: {path}")
    with path.open(encoding="utf-8") as file:
        theirs = {r["name"]: r for r in csv.DictReader(file) if r["pretrained"] == "openai"}
    compared = 0
    lines = (
        (Path(reference.__file__).parents[1] / "results" / "reference" / "openclip.csv")
        .read_text(encoding="utf-8")
        .splitlines()
    )
    for line in csv.DictReader(line for line in lines if not line.startswith("#")):
        for name, value in line.items():
            model = name.removeprefix("openai/")
            if name.startswith("openai/") and line["dataset"] in theirs[model]:
                assert float(value) / 100 == pytest.approx(float(theirs[model][line["dataset"]]), abs=1.1e-4), (
                    line["dataset"],
                    name,
                )
                compared += 1
    assert compared >= 9 * 28


def test_the_verb(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from ensemble_bench import leaderboard

    (tmp_path / "records.jsonl").write_text("")
    monkeypatch.setattr(leaderboard, "caption", lambda results: "")
    monkeypatch.setattr(leaderboard, "rows", lambda results, mce=None: [row(task="vtab/eurosat", value=0.3081)])
    assert cli.main(["board", str(tmp_path), "--reference"]) == 0
    out = capsys.readouterr().out
    assert "40.81" in out and "40.87" in out and "-10.00" in out and "OFF" in out and "0 of 1 numbers" in out
    assert cli.main(["board", str(tmp_path), "--reference", "--format", "json"]) == 0
    assert [one["source"] for one in json.loads(capsys.readouterr().out)] == ["lovm", "openclip"]
    assert cli.main(["board", str(tmp_path), "--reference", "--format", "csv"]) == 2
    assert "--reference prints a table, markdown or JSON" in capsys.readouterr().err
    monkeypatch.setattr(leaderboard, "rows", lambda results, mce=None: [row()])
    assert cli.main(["board", str(tmp_path), "--reference"]) == 0
    assert "none of these numbers has been published" in capsys.readouterr().out


def test_after_a_run_a_known_backbone_is_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the whole road, with a published figure made up for an embedded backbone: right first, then two points off."""
    monkeypatch.setenv("ENSEMBLE_BENCH_CACHE", str(tmp_path / "store"))
    monkeypatch.chdir(tmp_path)
    words = ["run", "-t", "mini/faces", "-b", "mini/vit-16", "-s", "single", "log-avg", "-o", "out"]
    assert cli.main(words) == 0
    assert "reference:" not in capsys.readouterr().out, "nobody has published anything of these"
    (record,) = [r for r in Results(tmp_path / "out").records if r.strategy == "single:mini/vit-16"]
    value = record.metrics["acc1"]["value"]
    usual = cards.folder
    monkeypatch.setattr(cards, "folder", lambda kind: tmp_path if kind == "reference" else usual(kind))
    for points, said in ((0.0, "1 of 1 numbers of single backbones are within a point of published ones."), (2.0, "0 of 1")):
        line = f"mini/faces,acc1,faces,{100 * value - points:.4f}\n"
        (tmp_path / "made-up.csv").write_text(f"# made up\ntask,metric,dataset,mini/vit-16\n{line}")
        reference.published.cache_clear()
        try:
            assert cli.main(words) == 0
        finally:
            reference.published.cache_clear()
        out = capsys.readouterr().out
        assert f"reference: {said}" in out
        assert ("+2.00" in out and "made-up" in out and "OFF" in out) == bool(points)
    assert cli.main([*words[:-1], "some", "--limit", "20"]) == 0
    assert "reference:" not in capsys.readouterr().out, "part of the images is another question"
