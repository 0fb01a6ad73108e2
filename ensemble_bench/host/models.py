"""Ensembles as CLIP_benchmark's models: ``--model_type ensemble_bench --model STRATEGY --pretrained POOL[@FIT]``."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ensemble_bench import backbones, fits, metrics, prompts
from ensemble_bench.backbones.base import Backbone
from ensemble_bench.cube import Cube
from ensemble_bench.embed import Embedder
from ensemble_bench.errors import BadOption, BadWeights, Lacking, UnknownName
from ensemble_bench.host.running import RUNNING
from ensemble_bench.host.shown import Prepared, grouped
from ensemble_bench.registry import near
from ensemble_bench.strategies.base import Strategy, written
from ensemble_bench.strategies.build import named, refitted
from ensemble_bench.strategies.single import Single
from ensemble_bench.strategies.spelling import parsed

TYPE = "ensemble_bench"
ONLY = (
    "--task {task}: --model_type ensemble_bench answers zeroshot_classification only, because it gives decisions; as an "
    "embedding an ensemble is --model_type ensemble_bench_module, where it is exact."
)
ROOM = 800.0  # more than the logarithm of any number, so that what is divided by it lies between -1 and 1
SMALL = 2.0**-60  # what is nearer to zero counts as zero
ID = re.compile("[0-9a-f]{12}")
_LISTED = 5


@dataclass(frozen=True)
class Asked:
    """What a model's name stands for: a strategy, fitted where it learns, over a pool; the digest of the prompts of its fit."""

    strategy: Strategy
    pool: tuple[Backbone, ...]
    prompts: str = ""
    task: str = ""


def asked(model: str, pretrained: str, folder: str | None = None) -> Asked:
    """What ``--model STRATEGY --pretrained POOL[@FIT]`` means; fits are looked for in ``folder`` first, then on the shelf.

    Raises UnknownName, BadOption (what cannot be a model, a fit too many or too few), BadWeights (a fit of something else).
    """
    strategy = named(model)
    text = written(parsed(model)[0], strategy)
    if strategy.labels == "query":
        raise BadOption(f"{text} is an oracle: it needs the labels of the images it answers for, and no model gets these.")
    if strategy.transductive:
        raise BadOption(f"{text} wants all images at once, and a model of CLIP_benchmark is given one batch at a time.")
    learns = strategy.labels == "support"
    name, at, fit = pretrained.rpartition("@")
    if not at or not (learns or ID.fullmatch(fit)):  # the path of a checkpoint may hold an @ too
        name, fit = pretrained, ""
    pool = sorted(backbones.find([name]), key=lambda backbone: backbone.id)
    if not learns:
        if fit:
            raise BadOption(f"{text} learns nothing: write --pretrained {name}, without @{fit}.")
        return Asked(strategy, tuple(_needed(strategy, pool, name)))
    if not fit:
        raise BadOption(f"{text} learns from labelled examples: write --pretrained {name}@FIT.{_fits(text, pool, folder)}")
    return _fitted(text, fit, pool, folder)


def _needed(strategy: Strategy, pool: Sequence[Backbone], name: str) -> Sequence[Backbone]:
    """The backbones that have to run."""
    if not isinstance(strategy, Single) or not strategy.backbone:
        if isinstance(strategy, Single) and len(pool) > 1:
            raise BadOption(f"say which backbone is meant: --model single:ID, with ID one of {', '.join(b.id for b in pool)}.")
        return pool
    own = [backbone for backbone in pool if backbone.id == strategy.backbone]
    if not own:
        known = [backbone.id for backbone in pool]
        raise UnknownName(f"{name} has no backbone {strategy.backbone!r}.{near(strategy.backbone, known)}")
    return own


def _places(folder: str | None) -> list[Path]:
    """Where fits are looked for: a folder of the user's (results, or their fits), then the shelf."""
    own = [Path(folder), Path(folder) / fits.FOLDER] if folder else []
    return [*own, fits.shelf()]


