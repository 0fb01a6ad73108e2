"""Who may import whom: the contract of pyproject.toml holds, can fail, and no module reaches itself again."""

from __future__ import annotations

import graphlib
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).resolve().parents[1]
LINT = "from importlinter.cli import lint_imports_command; lint_imports_command()"


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    """What lint-imports says of the package in ``folder``, by the contract that lies beside it."""
    command = [sys.executable, "-c", LINT, "--no-cache", "--config", "pyproject.toml"]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"COLUMNS": "300"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)


def imports(graph: grimp.ImportGraph) -> dict[str, set[str]]:
    """Each module of the graph with the modules that it imports, wherever the import stands."""
    return {module: set(graph.find_modules_directly_imported_by(module)) for module in graph.modules}


def loop(arrows: Mapping[str, set[str]]) -> list[str]:
    """One import loop, first module repeated at the end, or nothing."""
    try:
        graphlib.TopologicalSorter(arrows).prepare()
    except graphlib.CycleError as error:
        found: list[str] = error.args[1]
        return found
    return []


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A copy of the package and its contract, to be broken."""
    quiet = shutil.ignore_patterns("__pycache__", "*.safetensors", "*.json", "*.npz")
    shutil.copytree(ROOT / "ensemble_bench", tmp_path / "ensemble_bench", ignore=quiet)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_the_contract_holds() -> None:
    said = lint(ROOT)
    assert said.returncode == 0, said.stdout + said.stderr
    assert "3 kept, 0 broken" in said.stdout


@pytest.mark.parametrize(
    ("module", "line", "named"),
    [
        pytest.param("errors", "from ensemble_bench import cube", "ensemble_bench.errors -> ensemble_bench.cube", id="upwards"),
        pytest.param(
            "cube",
            "from ensemble_bench.condition import CLEAN",
            "ensemble_bench.cube -> ensemble_bench.condition",
            id="sideways",
        ),
        pytest.param("metrics", "import open_clip", "ensemble_bench.metrics -> open_clip", id="open_clip"),
        pytest.param("metrics", "import clip_benchmark", "ensemble_bench.metrics -> clip_benchmark", id="clip_benchmark"),
    ],
)
@pytest.mark.parametrize("place", ["def inside() -> None:\n    {}\n", "if TYPE_CHECKING:\n    {}\n"], ids=["function", "types"])
def test_a_wrong_import_is_named(house: Path, module: str, line: str, named: str, place: str) -> None:
    file = house / "ensemble_bench" / f"{module}.py"
    file.write_text(file.read_text() + "\n\nfrom typing import TYPE_CHECKING\n\n" + place.format(line))
    said = lint(house)
    assert said.returncode == 1, said.stdout + said.stderr
    assert named in said.stdout


def test_a_room_without_a_floor_is_named(house: Path) -> None:
    (house / "ensemble_bench" / "cellar.py").touch()
    said = lint(house)
    assert said.returncode == 1
    assert "cellar" in said.stdout


def test_no_module_reaches_itself_again() -> None:
    arrows = imports(grimp.build_graph("ensemble_bench", cache_dir=None, exclude_type_checking_imports=False))
    assert len(arrows) > 15
    assert loop(arrows) == []


def test_a_loop_would_be_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ring = tmp_path / "ring"
    ring.mkdir()
    (ring / "__init__.py").touch()
    (ring / "one.py").write_text("import ring.two\n")
    (ring / "two.py").write_text("def inside():\n    from ring import three\n")
    (ring / "three.py").write_text("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from ring.one import it\n")
    monkeypatch.syspath_prepend(tmp_path)
    found = loop(imports(grimp.build_graph("ring", cache_dir=None)))
    assert set(found) == {"ring.one", "ring.two", "ring.three"}
