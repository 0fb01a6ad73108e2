"""What pytest gets from an installed ensemble-bench: one option and three fixtures. Loads nothing heavy unless one is used.

pytest --ensemble-bench-baseline results/baseline

def test_my_change(assert_no_regression, tmp_path):
    eb.run(output=tmp_path / "out")
    assert_no_regression(tmp_path / "out")
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from ensemble_bench.cube import Cube

OPTION = "--ensemble-bench-baseline"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("ensemble-bench")
    group.addoption(OPTION, type=Path, metavar="DIR", help="results folder that assert_no_regression compares with")


@pytest.fixture
def cube() -> Cube:
    """A small made-up labelled cube with logits and features; its backbones carry signal and differ."""
    from ensemble_bench.testing.toy import toy

    return toy()


@pytest.fixture(scope="session")
def mini_cube() -> Cube:
    """The labelled cube of 60 images of the embedded task mini/digits and the five embedded backbones."""
    import ensemble_bench

    return ensemble_bench.load_cube("mini/digits", limit=60)


@pytest.fixture
def assert_no_regression(request: pytest.FixtureRequest) -> Callable[..., None]:
    """A function (results folder, *tolerances, tasks=, strategies=) that fails with what is worse than in the baseline.

    Rows of the baseline that the folder lacks fail too: name ``tasks`` and ``strategies`` (globs) where it holds only some.
    Skips the test where the option is not given.
    """
    baseline = request.config.getoption(OPTION)
    if baseline is None:
        pytest.skip(f"there is nothing to compare with: give {OPTION} DIR")

    def check(
        candidate: Path | str, *tolerances: str, tasks: Sequence[str] = ("*",), strategies: Sequence[str] = ("*",)
    ) -> None:
        from ensemble_bench.check import said
        from ensemble_bench.check.compare import compared
        from ensemble_bench.check.rules import Rules
        from ensemble_bench.records import Results

        rules = Rules(tasks=tuple(tasks), strategies=tuple(strategies)).tolerating(tolerances, "assert_no_regression")
        found = compared(Results(baseline, must_exist=True), Results(candidate, must_exist=True), rules)
        if found.fails:
            pytest.fail(said.text(found), pytrace=False)

    return check
