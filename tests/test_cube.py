"""The cube: what it holds, what it refuses, and that rows follow ids."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from ensemble_bench.cube import Cube
from ensemble_bench.errors import BadCube, Lacking
from ensemble_bench.testing.toy import poorer, toy

LOGITS = torch.tensor([[[2.0, 1.0, 0.0], [0.0, 0.0, 1.0]], [[0.0, 3.0, 0.0], [1.0, 1.0, 0.0]]])


def cube(**changes: Any) -> Cube:
    """Two backbones, two samples, three classes; class and id orders are not sorted."""
    fields: dict[str, Any] = {"backbones": ["z", "a"], "classes": ["dog", "cat", "ant"], "ids": ["s2", "s1"], "logits": LOGITS}
    return Cube(**{**fields, **changes})


def test_it_says_what_it_has() -> None:
    features = [torch.ones(2, 4), torch.ones(2, 5)]
    assert cube().has == {"logits", "probabilities", "confidence", "decisions"}
    assert cube(features=features).has == {"logits", "probabilities", "confidence", "decisions", "features"}
    assert cube(logits=None, probabilities=LOGITS.softmax(-1)).has == {"probabilities", "confidence", "decisions"}
    bare = {"logits": None, "decisions": torch.zeros(2, 2, dtype=torch.long)}
    assert cube(**bare).has == {"decisions"}
    assert cube(**bare, confidence=torch.zeros(2, 2)).has == {"decisions", "confidence"}
    assert cube().shape == (2, 2, 3)
    assert repr(cube()) == "Cube(2 backbones, 2 samples, 3 classes, has confidence, decisions, logits, probabilities, blind)"


def test_richer_forms_give_the_poorer_ones() -> None:
    assert cube().decisions.tolist() == [[0, 2], [1, 0]]  # the tie of the last goes to the lower index
    assert torch.equal(cube().probabilities, LOGITS.softmax(-1))
    assert torch.allclose(cube().log_probabilities, LOGITS.softmax(-1).log())
    zero = torch.tensor([[[1.0, 0.0, 0.0]] * 2] * 2)
    assert cube(logits=None, probabilities=zero).log_probabilities[0, 0].tolist() == pytest.approx([0.0, -87.3365, -87.3365])


def test_heads_give_cosine_times_scale() -> None:
    features = [torch.tensor([[3.0, 4.0], [0.0, 2.0]])]
    heads = [torch.tensor([[10.0, 0.0], [0.0, 10.0]])]
    lazy = Cube(backbones=["a"], classes=["x", "y"], ids=["1", "2"], features=features, heads=heads)
    assert lazy.has == {"logits", "probabilities", "confidence", "decisions", "features"}
    assert torch.allclose(lazy.logits, torch.tensor([[[6.0, 8.0], [0.0, 10.0]]]))
    assert torch.equal(torch.cat([part.logits for part in lazy.chunks(1)], 1), lazy.logits)


@pytest.mark.parametrize("what", ["logits", "probabilities", "features", "log_probabilities"])
def test_asking_a_poor_cube_for_more_names_what_there_is(what: str) -> None:
    poor = cube(logits=None, decisions=torch.zeros(2, 2, dtype=torch.long))
    with pytest.raises(Lacking, match="only decisions"):
        getattr(poor, what)


def test_blind_means_without_labels() -> None:
    labelled = cube(labels=torch.tensor([0, 2]))
    assert labelled.labelled and labelled.labels.tolist() == [0, 2]
    assert not labelled.blind().labelled
    with pytest.raises(Lacking, match="blind"):
        _ = labelled.blind().labels


def test_rows_follow_ids_and_backbones_their_names() -> None:
    labelled = cube(labels=torch.tensor([0, 2]), gflops=torch.tensor([5, 7]), features=[torch.ones(2, 4), torch.zeros(2, 5)])
    canonical = labelled.canonical()
    assert (canonical.backbones, canonical.ids) == (("a", "z"), ("s1", "s2"))
    assert torch.equal(canonical.logits, LOGITS.flip(0, 1))
    assert canonical.labels.tolist() == [2, 0] and canonical.gflops.tolist() == [7, 5]
    assert [part.shape[1] for part in canonical.features] == [5, 4]
    assert labelled.only(["a"]).decisions.tolist() == [[1, 0]]
    assert labelled.take([1]).ids == ("s1",) and labelled.take(torch.tensor([False, True])).ids == ("s1",)
    assert torch.equal(labelled.take([1, 0]).logits, LOGITS.flip(1))
    assert [len(part) for part in toy(7).chunks(3)] == [3, 3, 1]


def test_methods_leave_the_original_as_it_was() -> None:
    before = toy(12)
    logits, labels = before.logits.clone(), before.labels.clone()
    made = [before.blind(), before.take([3, 1]), before.only(before.backbones[:2]), before.take([5, 2]).canonical()]
    assert [len(one) for one in made] == [12, 2, 12, 2]
    assert torch.equal(before.logits, logits) and torch.equal(before.labels, labels) and before.labelled


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"backbones": ["a", "a"]}, "backbones of a cube must differ.*'a'"),
        ({"ids": ["s", "s"]}, "ids of a cube must differ.*'s'"),
        ({"classes": ["x", "y", "x"]}, "classes of a cube must differ.*'x'"),
        ({"backbones": [], "logits": torch.zeros(0, 2, 3)}, "at least one backbone"),
        ({"logits": LOGITS[..., :2]}, r"logits must be \[b, s, c\] = \[2, 2, 3\], not \[2, 2, 2\]"),
        ({"logits": LOGITS / 0}, "NaN or infinite"),
        ({"logits": None}, "exactly one of"),
        ({"probabilities": LOGITS.softmax(-1)}, "exactly one of"),
        ({"logits": None, "probabilities": LOGITS}, "between 0 and 1"),
        ({"logits": None, "decisions": torch.tensor([[0, 3], [0, 0]])}, "class indices from 0 to 2"),
        ({"logits": None, "decisions": torch.tensor([[0, -2], [0, 0]])}, "or -1"),
        ({"logits": None, "decisions": torch.zeros(2, 2)}, "class indices"),
        ({"logits": None, "decisions": torch.zeros(2, 3, dtype=torch.long)}, r"\[b, s\] = \[2, 2\]"),
        ({"features": [torch.ones(2, 4)]}, r"one array per backbone \(2\), not 1"),
        ({"features": [torch.ones(2, 4), torch.ones(3, 4)]}, r"features of a must be \[2, d\], not \[3, 4\]"),
        ({"features": [torch.ones(2, 4), torch.full((2, 4), torch.nan)]}, "features of a hold NaN"),
        ({"logits": None, "heads": [torch.ones(3, 4)] * 2}, "heads need features"),
        ({"labels": torch.tensor([0])}, r"labels must be \[s\] = \[2\], not \[1\]"),
        ({"labels": torch.tensor([0, 3])}, "labels must be class indices from 0 to 2"),
        ({"gflops": torch.ones(3)}, r"gflops must be \[b\] = \[2\], not \[3\]"),
    ],
)
def test_arrays_that_do_not_fit_are_a_sentence(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(BadCube, match=sentence):
        cube(**changes)


def test_an_unknown_backbone_is_named() -> None:
    with pytest.raises(BadCube, match="no backbone 'b', only z, a"):
        cube().only(["b"])


def test_the_toy_carries_signal() -> None:
    """Backbones above chance, complementary, each best on some class: a toy at chance would let everything pass."""
    big = toy(600, 5)
    right = big.decisions == big.labels
    accuracy = right.double().mean(1)
    assert float(accuracy.min()) > 1 / 6 + 0.2 and float(accuracy.max()) < 0.9
    assert float(right.any(0).double().mean()) > float(accuracy.max()) + 0.1
    recall = torch.stack([right[:, big.labels == c].double().mean(1) for c in range(6)])
    assert len(set(recall.argmax(1).tolist())) >= 3
    assert not set(toy(18, 1).ids) & set(toy(18, 2).ids)


def test_poorer_cubes_keep_their_answers(query: Cube, poor: Cube) -> None:
    assert torch.equal(poor.decisions, query.decisions)
    assert "features" not in poor.has and poor.labelled
    assert not poorer(query.blind(), "logits").labelled
