"""Linear CKA: against its definitions, whatever the chunks; what changes nothing; what tells the two forms apart."""

from __future__ import annotations

import numpy as np
import pytest

from ensemble_bench.cka import BATCH, LinearCKA
from ensemble_bench.errors import BadCube


def alike(*features: np.ndarray, chunk: int = 10_000):  # type: ignore[no-untyped-def]
    sums = LinearCKA(len(features))
    for start in range(0, len(features[0]), chunk):
        sums.add([part[start : start + chunk] for part in features])
    return sums.alike()


def related(n: int, seed: int = 0, widths: tuple[int, int] = (30, 50), noise: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Two views of the same five hidden directions."""
    rng = np.random.default_rng(seed)
    hidden = rng.normal(size=(n, 5))
    one, two = (hidden @ np.random.default_rng(9 + width).normal(size=(5, width)) for width in widths)
    return one + noise * rng.normal(size=one.shape), two + noise * rng.normal(size=two.shape)


def plain(x: np.ndarray, y: np.ndarray) -> float:
    """Kornblith et al. 2019, as printed."""
    x, y = x - x.mean(0), y - y.mean(0)
    return float(np.linalg.norm(y.T @ x) ** 2 / (np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y)))


def unbiased_hsic(x: np.ndarray, y: np.ndarray) -> float:
    """Song et al. 2012 as a mean over four different samples: K_ij (L_ij + L_kl - 2 L_ik), by brute force."""
    k, m = x @ x.T, y @ y.T
    n = len(x)
    total, count = 0.0, 0
    for i in range(n):
        for j in range(n):
            for p in range(n):
                for q in range(n):
                    if len({i, j, p, q}) == 4:
                        total += k[i, j] * (m[i, j] + m[p, q] - 2 * m[i, p])
                        count += 1
    return total / count


def test_the_plain_form_is_its_definition() -> None:
    x, y = related(80)
    found = alike(x, y).plain
    assert found[0, 1] == found[1, 0] == pytest.approx(plain(x, y)) and np.diag(found).tolist() == pytest.approx([1, 1])


def test_the_debiased_form_is_its_definition() -> None:
    x, y = related(9, widths=(3, 4))
    expected = unbiased_hsic(x, y) / np.sqrt(unbiased_hsic(x, x) * unbiased_hsic(y, y))
    assert alike(x, y).debiased[0, 1] == pytest.approx(expected)


@pytest.mark.parametrize("chunk", [1, 7, 64, 100])
def test_chunks_change_nothing(chunk: int) -> None:
    x, y = related(100)
    whole, parts = alike(x, y), alike(x, y, chunk=chunk)
    for name in ("debiased", "plain", "error"):
        assert getattr(parts, name) == pytest.approx(getattr(whole, name), abs=1e-10)


def test_turns_scales_and_shifts_change_nothing_and_stretches_do() -> None:
    x, y = related(60)
    turn, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(30, 30)))
    before, after = alike(x, y), alike(3.5 * x @ turn + 100, y - 7)
    assert after.debiased == pytest.approx(before.debiased) and after.plain == pytest.approx(before.plain)
    assert alike(x * np.linspace(0.1, 5, 30), y).debiased[0, 1] != pytest.approx(before.debiased[0, 1], abs=0.01)


def test_unrelated_features_are_alike_only_to_the_plain_form() -> None:
    """40 samples of 200 features that have nothing to do with each other."""
    rng = np.random.default_rng(2)
    found = [alike(rng.normal(size=(40, 200)), rng.normal(size=(40, 200))) for _ in range(20)]
    assert np.mean([one.plain[0, 1] for one in found]) > 0.75
    assert abs(np.mean([one.debiased[0, 1] for one in found])) < 0.05


def test_with_many_samples_the_two_agree() -> None:
    found = alike(*related(3000))
    assert found.plain[0, 1] == pytest.approx(found.debiased[0, 1], abs=0.005) and 0.5 < found.plain[0, 1] < 1


def test_equal_features_are_one_and_dead_ones_are_nothing() -> None:
    x, _ = related(50)
    found = alike(x, x.copy(), np.ones((50, 4)))
    assert found.debiased[0, 1] == pytest.approx(1) and np.isnan(found.debiased[0, 2]) and np.isnan(found.plain[2, 2])


def test_the_interval_needs_three_batches() -> None:
    assert np.isnan(alike(*related(3 * BATCH - 1)).error).all()
    found = alike(*related(3 * BATCH))
    assert found.batches == 3 and 0 < found.error[0, 1] < 0.2
    low, high = found.intervals()
    assert low[0, 1] < found.debiased[0, 1] < high[0, 1]


def test_what_does_not_fit_is_a_sentence() -> None:
    sums = LinearCKA(2)
    with pytest.raises(BadCube, match=r"2 arrays \[n, d\] of the same samples, not \[3, 2\], \[4, 2\]"):
        sums.add([np.zeros((3, 2)), np.zeros((4, 2))])
    sums.add([np.zeros((3, 2)), np.zeros((3, 5))])
    with pytest.raises(BadCube, match="same width"):
        sums.add([np.zeros((3, 2)), np.zeros((3, 4))])
    with pytest.raises(BadCube, match="at least 4 samples, not 3"):
        sums.alike()
