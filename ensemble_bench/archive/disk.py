"""Scores that stay on disk: a cube reads them some samples at a time, so that memory does not grow with the archive."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ensemble_bench.archive.arrays import Array, Held
from ensemble_bench.errors import BadArchive


@dataclass(frozen=True, eq=False)
class Scores:
    """Logits or probabilities [b, s, c] in a file and features [s, d] in others, checked when they are read.

    ``places`` are the backbones that are meant, ``samples`` the rows, both in the order wanted. Read by ``seek`` and
    ``readinto``, not by a memory map, of which every page that was touched counts as memory in use.
    """

    form: str
    held: Held
    backbones: tuple[str, ...]
    ids: NDArray[np.str_]
    places: tuple[int, ...]
    samples: NDArray[np.int64]
    parts: tuple[Held, ...] = ()

    @property
    def featured(self) -> bool:
        return bool(self.parts)

    def take(self, index: Tensor) -> Scores:
        return replace(self, samples=self.samples[index.numpy()])

    def only(self, places: Sequence[int]) -> Scores:
        return replace(self, places=tuple(self.places[place] for place in places))

    def _runs(self) -> Iterator[tuple[int, int, int]]:
        """Where runs of neighbouring samples begin among those wanted, where they end, and their first row in the file."""
        if not len(self.samples):
            return
        breaks = np.flatnonzero(np.diff(self.samples) != 1) + 1
        for first, last in zip([0, *breaks.tolist()], [*breaks.tolist(), len(self.samples)], strict=True):
            yield first, last, int(self.samples[first])

    def scores(self, buffer: Tensor | None = None) -> tuple[Tensor, float]:
        _, s, c = self.held.shape
        shape = (len(self.places), len(self.samples), c)
        kind = torch.float64 if self.form == "probabilities" and self.held.dtype.itemsize == 8 else torch.float32
        flat = torch.empty(int(np.prod(shape)), dtype=kind) if buffer is None else buffer[: int(np.prod(shape))]
        out = flat.view(shape)
        array = out.numpy()
        with np.errstate(over="ignore"), self.held.opened() as stream:
            for number, place in enumerate(self.places):
                for first, last, row in self._runs():
                    self.held.rows(stream, place * s + row, array[number, first:last])
        low, high = ends(out)
        if found := bad(self.form, out, low, high):
            reason, place, row = found
            name, sample = self.backbones[self.places[place]], self.ids[self.samples[row]]
            raise BadArchive(f"{self.held.file}: {self.form} {reason}, as those of {name} on {str(sample)!r}.")
        return out, max(abs(low), abs(high))

    def features(self) -> tuple[Tensor, ...]:
        found = []
        for place in self.places:
            held = self.parts[place]
            array = np.empty((len(self.samples), held.shape[1]), np.float32)
            with held.opened() as stream:
                for first, last, row in self._runs():
                    held.rows(stream, row, array[first:last])
            if not np.isfinite(array).all():
                raise BadArchive(f"{held.file}: features of {self.backbones[place]} hold NaN or infinite values.")
            found.append(torch.from_numpy(array))
        return tuple(found)


def ends(scores: Tensor) -> tuple[float, float]:
    """The lowest and the highest value; NaN if there is one, 0 if there are no values."""
    if not scores.numel():
        return 0.0, 0.0
    low, high = scores.aminmax()
    return float(low), float(high)


def bad(form: str, scores: Tensor, low: float, high: float) -> tuple[str, int, int] | None:
    """What is wrong with logits or probabilities [b, s, c], and with those of which backbone and sample; None if nothing.

    ``low`` and ``high`` are their ends.
    """
    if not (low > -torch.inf and high < torch.inf):  # NaN is neither
        reason, wrong = "must be finite; some are NaN or infinite", ~scores.isfinite().all(-1)
    elif form == "probabilities" and (low < 0 or high > 1):
        reason, wrong = "must lie between 0 and 1; give logits as logits", ((scores < 0) | (scores > 1)).any(-1)
    elif form == "probabilities" and scores.numel() and float(scores.amax(-1).amin()) == 0:
        reason, wrong = "must not all be 0 for a sample", scores.amax(-1) == 0
    else:
        return None
    place, row = wrong.nonzero()[0].tolist()
    return reason, place, row


def whole(form: str, array: Array) -> Tensor:
    """Logits (float32) or probabilities (float32, float64 where they are) that have been read."""
    precise = form == "probabilities" and array.dtype == np.float64
    with np.errstate(over="ignore"):  # what is too large becomes infinite, and is refused as such
        return torch.from_numpy(array.astype(np.float64 if precise else np.float32, copy=False))
