"""Records: strict lines, what a killed run leaves behind, folders of another configuration."""

from __future__ import annotations

import dataclasses
import json
import logging
import multiprocessing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ensemble_bench.errors import BadRecord
from ensemble_bench.records import Predictions, Record, Results, place

IDS = ["mini/x/0", "mini/x/1", "mini/x/2"]


def record(**more: Any) -> Record:
    plain: dict[str, Any] = {
        "task": "mini/x",
        "task_version": 1,
        "collections": {"mini": 2},
        "condition": "clean",
        "pool": ("mini/a", "mini/b"),
        "strategy": "nlc",
        "family": "adaptive",
        "shots": 1,
        "draw": 0,
        "draws": 2,
        "seed": 0,
        "limit": None,
        "n": 3,
        "ids": "sha-of-ids",
        "labels": 2,
        "metrics": {"acc1": {"value": 0.5, "ci_low": 0.25, "ci_high": 0.75, "direction": "up", "low": 0.0, "high": 1.0}},
        "cost": {"gflops": 0.5, "parameters": 10, "backbones": 2},
        "provenance": {"precision": "fp32"},
        "cell": "c1",
    }
    plain |= more
    return Record(**{"key": f"{plain['cell']}-{plain['draw']}", **plain})


def predictions(draws: int = 2, **more: Any) -> Predictions:
    plain: dict[str, Any] = {
        "ids": np.array(IDS),
        "labels": np.array([0, 1, 1]),
        "draws": np.arange(draws) if draws else np.array([-1]),
        "decisions": np.array([[0, 1, -1]] * max(draws, 1)),
    }
    return Predictions(**{**plain, **more})


def cell(**more: Any) -> list[Record]:
    return [record(draw=draw, **more) for draw in range(2)]


@pytest.fixture
def filled(tmp_path: Path) -> Results:
    results = Results(tmp_path / "out")
    results.append(cell(), predictions())
    return results


def test_a_record_survives_its_line() -> None:
    whole = record(metrics={"acc5": {"value": None}}, parameters={"form": "temperature", "k": 3}, limit=7)
    assert Record.parse(whole.line(), "here") == whole
    assert "\n" not in whole.line()


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"metrics": {"nll": {"value": float("nan")}}}, "metrics.nll.value"),
        ({"cost": {"gflops": float("inf")}}, "cost.gflops"),
        ({"metrics": {"acc1": {"value": "0.5"}}}, "metrics.acc1.value"),
        ({"metrics": {"acc1": {"value": np.float64(0.5)}}}, "metrics.acc1.value"),
        ({"provenance": {"versions": {"torch": {1, 2}}}}, "provenance.versions.torch"),
        ({"provenance": {"loss": [0.5, float("-inf")]}}, "provenance.loss[1]"),
        ({"n": 3.0}, "'n'"),
        ({"status": "fine"}, "'status'"),
        ({"cell": "../elsewhere"}, "'cell'"),
        ({"predictions": "/etc/passwd"}, "'predictions'"),
        ({"collections": ("mini",)}, "'collections'"),
    ],
)
def test_what_is_no_strict_json_is_refused_by_name(change: dict[str, Any], names: str) -> None:
    with pytest.raises(BadRecord) as error:
        record(**change)
    assert names in str(error.value) and "nlc on mini/x" in str(error.value)


def test_what_is_written_is_read_again(filled: Results) -> None:
    again = Results(filled.folder)
    assert again.records == filled.records and len(again.records) == 2
    assert again.records[0].predictions == "predictions/c1.npz"
    assert again.keys == {"c1-0", "c1-1"}
    read = again.predictions("c1")
    assert read.ids.tolist() == IDS and read.decisions.tolist() == [[0, 1, -1]] * 2
    assert read.right.tolist() == [[True, True, False]] * 2
    for line in filled.path.read_text().splitlines():
        json.loads(line, parse_constant=lambda text: pytest.fail(f"{text} in a strict line"))


def test_writing_the_same_again_changes_nothing(filled: Results) -> None:
    before = {path: path.read_bytes() for path in filled.folder.rglob("*") if path.is_file()}
    for results in (filled, Results(filled.folder)):
        assert results.append(cell(provenance={"precision": "fp32", "time": "later"}), predictions()) == 0
    assert {path: path.read_bytes() for path in filled.folder.rglob("*") if path.is_file()} == before


def test_the_same_predictions_are_the_same_bytes(filled: Results, tmp_path: Path) -> None:
    other = Results(tmp_path / "other")
    other.append(cell(), predictions())
    assert (other.folder / place("c1")).read_bytes() == (filled.folder / place("c1")).read_bytes()
    assert other.path.read_bytes() == filled.path.read_bytes()


