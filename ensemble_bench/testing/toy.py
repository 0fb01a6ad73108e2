"""A small cube that carries signal: backbones above chance, each better than the others somewhere."""

from __future__ import annotations

import torch

from ensemble_bench.cube import Cube

BACKBONES = ("toy/a-wide", "toy/b-narrow", "toy/c-deep", "toy/d-flat")
WIDTHS = (9, 6, 8, 7)
CLASSES = ("ant", "bee", "cat", "dog", "eel", "fox")
SCALE = 8.0


def toy(samples: int = 48, seed: int = 0, *, backbones: int = 4, classes: int = 6) -> Cube:
    """A labelled cube with logits and features, made from a generator: ``samples`` ids ``q<seed>-<number>``, balanced classes.

    Each class has a direction in each backbone's space; a backbone sees it clearly in about half of the classes and dimly in
    the others, and which half differs from backbone to backbone. Per sample and backbone the features come in any length.
    """
    space = torch.Generator().manual_seed(7)
    draw = torch.Generator().manual_seed(1000 + seed)
    labels = torch.arange(samples) % classes
    labels = labels[torch.randperm(samples, generator=draw)]
    features, logits = [], []
    for b in range(backbones):
        width = WIDTHS[b % len(WIDTHS)]
        head = torch.nn.functional.normalize(torch.randn(len(CLASSES), width, generator=space), dim=1)[:classes]
        clear = torch.tensor([1.9 if (c + b) % 4 < 2 else 0.75 for c in range(classes)])
        feature = head[labels] * clear[labels].unsqueeze(1) + 0.8 * torch.randn(samples, width, generator=draw)
        feature = feature * (0.5 + torch.rand(samples, 1, generator=draw))
        scale = SCALE * (1 + b / 2)
        features.append(feature)
        logits.append(scale * torch.nn.functional.normalize(feature, dim=1) @ head.T)
    return Cube(
        backbones=BACKBONES[:backbones],
        classes=CLASSES[:classes],
        ids=[f"q{seed}-{number:03d}" for number in range(samples)],
        logits=torch.stack(logits),
        features=features,
        labels=labels,
        gflops=torch.arange(1, backbones + 1),
    )


def poorer(cube: Cube, form: str) -> Cube:
    """The same answers with less to say for them: ``logits`` (no features), ``probabilities`` or ``decisions`` only."""
    held = {"logits": cube.logits} if form == "logits" else {form: getattr(cube, form)}
    return Cube(
        backbones=cube.backbones,
        classes=cube.classes,
        ids=cube.ids,
        labels=cube.labels if cube.labelled else None,
        gflops=cube.gflops,
        **held,
    )


def reordered(cube: Cube, classes: list[int]) -> Cube:
    """The same cube with its classes in another order."""
    place = torch.empty(len(classes), dtype=torch.long)
    place[classes] = torch.arange(len(classes))
    return Cube(
        backbones=cube.backbones,
        classes=[cube.classes[c] for c in classes],
        ids=cube.ids,
        logits=cube.logits[..., classes],
        features=cube.features,
        labels=place[cube.labels] if cube.labelled else None,
        gflops=cube.gflops,
    )
