"""The road from a request to a board, on two embedded tasks cut short."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import ensemble_bench as eb
from ensemble_bench import fits, leaderboard, runner
from ensemble_bench.errors import BadData, BadOption, BadRecord, BadStore, Lacking
from ensemble_bench.records import Results
from ensemble_bench.request import Request
from ensemble_bench.strategies.build import named

TASKS = ("mini/digits", "mini/surfaces")
ASKED = Request(tasks=TASKS, limit=30, draws=2)

PLUGIN = '''
from dataclasses import dataclass
from typing import ClassVar
from ensemble_bench.strategies.base import Strategy

@dataclass(eq=False)
class Mine(Strategy):
    """My own."""
    family: ClassVar[str] = "static"
    needs: ClassVar[tuple[str, ...]] = ("logits",)
    def predict(self, query):
        return BODY
'''


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of this module's own, filled by the first run."""
    return tmp_path_factory.mktemp("store")


@pytest.fixture(autouse=True)
def _store(stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENSEMBLE_BENCH_CACHE", str(stored))


@pytest.fixture(scope="module")
def first(stored: Path, tmp_path_factory: pytest.TempPathFactory) -> runner.Outcome:
    """A run of every default strategy from an empty store."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ENSEMBLE_BENCH_CACHE", str(stored))
        return runner.run(ASKED.changed(output=tmp_path_factory.mktemp("first") / "out"))


@pytest.fixture
def grown(first: runner.Outcome, tmp_path: Path) -> Path:
    """A copy of the first run's folder to change."""
    return Path(shutil.copytree(first.results.folder, tmp_path / "out"))


def test_every_strategy_on_every_task(first: runner.Outcome) -> None:
    assert first.failures == []
    rows = leaderboard.rows([first.results])
    lines = {row["strategy"] for row in rows}
    assert {"best-single", "nlc", "nlc:form=weight", "oracle", "oracle-best-single", "single:mini/vit-8"} <= lines
    assert {row["task"] for row in rows} == {*TASKS, "mean(2 tasks)"}
    for row in rows:
        assert row["value"] is not None or row["status"] in ("missing", "failed", "not-applicable"), row
    value = {(row["strategy"], row["task"]): row["value"] for row in rows if row["metric"] == "acc1"}
    for task in TASKS:
        singles = [value[line, task] for line in lines if line.startswith("single:")]
        assert value["oracle-best-single", task] == max(singles) <= value["oracle", task]


def test_work_is_counted(first: runner.Outcome) -> None:
    shown = {name: first.work[name] for name in ("loads", "class_builds")}
    assert shown == {"loads": 5, "class_builds": 10}
    assert first.work["encodes"] == 5 * first.work["decodes"]


def test_again_nothing_is_done(first: runner.Outcome, grown: Path) -> None:
    before = (grown / "records.jsonl").read_bytes()
    again = runner.run(ASKED.changed(output=grown))
    assert (again.made, again.kept) == (0, first.made)
    assert set(again.work.values()) == {0}
    assert (grown / "records.jsonl").read_bytes() == before


def test_a_new_folder_encodes_nothing(first: runner.Outcome, tmp_path: Path) -> None:
    other = runner.run(ASKED.changed(output=tmp_path / "other"))
    assert other.made == first.made
    assert set(other.work.values()) == {0}
    mine, theirs = ({r.key: r.metrics for r in results.records} for results in (other.results, first.results))
    assert mine == theirs


def test_every_strategy_of_a_draw_sees_the_same_support(first: runner.Outcome) -> None:
    seen: dict[tuple[str, int], set[str | None]] = {}
    for record in first.results.records:
        if record.draw is not None:
            seen.setdefault((record.task, record.draw), set()).add(record.support)
    assert len(seen) == len(TASKS) * 2
    assert all(len(digests) == 1 for digests in seen.values())
    assert len({digest for digests in seen.values() for digest in digests}) == 4


def test_records_say_where_they_come_from(first: runner.Outcome) -> None:
    record = first.results.records[0]
    assert record.limit == 30 and record.n == 30 and record.seed == 0
    assert {"commit", "dirty", "versions", "card", "weights", "precision", "device", "time"} <= set(record.provenance)
    assert all(len(digest) == 64 for digest in record.provenance["weights"].values())


def test_a_folder_grows_by_strategies_and_tasks(grown: Path) -> None:
    more = runner.run(ASKED.changed(output=grown, strategies=("oracle:k=2",)))
    assert more.made == 2 and more.work["encodes"] == 0
    fewer = runner.run(ASKED.changed(output=grown, tasks=("mini/faces",), strategies=("log-avg",)))
    assert fewer.made == 1
    config = runner.read(grown / runner.CONFIG)
    assert config["tasks"] == ("mini/digits", "mini/surfaces", "mini/faces")
    assert config["strategies"] == ("default", "oracle:k=2", "log-avg")


@pytest.mark.parametrize("changes", [{"shots": 2}, {"draws": 3}, {"seed": 1}, {"limit": 31}, {"backbones": ("mini/vit-8",)}])
def test_a_folder_of_another_configuration_is_refused(grown: Path, changes: dict[str, object]) -> None:
    before = (grown / "records.jsonl").read_bytes(), (grown / runner.CONFIG).read_bytes()
    with pytest.raises(BadRecord, match="give another folder with -o"):
        runner.run(ASKED.changed(output=grown, **changes))
    assert ((grown / "records.jsonl").read_bytes(), (grown / runner.CONFIG).read_bytes()) == before


def test_too_many_shots_write_nothing(tmp_path: Path) -> None:
    with pytest.raises(BadData, match=r"mini/surfaces: the class 'brick' has 30 training examples, fewer than --shots 31"):
        runner.run(ASKED.changed(output=tmp_path / "out", shots=31))
    assert not (tmp_path / "out").exists()


def test_an_edited_plugin_gets_new_numbers(tmp_path: Path) -> None:
    path, output = tmp_path / "plugin.py", tmp_path / "out"
    keys = []
    for body in ("query.logits.mean(0)", "-query.logits.mean(0)"):
        path.write_text(PLUGIN.replace("BODY", body).replace("Mine", f"Mine{len(keys)}"))
        asked = ASKED.changed(output=output, plugins=(path,), strategies=(f"mine{len(keys)}",), tasks=("mini/digits",))
        keys.append(runner.run(asked).results.records[-1])
    assert keys[0].metrics["acc1"]["value"] > keys[1].metrics["acc1"]["value"]
    assert keys[0].key != keys[1].key


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("1 / 0", r"raises: ZeroDivisionError: division by zero"),
        ("query.logits.mean(0)[:, :2]", r"scores of a strategy must be \[s, c\]"),
        ("query.logits.mean(0) * float('nan')", "must be finite"),
        ("query.logits.mean(0) + query.labels[:, None]", "blind: it has no labels"),
        ("None", "must return a tensor of scores"),
    ],
)
def test_a_strategy_that_fails_is_a_row(tmp_path: Path, body: str, said: str) -> None:
    path = tmp_path / "plugin.py"
    name = f"raises{abs(hash(body)) % 10**8}" if body != "1 / 0" else "raises"
    path.write_text(PLUGIN.replace("BODY", body).replace("Mine", name.capitalize()))
    asked = ASKED.changed(output=tmp_path / "out", plugins=(path,), strategies=(name, "log-avg"), tasks=("mini/digits",))
    outcome = runner.run(asked)
    assert outcome.made == 1 and len(outcome.failures) == 1
    failed = next(row for row in leaderboard.rows([outcome.results]) if row["strategy"] == name)
    assert failed["status"] == "failed"
    assert re.search(said, failed["reason"])


