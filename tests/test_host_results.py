"""The result door: our records in the host's format and back, its files as rows of our board."""

from __future__ import annotations

import csv
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ensemble_bench import fits, leaderboard, report, runner
from ensemble_bench.cli import main
from ensemble_bench.errors import BadRecord
from ensemble_bench.host import results
from ensemble_bench.records import Results
from ensemble_bench.report.data import COLUMNS
from ensemble_bench.request import Request

STRATEGIES = ("single", "log-avg", "vote-top1", "genetic", "oracle")


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """A small run: two tasks, clean and one corruption."""
    folder = tmp_path_factory.mktemp("results")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ENSEMBLE_BENCH_CACHE", str(folder / "store"))
        asked = Request(
            tasks=("mini/faces", "mini/counting"),
            strategies=STRATEGIES,
            corruptions=("mini-c:fog:3",),
            draws=2,
            limit=24,
            output=folder / "run",
        )
        return runner.run(asked).results


@pytest.fixture(scope="module")
def written(ours: Results, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("written") / "out"
    paths, left_out = results.written([ours], folder)
    assert not left_out and len(paths) == len(list(folder.iterdir())) == 2 * 2 * 9  # tasks, conditions, strategies
    return folder


def theirs(folder: Path, **changes: Any) -> Path:
    """A result as the host writes it."""
    entry = {"dataset": "cifar10", "model": "ViT-B-32", "pretrained": "openai", "task": "zeroshot_classification"}
    metrics = {"acc1": 0.898, "acc5": 0.9964, "mean_per_class_recall": 0.8983}
    path = folder / f"{len(list(folder.iterdir()))}.json"
    path.write_text(json.dumps({**entry, "metrics": metrics, "language": "en", **changes}))
    return path


def test_the_six_keys_and_one_more(ours: Results, written: Path) -> None:
    rows = {tuple(row[k] for k in ("task", "condition", "strategy", "metric")): row for row in leaderboard.rows([ours])}
    for path in written.iterdir():
        entry = json.loads(path.read_text(), parse_constant=pytest.fail)
        assert set(entry) == {*results.KEYS, "ensemble_bench"}
        own = entry["ensemble_bench"]
        assert all(math.isfinite(value) for value in entry["metrics"].values())
        assert {"acc1", "mean_per_class_recall"} <= set(entry["metrics"]) <= {"acc1", "acc5", "mean_per_class_recall"}
        assert ("acc5" in entry["metrics"]) == ("counting" in entry["dataset"])  # six classes; faces have two
        for metric, value in entry["metrics"].items():
            assert value == rows[own["task"], own["condition"], own["strategy"], metric]["value"]
        assert own["limit"] == 24 and own["provenance"]["versions"]["torch"]
    entry = json.loads((written / "eb_mini_faces@mini-c_fog_3_mini_genetic_en_fewshot_classification_1shot.json").read_text())
    assert [entry[key] for key in results.KEYS if key != "metrics"] == [
        "eb/mini/faces@mini-c:fog:3",
        "genetic",
        "mini",
        "fewshot_classification",
        "en",
    ]
    kinds = {path.name: json.loads(path.read_text())["task"] for path in written.iterdir()}
    assert {kind for name, kind in kinds.items() if "_oracle" in name} == {"oracle"}
    assert {kind for name, kind in kinds.items() if "single" in name} == {"zeroshot_classification"}


def test_what_we_wrote_comes_back(ours: Results, written: Path) -> None:
    back = results.rows([written])
    key = ("strategy", "task", "metric", "condition", "shots")
    held = {tuple(row[k] for k in key): row for row in leaderboard.rows([ours])}
    plain = [row for row in back if not row["task"].startswith("mean(")]
    assert len(plain) > 100
    for row in plain:
        own = held[tuple(row[k] for k in key)]
        assert {name: row[name] for name in COLUMNS} == {name: own[name] for name in COLUMNS}


def test_a_file_of_the_hosts_is_a_single_backbone(tmp_path: Path) -> None:
    theirs(tmp_path)
    theirs(tmp_path, dataset="imagenet1k", language="it", metrics={"acc1": 0.25, "acc5": math.nan})
    theirs(tmp_path, dataset="eb/mini/faces@mini-c:fog:3", model="log-avg", pretrained="mini")
    found = {(row["strategy"], row["task"], row["metric"], row["condition"]): row for row in results.rows([tmp_path])}
    row = found["single:openai/ViT-B-32", "cifar10", "acc1", "clean"]
    assert (row["value"], row["ci_low"], row["ci_high"], row["reason"]) == (0.898, None, None, "no predictions")
    assert (row["family"], row["backbones"], row["n"], row["gflops"], row["labels"]) == ("static", 1, None, None, 0)
    assert set(row) == set(COLUMNS)
    assert found["single:openai/ViT-B-32", "imagenet1k (it)", "acc5", "clean"]["status"] == "not-applicable"
    assert found["log-avg", "mini/faces", "acc1", "mini-c:fog:3"]["backbones"] is None
    assert found["single:openai/ViT-B-32", "mean(2 tasks)", "acc1", "clean"]["value"] == pytest.approx((0.898 + 0.25) / 2)


def test_a_fitted_strategy_does_not_pass_for_one_without_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The host's file does not say how many labels it saw: the fit does, where it is at hand."""
    monkeypatch.setenv("ENSEMBLE_BENCH_CACHE", str(tmp_path / "store"))
    fit = fits.save(fits.shelf(), {}, {"strategy": "nlc", "shots": 4})
    (tmp_path / "out").mkdir()
    theirs(tmp_path / "out", dataset="eb/mini/faces", model="nlc", pretrained=f"mini@{fit}")
    theirs(tmp_path / "out", dataset="eb/mini/faces", model="nlc", pretrained="mini@0123456789ab")
    found = [(row["shots"], row["labels"]) for row in results.rows([tmp_path / "out"]) if row["metric"] == "acc1"]
    assert found == [(4, None), (0, None)]
    assert main(["board", "--from", str(tmp_path / "out")]) == 0


def test_tables_say_what_is_not_known(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    theirs(tmp_path)
    theirs(tmp_path, dataset="mscoco_captions", task="zeroshot_retrieval", metrics={"image_retrieval_recall@5": 0.56})
    assert main(["board", "--from", str(tmp_path)]) == 0
    said = capsys.readouterr()
    assert "cifar10: ? images" in said.out and "openai/ViT-B-32" in said.out and "89.8" in said.out
    assert "no acc1, so not in this table: mscoco_captions" in said.err
    assert main(["board", "--from", str(tmp_path), "--format", "json"]) == 0
    assert {row["metric"] for row in json.loads(capsys.readouterr().out)} >= {"acc1", "image_retrieval_recall@5"}


def test_ours_and_theirs_on_one_board(ours: Results, written: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = theirs(tmp_path, dataset="eb/mini/faces", model="ViT-B-32", pretrained="openai")
    words = ["board", str(ours.folder), "--from", str(file), str(written), "--format", "json"]
    assert main(words) == 0
    rows = json.loads(capsys.readouterr().out)
    assert len(rows) == len(leaderboard.rows([ours])) + 3
    assert rows[-1]["strategy"] == "single:openai/ViT-B-32"
    theirs(tmp_path, dataset="eb/mini/faces", model="log-avg", pretrained="mini")
    assert main(["board", str(ours.folder), "--from", str(tmp_path)]) == 2
    assert "show them one by one" in capsys.readouterr().err


def test_the_verb_writes(ours: Results, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "folder"
    assert main(["board", str(ours.folder), "--format", "clip-benchmark", "-o", str(out)]) == 0
    assert f"{out}: 36 files" in capsys.readouterr().out
    assert main(["board", str(ours.folder), "--format", "clip-benchmark"]) == 2
    assert "wants results folders and -o FOLDER" in capsys.readouterr().err
    assert main(["board"]) == 2
    assert "a board needs results" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"dataset": "x", "metr', "is cut off, or no JSON"),
        ('{"dataset": "x", "metrics": null}', "it has no 'metrics'"),
        ("[]", "it has no 'metrics'"),
        ('{"dataset": "x", "metrics": {"acc1": 1}}', "it has no 'model'"),
        (
            '{"dataset": "x", "model": "m", "pretrained": "p", "task": "t", "language": "en", "metrics": {"acc1": "1"}}',
            "acc1 must be a number, not '1'",
        ),
        (
            '{"dataset": "x", "model": "m", "pretrained": "p", "task": "t", "language": "en", "metrics": {}, '
            '"ensemble_bench": {}}',
            "was not written by this version",
        ),
    ],
)
def test_a_bad_json_file_is_a_sentence(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "bad.json").write_text(text)
    with pytest.raises(BadRecord, match=said):
        results.rows([tmp_path / "bad.json"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("dataset,model,pretrained,acc1\nx,m,p,good\n", "line 2: acc1 must be a number, not 'good'"),
        ("dataset,model,acc1\nx,m,0.5\n", "line 2: there is no 'pretrained'"),
        ("dataset,model,pretrained,acc1\nx,m,p,1,2\n", "line 2 has not as many cells as the header"),
        ("dataset,model,pretrained,acc1,ensemble_bench\nx,m,p,1,{'task'\n", "what stands under 'ensemble_bench' is cut off"),
        ("dataset,model,pretrained,acc1\nx,m,p,1\nx,m,p,2\n", "line 3: another file has another acc1"),
    ],
)
def test_a_bad_csv_file_is_a_sentence(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "bad.csv").write_text(text)
    with pytest.raises(BadRecord, match=said):
        results.rows([tmp_path / "bad.csv"])


def test_build_names_the_file_that_is_cut_off(written: Path, tmp_path: Path) -> None:
    from argparse import Namespace

    (tmp_path / "cut.json").write_text('{"a')
    done: list[Namespace] = []
    build = results.checked_first(done.append)
    with pytest.raises(BadRecord, match=r"cut\.json is cut off"):
        build(Namespace(files=[str(written), str(tmp_path)], output=str(tmp_path / "new" / "out.csv")))
    build(Namespace(files=[str(written)], output=str(tmp_path / "new" / "out.csv")))
    assert len(done) == 1 and (tmp_path / "new").is_dir()


def test_the_stock_build_makes_one_table_of_ours_and_theirs(ours: Results, written: Path, tmp_path: Path) -> None:
    """By CLIP_benchmark's own command, without us: every file is a line, and the table is a board again."""
    folder = tmp_path / "all"
    folder.mkdir()
    for path in written.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    file = theirs(folder, dataset="eb/mini/faces", model="ViT-B-32", pretrained="openai")
    command = [
        str(Path(sys.executable).with_name("clip_benchmark")),
        "build",
        str(folder),
        "--output",
        str(tmp_path / "both.csv"),
    ]
    said = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert said.returncode == 0, said.stderr[-2000:]
    with (tmp_path / "both.csv").open(newline="") as table:
        lines = {(row["dataset"], row["model"], row["task"]): row for row in csv.DictReader(table)}
    assert len(lines) == 37
    for path in folder.iterdir():
        entry = json.loads(path.read_text())
        row = lines[entry["dataset"], entry["model"], entry["task"]]
        assert {name: float(row[name]) for name in entry["metrics"]} == entry["metrics"]
        assert row["model_fullname"] == f"{entry['model']} {entry['pretrained']}"
    single = "single:openai/ViT-B-32"
    back = results.rows([tmp_path / "both.csv"])
    values = {row["metric"]: row["value"] for row in back if row["strategy"] == single and row["task"] == "mini/faces"}
    assert values == json.loads(file.read_text())["metrics"]

    def own(rows: list[dict[str, Any]]) -> list[str]:
        kept = [row for row in rows if row["strategy"] != single and not row["task"].startswith("mean(")]
        return sorted(json.dumps({name: row[name] for name in COLUMNS}, sort_keys=True) for row in kept)

    assert own(back) == own(results.rows([written])), "shots, labels and intervals too"


def test_the_published_table_is_a_board() -> None:
    path = Path(__file__).resolve().parents[2] / "shared" / "data" / "published" / "clip_benchmark.csv"
    if not path.is_file():
        pytest.skip(f"the published table is not here: {path}")
    rows = results.rows([path])
    with path.open(newline="") as file:
        lines = list(csv.DictReader(file))
    numbers = sum(bool(value) for line in lines for name, value in line.items() if name not in results._BESIDE)
    assert len([row for row in rows if not row["task"].startswith("mean(")]) == numbers
    assert len({row["strategy"] for row in rows}) == 13
    (own,) = [
        line for line in lines if (line["dataset"], line["model"], line["pretrained"]) == ("vtab/dtd", "ViT-B-16", "openai")
    ]
    (row,) = [r for r in rows if (r["strategy"], r["task"], r["metric"]) == ("single:openai/ViT-B-16", "vtab/dtd", "acc1")]
    assert row["value"] == float(own["acc1"]) == 0.4457446808510638
    shown = {row["task"] for row in rows if row["metric"] == "acc1"}
    assert len(report.text([row for row in rows if row["task"] in shown], "markdown")) > 1000
