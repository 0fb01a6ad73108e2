"""Tasks that borrow their support, get their names with their data, or cannot be run: what is drawn, and what the rows say."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ensemble_bench import cli, leaderboard, pictures, runner
from ensemble_bench.errors import BadData, BenchError, Missing
from ensemble_bench.plan import gathered, planned, samples
from ensemble_bench.progress import Progress
from ensemble_bench.records import Record
from ensemble_bench.request import Request
from ensemble_bench.task import Catalogue

LENDER = """
name = "mine/lender"
version = 3
title = "Four classes"
classes = ["a", "b", "c", "d"]
templates = ["the {c}"]
licence = "MIT"
provenance = "made by a test"
[source]
kind = "webdataset"
root = "ROOT/lender"
[counts]
train = 16
test = 4
"""
SHIFT = """
name = "mine/shift"
version = 1
title = "Two of them, otherwise"
classes_from = "source"
templates_from = "source"
licence = "MIT"
provenance = "made by a test"
[source]
kind = "webdataset"
root = "ROOT/shift"
[counts]
test = 6
classes = 2
[support]
task = "mine/lender"
classes = [3, [0, 1]]
"""
FAR = """
name = "mine/far"
version = 1
title = "Not here"
classes = ["a", "b"]
templates = ["the {c}"]
licence = "MIT"
provenance = "made by a test"
[source]
kind = "webdataset"
repository = "nobody/wds_far"
[counts]
train = 100
test = 50
"""


def _shard(path: Path, labels: list[int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for number, label in enumerate(labels):
            seed = sum(map(ord, str(path))) + number
            picture = np.random.default_rng(seed).integers(0, 256, (32, 32, 3), dtype=np.uint8)
            key = f"{path.parent.parent.name}-{path.parent.name}-{number:03d}"
            for ending, data in ((".png", pictures.encoded(picture)), (".cls", str(label).encode())):
                info = tarfile.TarInfo(key + ending)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))


Write = Callable[[str], None]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Cards of the three tasks, and the data of the first two."""
    monkeypatch.setenv("ENSEMBLE_BENCH_CACHE", str(tmp_path / "store"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    _shard(tmp_path / "lender" / "train" / "0.tar", [number % 4 for number in range(16)])
    _shard(tmp_path / "lender" / "test" / "0.tar", [0, 1, 2, 3])
    _shard(tmp_path / "shift" / "test" / "0.tar", [0, 1, 0, 1, 0, 1])
    (tmp_path / "shift" / "classnames.txt").write_text("dee\nay or bee\n")
    (tmp_path / "shift" / "zeroshot_classification_templates.txt").write_text("a sketch of {c}\n")
    for text in (LENDER, SHIFT, FAR):
        card(tmp_path, text)
    return tmp_path


def card(folder: Path, text: str) -> None:
    name = text.split('"')[1]
    path = folder / "cards" / "tasks" / f"{name}.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text.replace("ROOT", str(folder)))


def asked(folder: Path, *tasks: str, **more: object) -> Request:
    options: dict[str, object] = {
        "tasks": tasks,
        "backbones": ("mini/vit-16", "mini/vit-8"),
        "strategies": ("single", "log-avg", "best-single"),
        "draws": 2,
        "cards": (folder / "cards",),
        "output": folder / "out",
    }
    return Request(**options | more)  # type: ignore[arg-type]


def test_support_is_drawn_from_the_lender_and_labelled_as_ours(folder: Path) -> None:
    request = asked(folder, "mine/shift", shots=2)
    task = Catalogue(request.cards).task("mine/shift")
    shown = samples(task, request)
    assert shown.task.classes == ("dee", "ay or bee") and shown.task.templates == ("a sketch of {c}",)
    assert shown.lender is not None and shown.lent.name == "mine/lender" and shown.lent.version == 3
    assert shown.lent.classes == shown.task.classes
    for support in shown.supports:
        assert support.labels == (0, 0, 1, 1)
        places = [int(name[-3:]) % 4 for name in support.ids]
        assert set(places[:2]) == {3} and set(places[2:]) <= {0, 1}
    assert len({support.ids for support in shown.supports}) == 2, "draws differ"


def _by(outcome: runner.Outcome) -> dict[tuple[str, str], Record]:
    return {(record.task, record.strategy): record for record in outcome.results.records}


def test_a_run_with_borrowed_support(folder: Path) -> None:
    outcome = runner.run(asked(folder, "mine/shift"))
    assert outcome.failures == []
    records = _by(outcome)
    assert records["mine/shift", "best-single"].status == "done"
    assert records["mine/shift", "best-single"].support is not None
    assert records["mine/shift", "best-single"].collections == {"mine": 3}
    before = outcome.work["encodes"]
    assert before == 2 * (
        6 + len(samples(planned(asked(folder, "mine/shift")).tasks[0], asked(folder, "mine/shift")).support.ids)
    )
    again = runner.run(asked(folder, "mine/shift", output=folder / "other"))
    assert again.work["encodes"] == 0, "what is borrowed is stored under the lender's name and found again"


def test_what_is_not_there_is_a_row_and_the_others_go_on(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    many = FAR.replace("mine/far", "mine/many").replace("[source]", 'kind = "multilabel"\n[source]')
    card(folder, many)
    outcome = runner.run(asked(folder, "mine/shift", "mine/far", "mine/many"))
    records = _by(outcome)
    for strategy in ("single:mini/vit-16", "log-avg", "best-single"):
        assert records["mine/shift", strategy].status == "done"
        far, several = records["mine/far", strategy], records["mine/many", strategy]
        assert far.status == "failed" and "run 'ensemble-bench fetch -t mine/far' first" in far.reason
        assert several.status == "not-applicable" and "several labels may be right" in several.reason
        assert several.collections == {} and far.collections == {"mine": 3}
    assert len(outcome.failures) == 4  # two backbones, two strategies: on the one that is not fetched
    rows = leaderboard.rows([outcome.results])
    assert {row["status"] for row in rows if row["task"] == "mine/far"} == {"failed"}
    again = runner.run(asked(folder, "mine/shift", "mine/far", "mine/many"))
    assert again.made == 0 and len(again.failures) == 4, "it is asked for again, the rest is kept"


def test_only_learners_lack_a_support_that_is_not_fetched(folder: Path) -> None:
    (folder / "lender" / "train" / "0.tar").unlink()
    card(folder, SHIFT.replace("mine/lender", "mine/far").replace("[3, [0, 1]]", "[0, 1]"))
    records = _by(runner.run(asked(folder, "mine/shift")))
    assert records["mine/shift", "log-avg"].status == "done"
    lacking = records["mine/shift", "best-single"]
    assert lacking.status == "failed" and "mine/far" in lacking.reason and "fetch" in lacking.reason


def test_why_there_is_no_support_stands_in_the_row(folder: Path) -> None:
    none = SHIFT.partition("[support]")[0] + '[support]\nnone = "nobody has labelled any"\n'
    card(folder, none)
    records = _by(runner.run(asked(folder, "mine/shift")))
    assert records["mine/shift", "log-avg"].status == "done"
    row = records["mine/shift", "best-single"]
    assert row.status == "not-applicable" and "learns from labelled examples, and nobody has labelled any" in row.reason


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("classnames.txt", "one\n", "1 class names came with it; its card says 2"),
        ("zeroshot_classification_templates.txt", "a photo\n", 'lacks "{c}"'),
        ("zeroshot_classification_templates.txt", "", "no prompt templates came with it"),
    ],
)
def test_names_that_cannot_be_used_are_a_sentence(folder: Path, file: str, text: str, said: str) -> None:
    (folder / "shift" / file).write_text(text)
    request = asked(folder, "mine/shift")
    with pytest.raises(BadData, match=said):
        samples(planned(request).tasks[0], request)
    found, absent = gathered(planned(request))
    assert found == {} and absent["mine/shift"][0] == "failed" and said in absent["mine/shift"][1]


def test_what_must_be_brought_by_hand_says_how() -> None:
    request = Request(tasks=("imagenet-w",))
    with pytest.raises(Missing, match="imagenet-w must be brought by hand: its pictures are those of imagenet1k"):
        samples(planned(request).tasks[0], request)


def test_names_that_the_host_lost_are_a_row_too(folder: Path) -> None:
    lost = FAR.replace('classes = ["a", "b"]', 'host = "vtab/eurosat"\nclasses_from = "host"').replace(
        "test = 50", f'test = 50\nclasses = 10\n[names]\nclasses = "{"0" * 64}"'
    )
    card(folder, lost)
    request = asked(folder, "mine/far")
    with pytest.raises(BenchError, match="are not those its card was made with"):
        samples(planned(request).tasks[0], request)


def test_a_twice_named_class_is_two_answers(folder: Path) -> None:
    card(folder, SHIFT)
    (folder / "shift" / "classnames.txt").write_text("crane\ncrane\n")
    cube = runner.cube(asked(folder, "mine/shift"))
    assert cube.classes == ("crane", "crane #1")


def test_the_verb_says_it_too(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["run", "-t", "mine/shift,mine/far", "-b", "mini/vit-16", "-s", "log-avg", "--cards", str(folder / "cards"), "-q"]
    assert cli.main([*words, "-o", str(folder / "out")]) == 2
    out, err = capsys.readouterr()
    assert "shift" in out and "fetch -t mine/far" in err
    assert err.splitlines()[-1] == "ensemble-bench: 1 cells failed; the others are finished."


def test_nobody_learns_from_borrowed_examples_of_others(folder: Path) -> None:
    other = LENDER.replace("mine/lender", "mine/other").replace('"a", "b", "c", "d"', '"e", "f", "g", "h"')
    card(folder, other)
    plan = planned(asked(folder, "mine/lender", "mine/shift", "mine/other"))
    work = runner._Work(plan, Progress())
    teachers = {task.name: [teacher.name for teacher in work._teachers(task)] for task in work.tasks}
    assert teachers["mine/shift"] == ["mine/other"], "the lender's train split is its own support already"
    assert teachers["mine/lender"] == ["mine/other"] and teachers["mine/other"] == ["mine/lender"]


def test_a_sheet_of_a_task_whose_names_come_with_its_data(folder: Path) -> None:
    path = folder / "sheet.png"
    assert cli.main(["show", "task", "mine/shift", "--cards", str(folder / "cards"), "--sheet", str(path)]) == 0
    assert path.stat().st_size > 1000
    assert cli.main(["show", "task", "mine/far", "--cards", str(folder / "cards"), "--sheet", str(path)]) == 2
