"""From images and prompts to features and class embeddings, through the store. Only here do images and arrays meet."""

from __future__ import annotations

import hashlib
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import astuple, dataclass, field
from itertools import islice
from threading import Lock
from typing import TYPE_CHECKING, Any, Protocol

from ensemble_bench import cache, prompts, threads
from ensemble_bench.backbones.base import Backbone, Encoder
from ensemble_bench.cache import JSON
from ensemble_bench.condition import CLEAN, Condition
from ensemble_bench.errors import BadData, BadOption, BadWeights, BenchError, Lacking
from ensemble_bench.profile import Profile
from ensemble_bench.store import Store

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from ensemble_bench.cube import Cube

KERNEL = 3  # goes up whenever the same picture, prompt and weights would give another number
BLOCK = 4096  # samples per stored file: what an interruption can lose at most
BATCH = 64
AHEAD = 1  # batches that are being corrupted while another one is encoded

Alter = Callable[[str, "NDArray[np.uint8]"], "NDArray[np.uint8]"]
Said = Mapping[str, JSON]
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


@dataclass(frozen=True)
class View:
    """How samples are shown: a condition, and what makes its pictures.

    ``alter(id, picture)`` must be given where the condition is not clean, unless the pictures are a ``source`` of their own
    (corrupted earlier). ``said`` is what else changes the pictures (the suite's card, files on disk); it is part of every key.
    """

    condition: Condition = CLEAN
    alter: Alter | None = None
    said: Said = field(default_factory=dict)
    source: Pictures | None = None

    def __post_init__(self) -> None:
        if self.condition == CLEAN and self.alter is not None:
            raise BadOption("the condition clean takes no corruption.")
        if self.condition != CLEAN and (self.alter is None) == (self.source is None):
            raise BadOption(f"the condition {self.condition} needs a corruption, or pictures of its own.")


@dataclass
class Work:
    """How much was really done, as counters that no noise can blur.

    Models opened; class embeddings made (one a backbone and prompts); pictures decoded; pictures altered (pictures x corrupted
    conditions); pictures encoded (pictures x backbones x conditions). Support images count like all others.
    """

    loads: int = 0
    class_builds: int = 0
    decodes: int = 0
    corruptions: int = 0
    encodes: int = 0

    def __add__(self, other: Work) -> Work:
        return Work(*(one + another for one, another in zip(astuple(self), astuple(other), strict=True)))

    def __sub__(self, other: Work) -> Work:
        return Work(*(one - another for one, another in zip(astuple(self), astuple(other), strict=True)))


def samples_digest(ids: Sequence[str]) -> str:
    """Sha256 of sample ids in their order."""
    return hashlib.sha256("\0".join(ids).encode()).hexdigest()


