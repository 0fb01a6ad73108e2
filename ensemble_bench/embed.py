"""From images and prompts to features and class embeddings, through the store. Only here do images and arrays meet."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol

from ensemble_bench import cache
from ensemble_bench.backbones.base import Backbone, Encoder
from ensemble_bench.cache import JSON
from ensemble_bench.condition import CLEAN, Condition
from ensemble_bench.errors import BadData, BadOption, BadWeights, Lacking
from ensemble_bench.store import Store

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from ensemble_bench.cube import Cube

KERNEL = 1  # goes up whenever the same picture, prompt and weights would give another number
BLOCK = 4096  # samples per stored file: what an interruption can lose at most
BATCH = 64

Alter = Callable[[str, "NDArray[np.uint8]"], "NDArray[np.uint8]"]
Advance = Callable[[int], object]


class Question(Protocol):
    """What is needed of a task."""

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> int: ...
    @property
    def classes(self) -> tuple[str, ...]: ...
    @property
    def templates(self) -> tuple[str, ...]: ...


class Pictures(Protocol):
    """What is needed of a source: pictures uint8 [h, w, 3] in the order of the ids."""

    def pictures(self, split: str, ids: Sequence[str]) -> Iterator[NDArray[np.uint8]]: ...


@dataclass
class Work:
    """How much was really done, as counters that no noise can blur."""

    loads: int = 0
    class_builds: int = 0
    decodes: int = 0
    corruptions: int = 0
    encodes: int = 0


def samples_digest(ids: Sequence[str]) -> str:
    """Sha256 of sample ids in their order."""
    return hashlib.sha256("\0".join(ids).encode()).hexdigest()


@dataclass
class Embedder:
    """What turns pictures and prompts into numbers with a pool of backbones, looking into the store first.

    Each backbone is loaded at most once, and only if something of it is missing; ``release`` lets them go. ``batch`` is halved
    when memory runs out. ``work`` counts what was done.
    """

    backbones: Sequence[Backbone]
    store: Store = field(default_factory=Store)
    device: str = "cpu"
    precision: str = "fp32"
    batch: int = BATCH
    work: Work = field(default_factory=Work)
    _encoders: dict[str, Encoder] = field(default_factory=dict, repr=False)
    _hows: dict[str, dict[str, JSON]] = field(default_factory=dict, repr=False)

    def distinct(self) -> None:
        """Raise BadOption where two names of the pool are the same weights used in the same way: a twin would count twice."""
        seen: dict[str, str] = {}
        for backbone in self.backbones:
            first = seen.setdefault(cache.canonical(self._how(backbone)), backbone.id)
            if first != backbone.id:
                raise BadOption(f"{first} and {backbone.id} are the same backbone under two names: leave one of them out.")

    def encoder(self, backbone: Backbone) -> Encoder:
        """The loaded backbone."""
        if backbone.id not in self._encoders:
            self._encoders[backbone.id] = backbone.load(self.device, self.precision)
            self.work.loads += 1
        return self._encoders[backbone.id]

    def release(self) -> None:
        """Let the loaded backbones go."""
        self._encoders.clear()

    def _how(self, backbone: Backbone) -> dict[str, JSON]:
        """The part of every key that a backbone decides."""
        if backbone.id not in self._hows:
            self._hows[backbone.id] = {
                "weights": backbone.weights(),
                "architecture": backbone.architecture(),
                "precision": self.precision,
                "device": self.device.partition(":")[0],
                "kernel": KERNEL,
            }
        return self._hows[backbone.id]

    def feature_key(
        self, backbone: Backbone, task: Question, split: str, ids: Sequence[str], condition: Condition
    ) -> dict[str, JSON]:
        """Everything that changes the features of a block of samples."""
        return {
            **self._how(backbone),
            "preprocessing": backbone.preprocessing(),
            "task": task.name,
            "version": task.version,
            "split": split,
            "samples": samples_digest(ids),
            "condition": str(condition),
            "seed": condition.seed,
        }

    def head_key(self, backbone: Backbone, task: Question) -> dict[str, JSON]:
        """Everything that changes the class embeddings of a task."""
        prompts: dict[str, JSON] = {"classes": list(task.classes), "templates": list(task.templates)}
        return {**self._how(backbone), "prompts": cache.sha256(prompts)}

    def missing(self, task: Question, split: str, ids: Sequence[str], condition: Condition = CLEAN) -> dict[str, int]:
        """How many samples each backbone would still have to encode, by backbone id: the plan, at no cost."""
        return {
            backbone.id: sum(
                len(block)
                for block in _blocks(ids)
                if not self.store.has("features", self.feature_key(backbone, task, split, block, condition))
            )
            for backbone in self.backbones
        }

    def features(
        self,
        task: Question,
        source: Pictures,
        split: str,
        ids: Sequence[str],
        condition: Condition = CLEAN,
        *,
        alter: Alter | None = None,
        progress: Advance | None = None,
    ) -> dict[str, Tensor]:
        """Raw features float32 [s, d] by backbone id, rows in the order of ``ids``.

        ``alter(id, picture)`` makes the condition's picture and must be given where that is not clean. ``progress`` is called
        with the number of encodings (pictures x backbones) just done. Whatever is finished is stored block by block.
        """
        import torch

        if (alter is None) != (condition == CLEAN):
            raise BadOption(f"the condition {condition} {'needs a' if alter is None else 'takes no'} corruption.")
        found: dict[str, list[Tensor]] = {backbone.id: [] for backbone in self.backbones}
        for block in _blocks(ids):
            keys = {backbone.id: self.feature_key(backbone, task, split, block, condition) for backbone in self.backbones}
            stored = {name: self.store.get("features", key) for name, key in keys.items()}
            absent = [backbone for backbone in self.backbones if stored[backbone.id] is None]
            if absent:
                for name, made in self._encoded(task, source, split, block, absent, alter, progress).items():
                    stored[name] = {"features": made}
                    self.store.put("features", keys[name], {"features": made})
            for name, tensors in stored.items():
                assert tensors is not None
                found[name].append(tensors["features"])
        return {name: torch.cat(parts) for name, parts in found.items()}

    def _encoded(
        self,
        task: Question,
        source: Pictures,
        split: str,
        ids: Sequence[str],
        backbones: Sequence[Backbone],
        alter: Alter | None,
        progress: Advance | None,
    ) -> dict[str, Tensor]:
        """Features of one block: every picture decoded once, prepared once for all backbones that prepare alike."""
        import torch

        encoders = {backbone.id: self.encoder(backbone) for backbone in backbones}
        alike: dict[str, list[str]] = {}
        for backbone in backbones:
            alike.setdefault(backbone.preprocessing(), []).append(backbone.id)
        parts: dict[str, list[Tensor]] = {name: [] for name in encoders}
        pictures = zip(ids, _exactly(source.pictures(split, ids), len(ids), f"{task.name} ({split})"), strict=True)
        while some := list(islice(pictures, self.batch)):
            shown = [picture for _, picture in some]
            self.work.decodes += len(shown)
            if alter is not None:
                shown = [alter(name, picture) for name, picture in some]
                self.work.corruptions += len(shown)
            for names in alike.values():
                prepare = encoders[names[0]].preprocess
                batch = torch.stack([prepare(picture) for picture in shown])
                for name in names:
                    parts[name].append(self._images(encoders[name], batch))
                    self.work.encodes += len(shown)
                    if progress is not None:
                        progress(len(shown))
        found = {name: torch.cat(own) for name, own in parts.items()}
        for name, features in found.items():
            if not bool(torch.isfinite(features).all()):
                raise BadWeights(
                    f"{name} gives NaN or infinite features at {self.precision}: use --precision fp32, or other weights."
                )
        return found

    def _images(self, encoder: Encoder, batch: Tensor) -> Tensor:
        """``encoder.images``, in halves where memory does not reach."""
        import torch

        try:
            return encoder.images(batch)
        except (MemoryError, RuntimeError) as error:
            if not _out_of_memory(error):
                raise
            if len(batch) == 1:
                raise Lacking(
                    f"there is not enough memory on {self.device} for one picture: leave large backbones out."
                ) from error
        self.batch = min(self.batch, max(1, len(batch) // 2))
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return torch.cat([self._images(encoder, half) for half in batch.tensor_split(2)])

    def heads(self, task: Question) -> dict[str, Tensor]:
        """Class embeddings times logit scale, float32 [c, d] by backbone id: logits are unit features times these."""
        return {backbone.id: self._head(backbone, task)[0] for backbone in self.backbones}

    def gflops(self, task: Question) -> dict[str, float]:
        """What one image costs in the image tower, 10^9 operations by backbone id; measured where no table knows it."""
        return {b.id: self._head(b, task)[1] if b.gflops is None else b.gflops for b in self.backbones}

    def _head(self, backbone: Backbone, task: Question) -> tuple[Tensor, float]:
        import torch

        key = self.head_key(backbone, task)
        stored = self.store.get("heads", key)
        if stored is None:
            encoder = self.encoder(backbone)
            stored = {
                "classes": encoder.classes(task.classes, task.templates),
                "scale": torch.tensor(encoder.scale, dtype=torch.float64),
                "gflops": torch.tensor(encoder.gflops, dtype=torch.float64),
            }
            self.work.class_builds += 1
            self.store.put("heads", key, stored)
        return stored["classes"] * float(stored["scale"]), float(stored["gflops"])

    def cube(
        self,
        task: Question,
        source: Pictures,
        split: str,
        ids: Sequence[str],
        condition: Condition = CLEAN,
        *,
        labels: Sequence[int] | None = None,
        alter: Alter | None = None,
        progress: Advance | None = None,
    ) -> Cube:
        """The cube of these samples, its logits computed when asked for; blind unless ``labels`` (one per id) are given."""
        import torch

        from ensemble_bench.cube import Cube

        heads, costs = self.heads(task), self.gflops(task)
        features = self.features(task, source, split, ids, condition, alter=alter, progress=progress)
        return Cube(
            backbones=list(features),
            classes=task.classes,
            ids=ids,
            features=list(features.values()),
            heads=[heads[name] for name in features],
            labels=None if labels is None else torch.tensor(labels),
            gflops=torch.tensor([costs[name] for name in features], dtype=torch.float64),
        )


def _blocks(ids: Sequence[str]) -> list[Sequence[str]]:
    return [ids[start : start + BLOCK] for start in range(0, len(ids), BLOCK)]


def _exactly(pictures: Iterator[Any], count: int, where: str) -> Iterator[Any]:
    """The pictures, each checked; raises BadData where there are more or fewer than ``count``."""
    seen = 0
    for picture in pictures:
        seen += 1
        if seen > count:
            raise BadData(f"{where}: more pictures came than the {count} sample ids.")
        if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != "uint8":
            raise BadData(f"{where}: picture {seen} must be uint8 [h, w, 3], not {picture.dtype} {list(picture.shape)}.")
        yield picture
    if seen < count:
        raise BadData(f"{where}: only {seen} pictures came for {count} sample ids.")


def _out_of_memory(error: BaseException) -> bool:
    import torch

    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return any(said in str(error) for said in ("can't allocate memory", "not enough memory", "out of memory"))