def _fits(text: str, pool: Sequence[Backbone], folder: str | None) -> str:
    """The end of a sentence: which fits of a strategy over a pool there are."""
    ids = {backbone.id for backbone in pool}
    found = {
        name: f"{name} ({facts.get('task')}, {facts.get('shots')} shots, draw {facts.get('draw')})"
        for place in _places(folder)
        for name, facts in fits.of(place).items()
        if facts.get("strategy") == text and set(facts.get("pool") or ()) == ids
    }
    if not found:
        return " There is none yet; 'ensemble-bench run --save-fits' makes them."
    more = f" and {len(found) - _LISTED} more" if len(found) > _LISTED else ""
    return f" There are {', '.join(list(found.values())[:_LISTED])}{more}."


def _fitted(text: str, fit: str, pool: Sequence[Backbone], folder: str | None) -> Asked:
    places = _places(folder)
    place = next((place for place in places if (place / f"{fit}.json").is_file()), None)
    if place is None:
        where = " and ".join(map(str, places))
        raise BadWeights(f"there is no fit {fit!r} in {where}.{_fits(text, pool, folder)}")
    facts, learnt = fits.load(place, fit)
    if "prompts" not in facts or not isinstance(facts.get("pool"), dict):
        raise BadWeights(
            f"the fit {fit} does not say for which prompts and pool it was made: save it again by 'run --save-fits'."
        )
    strategy = refitted(facts["strategy"], learnt)
    own = written(parsed(facts["strategy"])[0], strategy)
    if own != text:
        raise BadWeights(f"the fit {fit} is one of {own}, not of {text}.{_fits(text, pool, folder)}")
    if set(facts["pool"]) != {backbone.id for backbone in pool}:
        raise BadWeights(f"the fit {fit} was made with {', '.join(facts['pool'])}: give that pool.")
    for backbone in pool:
        if facts["pool"][backbone.id] != [backbone.weights(), backbone.architecture(), backbone.preprocessing()]:
            raise BadWeights(f"the fit {fit} was made with other weights of {backbone.id}: make it again by 'run --save-fits'.")
    return Asked(strategy, tuple(pool), facts["prompts"], facts["task"])


