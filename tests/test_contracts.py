"""Every registered thing keeps every promise of its noun; ids name both."""

from __future__ import annotations

from typing import Any

import pytest

from ensemble_bench import strategies
from ensemble_bench.testing.strategies import Check, parametrize_with_checks, strategy_checks

ONE = "backbone=toy/a-wide"
VARIANTS = (
    *("vote-top3:borda=true", "oracle:k=2", "knora-e:k=1", "lda:shrinkage=0.3"),
    *(
        f"{name}:{ONE}"
        for name in ("linear-probe", "nearest-centroid", "lda", "tip-adapter", "tip-adapter-f", "tip-adapter-nlc")
    ),
    "tip-adapter-nlc:form=weight",
)
ENROLLED = sorted({*strategies.registry.table, *strategies.DEFAULT, *strategies.READINGS, *VARIANTS})


@parametrize_with_checks(ENROLLED)
def test_strategy(strategy: Any, check: Check) -> None:
    check(strategy)


def test_every_built_in_and_reading_is_enrolled() -> None:
    listed = {*strategies.DEFAULT, *strategies.READINGS}
    assert {text.partition(":")[0] for text in listed} <= set(strategies.registry.table)
    assert {*strategies.registry.table, *listed} <= set(ENROLLED)
    assert len(strategy_checks()) >= 24


def test_nothing_to_test_is_an_error() -> None:
    with pytest.raises(ValueError, match="no strategy"):
        parametrize_with_checks([])
