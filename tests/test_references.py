"""Statistics beside the libraries that are trusted with them; `tox -e references` installs those."""

from __future__ import annotations

import warnings
from types import ModuleType

import numpy as np
import pytest

from ensemble_bench.statistics import holm, mcnemar, ranks


@pytest.fixture(scope="module")
def statsmodels() -> ModuleType:
    pytest.importorskip("statsmodels", reason="statsmodels is not installed: tox -e references")
    from statsmodels.stats import contingency_tables, multitest

    found = ModuleType("statsmodels")
    found.mcnemar, found.multipletests = contingency_tables.mcnemar, multitest.multipletests  # type: ignore[attr-defined]
    return found


@pytest.fixture(scope="module")
def posthocs() -> ModuleType:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own imports warn
        found: ModuleType = pytest.importorskip("scikit_posthocs", reason="scikit-posthocs is not installed: tox -e references")
    return found


@pytest.mark.parametrize(("gained", "lost"), [(6, 1), (1, 6), (30, 30), (412, 350), (0, 9)])
def test_mcnemar(statsmodels: ModuleType, gained: int, lost: int) -> None:
    expected = statsmodels.mcnemar([[100, gained], [lost, 50]], exact=True).pvalue
    assert mcnemar(gained, lost) == pytest.approx(expected, rel=1e-9)


def test_holm(statsmodels: ModuleType) -> None:
    rng = np.random.default_rng(0)
    for number in (1, 2, 11, 60):
        p = (rng.random(number) ** 3).tolist()
        p[0] = p[-1]  # a tie
        assert holm(p) == pytest.approx(statsmodels.multipletests(p, method="holm")[1].tolist())


def test_nemenyi(posthocs: ModuleType) -> None:
    rng = np.random.default_rng(1)
    for n, k in ((6, 3), (11, 19), (20, 5)):
        values = rng.random((n, k)) + np.linspace(0, 0.5, k)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = np.asarray(posthocs.posthoc_nemenyi_friedman(-values))
        assert ranks(values).pairwise == pytest.approx(expected, abs=1e-9)
