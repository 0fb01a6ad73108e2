"""An ensemble as one CLIP-like module, where its scores are a weighted sum of logits: unit features side by side."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from ensemble_bench.cube import Cube
from ensemble_bench.errors import BadOption
from ensemble_bench.host.models import Asked, asked
from ensemble_bench.host.shown import Groups, Prepared, grouped
from ensemble_bench.strategies.base import Strategy
from ensemble_bench.strategies.best_single import BestSingle
from ensemble_bench.strategies.calibrated import CalibratedLogAvg
from ensemble_bench.strategies.genetic import Genetic
from ensemble_bench.strategies.log_avg import LogAvg
from ensemble_bench.strategies.nlc import NeuralLogitController
from ensemble_bench.strategies.single import Single
from ensemble_bench.strategies.super_learner import SuperLearner

TYPE = "ensemble_bench_module"

Weights = dict[str, float]  # by backbone id


def _even(strategy: LogAvg, pool: Sequence[str]) -> Weights:
    return dict.fromkeys(pool, 1 / len(pool))


def _named(strategy: CalibratedLogAvg | Genetic | SuperLearner, values: Tensor) -> Weights:
    return dict(zip(strategy.backbones_, values.tolist(), strict=True))


# What each strategy multiplies the logits of each backbone with; a softmax of each backbone's own changes no ranking.
_WEIGHTS: dict[type[Strategy], Callable[[Any, Sequence[str]], Weights]] = {
    LogAvg: _even,
    Single: lambda strategy, pool: {strategy.backbone or pool[0]: 1.0},
    BestSingle: lambda strategy, pool: {strategy.backbone_: 1.0},
    CalibratedLogAvg: lambda strategy, pool: _named(strategy, 1 / strategy.temperature_ / len(pool)),
    Genetic: lambda strategy, pool: _named(strategy, strategy.weight_),
    SuperLearner: lambda strategy, pool: _named(strategy, strategy.weight_),
    NeuralLogitController: _even,  # where it starts from; the weights of an image come from its features
}


class Joined(nn.Module):
    """One CLIP-like model made of several: ``encode_image`` [n, D], ``encode_text`` [n, D], ``logit_scale``, D the sum of d_b.

    A picture is [w_b s_b v_b / |v_b|] over the backbones b, a text [t_b / |t_b|], with w_b the strategy's weight and s_b the
    backbone's logit scale: their product is sum_b w_b Z_b, so a softmax over texts is that of the ensemble. ``logit_scale`` is
    the logarithm of what the product of the normalised two must be multiplied with. Exact for any set of single texts. Where
    texts are averaged over templates first, the average of the whole is not the average of each part, normalised: see
    docs/clip-benchmark.md. ``preprocess`` takes a PIL image, ``tokenizer`` a list of texts.
    """

    def __init__(self, what: Asked, device: str = "cpu") -> None:
        super().__init__()
        weights = _weights(what)
        pool = [backbone for backbone in what.pool if weights.get(backbone.id)]
        self.strategy = what.strategy if isinstance(what.strategy, NeuralLogitController) else None
        encoders = [(backbone, backbone.load(device)) for backbone in pool]
        for backbone, encoder in encoders:
            if not isinstance(getattr(encoder, "model", None), nn.Module):
                raise BadOption(f"{backbone.id} is no model of open_clip's and cannot be part of a module: leave it out.")
        self.ids = [backbone.id for backbone in pool]
        self.towers = nn.ModuleList([encoder.model for _, encoder in encoders])  # type: ignore[attr-defined]
        self.groups: Groups = grouped(encoders)
        self.preprocess = Prepared(self.groups.preparations)
        self.scales = [weights[backbone.id] * encoder.scale for backbone, encoder in encoders]
        length = math.sqrt(sum(scale**2 for scale in self.scales)) * math.sqrt(len(pool))
        self.logit_scale = nn.Parameter(torch.tensor(math.log(length)), requires_grad=False)
        self.logit_bias = None
        self.tokenizer, self._lengths = _tokenizer([encoder.tokenizer for _, encoder in encoders])  # type: ignore[attr-defined]
        self.eval()

    def _each(self) -> list[Any]:
        """The models, in the order of ``ids``."""
        return list(self.towers)

    def _weigh(self, units: list[Tensor]) -> list[Tensor]:
        """The blocks of pictures, weighed: by constants, or by what the features of the picture say."""
        if self.strategy is None:
            return [unit * scale for unit, scale in zip(units, self.scales, strict=True)]
        count = len(units[0])
        own = Cube(
            backbones=self.ids,
            classes=["any"],
            ids=[str(n) for n in range(count)],
            features=[unit.float().cpu() for unit in units],
            heads=[torch.zeros(1, unit.shape[1]) for unit in units],
        )
        weights = dict(zip(self.strategy.backbones_, self.strategy.weights(own), strict=True))
        return [
            unit * (scale * len(units)) * weights[name].to(unit).unsqueeze(1)
            for name, unit, scale in zip(self.ids, units, self.scales, strict=True)
        ]

    def encode_image(self, image: Tensor, normalize: bool = False) -> Tensor:
        """Features of prepared pictures, [n, D]; of length 1 with ``normalize``."""
        parts = {
            name: part
            for part, members in zip(self.groups.parts(image), self.groups.members, strict=True)
            for name, _ in members
        }
        units = [_unit(tower.encode_image(parts[name])) for name, tower in zip(self.ids, self._each(), strict=True)]
        joined = torch.cat(self._weigh(units), dim=1)
        return _unit(joined) if normalize else joined

    def encode_text(self, text: Tensor, normalize: bool = False) -> Tensor:
        """Features of tokens, [n, D]; of length 1 with ``normalize``."""
        tokens = [text] * len(self.ids) if self._lengths is None else list(text.split(self._lengths, dim=1))
        joined = torch.cat([_unit(tower.encode_text(own)) for tower, own in zip(self._each(), tokens, strict=True)], dim=1)
        return _unit(joined) if normalize else joined

    def forward(self, image: Tensor | None = None, text: Tensor | None = None) -> tuple[Tensor | None, Tensor | None, Tensor]:
        """Features of both, of length 1, and the scale, as open_clip's models give them."""
        return (
            None if image is None else self.encode_image(image, normalize=True),
            None if text is None else self.encode_text(text, normalize=True),
            self.logit_scale.exp(),
        )


