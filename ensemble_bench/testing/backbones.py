"""What every backbone must keep, as checks that anyone can run on their own: each raises AssertionError with a sentence."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ensemble_bench.backbones.base import Backbone, Encoder

NAMES = ("circle", "red square", "handwritten digit four")
TEMPLATES = ("a photo of a {c}", "a {c}.")
TOLERANCE = 1e-5  # of the largest feature


@lru_cache(maxsize=1)
def _encoder(backbone: Backbone) -> Encoder:
    return backbone.load()


def _pictures() -> list[NDArray[np.uint8]]:
    """Five pictures of different shapes: square, wide, high, tiny and one that is only white."""
    raw = np.frombuffer(b"".join(i.to_bytes(4, "little") for i in range(1, 60_000)), dtype=np.uint8)
    shapes = ((64, 64, 3), (48, 96, 3), (100, 70, 3), (9, 9, 3))
    pictures = [raw[11 * i : 11 * i + math.prod(shape)].reshape(shape).copy() for i, shape in enumerate(shapes)]
    return [*pictures, np.full((64, 64, 3), 255, dtype=np.uint8)]


def _features(encoder: Encoder) -> Tensor:
    return encoder.images(torch.stack([encoder.preprocess(picture) for picture in _pictures()]))


def check_known_before_loading(backbone: Backbone) -> None:
    """Name and digests are there before the weights are, say what they are, and stay."""
    assert backbone.id and backbone.arch, "a backbone must have an id and an architecture."
    for what in ("weights", "preprocessing", "architecture"):
        first, second = getattr(backbone, what)(), getattr(backbone, what)()
        assert isinstance(first, str) and first, f"{what}() of {backbone.id} must be a digest, not {first!r}."
        assert first == second, f"{what}() of {backbone.id} changes from call to call."
    assert backbone.fetched(), f"{backbone.id} says that its weights are not here after it has digested them."
    assert hash(backbone) == hash(backbone), f"{backbone.id} cannot be hashed."


def check_costs(backbone: Backbone) -> None:
    """What is said of the cost before loading is what is measured afterwards, within 1 %."""
    encoder = _encoder(backbone)
    for what in ("gflops", "parameters"):
        said, measured = getattr(backbone, what), getattr(encoder, what)
        assert measured > 0 and math.isfinite(measured), f"{what} of {backbone.id} must be positive, not {measured}."
        assert said is None or abs(said - measured) <= 0.01 * measured, (
            f"{backbone.id} says {what} {said}, measured {measured}."
        )


def check_scale(backbone: Backbone) -> None:
    """The logit scale is a positive, finite number."""
    scale = _encoder(backbone).scale
    assert math.isfinite(scale) and scale > 0, f"the scale of {backbone.id} must be positive and finite, not {scale}."


def check_pictures_are_left_alone(backbone: Backbone) -> None:
    """Pictures of any shape are prepared to one shape, and stay as they were, even read-only ones."""
    encoder = _encoder(backbone)
    shapes = set()
    for picture in _pictures():
        before = picture.copy()
        picture.setflags(write=False)
        prepared = encoder.preprocess(picture)
        assert np.array_equal(picture, before), f"{backbone.id} writes into the pictures it is given."
        assert prepared.dtype == torch.float32 and prepared.shape[0] == 3, f"{backbone.id} must prepare float32 [3, H, W]."
        shapes.add(tuple(prepared.shape))
    assert len(shapes) == 1, f"{backbone.id} prepares pictures of several shapes: {sorted(shapes)}."


def check_features(backbone: Backbone) -> None:
    """Features are float32 [n, d] on the CPU, finite, different for different pictures, ready to be learnt from."""
    features = _features(_encoder(backbone))
    assert features.dtype == torch.float32 and features.ndim == 2 and features.device.type == "cpu", (
        f"images() of {backbone.id} must return float32 [n, d] on the CPU."
    )
    assert bool(torch.isfinite(features).all()), f"{backbone.id} gives NaN or infinite features."
    assert not features.requires_grad and not features.is_inference(), f"features of {backbone.id} must be plain tensors."
    assert len(features.unique(dim=0)) == len(features), f"{backbone.id} gives different pictures the same features."


def check_same_again(backbone: Backbone) -> None:
    """The same pictures give the same bytes, also after loading again."""
    first = _features(_encoder(backbone))
    assert torch.equal(first, _features(_encoder(backbone))), f"{backbone.id} gives other features when asked again."
    assert torch.equal(first, _features(backbone.load())), f"{backbone.id} gives other features when loaded again."


def check_batch_does_not_matter(backbone: Backbone) -> None:
    """A picture's features do not depend on what else is in the batch."""
    encoder = _encoder(backbone)
    together = _features(encoder)
    prepared = [encoder.preprocess(picture) for picture in _pictures()]
    alone = torch.cat([encoder.images(one[None]) for one in prepared])
    turned = encoder.images(torch.stack(prepared[::-1])).flip(0)
    limit = TOLERANCE * float(together.abs().max())
    for what, other in (("alone", alone), ("in another order", turned)):
        apart = float((together - other).abs().max())
        assert apart <= limit, (
            f"features of {backbone.id} differ by {apart:.1e} when pictures come {what}; {limit:.1e} is allowed."
        )


def check_classes(backbone: Backbone) -> None:
    """Class embeddings have unit length and the width of the features; neither order nor company of the names matters."""
    encoder = _encoder(backbone)
    classes = encoder.classes(NAMES, TEMPLATES)
    width = _features(encoder).shape[1]
    assert classes.dtype == torch.float32 and classes.shape == (len(NAMES), width), (
        f"classes() of {backbone.id} must be float32 {[len(NAMES), width]}, not {list(classes.shape)}."
    )
    assert bool(((classes.norm(dim=1) - 1).abs() < 1e-5).all()), f"class embeddings of {backbone.id} are not of unit length."
    turned = encoder.classes(NAMES[::-1], TEMPLATES[::-1]).flip(0)
    alone = torch.cat([encoder.classes([name], TEMPLATES) for name in NAMES])
    for other in (turned, alone):
        assert bool(((classes - other).abs() < TOLERANCE).all()), (
            f"class embeddings of {backbone.id} depend on order or company."
        )


def check_classes_are_means(backbone: Backbone) -> None:
    """A class embedding is the mean of its prompts' unit embeddings, brought to unit length."""
    encoder = _encoder(backbone)
    prompts = encoder.texts([template.replace("{c}", NAMES[1]) for template in TEMPLATES])
    mean = (prompts / prompts.norm(dim=1, keepdim=True)).mean(0)
    apart = float((encoder.classes(NAMES, TEMPLATES)[1] - mean / mean.norm()).abs().max())
    assert apart < TOLERANCE, (
        f"class embeddings of {backbone.id} are not the mean of the unit prompt embeddings: {apart:.1e} apart."
    )


CHECKS: tuple[Callable[[Backbone], None], ...] = (
    check_known_before_loading,
    check_costs,
    check_scale,
    check_pictures_are_left_alone,
    check_features,
    check_same_again,
    check_batch_does_not_matter,
    check_classes,
    check_classes_are_means,
)
