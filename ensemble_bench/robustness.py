"""Pure functions from accuracies and errors under corruption to numbers. Shares in [0, 1] throughout, never percent."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ensemble_bench.condition import Condition
from ensemble_bench.errors import BadOption

Floats = NDArray[np.float64]

ALEXNET: Mapping[str, float] = {
    "gaussian_noise": 0.886428,
    "shot_noise": 0.894468,
    "impulse_noise": 0.922640,
    "defocus_blur": 0.819880,
    "glass_blur": 0.826268,
    "motion_blur": 0.785948,
    "zoom_blur": 0.798360,
    "snow": 0.866816,
    "frost": 0.826572,
    "fog": 0.819324,
    "brightness": 0.564592,
    "contrast": 0.853204,
    "elastic_transform": 0.646056,
    "pixelate": 0.717840,
    "jpeg_compression": 0.606500,
}
"""Top-1 error of AlexNet on ImageNet-C, mean over severities 1 to 5 (Hendrycks and Dietterich 2019; as in augmix)."""

ALEXNET_CLEAN = 0.4348
"""Top-1 error of AlexNet on clean ImageNet; 0.4345 and 0.435 are also seen."""

IMAGENET = ("imagenet1k", "imagenet-1k")
IMAGES = 50_000
PUBLISHED = ("imagenet-c-disk", "disk")
"""Name and engine of the suite that reads the published files."""


def corruption_error(error: ArrayLike, reference: ArrayLike) -> Floats:
    """CE of one corruption [...] from errors over k severities [..., k]: the sum over severities over the reference's sum.

    At least 0, less is better, 1 is as bad as the reference; NaN where the reference makes no error at all. Equation 1 of
    Hendrycks and Dietterich 2019.

    >>> float(corruption_error([0.2, 0.4], [0.4, 0.8]))
    0.5
    """
    return _over(np.sum(error, axis=-1), np.sum(reference, axis=-1))


def relative_corruption_error(error: ArrayLike, clean: ArrayLike, reference: ArrayLike, reference_clean: ArrayLike) -> Floats:
    """Relative CE of one corruption [...]: what corruption adds to the error, over what it adds to the reference's.

    Errors [..., k] over k severities, clean errors [...]. The clean error is taken off once per severity, k times in the sum.
    0 where corruption costs nothing, below 0 where it helps; NaN where it does not cost the reference anything.

    >>> round(float(relative_corruption_error([0.3, 0.5], 0.2, [0.6, 0.8], 0.4)), 6)
    0.666667
    """
    added = np.asarray(error, np.float64) - np.asarray(clean, np.float64)[..., None]
    wanted = np.asarray(reference, np.float64) - np.asarray(reference_clean, np.float64)[..., None]
    return _over(added.sum(-1), wanted.sum(-1))


def mce(errors: Mapping[str, ArrayLike], reference: Mapping[str, ArrayLike]) -> Floats:
    """Mean over corruptions of their CE, from errors [..., k] by corruption; published figures are 100 times this."""
    _same(errors, reference)
    return np.asarray(np.mean([corruption_error(error, reference[name]) for name, error in errors.items()], axis=0))


def relative_mce(
    errors: Mapping[str, ArrayLike], clean: ArrayLike, reference: Mapping[str, ArrayLike], reference_clean: ArrayLike
) -> Floats:
    """Mean over corruptions of their relative CE; published figures are 100 times this."""
    _same(errors, reference)
    found = [relative_corruption_error(error, clean, reference[name], reference_clean) for name, error in errors.items()]
    return np.asarray(np.mean(found, axis=0))


def alexnet(errors: Mapping[str, ArrayLike]) -> dict[str, Floats]:
    """The published errors of AlexNet in the shape of ``errors``, for those of its corruptions that have one.

    Only means over five severities are published, so every severity gets the mean: right for all five severities together.
    """
    return {name: np.full(np.shape(error), ALEXNET[name]) for name, error in errors.items() if name in ALEXNET}


def not_alexnets(
    tasks: Collection[str], images: int, limit: int | None, published: bool, conditions: Collection[Condition]
) -> list[str]:
    """Why an mCE against AlexNet would be no figure to compare with published ones, in a few words each; empty if it would.

    ``published``: the corrupted images are the published files of ImageNet-C; ``conditions`` are those of one suite.
    """
    reasons = []
    if any(task.rpartition("/")[2] not in IMAGENET for task in tasks):
        reasons.append("not the images and labels of ImageNet")
    elif images != IMAGES or limit is not None:
        reasons.append(f"{images:,} images, not all {IMAGES:,}")
    if not published:
        reasons.append("corrupted in memory, not the published files")
    there = {(condition.corruption, condition.severity) for condition in conditions}
    absent = [name for name in ALEXNET if not any((name, severity) in there for severity in range(1, 6))]
    if absent:
        reasons.append(f"{len(absent)} of the {len(ALEXNET)} corruptions missing")
    if any((name, severity) not in there for name in ALEXNET for severity in range(1, 6) if name not in absent):
        reasons.append("severities missing")
    return reasons


def retained(shifted: ArrayLike, clean: ArrayLike) -> Floats:
    """Share of the clean accuracy that is left under corruption; above 1 where it helps, NaN where nothing was right.

    >>> float(retained(0.25, 0.5))
    0.5
    """
    return _over(np.asarray(shifted, np.float64), np.asarray(clean, np.float64))


def relative_robustness(shifted: ArrayLike, base: ArrayLike) -> Floats:
    """Accuracy under shift gained over a base model, in [-1, 1] (Taori et al. 2020)."""
    return np.asarray(shifted, np.float64) - np.asarray(base, np.float64)


def effective_robustness(
    clean: ArrayLike, shifted: ArrayLike, population_clean: ArrayLike, population_shifted: ArrayLike
) -> Floats:
    """Accuracy under shift beyond what the clean accuracy predicts, in [-1, 1] (Taori et al. 2020); name the population.

    The prediction is a straight line through logit(shifted) over logit(clean), fitted to the accuracies [m] of a population of
    single models by least squares. Accuracies lie strictly between 0 and 1; ``BadOption`` otherwise, or where fewer than two
    clean accuracies of the population differ.
    """
    x, y = (_logit(np.asarray(values, np.float64), "the population") for values in (population_clean, population_shifted))
    if x.ndim != 1 or x.shape != y.shape or len(np.unique(x)) < 2:
        raise BadOption("effective robustness needs a population of models with at least two different clean accuracies.")
    slope = ((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum()
    predicted = y.mean() + slope * (_logit(np.asarray(clean, np.float64), "clean") - x.mean())
    return np.asarray(np.asarray(shifted, np.float64) - 1 / (1 + np.exp(-predicted)))


def _logit(accuracy: Floats, whose: str) -> Floats:
    if not bool(((accuracy > 0) & (accuracy < 1)).all()):
        raise BadOption(f"effective robustness needs accuracies strictly between 0 and 1; those of {whose} are not.")
    return np.asarray(np.log(accuracy / (1 - accuracy)))


def _over(numerator: Floats, denominator: Floats) -> Floats:
    """Quotient, NaN where the denominator is not above 0."""
    numerator, denominator = np.broadcast_arrays(np.asarray(numerator, np.float64), np.asarray(denominator, np.float64))
    found = np.full(numerator.shape, np.nan)
    np.divide(numerator, denominator, out=found, where=denominator > 1e-12)
    return found


def _same(errors: Mapping[str, ArrayLike], reference: Mapping[str, ArrayLike]) -> None:
    if not errors or set(errors) != set(reference):
        raise BadOption("a mean corruption error needs the same corruptions, at least one, of the model and of the reference.")
