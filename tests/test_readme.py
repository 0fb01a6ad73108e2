"""What the README shows runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ensemble_bench import sources, strategies
from ensemble_bench.sources.base import checked
from ensemble_bench.strategies.plugin import add_file
from ensemble_bench.task import Catalogue
from ensemble_bench.testing.strategies import check_strategy

README = (Path(__file__).resolve().parents[1] / "README.md").read_text(encoding="utf-8")


def test_the_strategy_of_the_readme_keeps_every_promise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strategies.registry, "_added", {})
    (text,) = re.findall(r"<!-- example: weighted.py -->\n```python\n(.*?)```", README, re.S)
    path = tmp_path / "weighted.py"
    path.write_text(text)
    assert len([line for line in text.splitlines() if line.strip()]) <= 15
    assert add_file(path) == ["support-weighted"]
    check_strategy("support-weighted")


def test_the_card_of_the_readme_is_a_task(tmp_path: Path) -> None:
    (text,) = re.findall(r"```toml\n(.*?)```", README, re.S)
    path = tmp_path / "tasks" / "mine" / "pale-shapes.toml"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    task = Catalogue((tmp_path,)).task("mine/pale-shapes")
    assert len(checked(sources.of(task), "test").ids) == 400


def test_every_command_of_the_readme_is_one_of_ours() -> None:
    from ensemble_bench import cli

    verbs = set(re.findall(r"^ensemble-bench ([\w-]+)", README, re.M))
    assert verbs and verbs <= {*cli.VERBS, *cli.ALIASES}