def test_fits_are_kept(tmp_path: Path) -> None:
    asked = ASKED.changed(output=tmp_path / "out", strategies=("nlc", "genetic"), tasks=("mini/surfaces",), save_fits=True)
    runner.run(asked)
    names = [path.stem for path in (tmp_path / "out" / "fits").glob("*.json")]
    assert len(names) == 4  # two strategies, two draws
    facts, learnt = fits.load(tmp_path / "out" / "fits", names[0])
    strategy = named(facts["strategy"])
    for key, value in learnt.items():
        setattr(strategy, key, value)
    cube = eb.load_cube("mini/surfaces", limit=30)
    assert strategy.predict(cube.blind()).shape == (30, 3)


def test_a_spoilt_store_file_is_a_sentence(stored: Path, first: runner.Outcome, tmp_path: Path) -> None:
    features = sorted((stored / "features").rglob("*.safetensors"))
    whole = features[0].read_bytes()
    features[0].write_bytes(whole[:-40])
    try:
        with pytest.raises(BadStore, match="Delete it and run again"):
            runner.run(ASKED.changed(output=tmp_path / "out"))
    finally:
        features[0].write_bytes(whole)


def test_killed_at_any_moment_nothing_is_lost(first: runner.Outcome, tmp_path: Path) -> None:
    output = tmp_path / "out"
    command = [
        sys.executable,
        "-m",
        "ensemble_bench",
        "run",
        "-t",
        *TASKS,
        "--limit",
        "30",
        "--draws",
        "2",
        "-o",
        str(output),
        "-q",
    ]
    environment = {**os.environ, "PYTHONPATH": str(Path(eb.__file__).parents[1])}
    child = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    lines = output / "records.jsonl"
    while child.poll() is None and not (lines.exists() and lines.read_bytes().count(b"\n") >= 12):
        time.sleep(0.01)
    child.kill()
    child.wait()
    kept = len(Results(output).records)
    assert kept >= 10
    rest = runner.run(ASKED.changed(output=output))
    assert rest.kept + rest.made == first.made and rest.kept > 0
    whole = Results(output)
    assert leaderboard.rows([whole]) == leaderboard.rows([first.results])


