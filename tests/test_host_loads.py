"""CLIP_benchmark's own loader takes the embedded backbones as they are."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ensemble_bench.backbones.mini.pool import expanded, mini


def test_the_host_loads_an_embedded_backbone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENSEMBLE_BENCH_CACHE", str(tmp_path))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the host's, of its own imports
        from clip_benchmark.models import load_clip

        model, transform, tokenizer = load_clip(
            model_type="open_clip", model_name=f"local-dir:{expanded('vit-16')}", pretrained="", cache_dir=None, device="cpu"
        )
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    encoder = mini("vit-16").load()
    with torch.no_grad():
        theirs = model.encode_image(transform(Image.fromarray(picture))[None])
        text = torch.nn.functional.normalize(model.encode_text(tokenizer(["a red circle"])), dim=1)
    assert torch.allclose(theirs, encoder.images(encoder.preprocess(picture)[None]), atol=1e-5)
    assert torch.allclose(text, encoder.classes(["circle"], ["a red {c}"]), atol=1e-5)
