"""What every backbone promises: known by name and digest without its weights, and an encoder once it is loaded."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

PRECISIONS = ("fp32", "bf16", "fp16")
PROMPTS = 8192  # embeddings held at a time, where there are many classes and templates


class Encoder(ABC):
    """The loaded form of a backbone. Results are float32 on the CPU whatever the precision and the device.

    ``scale`` is what cosines are multiplied with to become logits (``logit_scale.exp()`` of the checkpoint); ``gflops`` is the
    cost of the image tower for one image, in 10^9 floating-point operations; ``parameters`` counts both towers.
    """

    scale: float
    gflops: float
    parameters: int

    @abstractmethod
    def preprocess(self, picture: NDArray[np.uint8]) -> Tensor:
        """One picture uint8 [h, w, 3] as the tower wants it: float32 [3, H, W]. The picture is left as it was."""

    @abstractmethod
    def images(self, batch: Tensor) -> Tensor:
        """Raw output of the image tower, not normalised: float32 [n, d] for preprocessed pictures [n, 3, H, W]."""

    @abstractmethod
    def texts(self, prompts: Sequence[str]) -> Tensor:
        """Raw output of the text tower, not normalised: float32 [n, d]."""

    def classes(self, names: Sequence[str], templates: Sequence[str]) -> Tensor:
        """Class embeddings of unit length, float32 [c, d]: every prompt's embedding normalised, averaged, normalised again."""
        import torch
        from torch.nn.functional import normalize

        found = []
        step = max(1, PROMPTS // len(templates))
        for start in range(0, len(names), step):
            some = names[start : start + step]
            prompts = [template.replace("{c}", name) for name in some for template in templates]
            each = normalize(self.texts(prompts), dim=1).reshape(len(some), len(templates), -1)
            found.append(normalize(each.mean(1), dim=1))
        return torch.cat(found)


@dataclass(frozen=True)
class Backbone(ABC):
    """One dual encoder. ``id`` is its name in records (``TAG/ARCH``, or ``file:<12 digits>/ARCH``), ``arch`` its architecture.

    ``gflops`` (image tower, one image) and ``parameters`` are None where they are not known before it has been loaded.
    """

    id: str
    arch: str
    gflops: float | None
    parameters: int | None

    @abstractmethod
    def weights(self) -> str:
        """Sha256 of the weights; fetches them where they must be fetched, or raises Missing."""

    @abstractmethod
    def preprocessing(self) -> str:
        """Digest of how pictures are prepared. Backbones with equal digests share prepared pictures."""

    @abstractmethod
    def architecture(self) -> str:
        """Digest of how the weights are used: the model configuration, activation function included."""

    @abstractmethod
    def fetched(self) -> bool:
        """Whether the weights are at hand without a network."""

    def card(self) -> Mapping[str, Any]:
        """What else is known of where it comes from, as plain data."""
        return {}

    @abstractmethod
    def load(self, device: str = "cpu", precision: str = "fp32") -> Encoder:
        """The backbone, ready to encode on ``device``. Raises BadWeights, or Missing."""
