"""The verb check-task: what it finds, what it says, how it ends."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ensemble_bench import cli, runner
from ensemble_bench.request import Request


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENSEMBLE_BENCH_CACHE", str(tmp_path / "store"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def pets() -> Path:
    for place, split in enumerate(("test", "train")):
        for label, name in enumerate(("cat", "dog")):
            for number in range(5):
                path = Path("pets", split, name, f"{number}.png")
                path.parent.mkdir(parents=True, exist_ok=True)
                pixels = np.random.default_rng(100 * place + 10 * label + number).integers(0, 256, (20, 20, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(path)
    return Path("pets")


def check(*words: str) -> tuple[int, list[dict[str, object]]]:
    from contextlib import redirect_stdout
    from io import StringIO

    out = StringIO()
    with redirect_stdout(out):
        code = cli.main(["check-task", *words, "--json"])
    return code, json.loads(out.getvalue())


def test_nothing_wrong(pets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check-task", "folder:pets", "mini/faces"]) == 0
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert lines[0].endswith(": fine; 10 test and 10 train images looked at") and lines[0].startswith("folder-pets-")
    assert lines[1] == "mini/faces: fine; 160 test and 40 train images looked at"
    assert said.err == ""
    assert check("folder:pets") == (0, [{"name": lines[0].partition(":")[0], "fine": True, "images": {"test": 10, "train": 10},
                                         "findings": []}])  # fmt: skip


def test_everything_wrong_is_named(pets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (pets / "test/cat/0.png").write_bytes(b"no picture")
    (pets / "test/dog/1.png").write_bytes((pets / "test/dog/1.png").read_bytes()[:200])
    Image.open(pets / "train/dog/3.png").save(pets / "test/dog/other.bmp")  # the same pixels in another file
    shutil.copy(pets / "test/cat/2.png", pets / "test/cat/copy.png")
    (pets / "zeroshot_classification_templates.txt").write_text("a {c}\na {c}\n")
    code, ((report),) = check("folder:pets")
    assert code == 2 and report["fine"] is False
    found = {(item["check"], item["severity"]): item["sentence"] for item in report["findings"]}  # type: ignore[attr-defined]
    assert set(found) == {("images", "error"), ("overlap", "error"), ("overlap", "warning"), ("templates", "warning")}
    assert "2 of 12 test images cannot be decoded" in found["images", "error"]
    assert "test/cat/0.png is no picture" in found["images", "error"]
    assert "1 of 10 test images are train images too: test/dog/other.bmp = train/dog/3.png." in found["overlap", "error"]
    assert "1 of 10 test images are copies" in found["overlap", "warning"]
    capsys.readouterr()
    assert cli.main(["validate", "-t", "folder:pets"]) == 2
    said = capsys.readouterr()
    assert "to be mended; 12 test and 10 train images looked at\n  error: 2 of 12" in said.out
    assert said.err == "ensemble-bench: 1 of 1 data sets are to be mended.\n"
    assert check("folder:pets", "--quick")[0] == 0, "without decoding there is nothing wrong with it"


def test_data_that_cannot_be_had(pets: Path) -> None:
    code, reports = check("folder:nowhere", "folder:pets")
    assert code == 2 and [report["fine"] for report in reports] == [False, True]
    assert "nowhere is not a folder" in reports[0]["findings"][0]["sentence"]  # type: ignore[index]


def test_cards_are_held_against_what_is_there(pets: Path) -> None:
    Path("cards/tasks/mine").mkdir(parents=True)
    card = (
        'name = "mine/pets"\nversion = 1\ntitle = "Pets"\nclasses = ["cat", "dog"]\ntemplates = ["a {c}", "{c} on {d}"]\n'
        'licence = "MIT"\nprovenance = "a test"\n[source]\nkind = "folder"\nroot = "pets"\n[counts]\ntrain = 10\ntest = 11\n'
        f'[digests]\ntrain = "{"0" * 64}"\n'
    )
    Path("cards/tasks/mine/pets.toml").write_text(card)
    code, ((report),) = check("mine/pets", "--cards", "cards")
    found = {item["check"]: item["sentence"] for item in report["findings"]}  # type: ignore[attr-defined]
    assert code == 2 and set(found) == {"counts", "digest", "templates"}
    assert found["counts"] == "the test split has 10 images; its card says 11."
    assert found["digest"] == "the train images are not those of the card."


def test_part_of_it(pets: Path) -> None:
    code, ((report),) = check("folder:pets", "--limit", "3")
    assert code == 0 and report["images"] == {"test": 3, "train": 3}
    assert cli.main(["check-task", "folder:pets", "--limit", "0"]) == 2
    assert cli.main(["check-task"]) == 2


def test_embedded_tasks_are_what_their_cards_say() -> None:
    """Among them the digest over all pixels."""
    code, reports = check("mini/digits")
    assert code == 0 and reports[0]["findings"] == []


def test_a_backbone_at_chance_is_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    """Noise with labels that mean nothing: nobody can be above chance, and the run says so after it has measured."""
    rng = np.random.default_rng(0)
    for number in range(120):
        path = Path("noise", ("heads", "tails")[number % 2], f"{number}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(path)
    asked = ["run", "-t", "folder:noise", "mini/digits", "-b", "mini/vit-16", "-s", "single", "log-avg", "-o", "out"]
    assert cli.main(asked) == 0
    warnings = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert len(warnings) == 1 and "folder-noise-" in warnings[0] and "mini/vit-16 is not above chance" in warnings[0]
    more = Request(tasks=("folder:noise",), backbones=("mini/vit-16",), strategies=("single",), output=Path("more"))
    assert len(runner.run(more).warnings) == 1