def test_a_half_written_last_line_is_left_out_and_mended(filled: Results, caplog: pytest.LogCaptureFixture) -> None:
    whole = filled.path.read_bytes()
    filled.append(cell(cell="c2", strategy="log-avg"), predictions())
    everything = filled.path.read_bytes()
    for cut in (len(whole) + 1, len(whole) + 100, len(everything) - 1):
        filled.path.write_bytes(everything[:cut])
        with caplog.at_level(logging.WARNING):
            again = Results(filled.folder)
        assert "half written" in caplog.text
        assert {record.strategy for record in again.records} == {"nlc"}  # also where one of two draws was whole
        assert again.keys == {"c1-0", "c1-1"}
        again.append(cell(cell="c2", strategy="log-avg"), predictions())
        caplog.clear()
        healed = Results(filled.folder)
        assert not caplog.text and len(healed.records) == 4 and healed.records == again.records
        assert healed.path.read_bytes().endswith(b"\n")


def test_a_broken_line_in_the_middle_names_file_and_line(filled: Results) -> None:
    first, second = filled.path.read_text().splitlines(keepends=True)
    for line, why in (
        (second[:50] + "\n", "no strict JSON"),
        (second.replace('"value":0.5', '"value":NaN'), "NaN"),
        ("[]\n", "no record"),
        (second.replace('"n":3,', ""), "lacks 'n'"),
        (second.replace('"n":3,', '"n":3,"m":4,'), "unknown key 'm'"),
        (second.replace('"schema":1', '"schema":2'), "schema 2, this version reads schema 1"),
        (second.replace('"pool":["mini/a","mini/b"]', '"pool":5'), "no record"),
    ):
        filled.path.write_text(first + line + second)
        with pytest.raises(BadRecord) as error:
            Results(filled.folder)
        assert "records.jsonl, line 2" in str(error.value) and why in str(error.value)
    filled.path.write_bytes(first.encode() + b"\xff\xfe\n")
    with pytest.raises(BadRecord, match=r"line 2, is no UTF-8"):
        Results(filled.folder)


