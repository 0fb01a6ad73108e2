"""One way to name things for every list option."""

from __future__ import annotations

from pathlib import Path

import pytest

from ensemble_bench.errors import BadOption, UnknownName
from ensemble_bench.selection import chosen, opened

NAMES = ["mini/digits", "mini/faces", "other/cars"]
GROUPS = {"mini": ["mini/digits", "mini/faces"]}


def _chosen(*values: str) -> list[str]:
    return chosen(values, NAMES, GROUPS, "task")


def test_names_groups_globs_and_commas() -> None:
    assert _chosen("mini") == ["mini/digits", "mini/faces"]
    assert _chosen("other/cars,mini", "mini/faces") == ["other/cars", "mini/digits", "mini/faces"]
    assert _chosen("*/*a*") == ["mini/faces", "other/cars"]
    assert _chosen("other/cars:x=1") == ["other/cars:x=1"]


def test_list_files(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("# mine\nother/cars  # fast\n\nmini\n")
    assert _chosen(str(path)) == ["other/cars", "mini/digits", "mini/faces"]
    assert opened([str(path), "a,b"]) == ["other/cars", "mini", "a,b"]


def test_what_cannot_be_found() -> None:
    with pytest.raises(UnknownName, match=r"no task is called 'mini/digit'. Did you mean mini/digits"):
        _chosen("mini/digit")
    with pytest.raises(UnknownName, match=r"no task matches 'x\*'"):
        _chosen("x*")
    with pytest.raises(BadOption, match="no task was chosen"):
        _chosen("", ",")