def _unit(features: Tensor) -> Tensor:
    return normalize(features, dim=-1)


def _weights(what: Asked) -> Weights:
    """The factor of each backbone's logits. Raises BadOption where a strategy is no weighted sum of them."""
    kind = type(what.strategy)
    linear = kind in _WEIGHTS and not (isinstance(what.strategy, SuperLearner) and what.strategy.form != "linear")
    if not linear:
        raise BadOption(
            f"{kind.__name__} is no weighted sum of logits, so it is no one module; log-avg, calibrated-log-avg, genetic, nlc, "
            "super-learner:form=linear, best-single and single:ID are."
        )
    return _WEIGHTS[kind](what.strategy, [backbone.id for backbone in what.pool])


def _tokenizer(each: Sequence[Callable[[list[str]], Tensor]]) -> tuple[Callable[[list[str]], Tensor], list[int] | None]:
    """One tokenizer for all: the common one, or all their tokens side by side and how many there are of each."""
    probe = ["a photo of a cat.", "Zürich, 1987: two dogs & 3 birds"]
    tokens = [tokenizer(probe) for tokenizer in each]
    if all(own.shape == tokens[0].shape and bool((own == tokens[0]).all()) for own in tokens):
        return each[0], None
    return lambda texts: torch.cat([tokenizer(texts) for tokenizer in each], dim=1), [own.shape[1] for own in tokens]


def of(strategy: str, pool: str, *, device: str = "cpu", fits: str | None = None) -> Joined:
    """The module of ``--model STRATEGY --pretrained POOL[@FIT]``; raises BadOption where there is none."""
    return Joined(asked(strategy, pool, fits), device)


def load(model_name: str, pretrained: str, cache_dir: str | None = None, device: Any = "cpu") -> tuple[Any, Any, Any]:
    """Model, transform and tokenizer, as the host wants them."""
    made = of(model_name, pretrained, device=str(device), fits=cache_dir)
    return made, made.preprocess, made.tokenizer