class Ensemble:
    """A strategy over a pool that looks like a CLIP model to the host, which normalises, multiplies by 100, takes the best.

    The text of class i is the unit vector i, and its prompts are kept; a picture is a vector whose product with these is what
    ``seen`` makes of the strategy's scores, with one more coordinate that makes all lengths 1. What the host then calls logits
    ranks the classes as ``metrics.decide`` does, without ties; their size means nothing.
    """

    def __init__(self, what: Asked, embedder: Embedder) -> None:
        self.what, self.embedder = what, embedder
        self.device = embedder.device
        loaded = [(backbone, embedder.encoder(backbone)) for backbone in what.pool]
        self.groups = grouped(loaded)
        self._gflops = {b.id: encoder.gflops if b.gflops is None else b.gflops for b, encoder in loaded}
        self.prompts: list[list[str]] = []
        self.names: list[str] = []
        self._heads: dict[str, Tensor] | None = None
        self._seen = count()

    def eval(self) -> Ensemble:
        """Itself: it is never anything else than in evaluation mode."""
        return self

    def expect(self, names: Sequence[str]) -> None:
        """Begin anew: so many classes will come."""
        self.prompts, self._heads = [], None
        self.names = [f"{place} {name}" for place, name in enumerate(names)]  # those of ImageNet come twice

    def tokenizer(self, texts: Sequence[str]) -> Tensor:
        """The place of the class whose prompts these are, once a prompt, int64 [n, 1]; the prompts are kept."""
        self.prompts.append([texts] if isinstance(texts, str) else list(texts))
        return torch.full((len(self.prompts[-1]), 1), len(self.prompts) - 1)

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Unit vectors, float64 [n, c + 1]: in float64 because mixed precision leaves that alone."""
        if not self.names:
            raise Lacking(ONLY.format(task="of this kind"))
        if len(self.prompts) > len(self.names):
            raise Lacking(f"{len(self.names)} classes were announced, and prompts came for {len(self.prompts)}.")
        return torch.nn.functional.one_hot(tokens[:, 0], len(self.names) + 1).double()

    def ready(self) -> None:
        """Read the prompts with every text tower, before any picture is. Raises BadWeights where a fit is not for these."""
        if self.what.prompts and self.what.prompts != prompts.digest(self.prompts):
            args = RUNNING.get()
            raise BadWeights(
                f"{args.dataset if args else 'these data'}: the fit was made for the prompts of {self.what.task}, and these "
                "are others (class names, their order, or templates): give a fit of this task."
            )
        with _exact(self.device):
            self._heads = self.embedder.heads_of(self.prompts)

    @torch.no_grad()
    def encode_image(self, batch: Tensor) -> Tensor:
        """What the strategy says of prepared pictures, float64 [n, c + 1], each row of length 1."""
        if self._heads is None or len(self.prompts) != len(self.names):
            raise Lacking(ONLY.format(task="of this kind"))
        features = self.groups.features(batch)
        with _exact(self.device):
            ids = list(features)
            query = Cube(
                backbones=ids,
                classes=self.names,
                ids=[str(next(self._seen)) for _ in range(len(batch))],
                features=[features[name] for name in ids],
                heads=[self._heads[name] for name in ids],
                gflops=torch.tensor([self._gflops[name] for name in ids], dtype=torch.float64),
            )
            return seen(self.what.strategy.predict(query), query).to(batch.device)


@contextmanager
def _exact(device: str) -> Iterator[None]:
    """No mixed precision, wherever the host has switched it on."""
    with ExitStack() as stack:
        for kind in {"cpu", device.partition(":")[0]}:
            stack.enter_context(torch.autocast(kind, enabled=False))
        yield


def seen(scores: Tensor, query: Cube) -> Tensor:
    """Rows of length 1, float64 [s, c + 1], whose first c entries times 100 are different float32 numbers, ranked as ours.

    An entry is a function of its score alone that grows with it, the same for all samples; where scores are tied, or too near
    to one another for float32, the worse class (``metrics.order``) gets the next smaller number.
    """
    scores = metrics.checked(scores, query)
    best = metrics.order(scores, query)
    size = 100 / math.sqrt(scores.shape[1])
    value = (scores.sign() * scores.abs().log1p() * (size / ROOM)).gather(1, best).float()
    steps = torch.arange(value.shape[1])
    apart = (_steps(value) + steps).cummin(-1).values - steps
    first = torch.empty_like(scores, dtype=torch.float64).scatter_(1, best, _values(apart).double() / 100)
    slack = (1 - first.square().sum(-1, keepdim=True)).clamp_min(0).sqrt()
    return torch.cat([first, slack], dim=1)


_SMALLEST = int(torch.tensor(SMALL).view(torch.int32))


def _steps(value: Tensor) -> Tensor:
    """Float32 numbers as whole ones in the same order, neighbours one apart; those nearer to zero than SMALL are 0."""
    bits = value.abs().view(torch.int32).long() - _SMALLEST + 1
    return bits.clamp_min(0) * value.sign().long()


def _values(steps: Tensor) -> Tensor:
    """The float32 numbers of such whole ones."""
    size = (steps.abs() + _SMALLEST - 1).int().view(torch.float32)
    return torch.where(steps == 0, torch.zeros_like(size), size * steps.sign())


def announced(original: Callable[..., Any]) -> Callable[..., Any]:
    """``zero_shot_classifier`` that tells an ensemble how many classes there are, and when all have been named."""

    @functools.wraps(original)
    def zero_shot_classifier(model: Any, tokenizer: Any, classnames: Any, templates: Any, device: Any, amp: bool = True) -> Any:
        if isinstance(model, Ensemble):
            model.expect(classnames)
        made = original(model, tokenizer, classnames, templates, device, amp=amp)
        if isinstance(model, Ensemble):
            model.ready()
        return made

    return zero_shot_classifier


_loaded: dict[tuple[str, ...], Embedder] = {}


def _embedder(pool: Sequence[Backbone], device: str) -> Embedder:
    """The loaded pool, kept until another is asked for: the host asks for its model anew for every dataset."""
    key = (device, *(backbone.id for backbone in pool))
    if key not in _loaded:
        _loaded.clear()
        embedder = Embedder(pool, device=device)
        embedder.distinct()
        _loaded[key] = embedder
    return _loaded[key]


def load(model_name: str, pretrained: str, cache_dir: str | None = None, device: Any = "cpu") -> tuple[Any, Any, Any]:
    """Model, transform and tokenizer, as the host wants them; ``cache_dir`` may hold fits."""
    what = asked(model_name, pretrained, cache_dir)
    model = Ensemble(what, _embedder(what.pool, str(device)))
    return model, Prepared(model.groups.preparations), model.tokenizer
