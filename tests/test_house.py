"""The house is in order: nothing is left half done, nothing is of one machine only, nothing lies about at the top level."""

from __future__ import annotations

import ast
import io
import re
import shutil
import subprocess
import tokenize
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TOP = {
    *("pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "tox.ini"),
    *("ensemble_bench", "tasks", "corruptions", "results", "docs", "tests"),
    *(".ci", ".github", ".gitignore", ".pre-commit-config.yaml"),
}
TEXT = {".py", ".toml", ".md", ".ini", ".yaml", ".yml", ".json", ".sh", ".txt", ""}
THIS = Path(__file__).resolve()


whole = pytest.mark.skipif(not (ROOT / ".ci").exists(), reason="an sdist has neither .ci nor results")


def kept() -> list[Path]:
    """Every file that belongs to the project: what git knows or would take, or in an sdist what lies in its folders."""
    git = shutil.which("git")
    if git and (ROOT / ".git").exists():
        listed = [git, "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
        return sorted(ROOT / name for name in names if name and (ROOT / name).is_file())
    places = [ROOT / name for name in TOP if (ROOT / name).exists()]
    inside = [path for place in places for path in ([place] if place.is_file() else place.rglob("*"))]
    return sorted(path for path in inside if path.is_file() and "__pycache__" not in path.parts)


FILES = kept()
TEXTS = [path for path in FILES if path.suffix in TEXT and path != THIS and "results" not in path.relative_to(ROOT).parts[:1]]
PYTHON = [path for path in FILES if path.suffix == ".py"]
MODULES = [path for path in PYTHON if path.is_relative_to(ROOT / "ensemble_bench") and path.stat().st_size]


def lines(paths: list[Path], pattern: str) -> list[str]:
    """``file:number: line`` of every line in which the pattern is found."""
    found = []
    for path in paths:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if re.search(pattern, line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()}")
    return found


def comments(path: Path) -> list[str]:
    """The comments of a Python file."""
    tokens = tokenize.generate_tokens(io.StringIO(path.read_text(encoding="utf-8")).readline)
    return [token.string for token in tokens if token.type == tokenize.COMMENT]


def test_the_files_are_found() -> None:
    assert len(MODULES) > 15
    assert ROOT / "pyproject.toml" in FILES


def test_nothing_strange_at_the_top() -> None:
    top = {path.relative_to(ROOT).parts[0] for path in FILES}
    assert top <= TOP, f"not a place of its own: {sorted(top - TOP)}"


def test_nothing_is_left_half_done() -> None:
    assert lines(TEXTS, r"\b(TODO|FIXME|XXX|HACK)\b") == []
    assert lines(MODULES, r"^\s*(raise NotImplementedError|\.\.\.)") == []


def test_nothing_names_somebodys_machine() -> None:
    assert lines(TEXTS, r"(?<![\w.$}])/(work|tmp|root|home/\w+|Users/\w+)/\w|[A-Z]:\\\\Users") == []


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_module_says_what_it_is(path: Path) -> None:
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    assert text, "no docstring"
    assert text.splitlines()[0].rstrip().endswith((".", ":", "?")), "its first line is no sentence"


def test_every_exception_names_its_rule() -> None:
    unnamed = [
        f"{path.relative_to(ROOT)}: {comment}"
        for path in PYTHON
        for comment in comments(path)
        if re.search(r"noqa(?!: ?[A-Z]+\d)|type: ?ignore(?!\[[\w-]+)", comment)
    ]
    assert unnamed == []


def test_licence_and_changelog() -> None:
    licence = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert licence.startswith("MIT License")
    assert "2026 the ensemble_bench authors" in licence
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert "## [Unreleased]" in changelog or f"## [{version}]" in changelog


@pytest.mark.parametrize(("name", "last"), [("run", "ensemble-bench run"), ("test", "python -m pytest")])
def test_the_two_commands_of_the_readme(name: str, last: str) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (command,) = re.findall(rf"<!-- command: {name} -->\s*```bash\n(.*?)\n```", readme, re.S)
    assert "\n" not in command, "one line each"
    first, *_, end = command.split(" && ")
    assert first == "python3 -m venv .venv"  # bare pip is refused by Debian's Python
    assert f"{end} ".startswith(f".venv/bin/{last} ")  # options may follow
    if bash := shutil.which("bash"):
        assert subprocess.run([bash, "-n", "-c", command], capture_output=True, check=False).returncode == 0


@whole
def test_the_script_of_continuous_integration() -> None:
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o100, "it must be executable"
    said = subprocess.run(["bash", "-n", str(script)], capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr
    assert "shared" not in script.read_text(encoding="utf-8")


@whole
def test_links_of_the_readme_lead_somewhere() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    lost = [link for link in re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", readme) if not (ROOT / link).exists()]
    assert lost == []
