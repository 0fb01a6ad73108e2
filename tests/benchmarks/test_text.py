"""Class embeddings against the host's loop: 40 classes x 80 templates of ImageNet, fp32, one thread, the same random weights.

    python tests/benchmarks/test_text.py        prints the ratio and the largest difference

The host's loop costs the same for every class, so it is timed on ``HOSTED`` of them and scaled.
"""

from __future__ import annotations

import importlib.util
import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch

CLASSES, HOSTED = 40, 2
RATIO = 12.0
CLOSE = 1e-6


def names_and_templates(classes: int = CLASSES) -> tuple[list[str], list[str]]:
    """So many classes of ImageNet and its templates, as the host ships them."""
    spec = importlib.util.find_spec("clip_benchmark")
    assert spec is not None and spec.submodule_search_locations
    folder = Path(spec.submodule_search_locations[0]) / "datasets"
    names, templates = (
        json.loads((folder / file).read_text(encoding="utf-8"))["imagenet1k"]
        for file in ("en_classnames.json", "en_zeroshot_classification_templates.json")
    )
    return names[:: len(names) // classes][:classes], templates


def encoder() -> Any:
    """ViT-B-32 with random weights."""
    import open_clip

    from ensemble_bench.backbones.encoder import OpenClipEncoder

    torch.manual_seed(0)
    model = open_clip.create_model("ViT-B-32", pretrained=None).eval()
    prepared = {"size": 224, "mode": "RGB", "mean": (0, 0, 0), "std": (1, 1, 1)}
    prepared |= {"interpolation": "bicubic", "resize_mode": "shortest", "fill_color": 0}
    tokenizer = open_clip.get_tokenizer("ViT-B-32")
    return OpenClipEncoder(model, tokenizer, prepared, device="cpu", precision="fp32", scale=100.0)


def measured(classes: int = CLASSES, hosted: int = HOSTED) -> tuple[float, float, float]:
    """CPU seconds of ours and of the host's loop for all classes, and the largest difference of unit embeddings."""
    from clip_benchmark.metrics.zeroshot_classification import zero_shot_classifier

    torch.set_num_threads(1)
    names, templates = names_and_templates(classes)
    ours = encoder()
    ours.classes(names[:2], templates[:2])  # the check that it may read so, once a model
    start = time.process_time()
    mine = ours.classes(names, templates)
    middle = time.process_time()
    theirs = zero_shot_classifier(ours.model, ours.tokenizer, names[:hosted], templates, "cpu", amp=False)
    end = time.process_time()
    return middle - start, (end - middle) * classes / hosted, float((mine[:hosted] - theirs.T).abs().max())


@pytest.mark.filterwarnings("default")
def test_class_embeddings(benchmark: Any) -> None:
    seconds, host, off = benchmark.pedantic(measured, rounds=1)
    benchmark.extra_info.update(ratio=host / seconds, difference=off)
    assert off <= CLOSE
    assert host / seconds >= RATIO


if __name__ == "__main__":
    seconds, host, off = measured()
    print(f"class embeddings, {CLASSES} x 80, fp32: {host / seconds:.1f} times faster than the host's loop")
    print(f"({seconds:.1f} and {host:.1f} CPU seconds), largest difference {off:.1e}")
