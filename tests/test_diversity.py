"""Who was right together: by hand, beside scikit-learn and numpy, on real models, chunk by chunk and resampled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score, matthews_corrcoef

from ensemble_bench import diversity
from ensemble_bench.diversity import MEASURES, RESCUES, Joint, Tally, complementarity
from ensemble_bench.errors import BadCube
from ensemble_bench.statistics import Resamples, interval

# Ten images, two backbones: 4 both right, 3 only the first, 1 only the second, 2 neither (once with the same wrong answer).
LABELS = np.zeros(10, int)
TWO = np.array([[0, 0, 0, 0, 0, 0, 0, 1, 1, 2], [0, 0, 0, 0, 1, 1, 2, 0, 1, 1]])
BY_HAND = {
    "disagreement": 4 / 10,
    "label_disagreement": 5 / 10,
    "q": (4 * 2 - 3 * 1) / (4 * 2 + 3 * 1),
    "rho": (4 * 2 - 3 * 1) / np.sqrt(7 * 3 * 5 * 5),
    "double_fault": 2 / 10,
    "kappa": (0.6 - (0.7 * 0.5 + 0.3 * 0.5)) / (1 - (0.7 * 0.5 + 0.3 * 0.5)),
    "rescue": 1 / 3,
    "rescued": 3 / 5,
}


def values(joint: Joint) -> dict[str, Any]:
    return {name: measure.of(joint.cells) for name, measure in {**MEASURES, **RESCUES}.items()}


def test_a_pair_by_hand() -> None:
    found = values(Joint.of(TWO, LABELS))
    assert {name: float(value[0]) for name, value in found.items()} == pytest.approx(BY_HAND)


def test_the_headline_number_of_a_pair_by_hand() -> None:
    joint = Joint.of(TWO, LABELS)
    assert joint.best == 0 and float(joint.oracle()) == 0.8
    rescued, independent = 1 / 3, 0.5  # of 3 errors of the first, the second has 1; its accuracy is a half
    assert float(joint.headline()) == pytest.approx((rescued - independent) / 0.5)
    assert joint.unique.tolist() == [0.3, 0.1] and joint.shapley.tolist() == pytest.approx([0.5, 0.3])
    assert float(joint.independent()) == pytest.approx(1 - 0.3 * 0.5)


def random(seed: int, b: int = 4, s: int = 500, c: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Decisions of backbones that share some of their difficulties."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, c, s)
    hard = rng.normal(size=s)
    right = hard + rng.normal(size=(b, s)) < rng.uniform(-0.5, 1.0, (b, 1))
    return np.where(right, labels, rng.integers(-1, c, (b, s))), labels


def test_pairs_against_scikit_learn() -> None:
    decisions, labels = random(0)
    found, right = values(Joint.of(decisions, labels)), decisions == labels
    for place, (i, j) in enumerate(diversity.pairs(4)):
        assert found["kappa"][place] == pytest.approx(cohen_kappa_score(right[i], right[j]))
        assert found["rho"][place] == pytest.approx(matthews_corrcoef(right[i], right[j]))
        assert found["rho"][place] == pytest.approx(np.corrcoef(right[i], right[j])[0, 1])
        assert found["label_disagreement"][place] == np.mean(decisions[i] != decisions[j])
        assert abs(found["rho"][place]) <= abs(found["q"][place]) + 1e-12
        assert found["disagreement"][place] <= found["label_disagreement"][place]
        assert found["rescue"][place] == pytest.approx(right[j][~right[i]].mean())
        assert found["rescued"][place] == pytest.approx(right[i][~right[j]].mean())


def test_no_answer_is_wrong() -> None:
    joint = Joint.of([[-1, 0], [-1, 1]], [0, 0])
    assert joint.accuracy.tolist() == [0.5, 0.0] and float(joint.oracle()) == 0.5


def test_what_is_not_defined_is_not_a_number() -> None:
    found = values(Joint.of([[0, 0, 0], [0, 0, 1]], [0, 0, 0]))  # the first is always right
    assert np.isnan([found[name][0] for name in ("q", "rho", "rescue")]).all()
    assert found["kappa"][0] == 0 and found["rescued"][0] == 1
    perfect = Joint.of([[0, 0], [0, 0]], [0, 0])
    assert np.isnan(values(perfect)["kappa"][0]) and np.isnan(perfect.headline())


# The headline number --------------------------------------------------------------------------------------------------


def test_copies_never_rescue_each_other() -> None:
    decisions, labels = random(1)
    copies = np.repeat(decisions[:1], 3, axis=0)
    assert 1 - (1 - (copies[0] == labels).mean()) ** 2 > 0.5
    assert float(Joint.of(copies, labels).headline()) == -1


def test_every_error_rescued_against_the_odds_is_one() -> None:
    labels = np.zeros(10, int)
    right = np.array([[1] * 6 + [0] * 4, [0] * 6 + [1] * 4])  # the second alone would rescue 40 % by chance
    assert float(Joint.of(1 - right, labels).headline()) == pytest.approx(1)


def test_independent_backbones_have_none() -> None:
    rng = np.random.default_rng(2)
    labels = np.zeros(200_000, int)
    right = rng.random((4, 200_000)) < [[0.7], [0.5], [0.3], [0.6]]
    assert abs(float(Joint.of(np.where(right, 0, 1), labels).headline())) < 0.01


def test_a_constant_backbone_at_chance_adds_what_chance_adds() -> None:
    """Balanced classes: always answering one of them is independent of a backbone that is equally good at all of them."""
    labels = np.repeat(np.arange(4), 40)
    good = np.where(np.arange(160) % 4 < 3, labels, (labels + 1) % 4)
    joint = Joint.of([good, np.zeros(160, int)], labels)
    assert float(joint.headline()) == pytest.approx(0, abs=1e-12)


@settings(max_examples=200, deadline=None)
@given(st.floats(0, 1), st.floats(0, 1))
def test_it_is_bounded_and_has_the_sign_of_the_difference(rescued: float, independent: float) -> None:
    value = float(complementarity(rescued, independent))
    assert -1 <= value <= 1 and value * (rescued - independent) >= 0
    assert abs(rescued - independent) - 1e-12 <= abs(value) <= 2 * abs(rescued - independent) + 1e-12


@pytest.mark.parametrize(("rescued", "independent", "value"), [(0, 0.5, -1), (0, 0.9, -1), (1, 0.5, 1), (1, 0.1, 1), (0, 0, 0)])
def test_its_ends(rescued: float, independent: float, value: float) -> None:
    assert float(complementarity(rescued, independent)) == value


def test_order_of_backbones_does_not_matter() -> None:
    decisions, labels = random(3)
    one, two = Joint.of(decisions, labels), Joint.of(decisions[::-1], labels)
    assert float(one.headline()) == pytest.approx(float(two.headline()))
    assert one.shapley.tolist() == pytest.approx(two.shapley[::-1].tolist())


def test_guessing() -> None:
    assert [round(diversity.guessing(9, c), 3) for c in (2, 8, 10, 100)] == [0.998, 0.699, 0.613, 0.086]


# Chunks and resamples -------------------------------------------------------------------------------------------------


def test_chunks_count_the_same_in_any_order_and_size() -> None:
    decisions, labels = random(4, b=6, s=999)
    whole, parts = Tally(6), Tally(6)
    whole.add(decisions, labels)
    for part in np.array_split(np.random.default_rng(0).permutation(999), 13):
        parts.add(decisions[:, part], labels[part])
    parts.add(decisions[:, :0], labels[:0])
    one, two = whole.joint(), parts.joint()
    assert (one.right == two.right).all() and (one.counts == two.counts).all() and (one.differ == two.differ).all()


def test_memory_grows_with_patterns_only() -> None:
    tally = Tally(3)
    for seed in range(50):
        tally.add(*random(seed, b=3, s=400))
    assert len(tally.codes) <= 8 and int(tally.counts.sum()) == 20_000


def test_tensors_are_welcome_and_sixty_two_backbones_are_too() -> None:
    import torch

    decisions, labels = random(5, b=62, s=40)
    joint = Tally(62)
    joint.add(torch.tensor(decisions), torch.tensor(labels))
    assert joint.joint().accuracy.tolist() == pytest.approx((decisions == labels).mean(1).tolist())


@pytest.mark.parametrize(
    ("decisions", "labels", "says"),
    [([[0, 1]], [0, 1], r"\[2, n\] and \[n\], not \[1, 2\] and \[2\]"), ([[0], [0]], [0, 1], r"\[2, 1\] and \[2\]")],
)
def test_what_does_not_fit_is_a_sentence(decisions: Any, labels: Any, says: str) -> None:
    with pytest.raises(BadCube, match=says):
        Tally(2).add(decisions, labels)


def test_nobody_and_too_many() -> None:
    with pytest.raises(BadCube, match="1 to 62 backbones, not for 63"):
        Tally(63)
    with pytest.raises(BadCube, match="no sample"):
        Tally(2).joint()


def test_resamples_of_images_are_what_their_weights_say() -> None:
    """Each resample worked out again the slow way, image by image."""
    decisions, labels = random(6, b=3, s=60)
    resamples = Resamples(60, "sixty", count=30)
    joint = Joint.of(decisions, labels, resamples)
    seen = Joint.of(decisions, labels)
    assert float(joint.headline()[0]) == float(seen.headline())
    weights = np.concatenate([block for _, block in resamples._weights()]).astype(int)
    for row, weight in enumerate(weights, 1):
        again = Joint.of(np.repeat(decisions, weight, axis=1), np.repeat(labels, weight))
        for name, value in values(joint).items():
            assert value[row] == pytest.approx(values(again)[name], nan_ok=True), name
        assert joint.accuracy[row].tolist() == pytest.approx(again.accuracy.tolist())
        again.__dict__["best"] = seen.best  # resamples do not choose anew
        assert float(joint.headline()[row]) == pytest.approx(float(again.headline()))


def test_counts_alone_have_the_same_bootstrap() -> None:
    """Two samples of one distribution: 2,000 resamples of images, 2,000 of patterns; ends agree within their own noise."""
    decisions, labels = random(7, b=4, s=400)
    images = Joint.of(decisions, labels, Resamples(400, "images"))
    counts = Joint.of(decisions, labels).resampled("counts")
    assert (counts.counts.sum(1) == 400).all()
    for one, two in (
        (images.headline(), counts.headline()),
        (images.oracle(), counts.oracle()),
        *((values(images)[name][:, 2], values(counts)[name][:, 2]) for name in {**MEASURES, **RESCUES}),
    ):
        assert one[0] == two[0]
        assert np.std(two[1:]) == pytest.approx(np.std(one[1:]), rel=0.08)
        assert interval(one[1:]) == pytest.approx(interval(two[1:]), abs=0.35 * float(np.std(one[1:])) + 1e-9)


def test_the_same_name_is_the_same_resamples() -> None:
    joint = Joint.of(*random(8))
    assert (joint.resampled("x").counts == joint.resampled("x").counts).all()
    assert (joint.resampled("x").counts != joint.resampled("y").counts).any()
    assert joint.resampled("x", 3).counts[1, :4].tolist() == [44, 28, 38, 44]  # whatever the version of numpy


def test_disagreements_are_means_over_the_others() -> None:
    decisions, labels = random(9)
    found, cells = diversity.disagreements(decisions, labels), Joint.of(decisions, labels).cells
    for one, name in zip(found, ("disagreement", "label_disagreement"), strict=True):
        assert one.shape == decisions.shape
        assert one.mean() == pytest.approx(MEASURES[name].of(cells).mean())


# Real models ----------------------------------------------------------------------------------------------------------

CLIPS = ("clip", "clip-16", "clip-14")
COUNTED = {  # images; right answers; oracle; label disagreements of the pairs
    "contrast": (1280, (985, 1028, 1108), 1130, (236, 223, 175)),
    "high-pass": (1280, (772, 1019, 1125), 1184, (494, 510, 277)),
    "rotation": (1280, (1104, 1176, 1229), 1256, (181, 172, 101)),
    "silhouette": (160, (110, 117, 116), 129, (37, 44, 36)),
    "stylized": (800, (439, 465, 471), 588, (310, 393, 335)),
    "uniform-noise": (1280, (671, 706, 785), 879, (650, 612, 585)),
}


def real(folder: Path, name: str) -> dict[str, Any]:
    path = folder / f"mvh_{name}.npz"
    if not path.is_file():
        pytest.skip(f"these predictions are not here: {path}")
    with np.load(path, allow_pickle=False) as stored:
        said = {key: stored[key] for key in ("pred", "label", "models", "condition")}
    models = said["models"].tolist()
    return {**said, "pred": said["pred"][[models.index(clip) for clip in CLIPS]]}


@pytest.mark.parametrize("name", COUNTED)
def test_counts_of_real_clips(real_predictions: Path, name: str) -> None:
    images, right, oracle, differ = COUNTED[name]
    said = real(real_predictions, name)
    joint = Joint.of(said["pred"], said["label"])
    assert joint.n == images and (joint.accuracy * images).tolist() == pytest.approx(right)
    assert float(joint.oracle()) * images == pytest.approx(oracle) and joint.differ.tolist() == list(differ)
    assert float(joint.shapley.sum()) == pytest.approx(oracle / images)
    assert -1 <= float(joint.headline()) < 0  # real CLIPs fail together


def test_measures_of_real_clips(real_predictions: Path) -> None:
    """Uniform noise, ViT-B/32 and ViT-L/14: figures counted elsewhere, six digits."""
    said = real(real_predictions, "uniform-noise")
    joint = Joint.of(said["pred"], said["label"])
    place = diversity.pairs(3).index((0, 2))
    expected = {"disagreement": 0.164062, "q": 0.945671, "rho": 0.679343, "double_fault": 0.349219, "kappa": 0.668234}
    expected |= {"rescue": 0.266010, "label_disagreement": 612 / 1280}
    assert {name: float(values(joint)[name][place]) for name in expected} == pytest.approx(expected, abs=1e-6)
    assert joint.unique.tolist() == pytest.approx([0.028125, 0.035938, 0.069531], abs=1e-6)


def test_at_chance_three_clips_complement_each_other_as_chance_does(real_predictions: Path) -> None:
    """The strongest noise: each has 10 of 160 right, one always answers the same; the oracle of 30 is what chance gives."""
    said = real(real_predictions, "uniform-noise")
    worst = said["condition"] == "0.90"
    joint = Joint.of(said["pred"][:, worst], said["label"][worst])
    assert (joint.accuracy * 160).tolist() == pytest.approx([10, 10, 10]) and float(joint.oracle()) * 160 == pytest.approx(30)
    assert float(joint.headline()) == pytest.approx((20 / 150 - (1 - (150 / 160) ** 2)) / (150 / 160) ** 2)
    assert abs(float(joint.headline())) < 0.02
    low, high = interval(joint.resampled("noise").headline()[1:]) or (-1, 1)
    assert -0.02 < low < high < 0.05
    easy = said["condition"] == "0.10"
    assert float(Joint.of(said["pred"][:, easy], said["label"][easy]).headline()) < -0.5
