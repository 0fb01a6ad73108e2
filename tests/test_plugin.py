"""A distribution of somebody else, really installed: it is listed, keeps the promises and runs; a broken one stops nobody."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import ensemble_bench

HERE = Path(__file__).resolve().parent / "plugin"
PACKAGES = Path(ensemble_bench.__file__).resolve().parents[1]
pytestmark = pytest.mark.package


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which pip has installed the distribution."""
    folder = tmp_path_factory.mktemp("site")
    source = shutil.copytree(HERE, tmp_path_factory.mktemp("source") / "plugin", ignore=shutil.ignore_patterns("__pycache__"))
    pip = ["-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check"]
    done = subprocess.run([sys.executable, *pip, "--target", folder, source], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def pretend(folder: Path, name: str, value: str) -> Path:
    """Another distribution in that folder, with one entry point and nothing else."""
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[ensemble_bench.strategies]\n{name} = {value}\n")
    return folder


def python(*words: str, path: list[Path], folder: Path) -> subprocess.CompletedProcess[str]:
    """What a new Python says that finds the distributions in ``path``."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, [*path, PACKAGES]))}
    environment["ENSEMBLE_BENCH_CACHE"] = str(folder / "store")
    command = [sys.executable, *words]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


def listed(path: list[Path], folder: Path) -> dict[str, dict[str, Any]]:
    """Every strategy of ``ls`` by name."""
    said = python("-m", "ensemble_bench", "ls", "strategies", "--json", path=path, folder=folder)
    assert said.returncode == 0, said.stderr
    return {thing["name"]: thing for thing in json.loads(said.stdout)}


def test_it_is_short() -> None:
    assert len((HERE / "bench_median.py").read_text(encoding="utf-8").splitlines()) <= 15


@pytest.fixture(scope="module")
def torn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a distribution whose strategy cannot be imported."""
    return pretend(tmp_path_factory.mktemp("torn"), "torn", "no_such_module_anywhere:Torn")


@pytest.fixture(scope="module")
def found(site: Path, torn: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What is listed where both are installed."""
    return listed([site, torn], tmp_path_factory.mktemp("listed"))


def test_it_is_listed(found: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    assert found["median"] == {
        "name": "median",
        "family": "static",
        "labels": "none",
        "summary": "Each class gets the median of its probabilities over the backbones.",
    }
    assert set(found) - set(listed([], tmp_path)) == {"median", "torn"}


def test_a_broken_one_is_listed_as_broken(found: dict[str, dict[str, Any]]) -> None:
    assert "no_such_module_anywhere" in found["torn"]["broken"]
    assert [name for name, thing in found.items() if "broken" in thing] == ["torn"]


def test_it_keeps_the_promises(site: Path, tmp_path: Path) -> None:
    asked = "from ensemble_bench.testing.strategies import check_strategy; check_strategy('median'); print('kept')"
    said = python("-c", asked, path=[site], folder=tmp_path)
    assert said.stdout == "kept\n", said.stderr


def test_a_name_that_is_taken_is_one_sentence(site: Path, tmp_path: Path) -> None:
    thief = pretend(tmp_path / "thief", "nlc", "bench_median:Median")
    said = python("-m", "ensemble_bench", "ls", "strategies", path=[site, thief], folder=tmp_path)
    assert said.returncode == 2
    assert said.stderr.startswith("ensemble-bench: the strategy 'nlc'")
    assert said.stderr.count("\n") == 1


@pytest.mark.slow
def test_it_runs_beside_a_broken_one(site: Path, torn: Path, tmp_path: Path) -> None:
    small = ["-t", "mini/faces", "-b", "mini/rn-narrow", "mini/vit-16", "--limit", "8", "--draws", "1", "-q", "-o", "out"]
    said = python("-m", "ensemble_bench", "run", "-s", "median", *small, path=[site, torn], folder=tmp_path)
    assert said.returncode == 0, said.stderr
    board = python("-m", "ensemble_bench", "board", "out", "--format", "json", path=[site, torn], folder=tmp_path)
    rows = [row for row in json.loads(board.stdout) if row["strategy"] == "median" and row["task"] == "mini/faces"]
    (accuracy,) = [row["value"] for row in rows if row["metric"] == "acc1"]
    assert accuracy in [right / 8 for right in range(9)]