def test_the_face(first: runner.Outcome, tmp_path: Path) -> None:
    table = eb.run(tasks="mini/surfaces", strategies=["log-avg", "nlc"], limit=30, draws=2, output=tmp_path / "out")
    assert set(table["strategy"]) == {"log-avg", "nlc"} and table.attrs["failures"] == []
    cube = eb.load_cube("mini/surfaces", limit=30)
    support = eb.load_cube("mini/surfaces", split="train", shots=1, draw=1)
    assert cube.shape == (5, 30, 3) and len(support) == 3 and support.labelled
    values = eb.evaluate("log-avg", cube)
    row = table[(table["strategy"] == "log-avg") & (table["metric"] == "acc1")]
    assert values["acc1"] == pytest.approx(row["value"].iloc[0])
    assert 0 <= eb.evaluate("nlc", cube, support)["acc1"] <= 1
    with pytest.raises(Lacking, match="give support="):
        eb.evaluate("nlc", cube)
    with pytest.raises(BadData, match="both in support and query"):
        eb.evaluate("nlc", cube, cube)
    with pytest.raises(BadOption, match=r"run has no option 'task'. Did you mean tasks"):
        eb.run(task="mini/digits")


def test_two_machines_would_give_the_same_bytes(first: runner.Outcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENSEMBLE_BENCH_CACHE", str(tmp_path / "store"))
    again = runner.run(
        ASKED.changed(tasks=("mini/surfaces",), output=tmp_path / "out", strategies=("nlc", "genetic", "log-avg"))
    )
    for record in again.results.records:
        mine = again.results.predictions(record.cell)
        assert np.array_equal(mine.decisions, first.results.predictions(record.cell).decisions)


def test_the_board_is_strict_json(first: runner.Outcome) -> None:
    rows = leaderboard.rows([first.results])
    keys = {"strategy", "task", "metric", "value", "ci_low", "ci_high", "shots", "labels", "n", "condition"}
    for row in json.loads(json.dumps(rows, allow_nan=False)):
        assert keys <= set(row)


PREPARED = '''
from dataclasses import dataclass
from typing import ClassVar
from ensemble_bench.strategies.base import Strategy

@dataclass(eq=False)
class Elsewhere(Strategy):
    """Weighs the classes by how many labels it met on other tasks."""
    family: ClassVar[str] = "adaptive"
    def prepare(self, others):
        self.met = {name: (len(cube), int(cube.labels.max()), len(cube.backbones)) for name, cube in others.items()}
    def fit(self, support):
        self.met_ = sum(n for n, _, _ in self.met.values())
        assert list(self.met) == OTHERS, self.met
        return self
    def predict(self, query):
        return query.logits.mean(0) * self.met_
'''


def test_other_tasks_come_first(tmp_path: Path) -> None:
    path = tmp_path / "elsewhere.py"
    path.write_text(PREPARED.replace("OTHERS", "['mini/surfaces']"))
    asked = ASKED.changed(strategies=("elsewhere", "log-avg"), plugins=(path,))
    both = runner.run(asked.changed(output=tmp_path / "both"))
    found = {(r.task, r.strategy, r.draw): r for r in both.results.records}
    digits = found["mini/digits", "elsewhere", 0]
    surfaces = runner.cube(Request(tasks=("mini/surfaces",), draws=2), split="train")
    assert digits.status == "done"
    assert digits.labels > 10 + len(surfaces.classes)  # its own ten, and those of two draws elsewhere
    assert {r.reason for r in both.results.records if r.status == "failed"} == {
        "elsewhere: AssertionError: {'mini/digits': (20, 9, 5)}"
    }

    alone = runner.run(asked.changed(output=tmp_path / "alone", tasks=("mini/digits",)))
    (lonely,) = [record for record in alone.results.records if record.strategy == "elsewhere"]
    assert lonely.status == "not-applicable"
    assert lonely.reason == "elsewhere learns from other tasks first, and this run has no other with a train split"


def test_what_was_learnt_elsewhere_is_in_the_key(tmp_path: Path) -> None:
    path = tmp_path / "elsewhere.py"
    path.write_text(PREPARED.replace("        assert list(self.met) == OTHERS, self.met\n", "").replace("Elsewhere", "Abroad"))
    asked = ASKED.changed(strategies=("abroad", "log-avg"), plugins=(path,), output=tmp_path / "out")
    assert runner.run(asked).made == 4
    more = runner.run(asked.changed(tasks=(*TASKS, "mini/faces")))
    assert (more.made, more.kept) == (4, 2)  # log-avg of the first two tasks stays


def test_an_interruption_ends_what_is_encoded_ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENSEMBLE_BENCH_CACHE", str(tmp_path / "store"))

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(runner._Work, "_ask", interrupted)
    with pytest.raises(KeyboardInterrupt):
        runner.run(Request(tasks=("mini/faces", "mini/letters"), strategies=("log-avg",), output=tmp_path / "out"))
    monkeypatch.undo()
    monkeypatch.setenv("ENSEMBLE_BENCH_CACHE", str(tmp_path / "store"))
    again = runner.run(Request(tasks=("mini/faces",), strategies=("log-avg",), output=tmp_path / "out"))
    assert again.made == 1 and again.work["encodes"] == 0  # finished before the interruption
    letters = runner.run(Request(tasks=("mini/letters",), strategies=("log-avg",), output=tmp_path / "out"))
    assert letters.work["encodes"] > 0
