"""The command line: exit codes, sentences, what it loads."""

from __future__ import annotations

import json
import os
import pkgutil
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

import pytest

import ensemble_bench
from ensemble_bench import cli, listing

ROOT = Path(ensemble_bench.__file__).parents[1]


def _run(*words: str, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **more}
    command = [sys.executable, "-m", "ensemble_bench", *words]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)


@pytest.fixture(autouse=True)
def _store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENSEMBLE_BENCH_CACHE", str(tmp_path / "store"))
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "-t", "mini/digit"], "no task is called 'mini/digit'. Did you mean mini/digits"),
        (["run", "-s", "mean-logits"], "no strategy is called 'mean-logits'."),
        (["run", "-s", "log-av"], "Did you mean log-avg?"),
        (["run", "-s", "nlc:forms=weight"], "the strategy 'nlc' has no parameter 'forms'"),
        (["run", "-s", "nlc:epochs=many"], "must be of type int, not 'many'"),
        (["run", "-b", "mini/rn-narow"], "no backbone is called 'mini/rn-narow'. Did you mean mini/rn-narrow"),
        (["run", "-c", "mini-d"], "no corruption suite is called 'mini-d'"),
        (["run", "--shots", "0"], "--shots must be at least 1"),
        (["run", "--shots", "200", "-t", "mini/digits"], "mini/digits: the class 'zero' has"),
        (["run", "--config", "none.toml"], "the configuration none.toml cannot be read"),
        (["run", "--plugin", "none.py"], "the plug-in none.py cannot be read"),
        (["run", "--cards", "none"], "none is not a folder"),
        (["run", "-b", "RN50,./none.pt"], "none.pt"),
        (["runn"], "there is no verb 'runn'. Did you mean run"),
        (["ls", "taskz"], "there is no kind 'taskz'"),
        (["show", "task", "digits"], "Did you mean mini/digits?"),
        (["board", "nowhere"], "nowhere is not there"),
    ],
)
def test_what_the_user_must_mend_is_one_sentence(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert cli.main(words) == 2
    out, err = capsys.readouterr()
    assert out == "" and said in err
    assert err.startswith("ensemble-bench: ") and err.count("\n") == 1 and "Traceback" not in err
    assert not (tmp_path / "runs").exists()


def _loads(words: Sequence[str], heavy: set[str]) -> str:
    """Which heavy packages a call loads, or how it failed; empty where it printed something and loaded none."""
    text = (
        "import sys; from ensemble_bench import cli\n"
        "try: code = cli.main(sys.argv[2:])\n"
        "except SystemExit as stop: code = stop.code\n"
        "heavy = sorted(set(sys.argv[1].split()) & set(sys.modules))\n"
        "sys.exit(code or (str(heavy) if heavy else 0))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", text, " ".join(heavy), *words]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    return done.stderr if done.returncode else "" if done.stdout or "-o" in words else "it says nothing"


HOSTS = {"torch", "torchvision", "open_clip", "timm", "transformers", "clip_benchmark", "pandas", "sklearn"}


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["--version"],
        ["run", "--help"],
        *(["ls", kind] for kind in listing.KINDS),
        ["ls", "strategies", "--json"],
        ["show", "task", "mini/digits"],
        ["show", "collection", "mini"],
        ["show", "backbone", "mini/vit-8"],
        ["show", "pool", "openai"],
        ["show", "strategy", "nlc"],
        ["show", "corruption", "mini-c"],
        ["show", "corruption", "fog"],
        ["run", "--dry-run", "-b", "openai"],
        ["run", "--dry-run", "-c", "mini-c"],
        ["run", "--dry-run"],
    ],
    ids=" ".join,
)
def test_what_only_tells_loads_nothing_heavy(words: list[str]) -> None:
    assert not _loads(words, HOSTS | {"scipy", "rich"})
    if words[0] in ("ls", "show", "--help", "--version"):
        assert not _loads(words, {"numpy", "importlib.metadata"})


