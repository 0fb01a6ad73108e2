"""One picture for many backbones: prepared once for all that prepare alike, handed over as one tensor."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ensemble_bench.backbones.base import Backbone, Encoder

Preparation = Callable[[NDArray[np.uint8]], Tensor]


class Prepared:
    """The transform of a PIL image for a pool: float32 [3, H, W] where all prepare alike, else all the results in one row.

    It carries preparations only, no towers, so that the processes that read pictures can be given it.
    """

    def __init__(self, preparations: Sequence[Preparation]) -> None:
        self.preparations = tuple(preparations)

    def __call__(self, image: Any) -> Tensor:
        picture = np.array(image.convert("RGB"))
        made = [prepare(picture) for prepare in self.preparations]
        return made[0] if len(made) == 1 else torch.cat([part.flatten() for part in made])


@dataclass(frozen=True)
class Groups:
    """Backbones by how they prepare pictures: ``members`` and ``shapes`` [3, H, W] belong to ``preparations`` by place."""

    preparations: tuple[Preparation, ...]
    shapes: tuple[tuple[int, ...], ...]
    members: tuple[tuple[tuple[str, Encoder], ...], ...]

    def parts(self, batch: Tensor) -> list[Tensor]:
        """Of each group its pictures [n, 3, H, W], from what ``Prepared`` made of a batch."""
        if len(self.shapes) == 1:
            return [batch]
        sizes = [math.prod(shape) for shape in self.shapes]
        return [part.reshape(-1, *shape) for part, shape in zip(batch.split(sizes, dim=1), self.shapes, strict=True)]

    def features(self, batch: Tensor) -> dict[str, Tensor]:
        """Raw features float32 [n, d] by backbone id, in the order of the ids."""
        found = {
            name: encoder.images(part)
            for part, members in zip(self.parts(batch), self.members, strict=True)
            for name, encoder in members
        }
        return dict(sorted(found.items()))


def grouped(pool: Sequence[tuple[Backbone, Encoder]]) -> Groups:
    """The backbones of a pool by their preparation."""
    alike: dict[str, list[tuple[str, Encoder]]] = {}
    for backbone, encoder in pool:
        alike.setdefault(backbone.preprocessing(), []).append((backbone.id, encoder))
    probe = np.zeros((8, 8, 3), dtype=np.uint8)
    preparations = tuple(members[0][1].preparation() for members in alike.values())
    return Groups(
        preparations,
        tuple(tuple(prepare(probe).shape) for prepare in preparations),
        tuple(tuple(members) for members in alike.values()),
    )
