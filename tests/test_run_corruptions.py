"""Runs under corruptions: every picture decoded once, corrupted once, encoded by all; clean support; rows by condition."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from ensemble_bench import cli, embed, forecast, leaderboard, runner
from ensemble_bench.condition import CLEAN, Condition
from ensemble_bench.corrupt import suite
from ensemble_bench.embed import Embedder, View
from ensemble_bench.errors import BadData, BadOption, BadRecord
from ensemble_bench.pictures import Picture
from ensemble_bench.plan import planned, samples
from ensemble_bench.request import Request
from ensemble_bench.store import Store
from ensemble_bench.strategies.nlc import NeuralLogitController

N, BACKBONES, LEVELS = 20, 2, 6
ASKED = Request(
    tasks=("mini/faces",),
    backbones=("mini/vit-16", "mini/rn-narrow"),
    strategies=("single", "log-avg", "best-single", "nlc", "oracle", "oracle-best-single"),
    limit=N,
    draws=2,
)
SHOWN = ASKED.changed(corruptions=("mini-c",))
FOG = Condition("mini-c", "fog", 2)
OWN = """
name = "own"
version = 1
title = "Own"
engine = "native"
source = "here"
licence = "MIT"
provenance = "made up"
[amounts]
fog = [[1.5, 2], [2.0, 2], [2.5, 1.7], [2.5, 1.5], [3.0, 1.4]]
"""


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of this module's own."""
    return tmp_path_factory.mktemp("store")


