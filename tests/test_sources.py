"""The embedded tasks: what their cards promise, byte for byte."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from ensemble_bench import sources
from ensemble_bench.drawing.draws import Draws
from ensemble_bench.errors import BadCard, BadData
from ensemble_bench.sources.base import checked, digest
from ensemble_bench.sources.enlarge import enlarged
from ensemble_bench.task import Catalogue

CATALOGUE = Catalogue()
MINI = CATALOGUE.collections["mini"]


@pytest.mark.parametrize("name", MINI)
def test_pictures_are_those_of_the_card(name: str) -> None:
    task = CATALOGUE.task(name)
    source = sources.of(task)
    for split in ("train", "test"):
        assert digest(source, split) == task.digests[split], f"{name}: the {split} pictures are not those of the card"


@pytest.mark.parametrize("name", MINI)
def test_splits_are_large_enough_and_disjoint(name: str) -> None:
    task = CATALOGUE.task(name)
    source = sources.of(task)
    train, test = checked(source, "train"), checked(source, "test")
    assert not set(train.ids) & set(test.ids)
    assert np.bincount(train.labels, minlength=len(task.classes)).min() >= 20
    assert len(test.ids) >= 300 or name == "mini/faces"  # scikit-image has 200 crops in all
    pictures = {split: list(source.pictures(split, index.ids[:40])) for split, index in (("train", train), ("test", test))}
    for picture in pictures["test"]:
        assert picture.dtype == np.uint8 and picture.shape == (64, 64, 3)
    assert not {p.tobytes() for p in pictures["train"]} & {p.tobytes() for p in pictures["test"]}


@pytest.mark.parametrize("name", MINI)
def test_a_picture_does_not_depend_on_its_neighbours(name: str) -> None:
    source = sources.of(CATALOGUE.task(name))
    ids = source.index("test").ids
    some = [ids[7], ids[3], ids[-1]]
    alone = [next(source.pictures("test", [one])) for one in some]
    whole = dict(zip(ids, source.pictures("test", ids), strict=True))
    for one, picture in zip(some, alone, strict=True):
        assert np.array_equal(picture, whole[one])


def test_the_card_must_count_right() -> None:
    import dataclasses

    task = CATALOGUE.task("mini/digits")
    with pytest.raises(BadData, match="the test split has 1000 images; its card says 999"):
        checked(sources.of(dataclasses.replace(task, counts={"test": 999})), "test")


def test_a_scene_that_nobody_draws() -> None:
    import dataclasses

    task = dataclasses.replace(CATALOGUE.task("mini/shapes"), options={"scene": "shape", "wear": [0, 1]})
    with pytest.raises(BadCard, match=r"'source\.scene' must be one of shapes"):
        sources.of(task).index("test")
    task = dataclasses.replace(CATALOGUE.task("mini/shapes"), classes=("circle", "square"))
    with pytest.raises(BadCard, match="'classes' must be"):
        sources.of(task).index("test")


def test_enlargement_is_pillows_up_to_rounding() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (8, 8), dtype=np.uint8)
    other = np.asarray(Image.fromarray(picture).resize((64, 64), Image.Resampling.BILINEAR))
    assert np.abs(enlarged(picture, 64).astype(int) - other).max() <= 1


def test_draws_are_uniform_and_independent_of_the_batch() -> None:
    many = Draws("a", np.arange(2000))
    values = many.uniform(size=(50,))
    counts = np.histogram(values, bins=20, range=(0, 1))[0]
    assert ((counts - 5000) ** 2 / 5000).sum() < 45  # chi-square, 19 degrees of freedom: 45 has p = .0007
    assert abs(np.corrcoef(values[:, 0], values[:, 1])[0, 1]) < 0.08
    assert np.array_equal(Draws("a", np.array([17])).uniform(size=(50,))[0], values[17])
    assert not np.array_equal(Draws("b", np.arange(2000)).uniform(), values[:, 0])
    assert sorted(Draws("p", np.array([3])).permutation(9)[0].tolist()) == list(range(9))


def test_the_digits_are_scikit_learns() -> None:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    source = sources.of(CATALOGUE.task("mini/digits"))
    train, test = source.index("train"), source.index("test")
    assert [*train.labels, *test.labels] == bunch.target.tolist()
    for row in (0, 796):
        levels = (bunch.images[row].astype(int) * 255 // 16).astype(np.uint8)
        assert np.array_equal(next(source.pictures("train", [train.ids[row]]))[..., 0], enlarged(levels, 64))
