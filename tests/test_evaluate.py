"""The verbs of prediction archives: rows as on the board, per condition and of all samples, whatever fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ensemble_bench
from ensemble_bench import archive, assessment, cli, evaluation, fewshot, leaderboard, metrics
from ensemble_bench.archive import Archive
from ensemble_bench.cube import Cube
from ensemble_bench.strategies import DEFAULT, registry
from ensemble_bench.strategies.build import named
from ensemble_bench.testing.toy import poorer

Rows = list[dict[str, Any]]
PLUGINS = '''
from dataclasses import dataclass
from ensemble_bench.strategies.base import Strategy


@dataclass(eq=False)
class Fine(Strategy):
    """Mean of the probabilities."""

    family = "static"
    needs = ("probabilities",)

    def predict(self, query):
        return query.probabilities.mean(0)


class Raises(Fine):
    """Raises."""

    def predict(self, query):
        return {}["nothing"]


class Shape(Fine):
    """Gives a wrong shape."""

    def predict(self, query):
        return query.probabilities[0].T


class Peeks(Fine):
    """Wants labels."""

    def predict(self, query):
        return query.labels


class Hungry(Fine):
    """Wants features and does not say so."""

    def predict(self, query):
        return query.features[0]


@dataclass(eq=False)
class Stumbles(Fine):
    """Cannot learn."""

    family = "calibrated"

    def fit(self, support):
        raise RuntimeError("no good support")
'''


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENSEMBLE_BENCH_CACHE", str(tmp_path / "store"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(registry, "_added", {})


def saved(
    cube: Cube,
    path: Path,
    *,
    condition: list[str] | None = None,
    support: Cube | None = None,
) -> Path:
    """The cube as an archive; with ``support`` a train split."""
    cubes = {"test": cube} if support is None else {"test": cube, "train": support}
    made = archive.joined("mine", cubes)
    labels = None if condition is None else np.array(condition)
    archive.write(Archive("mine", made.cube, labels, made.split), path)
    return path


def rows(*words: str, capsys: pytest.CaptureFixture[str], code: int = 0) -> Rows:
    assert cli.main(["evaluate", *words, "--format", "json"]) == code
    found: Rows = json.loads(capsys.readouterr().out)
    return found


def value(found: Rows, strategy: str, metric: str = "acc1", condition: str = "all") -> Any:
    (row,) = [row for row in found if (row["strategy"], row["metric"], row["condition"]) == (strategy, metric, condition)]
    return row["value"]


def test_rows_are_those_of_the_board(query: Cube, support: Cube, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved(query, tmp_path / "mine.npz", support=support)
    texts = ["log-avg", "vote-top1", "best-single", "super-learner", "oracle", "oracle-best-single"]
    found = rows("mine.npz", "-s", *texts, "--shots", "2", "--draws", "3", "--seed", "4", capsys=capsys)
    assert {row["strategy"] for row in found} == set(texts) and {row["condition"] for row in found} == {"all"}
    for row in found:
        learns = row["strategy"] in ("best-single", "super-learner")
        assert (row["task"], row["n"], row["gflops"]) == ("mine", 240, None)
        assert (row["shots"], row["draws"]) == ((2, 3) if learns else (0, 0))
        assert row["labels"] == (12 if learns else 240 if row["family"] == "oracle" else 0)
    supports = [
        support.take(fewshot.draw(support.ids, support.labels.tolist(), support.classes, 2, seed=4, number=number))
        for number in range(3)
    ]
    for text in texts:
        answers = evaluation.answers(lambda text=text: named(text), text, supports, {"q": query}, 4)["q"]  # type: ignore[misc]
        by_hand = [metrics.measured(dict(answer.samples), query.labels) for answer in answers]
        for metric in ("acc1", "acc5", "mean_per_class_recall", "nll", "brier", "ece"):
            if metric in by_hand[0]:
                mean = np.mean([one[metric] for one in by_hand])
                assert value(found, text, metric) == pytest.approx(mean, abs=1e-6), (text, metric)
    base, top = value(found, "oracle-best-single"), value(found, "oracle")
    assert value(found, "log-avg", "gap_closed") == pytest.approx((value(found, "log-avg") - base) / (top - base))
    low, high = next((row["ci_low"], row["ci_high"]) for row in found if (row["strategy"], row["metric"]) == ("oracle", "acc1"))
    assert low < top < high


def test_each_condition_has_rows_and_so_have_all(query: Cube, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ["0.10", "NaN", "true"]
    condition = [names[label // 2] for label in query.labels.tolist()]  # of some classes each: backbones differ in those
    saved(query, tmp_path / "mine", condition=condition)
    texts = ("vote-top1", "confidence", "oracle", "oracle:k=2", "oracle-best-single", f"single:{query.backbones[1]}")
    found = rows("mine", "-s", *texts, capsys=capsys)
    assert list(dict.fromkeys(row["condition"] for row in found)) == ["all", "0.10", "NaN", "true"]
    bests = set()
    for name in names:
        part = query.take([place for place, one in enumerate(condition) if one == name])
        for text in texts:
            answer = evaluation.answer(named(text), part, text)
            assert value(found, text, condition=name) == metrics.acc1(answer.samples["decisions"], part.labels), (name, text)
        right = (part.decisions == part.labels).double()
        assert value(found, "oracle-best-single", condition=name) == float(right.mean(1).max())  # its own best
        bests.add(int(right.mean(1).argmax()))
        assert {row["n"] for row in found if row["condition"] == name} == {len(part)}
    assert len(bests) > 1, "else one best for all would do"


def test_pieces_give_the_same_rows(
    query: Cube, support: Cube, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    condition = [("a", "b")[number % 3 % 2] for number in range(len(query) + len(support))]
    saved(query, tmp_path / "mine", condition=condition, support=support)
    texts = ("default", "oracle:k=3")
    whole = rows("mine", "-s", *texts, capsys=capsys)
    monkeypatch.setattr(archive, "HELD", 0)
    monkeypatch.setattr(evaluation, "WHOLE", 1)
    monkeypatch.setattr(evaluation, "PIECE", 40 * 24)
    pieces = rows("mine", "-s", *texts, capsys=capsys)
    assert len(pieces) == len(whole) > 300
    for one, other in zip(pieces, whole, strict=True):
        if one["value"] is not None:
            assert one["value"] == pytest.approx(other["value"], abs=2e-6), one
            assert one["ci_low"] == pytest.approx(other["ci_low"], abs=2e-3)  # predictions are kept in half precision
        left = {key: item for key, item in one.items() if key not in ("value", "ci_low", "ci_high")}
        assert left == {key: item for key, item in other.items() if key in left}


def test_the_default_is_what_applies(query: Cube, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved(poorer(query, "decisions"), tmp_path / "mine.npz")
    assert cli.main(["evaluate", "mine.npz", "--format", "json"]) == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    singles = {f"single:{name}" for name in query.backbones}
    assert {row["strategy"] for row in found} == {"vote-top1", "oracle", "oracle-best-single", *singles}
    assert all(row["status"] == "done" for row in found if row["metric"] == "acc1")
    assert err.count("left out of the default: ") == len(DEFAULT) - 4
    assert "log-avg needs probabilities, and there are only decisions." in err
    assert "best-single learns from labelled examples, and this archive has no train split" in err


def test_what_does_not_apply_is_a_row_with_the_reason(query: Cube, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved(poorer(query, "decisions"), tmp_path / "mine.npz", condition=["x"] * 240)
    found = rows("mine.npz", "-s", "all", capsys=capsys)
    for condition in ("all", "x"):
        lines = {row["strategy"]: row for row in found if (row["metric"], row["condition"]) == ("acc1", condition)}
        assert {name.partition(":")[0] for name in lines} == set(registry)
        assert lines["nlc"]["value"] is None and lines["nlc"]["status"] == "not-applicable"
        assert lines["nlc"]["reason"] == "nlc needs logits and features, and there are only decisions"
        assert "no train split" in lines["best-single"]["reason"]
        assert lines["vote-top1"]["status"] == "done"


def test_a_bad_plugin_stops_nobody(query: Cube, support: Cube, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved(poorer(query, "logits"), tmp_path / "mine.npz", support=poorer(support, "logits"), condition=["x"] * 258)
    (tmp_path / "many.py").write_text(PLUGINS)
    texts = ["log-avg", "raises", "shape", "peeks", "hungry", "stumbles", "fine", "oracle"]
    assert cli.main(["evaluate", "mine.npz", "--plugin", "many.py", "-s", *texts, "--format", "json"]) == 2
    out, err = capsys.readouterr()
    found = json.loads(out)
    reasons = {
        "raises": "raises: KeyError: 'nothing'",
        "shape": "shape: the scores of a strategy must be [s, c] = [240, 6], not [6, 240].",
        "peeks": "peeks: this cube is blind: it has no labels.",
        "hungry": "hungry: this cube has no features, only confidence, decisions, logits, probabilities.",
        "stumbles": "stumbles: RuntimeError: no good support",
    }
    for text in texts:
        for condition in ("all", "x"):
            (row,) = [r for r in found if (r["strategy"], r["metric"], r["condition"]) == (text, "acc1", condition)]
            if text in reasons:
                assert (row["value"], row["status"], row["reason"]) == (None, "failed", reasons[text])
            else:
                assert row["status"] == "done" and row["value"] > 0.5
    *failures, count = err.splitlines()
    assert sorted(failures) == sorted(f"ensemble-bench: {reason}" for reason in reasons.values())
    assert count == "ensemble-bench: 5 strategies failed; the others are finished."


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["none"], "no imported archive and no file is called 'none'"),
        (["./none"], "none is not there"),
        (["mine.npz", "-s", "log-av"], "Did you mean log-avg?"),
        (["mine.npz", "-s", "nlc:forms=1"], "has no parameter 'forms'"),
        (["mine.npz", "--shots", "0"], "--shots must be at least 1"),
        (["mine.npz", "--shots", "4"], "mine: the class 'ant' has 3 training examples, fewer than --shots 4"),
        (["mine.npz", "--draws", "0"], "--draws must be at least 1"),
        (["mine.npz", "--plugin", "none.py"], "the plug-in none.py cannot be read"),
        (["absent.npz"], "absent: the class 'bee' has 0 training examples"),
        (["torn.npz"], "torn.npz cannot be read"),
    ],
)
def test_what_the_user_must_mend_comes_before_any_work(
    words: list[str],
    said: str,
    query: Cube,
    support: Cube,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    saved(query, tmp_path / "mine.npz", support=support)
    saved(query, tmp_path / "absent.npz", support=support.take((support.labels != 1).nonzero().squeeze(1)))
    (tmp_path / "torn.npz").write_bytes((tmp_path / "mine.npz").read_bytes()[:999])
    monkeypatch.setattr(evaluation, "said", lambda *words: pytest.fail("work was begun"))
    monkeypatch.setattr(evaluation, "fitted", lambda *words: pytest.fail("work was begun"))
    assert cli.main(["evaluate", *words]) == 2
    out, err = capsys.readouterr()
    assert out == "" and said in err and err.count("\n") == 1


def test_a_missing_class_matters_only_to_learners(
    query: Cube, support: Cube, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved(query, tmp_path / "mine.npz", support=support.take((support.labels != 1).nonzero().squeeze(1)))
    assert value(rows("mine.npz", "-s", "log-avg", "oracle", capsys=capsys), "log-avg") > 0.5


def test_bad_values_found_on_the_way_are_a_sentence_and_not_a_failed_strategy(
    query: Cube, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(query, tmp_path / "mine")
    logits = query.logits.numpy().copy()
    logits[2, 200, 1] = np.nan
    np.save(tmp_path / "mine" / "logits.npy", logits)
    monkeypatch.setattr(archive, "HELD", 0)
    monkeypatch.setattr(evaluation, "WHOLE", 1)
    monkeypatch.setattr(evaluation, "PIECE", 40 * 24)
    assert cli.main(["evaluate", "mine", "-s", "log-avg", "oracle-best-single"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and "logits must be finite" in err and "'q2-200'" in err and err.count("\n") == 1


@pytest.mark.parametrize(
    "condition", [["mini-c:fog:3"], ["clean", "mini-c:fog:1", "mini-c:fog:9", "x:y:2"], ["a:b:1", "a:c:2"]]
)
def test_names_of_conditions_are_nothing_but_names(
    condition: list[str], query: Cube, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [condition[number % len(condition)] for number in range(len(query))]
    saved(query, tmp_path / "mine", condition=names)
    found = rows("mine", "-s", "log-avg", "single", "oracle", "oracle-best-single", capsys=capsys)
    assert {row["condition"] for row in found} == {"all", *condition}
    assert cli.main(["evaluate", "mine", "-s", "log-avg", "single", "oracle", "oracle-best-single"]) == 0
    assert "nan" not in capsys.readouterr().out


def test_a_table_for_people_and_one_for_spreadsheets(query: Cube, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved(query, tmp_path / "mine", condition=["x", "y"] * 120)
    assert cli.main(["evaluate", "mine", "-s", "log-avg", "oracle", "oracle-best-single"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("mine · 240 samples · 6 classes · has confidence, decisions, features, logits, probabilities")
    assert "pool of 4: toy/a-wide" in out and out.index(", all") < out.index(", x") < out.index(", y") and err == ""
    assert cli.main(["evaluate", "mine", "-s", "log-avg", "--format", "csv"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("strategy,task,metric,condition,") and lines[1].startswith("log-avg,mine,acc1,all,0,0,240,")


def test_confidence_goes_with_decisions(query: Cube, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = ["id,label,backbone,prediction,confidence"]
    for b, name in enumerate(query.backbones):
        for s, sample in enumerate(query.ids):
            place = int(query.decisions[b, s])
            lines.append(
                f"{sample},{query.classes[query.labels[s]]},{name},{query.classes[place]},{float(query.confidence[b, s])!r}"
            )
    (tmp_path / "mine.csv").write_text("\n".join(lines) + "\n")
    found = rows("mine.csv", "-s", "confidence", "vote-top1", capsys=capsys)
    exact = evaluation.answer(named("confidence"), query, "confidence")
    assert value(found, "confidence") == metrics.acc1(exact.samples["decisions"], query.labels)
    assert not [row for row in found if row["metric"] == "nll"]


@pytest.mark.parametrize("form", ["logits", "decisions"])
def test_the_diversity_of_an_archive(form: str, query: Cube, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    condition = [("mini-c:fog:3", "0.10")[number % 2] for number in range(len(query))]
    saved(poorer(query, form), tmp_path / "mine", condition=condition)
    assert cli.main(["diversity", "mine", "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    right = query.decisions == query.labels
    for name, rows in (("all", slice(None)), ("mini-c:fog:3", slice(0, None, 2)), ("0.10", slice(1, None, 2))):
        pairs = {
            (row["backbone"], row["other"]): row["value"]
            for row in found
            if (row["condition"], row["measure"]) == (name, "disagreement") and row["subject"] == "pair"
        }
        assert len(pairs) == 6
        for (one, other), value in pairs.items():
            first, second = (right[query.backbones.index(backbone), rows] for backbone in (one, other))
            assert value == pytest.approx(float((first != second).double().mean())), (name, one, other)
    assert cli.main(["import", "mine", "--as", "toys"]) == 0
    assert cli.main(["diversity", "toys", "-c", "0.10"]) == 0
    assert "toys, 0.10" in capsys.readouterr().out
    assert cli.main(["diversity", "none"]) == 2
    assert "none is not there" in capsys.readouterr().err


def test_import_then_evaluate(query: Cube, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved(query, tmp_path / "mine.npz")
    assert cli.main(["import", "mine.npz", "--as", "toys"]) == 0
    assert capsys.readouterr().out == f"toys: {tmp_path / 'store' / 'archives' / 'toys'}\n"
    (tmp_path / "mine.npz").unlink()
    (row,) = [row for row in rows("toys", "-s", "log-avg", capsys=capsys) if row["metric"] == "acc1"]
    assert row["task"] == "toys" and row["value"] > 0.5
    assert cli.main(["import", "mine.npz", "--as", "toys"]) == 2
    assert "mine.npz is not there" in capsys.readouterr().err
    assert cli.main(["import", "toys", "--as", "Toys"]) == 2
    assert "lower case" in capsys.readouterr().err


def test_nothing_is_prepared_from_other_tasks(query: Cube, support: Cube) -> None:
    names = [name for name in registry if named(name if name != "single" else "single:x").prepares()]
    made = archive.joined("mine", {"test": query, "train": support})
    done = assessment.assessed(made, [*names, "log-avg"], assessment.Protocol(1, 2, 0))
    reasons = {record.strategy: record.reason for record in done.results.records if record.status == "not-applicable"}
    assert reasons == {name: f"{name} learns from other tasks first, and an archive is one task" for name in names}
    assert done.failures == [] and leaderboard.rows([done.results])


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["", ".npz"])
def test_an_exported_task_gives_what_a_run_gives(suffix: str, tmp_path: Path) -> None:
    """End to end in new processes: the same strategies, draws and numbers from the archive as from the pictures."""
    environment = {**os.environ, "PYTHONPATH": str(Path(ensemble_bench.__file__).parents[1])}

    def call(*words: str) -> str:
        command = [sys.executable, "-m", "ensemble_bench", *words]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600, cwd=tmp_path, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    pool = ["-b", "mini/rn-narrow", "mini/vit-16"]
    texts = ["-s", "single", "log-avg", "vote-top1", "best-single", "super-learner", "nlc", "oracle", "oracle-best-single"]
    draws = ["--draws", "2", "--shots", "2"]
    said = call("export", "archive", "mini/faces", f"out{suffix}", *pool, "-q")
    assert said.startswith(f"out{suffix}: ") and "2 backbones" in said
    evaluated = json.loads(call("evaluate", f"./out{suffix}", *texts, *draws, "--format", "json"))
    call("run", "-t", "mini/faces", *pool, *texts, *draws, "-q", "-o", "results")
    board = json.loads(call("board", "results", "--format", "json"))
    keys = ("strategy", "metric", "shots", "labels", "n", "family", "backbones", "status")
    there = {tuple(row[key] for key in keys): row["value"] for row in evaluated}
    expected = {tuple(row[key] for key in keys): row["value"] for row in board}
    assert there.keys() == expected.keys() and len(there) > 40
    for key, number in expected.items():
        assert there[key] == (None if number is None else pytest.approx(number, abs=1e-6)), key


def test_export_refuses_what_it_cannot_write(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "out").mkdir()
    assert cli.main(["export", "archive", "mini/faces", "out"]) == 2
    assert "out is already there" in capsys.readouterr().err
    assert cli.main(["export", "archive", "mini", "new"]) == 2
    assert "cubes are of one task" in capsys.readouterr().err
    with pytest.raises(SystemExit) as left:
        cli.main(["export", "nothing"])
    assert left.value.code == 2 and "archive" in capsys.readouterr().err


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="this system does not say how much memory was used")
def test_memory_stays_what_the_pieces_need(tmp_path: Path) -> None:
    """Four times the samples, and no more memory but for the answers: measured in processes of their own.

    What counts is how much a process grows once it has answered a few samples. Before that it maps libraries, and how much of
    these counts as its memory hangs on what happens to lie in the page cache: hundreds of megabytes more or less.
    """
    text = (
        "import sys, torch\n"
        "torch.set_num_threads(1)\n"
        "from pathlib import Path\n"
        "from ensemble_bench import archive, evaluation\n"
        "from ensemble_bench.strategies.build import named\n"
        "def memory(name):\n"
        "    lines = Path('/proc/self/status').read_text().splitlines()\n"
        "    return next(int(line.split()[1]) for line in lines if line.startswith(name))\n"
        "archive.HELD = 0; evaluation.WHOLE = 1; evaluation.PIECE = 1 << 20\n"
        "texts = 'log-avg vote-top1 vote-top3 confidence mean-probability oracle oracle-best-single'.split()\n"
        "query = archive.read(Path(sys.argv[1])).cube\n"
        "def said(query):\n"
        "    found, _ = evaluation.said([evaluation.Asked(named(text), text) for text in texts], query)\n"
        "    assert not [one for one in found if isinstance(one, Exception)], found\n"
        "said(query.take(range(500)))\n"
        "Path('/proc/self/clear_refs').write_text('5')  # the peak begins anew\n"
        "before = memory('VmRSS')\n"
        "said(query)\n"
        "print((memory('VmHWM') - before) >> 10)\n"
    )
    grown = []
    for samples in (1500, 6000):
        logits = np.random.default_rng(0).standard_normal((5, samples, 1000)).astype(np.float32)
        path = tmp_path / str(samples)
        path.mkdir()
        np.save(path / "logits.npy", logits)
        np.save(path / "labels.npy", np.arange(samples) % 1000)
        for name, count in (("ids", samples), ("classes", 1000), ("backbones", 5)):
            np.save(path / f"{name}.npy", np.array([f"{name}{number}" for number in range(count)]))
        (path / "archive.toml").write_text("")
        command = [sys.executable, "-c", text, str(path)]
        environment = {**os.environ, "PYTHONPATH": str(Path(ensemble_bench.__file__).parents[1])}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
        grown.append(int(done.stdout))
    assert grown[1] - grown[0] < 24 and grown[1] < 24, f"{grown} MB: 90 MB of scores more must not show"


def test_torch_is_not_needed_to_say_what_the_verbs_are() -> None:
    text = (
        "import sys; from ensemble_bench import cli\n"
        "for verb in ('evaluate', 'import', 'export', 'new'):\n"
        "    try: cli.main([verb, '--help'])\n"
        "    except SystemExit: pass\n"
        "print([name for name in ('torch', 'numpy', 'pandas') if name in sys.modules])\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(ensemble_bench.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", text], capture_output=True, text=True, env=environment, timeout=120, check=True
    )
    assert done.stdout.endswith("[]\n")