def test_a_damaged_file_of_predictions_is_a_sentence(filled: Results, tmp_path: Path) -> None:
    path = filled.folder / place("c1")
    whole = path.read_bytes()
    for damaged in (b"", whole[: len(whole) // 2], whole[:-30], whole[:90] + b"\0\0\0\0" + whole[94:], b"no zip at all"):
        path.write_bytes(damaged)
        with pytest.raises(BadRecord, match=r"c1\.npz is damaged .* remove it and run"):
            filled.predictions("c1")
    trap = tmp_path / "ran"
    np.savez(path, allow_pickle=True, ids=np.array([_Trap(trap)], dtype=object))
    with pytest.raises(BadRecord, match="damaged"):
        filled.predictions("c1")
    assert not trap.exists()
    path.unlink()
    with pytest.raises(BadRecord, match="missing"):
        filled.predictions("c1")
    assert filled.keys == frozenset()  # so that the next run makes it anew
    assert filled.append(cell(), predictions()) == 2
    assert filled.predictions("c1").decisions.shape == (2, 3)


class _Trap:
    """Unpickling it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"labels": np.array([0, 1])}, r"labels .* \[3\]"),
        ({"decisions": np.zeros((3, 2), int)}, r"decisions .* \[2, 3\]"),
        ({"decisions": np.zeros((2, 3))}, "decisions .* whole"),
        ({"nll": np.full((2, 3), np.nan)}, "nll .* NaN"),
        ({"top5": np.ones((1, 3), bool)}, "top5"),
        ({"ids": np.array(["a", "a", "b"])}, "ids"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(change: dict[str, Any], says: str) -> None:
    with pytest.raises(BadRecord, match=says):
        predictions(**change)


def test_draws_must_differ() -> None:
    with pytest.raises(BadRecord, match="draws"):
        dataclasses.replace(predictions(), draws=np.array([1, 1]))


def test_a_large_loss_is_stored_as_the_largest_number_there_is() -> None:
    assert predictions(nll=np.full((2, 3), 1e9)).nll.tolist() == [[65504.0] * 3] * 2  # type: ignore[union-attr]


def test_samples_are_lined_up_by_id() -> None:
    mixed = predictions(ids=np.array(IDS)[[2, 0, 1]], labels=np.array([1, 0, 1]), decisions=np.array([[-1, 0, 1]] * 2)).by_id()
    plain = predictions()
    assert mixed.ids.tolist() == IDS
    assert mixed.labels.tolist() == plain.labels.tolist() and mixed.decisions.tolist() == plain.decisions.tolist()


def test_nothing_is_left_behind_when_writing_fails(filled: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    before = sorted(filled.folder.rglob("*"))
    monkeypatch.setattr(np, "savez_compressed", full)
    with pytest.raises(BadRecord, match="No space left on device"):
        filled.append(cell(cell="c2", strategy="log-avg"), predictions())
    assert sorted(filled.folder.rglob("*")) == before
    assert len(Results(filled.folder).records) == 2


def test_what_does_not_belong_together_is_not_written(tmp_path: Path) -> None:
    results = Results(tmp_path)
    failed = record(status="failed", reason="no")
    for records, given in (
        (cell(), None),
        ([failed], predictions()),
        (cell(), predictions(draws=3)),
        ([*cell(), record(cell="c2", strategy="oracle")], predictions()),
        (cell(n=4), predictions()),
    ):
        with pytest.raises(BadRecord):
            results.append(records, given)
    assert not list(tmp_path.iterdir())
    assert results.append([]) == 0


def test_a_failure_is_forgotten_when_the_cell_is_done(tmp_path: Path) -> None:
    results = Results(tmp_path)
    failed = record(status="failed", reason="disk")
    assert results.append([failed]) == 1 and results.append([failed]) == 0
    assert results.records == (failed,) and not results.keys
    assert results.append(cell(), predictions()) == 2
    for one in (results, Results(tmp_path)):
        assert [record.status for record in one.records] == ["done", "done"]
        assert one.keys == {"c1-0", "c1-1"}


def test_an_edited_strategy_takes_the_place_of_the_old_one(filled: Results) -> None:
    filled.append(cell(cell="c2"), predictions())
    for one in (filled, Results(filled.folder)):
        assert {record.cell for record in one.records} == {"c2"} and one.keys == {"c2-0", "c2-1"}


def test_not_applicable_need_not_be_asked_again(tmp_path: Path) -> None:
    results = Results(tmp_path)
    results.append([record(draw=None, status="not-applicable", reason="no train split", key="k")])
    assert Results(tmp_path).keys == {"k"}


def _append(folder: Path, who: int) -> None:
    results = Results(folder)
    for number in range(10):
        results.append(cell(cell=f"c-{who}-{number}", strategy=f"s-{who}-{number}"), predictions())


def test_two_writers_lose_nothing(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_append, args=(tmp_path, who)) for who in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert len(Results(tmp_path).records) == 40


SAME: dict[str, Any] = {
    "pool": ("mini/a", "mini/b"),
    "shots": 1,
    "draws": 2,
    "seed": 0,
    "precision": "fp32",
    "limit": None,
    "versions": {"mini/x": 1, "mini/new": 5},
}


def test_a_folder_may_grow(filled: Results) -> None:
    filled.check_same(**SAME)
    filled.check_same(**{**SAME, "pool": ("mini/b", "mini/a")})
    Results(filled.folder / "empty").check_same(**{**SAME, "seed": 9})


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"pool": ("mini/a",)}, "pool mini/a + mini/b, this run has pool mini/a:"),
        ({"shots": 4}, "shots 1, this run has shots 4"),
        ({"draws": 5}, "draws 2, this run has draws 5"),
        ({"seed": 1}, "seed 0, this run has seed 1"),
        ({"precision": "bf16"}, "precision fp32, this run has precision bf16"),
        ({"limit": 50}, "limit none, this run has limit 50"),
        ({"versions": {"mini/x": 2}}, "version of mini/x 1, this run has version of mini/x 2"),
    ],
)
def test_a_folder_of_another_configuration_is_refused(filled: Results, change: dict[str, Any], says: str) -> None:
    with pytest.raises(BadRecord) as error:
        filled.check_same(**{**SAME, **change})
    assert says in str(error.value) and "-o" in str(error.value) and str(filled.folder) in str(error.value)


def test_without_labels_shots_and_draws_do_not_matter(tmp_path: Path) -> None:
    results = Results(tmp_path)
    results.append([record(strategy="log-avg", shots=0, draw=None, draws=0, labels=0)], predictions(draws=0))
    results.check_same(**{**SAME, "shots": 16, "draws": 3})


def test_what_is_no_results_folder_is_a_sentence(tmp_path: Path) -> None:
    assert Results(tmp_path / "later").records == ()
    with pytest.raises(BadRecord, match="is not there"):
        Results(tmp_path / "later", must_exist=True)
    with pytest.raises(BadRecord, match="no results folder"):
        Results(tmp_path, must_exist=True)


def test_records_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        record().seed = 1  # type: ignore[misc]
