"""What every backbone says about every sample: the one shape that all strategies and measures work on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property

import torch
from torch import Tensor

from ensemble_bench.errors import BadCube, Lacking

NEEDS = ("decisions", "probabilities", "logits", "features")


class Cube:
    """Scores of b backbones for s samples and c classes, aligned by sample id. Frozen: methods return new cubes.

    A cube holds one of ``logits`` (float32 [b, s, c], cosine x scale), ``heads`` with ``features`` (logits are then computed
    when asked for, chunk by chunk), ``probabilities`` ([b, s, c]) or ``decisions`` (int [b, s], -1 = no answer); richer forms
    give the poorer ones, and asking a poor cube for more raises ``Lacking``. ``features`` is one raw (not normalised) float32
    [s, d_b] per backbone; ``heads`` one float32 [c, d_b] per backbone, unit-length class embeddings times the logit scale.
    ``labels`` (int64 [s]) are absent from a blind cube. ``gflops`` (float64 [b]) is what one image costs in each backbone.
    """

    def __init__(
        self,
        *,
        backbones: Sequence[str],
        classes: Sequence[str],
        ids: Sequence[str],
        logits: Tensor | None = None,
        probabilities: Tensor | None = None,
        decisions: Tensor | None = None,
        features: Sequence[Tensor] | None = None,
        heads: Sequence[Tensor] | None = None,
        labels: Tensor | None = None,
        gflops: Tensor | None = None,
        checked: bool = False,
    ) -> None:
        self.backbones = tuple(backbones)
        self.classes = tuple(classes)
        self.ids = tuple(ids)
        self._logits = logits
        self._probabilities = probabilities
        self._decisions = decisions
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
        given = [x for x in (self._logits, self._probabilities, self._decisions, self._heads) if x is not None]
        if len(given) != 1:
            raise BadCube("a cube holds exactly one of logits, probabilities, decisions, or heads with features.")
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
        """What it can answer for: a subset of decisions, probabilities, logits, features."""
        found = {"decisions"}
        if self._logits is not None or self._heads is not None:
            found |= {"logits", "probabilities"}
        if self._probabilities is not None:
            found.add("probabilities")
        if self._features is not None:
            found.add("features")
        return frozenset(found)

    def _lacks(self, what: str) -> Lacking:
        return Lacking(f"this cube has no {what}, only {', '.join(sorted(self.has))}.")

    @cached_property
    def logits(self) -> Tensor:
        """Float32 [b, s, c]."""
        if self._logits is not None:
            return self._logits
        if self._heads is None or self._features is None:
            raise self._lacks("logits")
        unit = [torch.nn.functional.normalize(feature, dim=1) for feature in self._features]
        return torch.stack([feature @ head.T for feature, head in zip(unit, self._heads, strict=True)])

    @cached_property
    def probabilities(self) -> Tensor:
        """[b, s, c], summing to one over classes where they come from logits."""
        if self._probabilities is not None:
            return self._probabilities
        if "logits" not in self.has:
            raise self._lacks("probabilities")
        return self.logits.softmax(-1)

    @cached_property
    def log_probabilities(self) -> Tensor:
        """[b, s, c]; a probability of zero counts as the smallest positive number of its type."""
        if self._probabilities is not None:
            return self._probabilities.clamp_min(torch.finfo(self._probabilities.dtype).tiny).log()
        if "logits" not in self.has:
            raise self._lacks("probabilities")
        return self.logits.log_softmax(-1)

    @cached_property
    def decisions(self) -> Tensor:
        """Int64 [b, s]: each backbone's best class (the lower index where it has two), -1 for no answer."""
        if self._decisions is not None:
            return self._decisions.long()
        return (self.logits if self._probabilities is None else self._probabilities).argmax(-1)

    @property
    def features(self) -> tuple[Tensor, ...]:
        """Raw image-tower output, one float32 [s, d_b] per backbone."""
        if self._features is None:
            raise self._lacks("features")
        return self._features

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
            "features": self._features,
            "heads": self._heads,
            "labels": self._labels,
            "gflops": self.gflops,
        }
        return Cube(**{**fields, **changes}, checked=True)  # type: ignore[arg-type]

    def dense(self) -> Cube:
        """The same with logits in memory, where they would be computed whenever asked for: worth it for small cubes."""
        return self if self._heads is None else self._with(logits=self.logits, heads=None)

    def blind(self) -> Cube:
        """The same cube without labels."""
        return self._with(labels=None)

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
            features=None if self._features is None else [part[index] for part in self._features],
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
            features=None if self._features is None else [self._features[i] for i in place],
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

    def chunks(self, size: int) -> Iterator[Cube]:
        """The samples in order, at most ``size`` at a time: logits of a lazy cube then never exist all at once."""
        for start in range(0, len(self), size):
            yield self.take(range(start, min(start + size, len(self))))
