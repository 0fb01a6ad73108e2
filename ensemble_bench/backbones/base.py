"""What every backbone promises: known by name and digest without its weights, and an encoder once it is loaded."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ensemble_bench import prompts

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

    def packed(self, picture: NDArray[np.uint8]) -> Tensor:
        """The same picture as ``images`` of this kind of encoder takes it too: in fewer bytes, where a bus is in between."""
        return self.preprocess(picture)

    @abstractmethod
    def images(self, batch: Tensor) -> Tensor:
        """Raw output of the image tower, not normalised: float32 [n, d] for preprocessed or packed pictures [n, 3, H, W]."""

    @abstractmethod
    def texts(self, prompts: Sequence[str]) -> Tensor:
        """Raw output of the text tower, not normalised: float32 [n, d]."""

    def preparation(self) -> Callable[[NDArray[np.uint8]], Tensor]:
        """``preprocess`` as a function that other processes can be given; it should not carry the towers along."""
        return self.preprocess

    def classes(self, names: Sequence[str], templates: Sequence[str]) -> Tensor:
        """Class embeddings of unit length, float32 [c, d]: every prompt's embedding normalised, averaged, normalised again."""
        return self.ensembled(prompts.of(names, templates))

    def ensembled(self, each: Sequence[Sequence[str]]) -> Tensor:
        """The same from the prompts of each class, of which there may be more for one class than for another."""
        import torch
        from torch.nn.functional import normalize

        found = []
        for some in _batches(each):
            counts = [len(own) for own in some]
            unit = normalize(self.texts([prompt for own in some for prompt in own]), dim=1)
            if len(set(counts)) == 1:
                mean = unit.reshape(len(some), counts[0], -1).mean(1)
            else:
                mean = torch.stack([part.mean(0) for part in unit.split(counts)])
            found.append(normalize(mean, dim=1))
        return torch.cat(found)


def _batches(each: Sequence[Sequence[str]]) -> Iterator[list[Sequence[str]]]:
    """The classes in order, together as long as they have at most PROMPTS prompts."""
    some: list[Sequence[str]] = []
    held = 0
    for own in each:
        if some and held + len(own) > PROMPTS:
            yield some
            some, held = [], 0
        some.append(own)
        held += len(own)
    if some:
        yield some


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

    def prompt_gflops(self) -> float | None:
        """What one prompt costs in the text tower read at its whole length, 10^9 operations; None where that is not known."""
        return None

    def card(self) -> Mapping[str, Any]:
        """What else is known of where it comes from, as plain data."""
        return {}

    @abstractmethod
    def load(self, device: str = "cpu", precision: str = "fp32") -> Encoder:
        """The backbone, ready to encode on ``device``. Raises BadWeights, or Missing."""
