"""Options: what is allowed, what a configuration file may say, what is written back."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
import tomli_w

from ensemble_bench.errors import BadOption, UnknownName
from ensemble_bench.plan import planned
from ensemble_bench.request import Request, read


def test_a_resolved_request_reads_back(tmp_path: Path) -> None:
    asked = Request(tasks=("mini/digits",), shots=4, limit=10, plugins=(Path("mine.py"),))
    path = tmp_path / "config.toml"
    path.write_text(tomli_w.dumps(asked.resolved()))
    assert Request(**read(path)) == asked
    assert "output" not in tomllib.loads(path.read_text())


def test_the_digest_names_the_configuration() -> None:
    assert Request().digest() == Request(output=Path("elsewhere")).digest()
    assert Request().digest() != Request(shots=2).digest()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("shot = 1", r"unknown key 'shot'. Did you mean shots"),
        ("shots = '1'", r"'shots' must be a whole number, not '1'"),
        ("shots = true", r"'shots' must be a whole number, not True"),
        ("tasks = [1]", r"'tasks' must be a text or a list of texts"),
        ("shots = 1\nshots = 2", "is no valid TOML"),
        ("save_fits = 1", r"'save_fits' must be true or false"),
    ],
)
def test_a_wrong_configuration_is_one_sentence(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "config.toml"
    path.write_text(text)
    with pytest.raises(BadOption, match=said):
        read(path)


def test_a_configuration_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BadOption, match="cannot be read: No such file"):
        read(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"shots": 0}, "--shots must be at least 1"),
        ({"limit": 0}, "--limit"),
        ({"precision": "fp8"}, "--precision must be one of"),
    ],
)
def test_options_out_of_range(changes: dict[str, object], said: str) -> None:
    with pytest.raises(BadOption, match=said):
        Request(**changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["single:mini/vit-9", "lda:backbone=mini/vit-9", "zs-en:anchor=mini/vit-9"])
def test_a_misspelt_backbone_of_a_strategy_is_found_before_work(text: str) -> None:
    with pytest.raises(
        UnknownName, match=r"must be one of the backbones of this run, not 'mini/vit-9'. Did you mean mini/vit-8"
    ):
        planned(Request(tasks=("mini/digits",), strategies=(text,)))
    asked = planned(Request(tasks=("mini/digits",), strategies=(text.replace("-9", "-8"),))).strategies
    assert asked == (text.replace("-9", "-8"),)
