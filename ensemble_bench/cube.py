"""What every backbone says about every sample: the one shape that all strategies and measures work on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from ensemble_bench.errors import BadCube, Lacking

if TYPE_CHECKING:
    from ensemble_bench.passes import Sums

NEEDS = ("decisions", "confidence", "probabilities", "logits", "features")
_AT_ONCE = 1 << 22  # scores of a lazy cube that are in memory while its decisions are made
_SHARED = (
    "logits",
    "probabilities",
    "log_probabilities",
    "decisions",
    "confidence",
    "features",
    "extent",
    "_scratch",
    "sums",
    "mean_probability",
)


class OnDisk(Protocol):
    """Scores of b backbones for s samples and c classes that lie on disk, and their features if there are any."""

    @property
    def form(self) -> str:
        """``logits`` or ``probabilities``."""

    @property
    def featured(self) -> bool:
        """Whether there are features."""

    def take(self, index: Tensor) -> OnDisk:
        """The samples numbered by ``index`` (int64), in that order; nothing is read."""

    def only(self, places: Sequence[int]) -> OnDisk:
        """The backbones at these places, in that order; nothing is read."""

    def scores(self, buffer: Tensor | None = None) -> tuple[Tensor, float]:
        """All of them, [b, s, c], and the largest absolute value, read now and checked.

        They are put into ``buffer`` (flat, at least as long) where one is given.
        """

    def features(self) -> tuple[Tensor, ...]:
        """One float32 [s, d_b] per backbone, read now and checked."""


def best(scores: Tensor) -> Tensor:
    """Place of the highest score along the last axis, int64; of equal ones the first. By numpy, many times faster at it."""
    return torch.from_numpy(scores.detach().cpu().numpy().argmax(-1))


class Cube:
    """Scores of b backbones for s samples and c classes, aligned by sample id. Frozen: methods return new cubes.

    A cube holds one of ``logits`` (float32 [b, s, c], cosine x scale), ``heads`` with ``features`` (logits are then computed
    when asked for, chunk by chunk), ``on_disk`` (logits or probabilities in files, read when asked for, likewise),
    ``probabilities`` ([b, s, c]) or ``decisions`` (int [b, s], -1 = no answer), beside which there may be ``confidence`` (of
    each decision, in [0, 1], [b, s]); richer forms give the poorer ones, and asking a poor cube for more raises ``Lacking``.
    ``features`` is one raw (not normalised) float32 [s, d_b] per backbone; ``heads`` one float32 [c, d_b] per backbone,
    unit-length class embeddings times the logit scale. ``labels`` (int64 [s]) are absent from a blind cube. ``gflops``
    (float64 [b]) is what one image costs in each backbone. Of a ``rough`` cube, posteriors are taken in single precision.
    """

    _scratch: Tensor | None = None  # where probabilities may be put, flat: new memory takes half as long again

    def __init__(
        self,
        *,
        backbones: Sequence[str],
        classes: Sequence[str],
        ids: Sequence[str],
        logits: Tensor | None = None,
        probabilities: Tensor | None = None,
        decisions: Tensor | None = None,
        confidence: Tensor | None = None,
        features: Sequence[Tensor] | None = None,
        heads: Sequence[Tensor] | None = None,
        on_disk: OnDisk | None = None,
        labels: Tensor | None = None,
        gflops: Tensor | None = None,
        rough: bool = False,
        checked: bool = False,
    ) -> None:
        self.backbones = tuple(backbones)
        self.classes = tuple(classes)
        self.ids = tuple(ids)
        self._logits = logits
        self._probabilities = probabilities
        self._decisions = decisions
        self._confidence = confidence
        self._on_disk = on_disk
        self.rough = rough
        self._features = None if features is None else tuple(features)
        self._heads = None if heads is None else tuple(heads)
        self._labels = labels
        self.gflops = torch.zeros(len(self.backbones), dtype=torch.float64) if gflops is None else gflops.double()
        if not checked:
            self._check()

    def _check(self) -> None:
        b, s, c = self.shape
        for name, items in (("backbones", self.backbones), ("classes", self.classes), ("ids", self.ids)):
            if len(set(items)) != len(items):
                twice = next(item for item in items if items.count(item) > 1)
                raise BadCube(f"{name} of a cube must differ from one another; {twice!r} comes more than once.")
        if not b or not c:
            raise BadCube("a cube needs at least one backbone and one class.")
        if self._heads is not None and self._features is None:
            raise BadCube("heads need features beside them.")
        forms = (self._logits, self._probabilities, self._decisions, self._heads, self._on_disk)
        if sum(form is not None for form in forms) != 1:
            raise BadCube(
                "a cube holds exactly one of logits, probabilities, decisions, scores on disk, or heads with features."
            )
        for name, array in (("logits", self._logits), ("probabilities", self._probabilities)):
            if array is None:
                continue
            if tuple(array.shape) != (b, s, c):
                raise BadCube(f"{name} must be [b, s, c] = {[b, s, c]}, not {list(array.shape)}.")
            if not torch.isfinite(array).all():
                raise BadCube(f"{name} hold NaN or infinite values; every score must be finite.")
        if self._probabilities is not None and bool(((self._probabilities < 0) | (self._probabilities > 1)).any()):
            raise BadCube("probabilities must lie between 0 and 1; give logits as logits.")
        if self._decisions is not None:
            if tuple(self._decisions.shape) != (b, s):
                raise BadCube(f"decisions must be [b, s] = {[b, s]}, not {list(self._decisions.shape)}.")
            if self._decisions.is_floating_point() or bool(((self._decisions < -1) | (self._decisions >= c)).any()):
                raise BadCube(f"decisions must be class indices from 0 to {c - 1}, or -1 for no answer.")
        if self._confidence is not None:
            if self._decisions is None:
                raise BadCube("confidence is given beside decisions; scores have their own.")
            if tuple(self._confidence.shape) != (b, s):
                raise BadCube(f"confidence must be [b, s] = {[b, s]}, not {list(self._confidence.shape)}.")
            if not bool(((self._confidence >= 0) & (self._confidence <= 1)).all()):
                raise BadCube("confidence must lie between 0 and 1.")
        for name, parts, rows in (("features", self._features, s), ("heads", self._heads, c)):
            if parts is None:
                continue
            if len(parts) != b:
                raise BadCube(f"{name} must be one array per backbone ({b}), not {len(parts)}.")
            for backbone, part in zip(self.backbones, parts, strict=True):
                if part.ndim != 2 or len(part) != rows:
                    raise BadCube(f"{name} of {backbone} must be [{rows}, d], not {list(part.shape)}.")
                if not torch.isfinite(part).all():
                    raise BadCube(f"{name} of {backbone} hold NaN or infinite values.")
        if self._labels is not None:
            if tuple(self._labels.shape) != (s,):
                raise BadCube(f"labels must be [s] = [{s}], not {list(self._labels.shape)}.")
            if self._labels.is_floating_point() or bool(((self._labels < 0) | (self._labels >= c)).any()):
                raise BadCube(f"labels must be class indices from 0 to {c - 1}.")
        if tuple(self.gflops.shape) != (b,):
            raise BadCube(f"gflops must be [b] = [{b}], not {list(self.gflops.shape)}.")

    @property
    def shape(self) -> tuple[int, int, int]:
        """Numbers of backbones, samples and classes."""
        return len(self.backbones), len(self.ids), len(self.classes)

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        b, s, c = self.shape
        seen = "blind" if self._labels is None else "labelled"
        return f"Cube({b} backbones, {s} samples, {c} classes, has {', '.join(sorted(self.has))}, {seen})"

    @cached_property
    def has(self) -> frozenset[str]:
        """What it can answer for: a subset of NEEDS."""
        found = {"decisions"}
        form = None if self._on_disk is None else self._on_disk.form
        if self._logits is not None or self._heads is not None or form == "logits":
            found |= {"logits", "probabilities", "confidence"}
        if self._probabilities is not None or form == "probabilities":
            found |= {"probabilities", "confidence"}
        if self._confidence is not None:
            found.add("confidence")
        if self._features is not None or (self._on_disk is not None and self._on_disk.featured):
            found.add("features")
        return frozenset(found)

    def _lacks(self, what: str) -> Lacking:
        return Lacking(f"this cube has no {what}, only {', '.join(sorted(self.has))}.")

    @cached_property
    def logits(self) -> Tensor:
        """Float32 [b, s, c]."""
        if self._logits is not None:
            return self._logits
        if self._on_disk is not None and self._on_disk.form == "logits":
            return self._on_disk.scores()[0]
        if self._heads is None or self._features is None:
            raise self._lacks("logits")
        unit = [torch.nn.functional.normalize(feature, dim=1) for feature in self._features]
        return torch.stack([feature @ head.T for feature, head in zip(unit, self._heads, strict=True)])

    @cached_property
    def probabilities(self) -> Tensor:
        """[b, s, c], summing to one over classes where they come from logits."""
        if self._probabilities is not None:
            return self._probabilities
        if "probabilities" not in self.has:
            raise self._lacks("probabilities")
        if "logits" not in self.has:
            assert self._on_disk is not None
            return self._on_disk.scores()[0]
        if self._scratch is None or self._scratch.dtype != self.logits.dtype:
            return self.logits.softmax(-1)
        return torch.softmax(self.logits, -1, out=self._scratch[: self.logits.numel()].view(self.shape))

    @cached_property
    def log_probabilities(self) -> Tensor:
        """[b, s, c]; a probability of zero counts as the smallest positive number of its type."""
        if "logits" in self.has:
            return self.logits.log_softmax(-1)
        return self.probabilities.clamp_min(torch.finfo(self.probabilities.dtype).tiny).log()

    @cached_property
    def decisions(self) -> Tensor:
        """Int64 [b, s]: each backbone's best class (the lower index where it has two), -1 for no answer."""
        if self._decisions is not None:
            return self._decisions.long()
        if self.rough and "logits" in self.has:
            return self.sums.decisions
        size = max(1, _AT_ONCE // (len(self.backbones) * len(self.classes)))
        if len(self) > size and not self.at_hand:
            return torch.cat([part.decisions for part in self.chunks(size, reuse=True)], 1)
        return best(self.logits if "logits" in self.has else self.probabilities)

    @cached_property
    def confidence(self) -> Tensor:
        """[b, s]: each backbone's probability of its best class."""
        if self._confidence is not None:
            return self._confidence
        if "probabilities" not in self.has:
            raise self._lacks("confidence")
        return self.probabilities.gather(-1, self.decisions.unsqueeze(-1)).squeeze(-1)

    @cached_property
    def sums(self) -> Sums:
        """What one compiled pass over the logits gives: decisions, highest probabilities, means, the last two in float32."""
        from ensemble_bench.passes import sums  # for its weight

        return sums(self.logits, sorted(range(len(self.backbones)), key=self.backbones.__getitem__))

    @cached_property
    def mean_probability(self) -> Tensor:
        """Mean over backbones of their probabilities, [s, c], in the precision that they come in."""
        return self.sums.mean_probability if "logits" in self.has else self.by_backbone().probabilities.mean(0)

    @cached_property
    def extent(self) -> float:
        """Largest absolute value among the logits, or among the log-probabilities where there are no logits; at least 1."""
        scores = self.logits if "logits" in self.has else self.log_probabilities
        return max(1.0, *(abs(float(end)) for end in scores.aminmax())) if len(self) else 1.0

    @cached_property
    def features(self) -> tuple[Tensor, ...]:
        """Raw image-tower output, one float32 [s, d_b] per backbone."""
        if self._features is not None:
            return self._features
        if self._on_disk is None or not self._on_disk.featured:
            raise self._lacks("features")
        return self._on_disk.features()

    @property
    def labels(self) -> Tensor:
        """Int64 [s]."""
        if self._labels is None:
            raise Lacking("this cube is blind: it has no labels.")
        return self._labels.long()

    @property
    def labelled(self) -> bool:
        return self._labels is not None

    def _with(self, **changes: object) -> Cube:
        fields: dict[str, object] = {
            "backbones": self.backbones,
            "classes": self.classes,
            "ids": self.ids,
            "logits": self._logits,
            "probabilities": self._probabilities,
            "decisions": self._decisions,
            "confidence": self._confidence,
            "features": self._features,
            "heads": self._heads,
            "on_disk": self._on_disk,
            "labels": self._labels,
            "gflops": self.gflops,
            "rough": self.rough,
        }
        return Cube(**{**fields, **changes}, checked=True)  # type: ignore[arg-type]

    @property
    def _lazy(self) -> bool:
        """Whether scores are computed or read when asked for."""
        return self._logits is None and self._probabilities is None and (self._heads is not None or self._on_disk is not None)

    @property
    def at_hand(self) -> bool:
        """Whether scores are in memory: held, or already computed or read."""
        return not self._lazy or bool({"logits", "probabilities"} & set(vars(self)))

    def dense(self) -> Cube:
        """The same with scores in memory, where they would be computed or read when asked for: worth it for small cubes."""
        return self._dense(None) if self._lazy else self

    def _dense(self, buffer: Tensor | None) -> Cube:
        if self._on_disk is None:
            return self._with(logits=self.logits, heads=None)
        scores, largest = self._on_disk.scores(buffer)
        made = self._with(**{self._on_disk.form: scores})
        if self._on_disk.form == "logits":
            made.extent = max(1.0, largest)
        return made

    def _sharing(self, other: Cube) -> Cube:
        """The other cube, with what has been computed here and is the same there."""
        vars(other).update({name: value for name, value in vars(self).items() if name in _SHARED})
        return other

    def blind(self) -> Cube:
        """The same cube without labels."""
        return self._sharing(self._with(labels=None))

    def roughly(self) -> Cube:
        """The same cube, of which posteriors are taken in single precision, as fast as can be."""
        return self._sharing(self._with(rough=True))

    def exactly(self) -> Cube:
        """The same cube, of which posteriors are taken in double precision."""
        return self._sharing(self._with(rough=False))

    def own(self) -> Cube:
        """The same cube with arrays of its own, for somebody who may change them."""

        def copy(array: Tensor | None) -> Tensor | None:
            return None if array is None else array.clone()

        return self._with(
            logits=copy(self._logits),
            probabilities=copy(self._probabilities),
            decisions=copy(self._decisions),
            confidence=copy(self._confidence),
            features=None if self._features is None else [part.clone() for part in self._features],
            heads=None if self._heads is None else [part.clone() for part in self._heads],
            labels=copy(self._labels),
            gflops=self.gflops.clone(),
        )

    def knowing(self, decisions: Tensor) -> Cube:
        """The same cube with decisions [b, s] at hand that have been found on the way: they are not made again."""
        return self._sharing(self._with(decisions=decisions))

    def take(self, index: Tensor | Sequence[int]) -> Cube:
        """The samples numbered by ``index``, in that order; a boolean mask keeps those where it is true."""
        index = torch.as_tensor(index)
        index = index.nonzero().squeeze(1) if index.dtype == torch.bool else index.long()

        def rows(array: Tensor | None, axis: int) -> Tensor | None:
            return None if array is None else array.index_select(axis, index)

        return self._with(
            ids=[self.ids[i] for i in index.tolist()],
            logits=rows(self._logits, 1),
            probabilities=rows(self._probabilities, 1),
            decisions=rows(self._decisions, 1),
            confidence=rows(self._confidence, 1),
            features=None if self._features is None else [part[index] for part in self._features],
            on_disk=None if self._on_disk is None else self._on_disk.take(index),
            labels=rows(self._labels, 0),
        )

    def only(self, backbones: Sequence[str]) -> Cube:
        """These backbones, in that order."""
        missing = [name for name in backbones if name not in self.backbones]
        if missing:
            raise BadCube(f"this cube has no backbone {missing[0]!r}, only {', '.join(self.backbones)}.")
        place = [self.backbones.index(name) for name in backbones]
        index = torch.tensor(place)

        def rows(array: Tensor | None) -> Tensor | None:
            return None if array is None else array[index]

        return self._with(
            backbones=backbones,
            logits=rows(self._logits),
            probabilities=rows(self._probabilities),
            decisions=rows(self._decisions),
            confidence=rows(self._confidence),
            features=None if self._features is None else [self._features[i] for i in place],
            on_disk=None if self._on_disk is None else self._on_disk.only(place),
            heads=None if self._heads is None else [self._heads[i] for i in place],
            gflops=self.gflops[index],
        )

    def by_backbone(self) -> Cube:
        """The same with backbones in the order of their ids, so that pool order cannot change a sum."""
        order = sorted(self.backbones)
        return self if list(self.backbones) == order else self.only(order)

    def canonical(self) -> Cube:
        """The same with backbones and samples in the order of their ids: what a fit starts from, so order cannot matter."""
        cube = self.by_backbone()
        order = sorted(range(len(self.ids)), key=self.ids.__getitem__)
        return cube if order == list(range(len(order))) else cube.take(order)

    def joined(self, other: Cube) -> Cube:
        """The samples of this cube, then those of another one of the same backbones and classes, held in the same form."""
        if (self.backbones, self.classes) != (other.backbones, other.classes):
            raise BadCube("only cubes of the same backbones and classes, in the same order, can be joined.")

        def both(one: Tensor | None, two: Tensor | None, axis: int) -> Tensor | None:
            if one is None or two is None:
                if one is not two:
                    raise BadCube("only cubes that hold the same can be joined.")
                return None
            return torch.cat([one, two], axis)

        features = zip(self._features or (), other._features or (), strict=True)
        joined = self._with(
            ids=[*self.ids, *other.ids],
            logits=both(self._logits, other._logits, 1),
            probabilities=both(self._probabilities, other._probabilities, 1),
            decisions=both(self._decisions, other._decisions, 1),
            confidence=both(self._confidence, other._confidence, 1),
            features=[torch.cat(pair) for pair in features] if self._features is not None else None,
            labels=both(self._labels, other._labels, 0),
        )
        joined._check()
        return joined

    def chunks(self, size: int, *, reuse: bool = False) -> Iterator[Cube]:
        """The samples in order, at most ``size`` at a time: scores of a lazy cube then never exist all at once.

        Chunks of a cube on disk are dense. With ``reuse`` the scores of each lie where those of the one before lay: for one
        pass in which nothing of a chunk is kept.
        """
        buffer: Tensor | None = None
        scratch = torch.empty(min(size, len(self)) * len(self.backbones) * len(self.classes)) if reuse else None
        for start in range(0, len(self), size):
            part = self.take(range(start, min(start + size, len(self))))
            if part._lazy and part._on_disk is not None:
                part = part._dense(buffer)
                if reuse and buffer is None:
                    whole = part._logits if part._logits is not None else part._probabilities
                    buffer = None if whole is None else whole.view(-1)
            part._scratch = scratch
            yield part