@pytest.fixture(autouse=True)
def _store(stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENSEMBLE_BENCH_CACHE", str(stored))


@pytest.fixture(scope="module")
def first(stored: Path, tmp_path_factory: pytest.TempPathFactory) -> runner.Outcome:
    """A run under six conditions and clean, from an empty store."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ENSEMBLE_BENCH_CACHE", str(stored))
        return runner.run(SHOWN.changed(output=tmp_path_factory.mktemp("first") / "out"))


def test_everything_is_done_once(first: runner.Outcome) -> None:
    assert first.failures == []
    support = len(samples(planned(ASKED).tasks[0], ASKED).support.ids)
    assert first.work == {
        "loads": BACKBONES,
        "class_builds": BACKBONES,
        "decodes": N + support,
        "corruptions": N * LEVELS,
        "encodes": N * BACKBONES * (LEVELS + 1) + support * BACKBONES,
    }


def test_the_board_has_a_row_a_condition(first: runner.Outcome) -> None:
    rows = leaderboard.rows([first.results])
    conditions = {f"mini-c:{name}:{level}" for name in ("gaussian_noise", "defocus_blur", "fog") for level in (2, 4)}
    for strategy in {row["strategy"] for row in rows}:
        found = [row for row in rows if row["strategy"] == strategy and row["metric"] == "acc1" and row["task"] == "mini/faces"]
        found = [row for row in found if not row["condition"].startswith("mean(")]
        assert {row["condition"] for row in found} == {"clean", *conditions}
        assert all(row["n"] == N and row["ci_low"] <= row["value"] <= row["ci_high"] for row in found)
    value = {(row["strategy"], row["condition"]): row["value"] for row in rows if row["metric"] == "acc1"}
    assert value["single:mini/rn-narrow", "mini-c:defocus_blur:4"] < value["single:mini/rn-narrow", "clean"]


def test_support_is_clean_and_the_fit_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fitted: list[torch.Tensor] = []
    learn = NeuralLogitController.fit

    def counted(self: NeuralLogitController, support: object) -> NeuralLogitController:
        fitted.append(support.logits)  # type: ignore[attr-defined]
        return learn(self, support)  # type: ignore[arg-type]

    monkeypatch.setattr(NeuralLogitController, "fit", counted)
    outcome = runner.run(SHOWN.changed(output=tmp_path / "out", strategies=("nlc",)))
    assert len(fitted) == 2, "once a draw, not once a condition"
    assert len({record.support for record in outcome.results.records if record.draw == 0}) == 1
    assert len(outcome.results.records) == 2 * (LEVELS + 1)


def test_records_name_the_suite(first: runner.Outcome) -> None:
    card = suite.read(suite.suites()["mini-c"], "mini-c")
    for record in first.results.records:
        about = record.provenance.get("suite")
        assert about == (None if record.condition == "clean" else card.about())
    assert {"opencv-python", "numba", "libjpeg-turbo"} <= set(first.results.records[0].provenance["versions"])


def test_pictures_are_those_of_the_suite(first: runner.Outcome) -> None:
    """What was stored under a condition are the features of pictures corrupted one by one, outside the run."""
    plan = planned(SHOWN)
    task, shown = plan.tasks[0], samples(plan.tasks[0], SHOWN)
    embedder = Embedder(plan.backbones)
    said = plan.said(shown.source, "test", FOG)
    assert set(embedder.missing(task, "test", shown.query.ids, FOG, said).values()) == {0}
    stored = embedder.view(task, shown.source, "test", shown.query.ids, View(FOG, lambda *_: pytest.fail("made anew"), said))
    alter = plan.suites["mini-c"].alter(FOG)
    pictures = zip(shown.query.ids, shown.source.pictures("test", shown.query.ids), strict=True)
    altered = [alter(name, picture) for name, picture in pictures]
    for backbone in plan.backbones:
        encoder = backbone.load()
        made = encoder.images(torch.stack([encoder.preprocess(picture) for picture in altered]))
        assert torch.allclose(stored[backbone.id], made, atol=1e-4)


def test_growing_by_conditions_encodes_nothing_clean(stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENSEMBLE_BENCH_CACHE", str(tmp_path / "store"))
    output = tmp_path / "out"
    clean = runner.run(ASKED.changed(output=output))
    assert clean.work["corruptions"] == 0
    before = (output / "records.jsonl").read_bytes()
    more = runner.run(ASKED.changed(output=output, corruptions=("mini-c:fog",)))
    assert more.work == {"loads": 2, "class_builds": 0, "decodes": N, "corruptions": 2 * N, "encodes": 2 * N * BACKBONES}
    assert (output / "records.jsonl").read_bytes().startswith(before)
    assert more.kept == clean.made and more.made == 2 * clean.made
    again = runner.run(ASKED.changed(output=output, corruptions=("mini-c:fog",)))
    assert again.made == 0 and set(again.work.values()) == {0}
    assert runner.read(output / runner.CONFIG)["corruptions"] == ("clean", "mini-c:fog")


@pytest.mark.parametrize("workers", [1, 8])
def test_the_same_bytes_with_any_number_of_workers(
    first: runner.Outcome, tmp_path: Path, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENSEMBLE_BENCH_CACHE", str(tmp_path / "store"))
    monkeypatch.setattr(embed, "cores", lambda: workers)
    monkeypatch.setattr(embed, "BATCH", 7)
    again = runner.run(SHOWN.changed(output=tmp_path / "out", strategies=("log-avg",)))
    mine = {record.condition: again.results.predictions(record.cell) for record in again.results.records}
    for record in first.results.records:
        if record.strategy == "log-avg":
            theirs = first.results.predictions(record.cell)
            assert np.array_equal(mine[record.condition].decisions, theirs.decisions)


def test_a_corrupted_picture_does_not_depend_on_who_makes_it(tmp_path: Path) -> None:
    plan = planned(SHOWN)
    task, shown = plan.tasks[0], samples(plan.tasks[0], SHOWN)
    seen: dict[int, dict[tuple[str, str], bytes]] = {}
    for workers in (1, 8):
        made = seen.setdefault(workers, {})
        views = []
        for condition in plan.conditions[1:]:
            alter = plan.suites["mini-c"].alter(condition)

            def kept(name: str, picture: Picture, alter: embed.Alter = alter, condition: Condition = condition) -> Picture:
                out = alter(name, picture)
                made[str(condition), name] = out.tobytes()  # noqa: B023
                return out

            views.append(View(condition, kept))
        embedder = Embedder(plan.backbones[:1], Store(tmp_path / str(workers)), batch=7, workers=workers)
        assert embedder.prepare(task, shown.source, "test", shown.query.ids, views) == {}
    assert seen[1] == seen[8] and len(seen[1]) == N * LEVELS


def test_a_corruption_that_fails_takes_no_other_with_it(tmp_path: Path) -> None:
    plan = planned(SHOWN)
    task, shown = plan.tasks[0], samples(plan.tasks[0], SHOWN)

    def broken(name: str, picture: Picture) -> Picture:
        if name == shown.query.ids[11]:
            raise BadData(f"{name} cannot be corrupted")
        return picture

    other = Condition("mini-c", "fog", 4)
    embedder = Embedder(plan.backbones, Store(tmp_path), batch=4)
    views = [View(), View(FOG, broken), View(other, lambda name, picture: picture // 2)]
    failed = embedder.prepare(task, shown.source, "test", shown.query.ids, views)
    assert list(failed) == [FOG] and shown.query.ids[11] in str(failed[FOG])
    left = {c: set(embedder.missing(task, "test", shown.query.ids, c).values()) for c in (CLEAN, FOG, other)}
    assert left == {CLEAN: {0}, FOG: {N}, other: {0}}


def test_a_view_is_whole(tmp_path: Path) -> None:
    with pytest.raises(BadOption, match="mini-c:fog:2 needs a corruption"):
        View(FOG)
    with pytest.raises(BadOption, match="clean takes no corruption"):
        View(CLEAN, lambda name, picture: picture)


def test_a_failed_condition_is_a_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["-t", "mini/faces", "-b", "mini/rn-narrow", "-s", "single", "--limit", "5", "-o", str(tmp_path / "out")]
    assert cli.main(["run", *words, "-c", "imagenet-c-disk:fog:2", "mini-c:fog:2"]) == 2
    said = capsys.readouterr().err
    assert "mini/faces has no pictures of imagenet-c-disk:fog:2 on disk: corrupt in memory with another suite" in said
    rows = leaderboard.rows([runner.Results(tmp_path / "out")])
    found = {row["condition"]: (row["status"], row["value"]) for row in rows if row["metric"] == "acc1"}
    assert found["imagenet-c-disk:fog:2"] == ("failed", None)
    assert found["clean"][1] is not None and found["mini-c:fog:2"][1] is not None


def _own(folder: Path, text: str = OWN) -> Path:
    path = folder / "cards" / "corruptions" / "own.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return folder / "cards"


@pytest.mark.parametrize("change", [("version = 1", "version = 2"), ('"native"', '"identical"')])
def test_another_version_or_engine_is_refused(tmp_path: Path, change: tuple[str, str]) -> None:
    asked = ASKED.changed(output=tmp_path / "out", corruptions=("own:fog:1",), strategies=("log-avg",), cards=(_own(tmp_path),))
    runner.run(asked)
    before = (tmp_path / "out" / "records.jsonl").read_bytes()
    _own(tmp_path, OWN.replace(*change))
    with pytest.raises(
        BadRecord, match="holds results with suite own version 1, engine native, this run has suite own version"
    ):
        runner.run(asked)
    assert (tmp_path / "out" / "records.jsonl").read_bytes() == before
    other = runner.run(asked.changed(output=tmp_path / "other"))
    assert other.work["corruptions"] == N, "another card, other pictures"
    both = [runner.Results(tmp_path / name) for name in ("out", "other")]
    with pytest.raises(BadRecord, match="make no common board: suite own"):
        leaderboard.rows(both)


def test_edited_amounts_never_get_old_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENSEMBLE_BENCH_CACHE", str(tmp_path / "store"))
    asked = ASKED.changed(
        output=tmp_path / "out", corruptions=("own:fog:1", "own:fog:2"), strategies=("log-avg",), cards=(_own(tmp_path),)
    )
    assert runner.run(asked).work["corruptions"] == 2 * N
    _own(tmp_path, OWN.replace("[2.0, 2]", "[2.1, 2]"))
    again = runner.run(asked)
    assert again.work["corruptions"] == N and again.made == 1, "only the severity whose amount changed"


def test_another_seed_is_another_picture(first: runner.Outcome, tmp_path: Path) -> None:
    asked = ASKED.changed(corruptions=("mini-c:gaussian_noise:2",), strategies=("log-avg",))
    again = runner.run(asked.changed(output=tmp_path / "same"))
    assert again.work["corruptions"] == 0
    other = runner.run(asked.changed(output=tmp_path / "other", seed=1))
    assert other.work["corruptions"] == N and other.work["decodes"] == N


def test_a_dry_run_counts_conditions(first: runner.Outcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "to encode: 0 images" in forecast.text(SHOWN)
    monkeypatch.setenv("ENSEMBLE_BENCH_CACHE", str(tmp_path / "store"))
    support = len(samples(planned(ASKED).tasks[0], ASKED).support.ids)
    said = forecast.text(SHOWN)
    assert f"to encode: {BACKBONES * (N * (LEVELS + 1) + support):,} images x backbones" in said
    assert f"{LEVELS + 1} conditions" in said


def test_features_too_many_to_keep_are_read_again(
    first: runner.Outcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "HELD", 0)
    again = runner.run(SHOWN.changed(output=tmp_path / "out"))
    mine, theirs = ({r.key: r.metrics for r in results.records} for results in (again.results, first.results))
    assert mine == theirs


# Folders -------------------------------------------------------------------------------------------------------------

TASK = """
name = "mine/photographs"
version = 1
title = "Photographs"
classes = ["brick", "grass"]
templates = ["a photo of {c}."]
licence = "MIT"
provenance = "crops"
[source]
SOURCE
[counts]
test = 8
[digests]
"""


def _photographs(folder: Path, split: str = "") -> Path:
    """Eight crops in two folders, as pictures of the embedded task of surfaces."""
    from PIL import Image

    from ensemble_bench import sources
    from ensemble_bench.task import Catalogue

    source = sources.of(Catalogue().task("mini/surfaces"))
    index = source.index("test")
    for label, name in enumerate(("n01", "n02")):
        ids = [one for one, own in zip(index.ids, index.labels, strict=True) if own == label][:4]
        for number, picture in enumerate(source.pictures("test", ids)):
            path = folder / split / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(path)
    return folder


def _task(tmp_path: Path, source: str, **changes: str) -> Request:
    text = TASK.replace("SOURCE", source)
    for before, after in changes.items():
        text = text.replace(before, after)
    path = tmp_path / "cards" / "tasks" / "mine" / "photographs.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return Request(
        tasks=("mine/photographs",),
        backbones=("mini/rn-narrow",),
        strategies=("single",),
        cards=(tmp_path / "cards",),
        output=tmp_path / "out",
    )


@pytest.mark.parametrize("split", ["", "test"])
def test_a_folder_is_a_source(tmp_path: Path, split: str) -> None:
    folder = _photographs(tmp_path / "pictures", split)
    asked = _task(tmp_path, f'kind = "folder"\nroot = "{folder}"')
    shown = samples(planned(asked).tasks[0], asked)
    before = f"{split}/" if split else ""
    assert shown.query.ids == tuple(f"{before}{name}/{number}.png" for name in ("n01", "n02") for number in range(4))
    assert shown.query.labels == (0,) * 4 + (1,) * 4 and shown.supports == ()
    outcome = runner.run(asked)
    assert outcome.failures == [] and outcome.work["decodes"] == 8
    assert runner.run(asked.changed(output=tmp_path / "again")).work["encodes"] == 0
    (folder / split / "n01" / "2.png").write_bytes((folder / split / "n02" / "0.png").read_bytes())
    assert runner.run(asked.changed(output=tmp_path / "changed")).work["encodes"] == 8, "changed files, new features"


def test_the_folder_of_each_class(tmp_path: Path) -> None:
    folder = _photographs(tmp_path / "pictures")
    turned = _task(tmp_path, f'kind = "folder"\nroot = "{folder}"\nfolders = ["n02", "n01"]')
    assert samples(planned(turned).tasks[0], turned).query.ids[0] == "n02/0.png"
    (folder / "n01").rename(folder / "grass")
    (folder / "n02").rename(folder / "brick")
    named = _task(tmp_path, f'kind = "folder"\nroot = "{folder}"')
    assert samples(planned(named).tasks[0], named).query.ids[0] == "brick/0.png"


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ('root = "nowhere"', "nowhere is not a folder; 'source.root' of its card must name one that is there"),
        ('rot = "x"', "unknown key 'source.rot'; there are root, train, test, folders"),
        ('root = "pictures"\ntest = "val"', "there is no folder pictures/val for the test split"),
        ('root = "pictures"\nfolders = ["n01", "n03"]', "pictures lacks the class folders n03"),
        ('root = "pictures"\nfolders = ["n01"]', "'source.folders' must hold 2 names"),
        ("root = 3", "'source.root' must be the path of a folder, not 3"),
    ],
)
def test_a_folder_that_does_not_fit(tmp_path: Path, source: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    _photographs(Path("pictures"))
    with pytest.raises(Exception, match=said) as caught:
        runner.run(_task(tmp_path, f'kind = "folder"\n{source}'))
    assert caught.type.__module__ == "ensemble_bench.errors"
    assert not (tmp_path / "out").exists()


def _corrupted(tmp_path: Path, clean: Path) -> Path:
    """A copy of fog and noise at two severities, made by the verb."""
    assert cli.main(["corrupt", str(clean), str(tmp_path / "c"), "--suite", "mini-c:fog", "mini-c:gaussian_noise", "-q"]) == 0
    return tmp_path / "c"


def test_imagenet_c_on_disk_gives_what_memory_gives(tmp_path: Path) -> None:
    """The copy that ``corrupt`` makes has the official layout; read from disk it is the condition made in memory."""
    clean = _photographs(tmp_path / "clean")
    root = _corrupted(tmp_path, clean)
    (root / "noise").mkdir()
    (root / "gaussian_noise").rename(root / "noise" / "gaussian_noise")  # as the published archives unpack
    asked = _task(tmp_path, f'kind = "imagenet-c"\nroot = "{root}"\nclean = "{clean}"').changed(
        corruptions=("imagenet-c-disk:fog:2", "imagenet-c-disk:gaussian_noise:4", "mini-c:fog:2", "mini-c:gaussian_noise:4")
    )
    outcome = runner.run(asked)
    assert outcome.failures == []
    assert outcome.work["decodes"] == 8 * 3 and outcome.work["corruptions"] == 8 * 2
    found = {record.condition: outcome.results.predictions(record.cell).decisions for record in outcome.results.records}
    assert len(found) == 5
    for name in ("fog:2", "gaussian_noise:4"):
        assert np.array_equal(found[f"imagenet-c-disk:{name}"], found[f"mini-c:{name}"])
    suites = {record.condition: record.provenance.get("suite", {}).get("engine") for record in outcome.results.records}
    assert suites["imagenet-c-disk:fog:2"] == "disk" and suites["mini-c:fog:2"] == "native"


def test_what_is_missing_on_disk_is_named_and_the_rest_done(tmp_path: Path) -> None:
    clean = _photographs(tmp_path / "clean")
    root = _corrupted(tmp_path, clean)
    shutil.rmtree(root / "gaussian_noise" / "2" / "n02")
    (root / "gaussian_noise" / "4" / "n01" / "3.png").unlink()
    texts = ("fog:2", "fog:3", "gaussian_noise", "snow:1")
    asked = _task(tmp_path, f'kind = "imagenet-c"\nroot = "{root}"\nclean = "{clean}"').changed(
        corruptions=tuple(f"imagenet-c-disk:{text}" for text in (*texts[:2], "gaussian_noise:2", "gaussian_noise:4", texts[3]))
    )
    outcome = runner.run(asked)
    reasons = {record.condition: record.reason for record in outcome.results.records if record.status == "failed"}
    before = "mine/photographs: "
    assert reasons == {
        "imagenet-c-disk:fog:3": f"{before}{root / 'fog'} has no severity 3; it holds 2, 4.",
        "imagenet-c-disk:gaussian_noise:2": f"{before}{root / 'gaussian_noise' / '2'} lacks 1 classes: n02 (4 of 8 pictures).",
        "imagenet-c-disk:gaussian_noise:4": f"{before}{root / 'gaussian_noise' / '4'} lacks 1 of 8 pictures: n01/3.png.",
        "imagenet-c-disk:snow:1": f"{before}{root} has no folder snow; it holds fog, gaussian_noise.",
    }
    done = {record.condition for record in outcome.results.records if record.status == "done"}
    assert done == {"clean", "imagenet-c-disk:fog:2"}
    assert len(outcome.failures) == 4
    _corrupted(tmp_path, clean)  # mends the copy
    mended = runner.run(asked)
    assert {record.condition for record in mended.results.records if record.status == "done"} - done == {
        "imagenet-c-disk:gaussian_noise:2",
        "imagenet-c-disk:gaussian_noise:4",
    }


def test_without_clean_pictures_there_is_what_is_on_disk(tmp_path: Path) -> None:
    root = _corrupted(tmp_path, _photographs(tmp_path / "clean"))
    asked = _task(tmp_path, f'kind = "imagenet-c"\nroot = "{root}"').changed(
        corruptions=("imagenet-c-disk:fog:2", "mini-c:fog:2")
    )
    outcome = runner.run(asked)
    status = {record.condition: record.status for record in outcome.results.records}
    assert status == {"clean": "failed", "imagenet-c-disk:fog:2": "done", "mini-c:fog:2": "failed"}
    assert all("names no clean pictures" in reason for reason in outcome.failures)
