"""Cards and weights are found from a checkout, a wheel and an sdist alike, and nothing else gets in."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

import ensemble_bench
from ensemble_bench import cards

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = Path(ensemble_bench.__file__).resolve().parent
KINDS = [kind for kind in cards.KINDS if any((ROOT / kind).rglob("*.toml"))]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
MEBIBYTE = 2**20
WEIGHTS = "ensemble_bench/backbones/mini/weights/"


def command(*words: str, folder: Path, **environment: str) -> str:
    """What a Python of these packages prints, run in ``folder`` without our PYTHONPATH."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "PIP_"))} | environment
    done = subprocess.run([sys.executable, *words], cwd=folder, env=clean, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_there_are_cards() -> None:
    assert "tasks" in KINDS
    assert len(here("tasks")) >= 9


def test_the_running_code_finds_them() -> None:
    checkout = PACKAGE.parent == ROOT
    for kind in KINDS:
        assert cards.folder(kind) == (ROOT / kind if checkout else PACKAGE / "_cards" / kind)
        assert set(cards.find(kind)) >= set(names(kind))
    assert sorted(cards.find("collections")) == sorted(path.stem for path in (ROOT / "tasks" / "collections").iterdir())


def names(kind: str) -> list[str]:
    """Names of the checkout's cards of one kind, sorted; collections of tasks lie with the tasks and are none."""
    found = (path.relative_to(ROOT / kind).with_suffix("").as_posix() for path in here(kind))
    return sorted(name for name in found if not name.startswith("collections/"))


def here(kind: str) -> list[Path]:
    """The checkout's cards of one kind."""
    return sorted((ROOT / kind).rglob("*.toml"))


def test_a_checkout_has_no_copies() -> None:
    assert not (ROOT / "ensemble_bench" / "_cards").exists()


@pytest.mark.parametrize("kind", cards.KINDS)
def test_cards_are_data_only(kind: str) -> None:
    strangers = [path for path in (ROOT / kind).rglob("*") if path.is_file() and path.suffix not in {".toml", ".md"}]
    assert strangers == []


def test_all_is_the_union_of_the_other_extras() -> None:
    extras = dict(PROJECT["optional-dependencies"])
    (everything,) = extras.pop("all")
    name, _, names = everything.rstrip("]").partition("[")
    assert name == PROJECT["name"]
    assert sorted(names.split(",")) == sorted(extras)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """``wheel`` built from the checkout, ``sdist``, and ``second``, the wheel built from that sdist; without the network."""
    folder = tmp_path_factory.mktemp("built")
    build = ["-m", "build", "--no-isolation"]
    command(*build, "--wheel", "--outdir", str(folder / "wheel"), str(ROOT), folder=folder)
    command(*build, "--outdir", str(folder / "both"), str(ROOT), folder=folder)  # an sdist, and a wheel from it
    (wheel,), (sdist,), (second,) = (
        (folder / "wheel").iterdir(),
        (folder / "both").glob("*.gz"),
        (folder / "both").glob("*.whl"),
    )
    return {"wheel": wheel, "sdist": sdist, "second": second}


@pytest.fixture(scope="module")
def unpacked(built: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel installed into a folder of its own, without what it needs."""
    folder = tmp_path_factory.mktemp("unpacked")
    pip = ["-m", "pip", "install", "-q", "--no-deps", "--no-index", "--no-compile", "--disable-pip-version-check"]
    command(*pip, "--target", str(folder), str(built["wheel"]), folder=folder)
    return folder


def contents(wheel: Path) -> dict[str, str]:
    """Digest of every file of a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: hashlib.sha256(archive.read(name)).hexdigest() for name in archive.namelist()}


@pytest.mark.package
def test_the_wheel_holds_the_package_and_its_cards_and_nothing_else(built: dict[str, Path]) -> None:
    names = list(contents(built["wheel"]))
    assert {name.partition("/")[0] for name in names} == {"ensemble_bench", f"ensemble_bench-{PROJECT['version']}.dist-info"}
    for kind in KINDS:
        inside = {name for name in names if name.startswith(f"ensemble_bench/_cards/{kind}/")}
        assert inside == {f"ensemble_bench/_cards/{path.relative_to(ROOT).as_posix()}" for path in here(kind)}
    figures = {name.rpartition("/")[2] for name in names if name.startswith("ensemble_bench/_cards/reference/")}
    assert figures == {path.name for path in (ROOT / "results" / "reference").iterdir()} and len(figures) >= 3
    assert "ensemble_bench/py.typed" in names
    assert any(name.endswith("/licenses/LICENSE") for name in names)
    strange = [name for name in names if re.search(r"__pycache__|\.pyc$|/shared/|\.npz$|(^|/)tests?/", name)]
    assert strange == []
    sources = {path.relative_to(ROOT).as_posix() for path in (ROOT / "ensemble_bench").rglob("*.py")}
    assert {name for name in names if name.endswith(".py")} == sources


@pytest.mark.package
def test_the_wheel_holds_the_weights_and_stays_small(built: dict[str, Path]) -> None:
    expected = {path.name for path in (ROOT / WEIGHTS).glob("*.safetensors")}
    if not expected:
        pytest.skip("the embedded weights are not there yet")
    with zipfile.ZipFile(built["wheel"]) as archive:
        sizes = {info.filename: info.file_size for info in archive.infolist() if info.filename.startswith(WEIGHTS)}
    weights = {name.removeprefix(WEIGHTS): size for name, size in sizes.items() if name.endswith(".safetensors")}
    assert set(weights) == expected
    assert max(weights.values()) < 4 * MEBIBYTE
    assert sum(weights.values()) <= 16_000_000
    assert built["wheel"].stat().st_size < 20_000_000


@pytest.mark.package
def test_the_sdist_builds_the_same_wheel(built: dict[str, Path]) -> None:
    assert built["second"].name == built["wheel"].name
    assert contents(built["second"]) == contents(built["wheel"])
    with tarfile.open(built["sdist"]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "tests/test_packaging.py"} <= names
    strange = ("shared", "runs", "results/baseline", "results/LEADERBOARD", ".")
    assert not any(name.startswith(strange) and name != ".gitignore" for name in names)


@pytest.mark.package
def test_the_wheel_finds_its_own_cards(unpacked: Path, tmp_path: Path) -> None:
    asked = "import json; from ensemble_bench import cards; print(json.dumps({k: list(cards.find(k)) for k in cards.KINDS}))"
    found = json.loads(command("-c", asked, folder=tmp_path, PYTHONPATH=str(unpacked)))
    for kind in KINDS:
        assert sorted(found[kind]) == names(kind)
    assert "vtab" in found["collections"]
    where = command(
        "-c", "from ensemble_bench import cards; print(cards.folder('tasks'))", folder=tmp_path, PYTHONPATH=str(unpacked)
    )
    assert Path(where.strip()) == unpacked / "ensemble_bench" / "_cards" / "tasks"


@pytest.mark.package
def test_the_command_of_the_wheel_lists_its_tasks(unpacked: Path, tmp_path: Path) -> None:
    listed = json.loads(command("-m", "ensemble_bench", "ls", "tasks", "--json", folder=tmp_path, PYTHONPATH=str(unpacked)))
    assert sorted(task["name"] for task in listed) == names("tasks")
