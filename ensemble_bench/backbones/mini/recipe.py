"""The embedded backbones: five architectures, one recipe. Only the visual tower differs, as in the paper's setting."""

from __future__ import annotations

from typing import Any

EMBED_DIM = 128
IMAGE_SIZE = 64
CONTEXT_LENGTH = 32
TEXT = {"context_length": CONTEXT_LENGTH, "width": 128, "heads": 4, "layers": 2}

VISION: dict[str, dict[str, Any]] = {
    "rn-narrow": {"layers": [1, 1, 1, 1], "width": 12, "head_width": 32, "image_size": IMAGE_SIZE},
    "rn-wide": {"layers": [1, 1, 2, 1], "width": 16, "head_width": 64, "image_size": IMAGE_SIZE},
    "vit-8": {"layers": 3, "width": 96, "head_width": 32, "patch_size": 8, "image_size": IMAGE_SIZE},
    "vit-16": {"layers": 4, "width": 128, "head_width": 32, "patch_size": 16, "image_size": IMAGE_SIZE},
    "convnext": {
        "timm_model_name": "test_convnext3",
        "timm_model_pretrained": False,
        "timm_pool": "avg",
        "timm_proj": "linear",
        "image_size": IMAGE_SIZE,
    },
}
PREPROCESS = {
    "size": IMAGE_SIZE,
    "mode": "RGB",
    "mean": [0.5, 0.5, 0.5],
    "std": [0.5, 0.5, 0.5],
    "interpolation": "bicubic",
    "resize_mode": "shortest",
}

PAIRS = 192_000
BATCH = 192
STEPS = 2_500
LEARNING_RATE = 1.5e-3
WEIGHT_DECAY = 0.05
WARM_UP = 120
SEED = 0


def model_config(name: str, vocabulary: int = 49408) -> dict[str, Any]:
    """The open_clip ``model_cfg`` of one embedded backbone."""
    return {
        "embed_dim": EMBED_DIM,
        "vision_cfg": VISION[name],
        "text_cfg": {**TEXT, "vocab_size": vocabulary},
    }