@pytest.mark.parametrize(
    ("words", "more"),
    [
        (["board", "BASELINE"], {"scipy"}),
        (["board", "BASELINE", "--format", "json"], {"scipy", "tabulate"}),
        (["board", "BASELINE", "--standings"], {"scipy"}),
        (["board", "BASELINE", "--compare", "log-avg"], set()),
        (["diversity", "BASELINE"], {"scipy"}),
        (["check", "BASELINE", "BASELINE"], {"scipy.stats"}),
        (["claims", "BASELINE"], {"scipy.stats"}),
        (["report", "BASELINE", "-o", "page.html"], set()),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_stored_results_are_read_without_torch(words: list[str], more: set[str]) -> None:
    baseline = str(ROOT / "results" / "baseline")
    assert not _loads([baseline if word == "BASELINE" else word for word in words], HOSTS | more)


def test_the_version_is_that_of_the_distribution(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"{tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']['version']}\n"


def test_a_dry_run_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run", "--dry-run", "-b", "openai,mini/vit-8", "-t", "mini/faces"]) == 0
    out = capsys.readouterr().out
    assert "to fetch: openai/RN101" in out and "openai/ViT-L-14-336" in out and "at hand" in out
    assert "GFLOPs of the image towers still to be spent:" in out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["task", "collections", "backbone", "pools", "strategy", "strategies", "corruptions"])
def test_listings_as_json(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["ls", kind, "--json"]) == 0
    things = json.loads(capsys.readouterr().out)
    assert all("name" in thing for thing in things)
    assert things or kind == "corruptions"


def test_a_pattern_and_a_plugin(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.py"
    path.write_text(
        "from ensemble_bench.strategies.base import Strategy\n"
        "class ListedOnly(Strategy):\n    '''Says hello.'''\n    family = 'static'\n"
        "    def predict(self, query):\n        return query.logits.mean(0)\n"
    )
    assert cli.main(["ls", "strategies", "listed-*", "--plugin", str(path), "--json"]) == 0
    (thing,) = json.loads(capsys.readouterr().out)
    assert thing == {"name": "listed-only", "family": "static", "labels": "none", "summary": "Says hello."}
    assert cli.main(["ls", "tasks", "nothing*"]) == 0
    assert "no tasks called nothing*" in capsys.readouterr().out


def test_flags_without_a_verb_mean_run_and_underscores_dashes(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--tasks", "mini/faces", "--dry_run"]) == 0
    assert "1 tasks x 5 backbones" in capsys.readouterr().out
    assert cli.main([]) == 0
    assert "verbs:" in capsys.readouterr().out


def test_the_configuration_file_and_flags_over_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.toml").write_text('tasks = "mini/faces"\nshots = 3\n')
    assert cli.main(["run", "--config", "mine.toml", "--shots", "2", "--dry-run"]) == 0
    assert "1 tasks x 5 backbones" in (out := capsys.readouterr().out) and "2 per class" in out


def test_results_go_out_and_trouble_to_the_side(tmp_path: Path) -> None:
    plugin = tmp_path / "bad.py"
    plugin.write_text(
        "from ensemble_bench.strategies.base import Strategy\n"
        "class Bad(Strategy):\n    family = 'static'\n    def predict(self, query):\n        raise ValueError('no')\n"
    )
    words = ["run", "-t", "mini/faces", "-b", "mini/vit-16,mini/vit-8", "-s", "log-avg,bad", "--plugin", str(plugin)]
    done = _run(*words, "--limit", "10", "-o", "out")
    assert done.returncode == 2
    assert "log-avg" in done.stdout and "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1] == "ensemble-bench: 1 cells failed; the others are finished."
    board = _run("board", "out", "--format", "json")
    assert board.returncode == 0 and board.stderr == ""
    rows = json.loads(board.stdout)
    assert {row["strategy"] for row in rows} == {"bad", "log-avg"}
    assert _run("board", "out", "--format", "csv").stdout.count("\n") == len(rows) + 1


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    for verb in cli.VERBS:
        with pytest.raises(SystemExit) as stop:
            cli.main([verb, "--help"])
        assert stop.value.code == 0
        assert f"ensemble-bench {verb}" in capsys.readouterr().out


def test_summaries_of_verbs_name_their_modules() -> None:
    files = {module.name.removesuffix("_") for module in pkgutil.iter_modules(cli.__path__)}
    assert files == {verb.replace("-", "_") for verb in cli.VERBS}
    assert set(cli.ALIASES.values()) <= set(cli.VERBS)
