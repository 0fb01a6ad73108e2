"""What ``new strategy`` writes can be installed and keeps every promise, and the page about it is run line by line."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import site
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import pytest

import ensemble_bench
from ensemble_bench import cli, strategies
from ensemble_bench.strategies.plugin import add_file
from ensemble_bench.testing.strategies import CheckFailed, check_strategy

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = Path(ensemble_bench.__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "new-strategy.md"
on_page = pytest.mark.skipif(not PAGE.is_file(), reason="an sdist has no docs")


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(strategies.registry, "_added", {})


def test_what_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["new", "strategy", "sharp-mean2", "deep/er"]) == 0
    made = sorted(path.name for path in (tmp_path / "deep" / "er").iterdir())
    assert made == ["README.md", "pyproject.toml", "sharp_mean2.py", "test_sharp_mean2.py"]
    first, then = capsys.readouterr().out.splitlines()
    assert first.startswith("deep/er: ") and all(name in first for name in made)
    assert then == "next: pip install -e deep/er && pytest deep/er && ensemble-bench run -s sharp-mean2"
    project = tomllib.loads(Path("deep/er/pyproject.toml").read_text())["project"]
    assert project["entry-points"] == {"ensemble_bench.strategies": {"sharp-mean2": "sharp_mean2:SharpMean2"}}
    assert len(Path("deep/er/README.md").read_text().splitlines()) == 3
    body = Path("deep/er/sharp_mean2.py").read_text().partition("@dataclass(eq=False)")[2]
    assert len([line for line in body.splitlines() if line.strip()]) <= 18
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["er"]


@pytest.mark.parametrize("name", ["sharp-mean", "a", "x-1", "a-b2"])
def test_it_keeps_every_promise(name: str, tmp_path: Path) -> None:
    assert cli.main(["new", "strategy", name, "made"]) == 0
    (module,) = [path for path in (tmp_path / "made").glob("*.py") if not path.name.startswith("test_")]
    assert add_file(module) == [name]
    check_strategy(name)


def test_it_is_formatted(tmp_path: Path) -> None:
    assert cli.main(["new", "strategy", "sharp-mean", "made"]) == 0
    if importlib.util.find_spec("ruff") is None:
        pytest.skip("ruff is not installed here")
    for words in (["format", "--check"], ["check"]):
        command = [sys.executable, "-m", "ruff", *words, "--isolated", "--line-length", "128", "."]
        said = subprocess.run(command, cwd=tmp_path / "made", capture_output=True, text=True, check=False)
        assert said.returncode == 0, said.stdout


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("Sharp", "like my-mean, not 'Sharp'"),
        ("sharp_mean", "lower case letters, digits and hyphens"),
        ("2sharp", "not '2sharp'"),
        ("sharp-", "not 'sharp-'"),
        ("", "not ''"),
        ("../up", "not '../up'"),
        ("lambda", "not 'lambda'"),
        ("json", "a module 'json' would hide one that is installed"),
        ("numpy", "a module 'numpy' would hide one that is installed"),
        ("log-avg", "there is already a strategy 'log-avg'"),
    ],
)
def test_a_name_that_cannot_be(name: str, sentence: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert cli.main(["new", "strategy", name, "made"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and sentence in err and err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "empty").mkdir()
    for name, said in (("full", "not empty"), ("file", "not empty"), ("file/below", "cannot be written")):
        assert cli.main(["new", "strategy", "sharp-mean", name]) == 2
        assert said in capsys.readouterr().err
    assert cli.main(["new", "strategy", "sharp-mean", "empty"]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "file", "full"]
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["notes.txt"]


# The page ------------------------------------------------------------------------------------------------------------


def page() -> str:
    return PAGE.read_text(encoding="utf-8")


def files() -> dict[str, str]:
    return dict(re.findall(r"<!-- file: (\S+) -->\n```python\n(.*?)```", page(), re.S))


def commands() -> list[str]:
    return [line for block in re.findall(r"<!-- command -->\n```bash\n(.*?)```", page(), re.S) for line in block.splitlines()]


@on_page
def test_everything_on_the_page_is_run() -> None:
    assert len(files()) == page().count("```python") == 2
    assert page().count("```bash") == page().count("<!-- command -->") and len(commands()) >= 8


@on_page
@pytest.mark.parametrize(("file", "name"), [("contrast.py", "contrast"), ("trusted.py", "trusted")])
def test_the_strategies_of_the_page_keep_every_promise(file: str, name: str, tmp_path: Path) -> None:
    text = files()[file]
    (tmp_path / file).write_text(text)
    assert len([line for line in text.partition("@dataclass")[2].splitlines() if line.strip()]) <= 18
    assert add_file(tmp_path / file) == [name]
    check_strategy(name)


@on_page
def test_the_checks_would_have_found_it(tmp_path: Path) -> None:
    """Silence means something: the same strategy with one promise broken is a sentence."""
    text = files()["trusted.py"].replace('    family = "calibrated"', '    family = "static"')
    (tmp_path / "broken.py").write_text(text.replace("class Trusted", "class Broken"))
    add_file(tmp_path / "broken.py")
    with pytest.raises(CheckFailed, match="broken: check_"):
        check_strategy("broken")


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A new virtual environment that sees what is installed here; pip in it asks no network and installs no dependencies."""
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    seen = [path for path in [*site.getsitepackages(), str(PACKAGES)] if Path(path).is_dir()]
    (folder / "lib" / version / "site-packages" / "seen.pth").write_text("\n".join(seen) + "\n")
    flags = "--no-deps --no-build-isolation --no-index --disable-pip-version-check -q"
    scripts = {
        "pip": f'#!/bin/sh\ncommand=$1; shift\nexec "{python}" -m pip $command {flags} "$@"\n',
        "ensemble-bench": f'#!/bin/sh\nexec "{python}" -m ensemble_bench "$@"\n',
    }
    for name, text in scripts.items():
        (folder / "bin" / name).write_text(text)
        (folder / "bin" / name).chmod(0o755)
    path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")}
    return {**kept, "PATH": path, "ENSEMBLE_BENCH_CACHE": str(tmp_path_factory.mktemp("store")), "NO_COLOR": "1"}


@on_page
@pytest.mark.package
@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="the page is for a shell")
def test_the_page_line_by_line(environment: dict[str, str], tmp_path: Path) -> None:
    for name, text in files().items():
        (tmp_path / name).write_text(text)
    said = {}
    for command in commands():
        done = subprocess.run(
            ["bash", "-c", command], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=900, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        said[command] = done.stdout
    first, second, third, *_, listed, last = (out for command, out in said.items() if command.startswith("ensemble-bench"))
    assert first.startswith("faces.npz: ") and "3 backbones" in first
    for name in ("contrast", "contrast:power=2", "log-avg", "oracle"):
        assert re.search(rf"^│ {re.escape(name)} +\d", second, re.M), name
    assert re.search(r"^│ trusted +\d", third, re.M) and "2 labels per class" in third
    assert "sharp-mean" in listed and re.search(r"^│ sharp-mean +\d", last, re.M)
    (tests,) = [out for command, out in said.items() if "pytest" in command]
    assert re.search(r"\d\d passed", tests) or tests.count(".") > 20
    rows = subprocess.run(
        ["ensemble-bench", "evaluate", "faces.npz", "-s", "sharp-mean", "--format", "json"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    assert 0.1 < next(row["value"] for row in json.loads(rows.stdout) if row["metric"] == "acc1") <= 1
