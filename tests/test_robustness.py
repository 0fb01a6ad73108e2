"""Corruption errors and their kin: by hand, against published tables, against another way of computing them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import scipy.special
import scipy.stats

from ensemble_bench import robustness
from ensemble_bench.condition import Condition
from ensemble_bench.errors import BadOption
from ensemble_bench.robustness import ALEXNET, ALEXNET_CLEAN, PUBLISHED

EVERY = [Condition("c", name, severity) for name in ALEXNET for severity in range(1, 6)]

# What corruption adds to the error of AlexNet, as read in the literature.
ADDED = {
    "gaussian_noise": 0.4516,
    "shot_noise": 0.4597,
    "impulse_noise": 0.4878,
    "defocus_blur": 0.3851,
    "glass_blur": 0.3915,
    "motion_blur": 0.3511,
    "zoom_blur": 0.3636,
    "snow": 0.4320,
    "frost": 0.3918,
    "fog": 0.3845,
    "brightness": 0.1298,
    "contrast": 0.4184,
    "elastic_transform": 0.2113,
    "pixelate": 0.2830,
    "jpeg_compression": 0.1717,
}


@pytest.fixture(scope="session")
def alexnet_by_severity(shared: Path) -> dict[str, dict[str, list[float]]]:
    """Errors of another AlexNet by corruption, severities 1 to 5, on disk and in memory."""
    path = shared / "published" / "alexnet_imagenet_c_by_severity.json"
    if not path.is_file():
        pytest.skip(f"AlexNet's errors by severity are not here: {path}")
    found = json.loads(path.read_text())
    return {
        kept: {name: [values[str(severity)] / 100 for severity in range(1, 6)] for name, values in errors.items()}
        for kept, errors in found.items()
    }


@pytest.fixture(scope="session")
def shared() -> Path:
    return Path(__file__).resolve().parents[2] / "shared" / "data"


def test_the_published_table() -> None:
    assert len(ALEXNET) == 15 and round(float(np.mean(list(ALEXNET.values()))), 6) == 0.788993
    assert {name: round(error - ALEXNET_CLEAN, 4) for name, error in ALEXNET.items()} == ADDED


def test_another_alexnet_measured_with_the_published_denominators(
    alexnet_by_severity: dict[str, dict[str, list[float]]],
) -> None:
    on_disk = alexnet_by_severity["on-disk"]
    own = {name: on_disk[name] for name in ALEXNET}
    found = float(robustness.mce(own, robustness.alexnet(own)))
    assert round(100 * found, 1) == 102.3
    assert found == pytest.approx(np.mean([np.mean(errors) / ALEXNET[name] for name, errors in own.items()]))
    assert float(robustness.mce(own, own)) == 1 and float(robustness.relative_mce(own, 0.4348, own, 0.4348)) == 1
    assert set(on_disk) - set(robustness.alexnet(on_disk)) == {"speckle_noise", "gaussian_blur", "spatter", "saturate"}


def test_errors_on_disk_and_in_memory_are_not_the_same(alexnet_by_severity: dict[str, dict[str, list[float]]]) -> None:
    """Why the two are never mixed: the same network is up to six points worse on the files."""
    on_disk, memory = alexnet_by_severity["on-disk"], alexnet_by_severity["in-memory"]
    apart = {name: np.mean(on_disk[name]) - np.mean(memory[name]) for name in memory}
    assert apart["pixelate"] == pytest.approx(-0.024, abs=0.001)
    rest = [value for name, value in apart.items() if name != "pixelate"]
    assert min(rest) > 0.011 and max(rest) < 0.058
    own, reference = ({name: errors[name] for name in ALEXNET if name in memory} for errors in (on_disk, memory))
    assert float(robustness.mce(own, reference)) > 1.02


def test_corruption_errors_by_hand() -> None:
    errors = {"fog": [0.1, 0.3], "snow": [0.2, 0.6]}
    reference = {"snow": [0.4, 0.6], "fog": [0.4, 0.4]}
    assert float(robustness.corruption_error(errors["fog"], reference["fog"])) == pytest.approx(0.4 / 0.8)
    assert float(robustness.mce(errors, reference)) == pytest.approx((0.5 + 0.8) / 2)
    relative = float(robustness.relative_mce(errors, 0.1, reference, 0.3))
    assert relative == pytest.approx((0.2 / 0.2 + 0.6 / 0.4) / 2)


def test_the_clean_error_is_taken_off_once_per_severity() -> None:
    error, reference = [0.3] * 5, [0.5] * 5
    assert float(robustness.relative_corruption_error(error, 0.2, reference, 0.3)) == pytest.approx(0.5)  # once in all: 1.3/2.2


def test_a_column_of_resamples_is_worked_out_at_once() -> None:
    rng = np.random.default_rng(0)
    errors, reference = ({name: rng.uniform(0.2, 0.9, (7, 3)) for name in ("fog", "snow", "frost")} for _ in range(2))
    clean, base = rng.uniform(0, 0.1, 7), rng.uniform(0, 0.1, 7)
    found = robustness.relative_mce(errors, clean, reference, base)
    for row in range(7):
        ratios = [(sum(errors[name][row]) - 3 * clean[row]) / (sum(reference[name][row]) - 3 * base[row]) for name in errors]
        assert found[row] == pytest.approx(sum(ratios) / 3)


def test_what_cannot_be_divided_is_no_number() -> None:
    assert np.isnan(robustness.corruption_error([0.1], [0.0]))
    assert np.isnan(robustness.relative_corruption_error([0.5], 0.1, [0.2], 0.3))  # corruption helps the reference
    assert np.isnan(robustness.retained(0.5, 0.0))
    assert np.isnan(robustness.mce({"fog": [0.1], "snow": [0.1]}, {"fog": [0.0], "snow": [0.2]}))


@pytest.mark.parametrize("reference", [{"fog": [0.1]}, {"fog": [0.1], "frost": [0.1]}])
def test_never_over_different_corruptions(reference: dict[str, list[float]]) -> None:
    with pytest.raises(BadOption, match="same corruptions"):
        robustness.mce({"fog": [0.1], "snow": [0.1]}, reference)


def test_nothing_is_no_mean() -> None:
    with pytest.raises(BadOption, match="at least one"):
        robustness.mce({}, {})


def test_what_compares_with_published_figures() -> None:
    assert PUBLISHED == ("imagenet-c-disk", "disk")
    assert robustness.not_alexnets(["imagenet1k"], 50_000, None, True, EVERY) == []
    more = [*EVERY, Condition("c", "saturate", 1)]
    assert robustness.not_alexnets(["wds/imagenet1k"], 50_000, None, True, more) == []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"tasks": ["mini/digits"]}, "not the images and labels of ImageNet"),
        ({"tasks": ["imagenet1k", "mini/digits"]}, "not the images and labels of ImageNet"),
        ({"images": 5000}, "5,000 images, not all 50,000"),
        ({"limit": 50_000}, "50,000 images, not all 50,000"),
        ({"published": False}, "corrupted in memory, not the published files"),
        ({"conditions": EVERY[10:]}, "2 of the 15 corruptions missing"),
        ({"conditions": EVERY[1:]}, "severities missing"),
    ],
)
def test_what_does_not(change: dict[str, object], says: str) -> None:
    asked = {"tasks": ["imagenet1k"], "images": 50_000, "limit": None, "published": True, "conditions": EVERY, **change}
    assert robustness.not_alexnets(**asked) == [says]  # type: ignore[arg-type]


def test_effective_robustness_against_scipy() -> None:
    rng = np.random.default_rng(3)
    clean = rng.uniform(0.4, 0.9, 12)
    shifted = scipy.special.expit(0.8 * scipy.special.logit(clean) - 0.7 + rng.normal(0, 0.1, 12))
    fit = scipy.stats.linregress(scipy.special.logit(clean), scipy.special.logit(shifted))
    for one, under in ((0.5, 0.5), (0.8, 0.4)):
        expected = under - scipy.special.expit(fit.slope * scipy.special.logit(one) + fit.intercept)
        assert float(robustness.effective_robustness(one, under, clean, shifted)) == pytest.approx(expected)
    assert float(robustness.relative_robustness(0.4, 0.55)) == pytest.approx(-0.15)


def test_a_model_on_the_line_has_no_effective_robustness() -> None:
    clean = np.array([0.3, 0.5, 0.7])
    assert robustness.effective_robustness(clean, clean, clean, clean) == pytest.approx(np.zeros(3))


@pytest.mark.parametrize(("clean", "says"), [([0.5, 0.5], "two different"), ([0.5, 1.0], "strictly between"), ([0.5], "two")])
def test_a_population_must_allow_a_line(clean: list[float], says: str) -> None:
    with pytest.raises(BadOption, match=says):
        robustness.effective_robustness(0.5, 0.4, clean, [0.4] * len(clean))