@dataclass
class Embedder:
    """What turns pictures and prompts into numbers with a pool of backbones, looking into the store first.

    Each backbone is loaded at most once, and only if something of it is missing; ``release`` lets them go. ``batch`` is halved
    when memory runs out; ``workers`` threads corrupt pictures (0: one a core). ``work`` counts what was done, ``profile`` is
    told when; ``spent`` says by backbone id how many images were prepared and encoded, and how many seconds of one core that
    took.
    """

    backbones: Sequence[Backbone]
    store: Store = field(default_factory=Store)
    device: str = "cpu"
    precision: str = "fp32"
    batch: int = BATCH
    workers: int = 0
    work: Work = field(default_factory=Work)
    profile: Profile = field(default_factory=Profile)
    spent: dict[str, tuple[int, float]] = field(default_factory=dict)
    _encoders: dict[str, Encoder] = field(default_factory=dict, repr=False)
    _hows: dict[str, dict[str, JSON]] = field(default_factory=dict, repr=False)
    _loading: Lock = field(default_factory=Lock, repr=False)
    _counting: Lock = field(default_factory=Lock, repr=False)

    def distinct(self) -> None:
        """Raise BadOption where two names of the pool are the same weights used in the same way: a twin would count twice."""
        seen: dict[str, str] = {}
        for backbone in self.backbones:
            first = seen.setdefault(cache.canonical(self._how(backbone)), backbone.id)
            if first != backbone.id:
                raise BadOption(f"{first} and {backbone.id} are the same backbone under two names: leave one of them out.")

    def encoder(self, backbone: Backbone) -> Encoder:
        """The loaded backbone."""
        with self._loading:
            if backbone.id not in self._encoders:
                with self.profile.step("loading"):
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
        self,
        backbone: Backbone,
        task: Question,
        split: str,
        ids: Sequence[str],
        condition: Condition,
        said: Said | None = None,
    ) -> dict[str, JSON]:
        """Everything that changes the features of a block of samples; ``said`` is what else changes its pictures."""
        return {
            **self._how(backbone),
            "preprocessing": backbone.preprocessing(),
            "task": task.name,
            "version": task.version,
            "split": split,
            "samples": samples_digest(ids),
            "condition": str(condition),
            "seed": condition.seed,
            **({"pictures": dict(said)} if said else {}),
        }

    def head_key(self, backbone: Backbone, said: str) -> dict[str, JSON]:
        """Everything that changes class embeddings; ``said`` is the digest of the prompts."""
        return {**self._how(backbone), "prompts": said}

    def missing(
        self, task: Question, split: str, ids: Sequence[str], condition: Condition = CLEAN, said: Said | None = None
    ) -> dict[str, int]:
        """How many samples each backbone would still have to encode, by backbone id: the plan, at no cost."""
        return {
            backbone.id: sum(
                len(block)
                for block in _blocks(ids)
                if not self.store.has("features", self.feature_key(backbone, task, split, block, condition, said))
            )
            for backbone in self.backbones
        }

    def prepare(
        self,
        task: Question,
        source: Pictures,
        split: str,
        ids: Sequence[str],
        views: Sequence[View],
        progress: Advance | None = None,
    ) -> dict[Condition, BenchError]:
        """Encode and store whatever is missing of these samples in all these views; why some conditions cannot be had.

        Every picture is decoded once for all views and backbones, and corrupted once in each view for all backbones.
        ``progress`` is called with the number of encodings (pictures x backbones) just done. Blocks are stored when they are
        finished.
        """
        failed: dict[Condition, BenchError] = {}
        for block in _blocks(ids):
            keys = {
                (view.condition, backbone.id): self.feature_key(backbone, task, split, block, view.condition, view.said)
                for view in views
                for backbone in self.backbones
            }
            wanted: dict[int, list[tuple[View, list[Backbone]]]] = {}  # by where the pictures are decoded from
            for view in views:
                absent = [b for b in self.backbones if not self.store.has("features", keys[view.condition, b.id])]
                if absent and view.condition not in failed:
                    wanted.setdefault(id(view.source), []).append((view, absent))
            for some in wanted.values():
                pictures = some[0][0].source or source
                for place, made in self._encoded(task, pictures, split, block, some, failed, progress).items():
                    with self.profile.step("store"):
                        self.store.put("features", keys[place], {"features": made})
        return failed

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
        return self.view(task, source, split, ids, View(condition, alter), progress=progress)

    def view(
        self,
        task: Question,
        source: Pictures,
        split: str,
        ids: Sequence[str],
        view: View,
        *,
        progress: Advance | None = None,
    ) -> dict[str, Tensor]:
        """Raw features float32 [s, d] by backbone id of these samples in one view, from the store where they are there."""
        import torch

        for error in self.prepare(task, source, split, ids, [view], progress).values():
            raise error
        found: dict[str, list[Tensor]] = {backbone.id: [] for backbone in self.backbones}
        for block in _blocks(ids):
            for backbone in self.backbones:
                key = self.feature_key(backbone, task, split, block, view.condition, view.said)
                with self.profile.step("store"):
                    stored = self.store.get("features", key)
                assert stored is not None
                found[backbone.id].append(stored["features"])
        return {name: torch.cat(parts) for name, parts in found.items()}

    def _encoded(
        self,
        task: Question,
        source: Pictures,
        split: str,
        ids: Sequence[str],
        wanted: Sequence[tuple[View, Sequence[Backbone]]],
        failed: dict[Condition, BenchError],
        progress: Advance | None,
    ) -> dict[tuple[Condition, str], Tensor]:
        """Features of one block by (condition, backbone id): decoded once, prepared once for backbones that prepare alike.

        A condition whose corruption fails goes to ``failed`` with its reason; the others go on.
        """
        import torch

        for backbone in {b.id: b for _, backbones in wanted for b in backbones}.values():
            self.encoder(backbone)
        parts: dict[tuple[Condition, str], list[Tensor]] = {
            (view.condition, backbone.id): [] for view, backbones in wanted for backbone in backbones
        }
        workers = cores() if self.device == "cpu" else 1
        waiting: deque[tuple[View, int, Future[dict[str, Tensor]]]] = deque()

        def collect() -> None:
            view, shown, future = waiting.popleft()
            with self.profile.step("waiting"):
                done = future.result()
            for name, features in done.items():
                parts[view.condition, name].append(features)
                self.work.encodes += shown
                if progress is not None:
                    progress(shown)

        with threads.pool(workers, "encode") as pool:
            for view, backbones, batch in self._shown(task, source, split, ids, wanted, failed):
                waiting.append((view, len(batch), pool.submit(self._features_of, backbones, batch)))
                if len(waiting) > 2 * workers:
                    collect()
            while waiting:
                collect()
        found = {place: torch.cat(own) for place, own in parts.items() if place[0] not in failed}
        for (_, name), features in found.items():
            if not bool(torch.isfinite(features).all()):
                raise BadWeights(
                    f"{name} gives NaN or infinite features at {self.precision}: use --precision fp32, or other weights."
                )
        return found

    def _features_of(self, backbones: Sequence[Backbone], batch: Sequence[NDArray[np.uint8]]) -> dict[str, Tensor]:
        """Features of one batch of pictures by backbone id, prepared once for backbones that prepare alike."""
        import torch

        alike: dict[str, list[Backbone]] = {}
        for backbone in backbones:
            alike.setdefault(backbone.preprocessing(), []).append(backbone)
        found = {}
        for same in alike.values():
            encoders = [self.encoder(backbone) for backbone in same]
            first = encoders[0]
            prepare = first.packed if len({type(encoder) for encoder in encoders}) == 1 else first.preprocess
            start = self._clock()
            with self.profile.step("preprocess"):
                prepared = torch.stack([prepare(picture) for picture in batch])
            preparing = (self._clock() - start) / len(same)
            for backbone in same:
                start = self._clock()
                with self.profile.step("encode"):
                    found[backbone.id] = self._images(self.encoder(backbone), prepared)
                seconds = self._clock() - start + preparing
                with self._loading:
                    images, before = self.spent.get(backbone.id, (0, 0.0))
                    self.spent[backbone.id] = images + len(batch), before + seconds
        return found

    def _clock(self) -> float:
        """Seconds of this thread's core, which others do not change; those that pass where the work is done elsewhere."""
        return time.thread_time() if self.device == "cpu" else time.perf_counter()

    def _shown(
        self,
        task: Question,
        source: Pictures,
        split: str,
        ids: Sequence[str],
        wanted: Sequence[tuple[View, Sequence[Backbone]]],
        failed: dict[Condition, BenchError],
    ) -> Iterator[tuple[View, Sequence[Backbone], list[NDArray[np.uint8]]]]:
        """Batch after batch of every view, the next one being corrupted by other threads while the caller encodes."""
        pictures = zip(ids, _exactly(source.pictures(split, ids), len(ids), f"{task.name} ({split})"), strict=True)
        with ExitStack() as stack:
            altering = any(view.alter is not None for view, _ in wanted)
            pool = stack.enter_context(ThreadPoolExecutor(self.workers or cores())) if altering else None
            waiting: deque[tuple[View, Sequence[Backbone], list[Future[NDArray[np.uint8]]]]] = deque()
            try:
                while some := self._decoded(pictures):
                    for view, backbones in wanted:
                        if view.condition in failed:
                            continue
                        if view.alter is None:
                            yield view, backbones, [picture for _, picture in some]
                            continue
                        assert pool is not None
                        waiting.append((view, backbones, [pool.submit(self._corrupted, view.alter, *pair) for pair in some]))
                        if len(waiting) > AHEAD:
                            yield from self._altered(*waiting.popleft(), failed)
                while waiting:
                    yield from self._altered(*waiting.popleft(), failed)
            finally:
                for _, _, futures in waiting:
                    for future in futures:
                        future.cancel()

    def _decoded(self, pictures: Iterator[tuple[str, NDArray[np.uint8]]]) -> list[tuple[str, NDArray[np.uint8]]]:
        """The next batch of pictures with their ids."""
        with self.profile.step("decode"):
            some = list(islice(pictures, self.batch))
        self.work.decodes += len(some)
        return some

    def _corrupted(self, alter: Alter, name: str, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """One picture altered; counted here, where several threads do it."""
        with self.profile.step("corrupt"):
            altered = alter(name, picture)
        with self._counting:
            self.work.corruptions += 1
        return altered

    def _altered(
        self,
        view: View,
        backbones: Sequence[Backbone],
        futures: Sequence[Future[NDArray[np.uint8]]],
        failed: dict[Condition, BenchError],
    ) -> Iterator[tuple[View, Sequence[Backbone], list[NDArray[np.uint8]]]]:
        if view.condition in failed:
            return
        try:
            with self.profile.step("waiting"):
                shown = [future.result() for future in futures]
        except BenchError as error:
            failed[view.condition] = error
            return
        yield view, backbones, shown

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

    def heads_of(self, each: Sequence[Sequence[str]]) -> dict[str, Tensor]:
        """``heads`` from the prompts of each class, where they come from no task of ours."""
        said = prompts.digest(each)
        return {b.id: self._stored(b, said, lambda encoder: encoder.ensembled(each))[0] for b in self.backbones}

    def _head(self, backbone: Backbone, task: Question) -> tuple[Tensor, float]:
        said = prompts.digest_of(tuple(task.classes), tuple(task.templates))
        return self._stored(backbone, said, lambda encoder: encoder.classes(task.classes, task.templates))

    def _stored(self, backbone: Backbone, said: str, made: Callable[[Encoder], Tensor]) -> tuple[Tensor, float]:
        """Class embeddings times logit scale, and the GFLOPs of one image; from the store, or made and put there."""
        import torch

        key = self.head_key(backbone, said)
        with self.profile.step("store"):
            stored = self.store.get("heads", key)
        if stored is None:
            encoder = self.encoder(backbone)
            with self.profile.step("text"):
                classes = made(encoder)
            stored = {
                "classes": classes,
                "scale": torch.tensor(encoder.scale, dtype=torch.float64),
                "gflops": torch.tensor(encoder.gflops, dtype=torch.float64),
            }
            self.work.class_builds += 1
            with self.profile.step("store"):
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
        view: View | None = None,
        progress: Advance | None = None,
    ) -> Cube:
        """The cube of these samples, its logits computed when asked for; blind unless ``labels`` (one per id) are given.

        ``view`` says all at once what ``condition`` and ``alter`` say.
        """
        import torch

        from ensemble_bench.cube import Cube

        heads, costs = self.heads(task), self.gflops(task)
        features = self.view(task, source, split, ids, view or View(condition, alter), progress=progress)
        return Cube(
            backbones=list(features),
            classes=distinct(task.classes),
            ids=ids,
            features=list(features.values()),
            heads=[heads[name] for name in features],
            labels=None if labels is None else torch.tensor(labels),
            gflops=torch.tensor([costs[name] for name in features], dtype=torch.float64),
        )


def distinct(classes: Sequence[str]) -> list[str]:
    """Class names that differ: one that comes again gets its place, as two of ImageNet's do in CLIP_benchmark's list.

    >>> distinct(["crane", "ant", "crane"])
    ['crane', 'ant', 'crane #2']
    """
    seen: set[str] = set()
    found = []
    for place, name in enumerate(classes):
        found.append(f"{name} #{place}" if name in seen else name)
        seen.add(name)
    return found


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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
