"""The recipe of the embedded backbones, on a handful of pairs: it trains, stops, goes on, and leaves what the pool loads."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from ensemble_bench.backbones.mini import compact, recipe, train
from ensemble_bench.backbones.mini.captions import every_caption, pairs
from ensemble_bench.backbones.mini.pool import mini

NAME = "vit-16"


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipe, "PAIRS", 96)
    monkeypatch.setattr(recipe, "BATCH", 32)
    monkeypatch.setattr(train, "VALIDATION", 32)
    monkeypatch.setattr(train, "CHUNK", 64)


def test_pairs_repeat_and_do_not_depend_on_their_neighbours() -> None:
    pictures, captions = pairs("validation", np.arange(64))
    assert pictures.shape == (64, 64, 64, 3) and pictures.dtype == np.uint8
    again, said = pairs("validation", np.arange(40, 50))
    assert np.array_equal(again, pictures[40:50]) and said == captions[40:50]
    other, _ = pairs("pretrain", np.arange(64))
    assert not (other == pictures).all(axis=(1, 2, 3)).any()


def test_a_training_leaves_a_backbone_that_loads(small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENSEMBLE_BENCH_CACHE", str(tmp_path / "store"))
    train.train(NAME, tmp_path, 3, 1)
    card = json.loads((tmp_path / f"{NAME}.json").read_text())["card"]
    assert card["steps"] == 3 and len(card["curve"]["rows"]) == 1 and card["weights"]
    backbone = mini(NAME, tmp_path)
    assert backbone.weights() == card["weights"]
    encoder = backbone.load()
    assert torch.isfinite(encoder.classes(["circle", "square"], ["a {c}"])).all()


def test_an_interrupted_training_goes_on(small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    monkeypatch.setattr(train, "SAVE_EVERY", 2)
    train.train(NAME, straight, 4, 1)
    real, seen = train._retrieval, []

    def stops(*arguments: object) -> float:
        if seen:
            raise KeyboardInterrupt
        seen.append(1)
        return float(real(*arguments))  # type: ignore[arg-type]

    monkeypatch.setattr(train, "_retrieval", stops)
    with pytest.raises(KeyboardInterrupt):
        train.train(NAME, broken, 4, 1)
    monkeypatch.setattr(train, "_retrieval", real)
    train.train(NAME, broken, 4, 1)
    one, two = (compact.restored(folder / f"{NAME}.safetensors", 49408) for folder in (straight, broken))
    assert all(torch.allclose(one[key].float(), two[key].float(), atol=1e-3) for key in one)
    with pytest.raises(SystemExit, match="belongs to a training of 4 steps, not 5"):
        train.train(NAME, broken, 5, 1)


def test_the_captions_fit_the_context_and_name_every_class() -> None:
    from ensemble_bench.task import Catalogue

    catalogue = Catalogue()
    known = set(train._tokens(every_caption()).unique().tolist())
    for task in catalogue.tasks(catalogue.collections["mini"]):
        prompts = [template.replace("{c}", name) for template in task.templates for name in task.classes]
        tokens = train._tokens(prompts)
        assert (tokens > 0).sum(1).max() < recipe.CONTEXT_LENGTH
        assert set(tokens.unique().tolist()) - {0} <= known, f"{task.name} has words that no caption has"
