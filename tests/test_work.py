"""What a run really did: its counters beside calls that were counted independently, in every record, and at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ensemble_bench import cli, runner
from ensemble_bench.backbones.encoder import OpenClipEncoder
from ensemble_bench.corrupt.suite import Suite
from ensemble_bench.embed import Work
from ensemble_bench.plan import planned, samples
from ensemble_bench.request import Request

N, L = 12, 3
BACKBONES = ("mini/vit-16", "mini/rn-narrow")
B = len(BACKBONES)
TASKS = ("mini/faces", "mini/surfaces", "mini/digits")
ASKED = Request(
    tasks=TASKS,
    backbones=BACKBONES,
    strategies=("log-avg", "nlc:epochs=2", "meta-nlc:steps=2", "oracle"),
    corruptions=("mini-c:fog", "mini-c:defocus_blur:2"),
    limit=N,
    draws=2,
)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Calls of what costs, counted from outside: at the models, the sources and the suites themselves."""
    seen: Counter[str] = Counter()

    def spied(owner: Any, name: str, count: Callable[..., dict[str, int]]) -> None:
        real = getattr(owner, name)

        def spy(*words: Any, **more: Any) -> Any:
            seen.update(count(*words, **more))
            return real(*words, **more)

        monkeypatch.setattr(owner, name, spy)

    plan = planned(ASKED)
    for kind in {type(backbone) for backbone in plan.backbones}:
        spied(kind, "load", lambda *_: {"loads": 1})
    spied(OpenClipEncoder, "images", lambda _, batch: {"encodes": len(batch)})
    spied(OpenClipEncoder, "classes", lambda *_: {"class_builds": 1})
    for kind in {type(samples(task, ASKED).source) for task in plan.tasks}:
        pictures = kind.pictures

        def decoded(self: Any, split: str, ids: Any, pictures: Any = pictures) -> Iterator[Any]:
            for picture in pictures(self, split, ids):
                seen["decodes"] += 1
                yield picture

        monkeypatch.setattr(kind, "pictures", decoded)
    alter = Suite.alter

    def altering(self: Suite, condition: Any) -> Any:
        made = alter(self, condition)

        def altered(name: str, picture: Any) -> Any:
            seen.update({"corruptions": 1})
            return made(name, picture)

        return altered

    monkeypatch.setattr(Suite, "alter", altering)
    return seen


def test_a_run_does_everything_once_and_says_so(calls: Counter[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENSEMBLE_BENCH_CACHE", str(tmp_path / "store"))
    first = runner.run(ASKED.changed(output=tmp_path / "out"))
    assert first.failures == []
    support = {task.name: len(samples(task, ASKED).support.ids) for task in planned(ASKED).tasks}
    whole = {
        "loads": B,
        "class_builds": B * len(TASKS),
        "decodes": len(TASKS) * N + sum(support.values()),
        "corruptions": len(TASKS) * N * L,
        "encodes": len(TASKS) * N * B * (L + 1) + sum(support.values()) * B,
    }
    assert first.work == whole
    assert dict(calls) == whole, "as counted where it happens"

    by_task = {record.task: record.provenance["work"] for record in first.results.records}
    assert all(record.provenance["work"] == by_task[record.task] for record in first.results.records)
    for task, done in by_task.items():
        n = N + support[task]
        own = {"class_builds": B, "decodes": n, "corruptions": N * L, "encodes": B * (N * (L + 1) + support[task])}
        assert {name: done[name] for name in own} == own, task
    assert {name: sum(done[name] for done in by_task.values()) for name in whole} == whole

    calls.clear()
    again = runner.run(ASKED.changed(output=tmp_path / "out"))
    assert again.made == 0 and set(again.work.values()) == {0}
    more = runner.run(ASKED.changed(output=tmp_path / "out", strategies=("vote-top1",)))
    assert more.made == len(TASKS) * (L + 1) and set(more.work.values()) == {0}
    fresh = [record for record in more.results.records if record.strategy == "vote-top1"]
    assert len(fresh) == len(TASKS) * (L + 1)
    assert all(set(record.provenance["work"].values()) == {0} for record in fresh)
    assert not calls, "nothing was loaded, decoded or encoded behind the counters' back"


def test_what_was_done_is_no_part_of_the_question(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENSEMBLE_BENCH_CACHE", str(tmp_path / "store"))
    asked = ASKED.changed(tasks=("mini/faces",), corruptions=("clean",), strategies=("log-avg", "nlc:epochs=2"))
    first, second = (runner.run(asked.changed(output=tmp_path / name)).results.records for name in ("one", "two"))
    assert [r.provenance["work"]["encodes"] > 0 for r in first] == [True] * 3
    assert [r.provenance["work"]["encodes"] for r in second] == [0] * 3
    assert [(r.key, r.cell, r.metrics) for r in first] == [(r.key, r.cell, r.metrics) for r in second]


def test_the_last_word_is_the_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ENSEMBLE_BENCH_CACHE", str(tmp_path / "store"))
    words = ["run", "-t", "mini/faces", "-b", *BACKBONES, "-s", "log-avg", "-c", "mini-c:fog:2", "--limit", "8"]
    for name, said in (
        ("one", "2 models loaded, 2 class embeddings built, 8 images decoded, 8 corrupted, 32 encoded, in "),
        ("two", "0 models loaded, 0 class embeddings built, 0 images decoded, 0 corrupted, 0 encoded, in "),
    ):
        assert cli.main([*words, "-o", str(tmp_path / name)]) == 0
        out, err = capsys.readouterr()
        assert "decoded" not in out
        assert err.splitlines()[-1].startswith(f"ensemble-bench: {said}") and err.endswith(" s\n")


def test_a_corruption_that_fails_was_work_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures altered before the failure count; those of the condition are encoded by nobody."""
    from ensemble_bench.errors import BadData

    monkeypatch.setenv("ENSEMBLE_BENCH_CACHE", str(tmp_path / "store"))
    alter, done = Suite.alter, []

    def failing(self: Suite, condition: Any) -> Any:
        made = alter(self, condition)

        def altered(name: str, picture: Any) -> Any:
            if len(done) == 5 and condition.corruption == "fog":
                raise BadData("no more fog")
            done.append(name)
            return made(name, picture)

        return altered

    monkeypatch.setattr(Suite, "alter", failing)
    monkeypatch.setattr("ensemble_bench.embed.cores", lambda: 1)
    asked = ASKED.changed(tasks=("mini/faces",), corruptions=("mini-c:fog:2",), strategies=("log-avg",), output=tmp_path / "o")
    outcome = runner.run(asked)
    assert len(outcome.failures) == 1 and outcome.made == 1
    assert outcome.work["corruptions"] == len(done) == 5 and outcome.work["encodes"] == N * B


def test_work_adds_up() -> None:
    one, other = Work(1, 2, 3, 4, 5), Work(5, 4, 3, 2, 1)
    assert one + other == Work(6, 6, 6, 6, 6)
    assert one + other - other == one
