"""What every way of combining backbones promises."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from ensemble_bench.cube import Cube
from ensemble_bench.errors import BadOption, Lacking

FAMILIES = ("static", "calibrated", "adaptive", "control", "oracle")
LABELS = ("none", "support", "query")
GIVES = ("votes", "probabilities", "logits")


class Strategy(ABC):
    """One way of turning what backbones say into one answer. A dataclass: fields are parameters, learnt state ends in ``_``.

    ``family`` is one of FAMILIES; ``labels`` says which labels it may see (none, those of the support, those of the query:
    oracles only); ``needs`` names what a cube must have (NEEDS in ``cube.py``); ``gives`` says what its scores are: ``votes``
    (only their order means something), ``probabilities``, or ``logits`` (softmax gives probabilities). ``convex`` is True
    where a unanimous decision of the backbones is always kept; where it is False, ``convex_reason`` says why.
    """

    name: ClassVar[str] = ""
    family: ClassVar[str]
    labels: ClassVar[str] = "none"
    needs: ClassVar[tuple[str, ...]] = ("probabilities",)
    gives: ClassVar[str] = "probabilities"
    convex: ClassVar[bool] = True
    convex_reason: ClassVar[str] = ""
    transductive: ClassVar[bool] = False

    def fit(self, support: Cube) -> Self:
        """Learn from the labelled support and return self; a strategy without labels learns nothing."""
        return self

    @abstractmethod
    def predict(self, query: Cube) -> Tensor:
        """Scores [s, c], finite, higher is better. ``metrics.decide`` turns them into answers; nobody takes an argmax here."""

    def used(self, query: Cube) -> Tensor:
        """Which backbones each sample really needed, bool [b, s]: all, unless the strategy says less."""
        return torch.ones(len(query.backbones), len(query), dtype=torch.bool)

    def learnt(self) -> dict[str, Any]:
        """State learnt by ``fit``: every attribute whose name ends in one underscore."""
        return {key: value for key, value in vars(self).items() if key.endswith("_") and not key.startswith("_")}

    def fitted(self) -> None:
        """Raise ``Lacking`` unless ``fit`` has been called: the first line of a learner's ``predict``."""
        if not self.learnt():
            raise Lacking(f"{type(self).__name__} has not been fitted: call fit(support) first.")

    def parameters(self) -> dict[str, Any]:
        """Non-default parameters, ``seed`` apart (the runner sets it)."""
        fields = [f for f in dataclasses.fields(self) if f.name != "seed"]  # type: ignore[arg-type]
        return {f.name: getattr(self, f.name) for f in fields if getattr(self, f.name) != f.default}


def parsed(text: str) -> tuple[str, dict[str, str]]:
    """Name and parameters of ``name:key=value:key=value``; ``single:ID`` is short for ``single:backbone=ID``.

    >>> parsed("nlc:form=temperature:epochs=10")
    ('nlc', {'form': 'temperature', 'epochs': '10'})
    """
    name, _, rest = text.partition(":")
    if not rest:
        return name, {}
    if name == "single" and not rest.startswith("backbone="):
        return name, {"backbone": rest}
    parameters: dict[str, str] = {}
    for part in rest.split(":"):
        key, equals, value = part.partition("=")
        if equals:
            parameters[key] = value
        elif parameters:  # a colon inside a value: file:0123/ViT-B-32
            parameters[list(parameters)[-1]] += f":{part}"
        else:
            raise BadOption(f"{text!r}: parameters of a strategy are written name:key=value:key=value.")
    return name, parameters


def built(kind: type[Strategy], given: dict[str, str], name: str) -> Strategy:
    """The strategy with parameters read from text, each as the type of its default."""
    fields = {f.name: f for f in dataclasses.fields(kind) if f.name != "seed"}  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    for key, text in given.items():
        if key not in fields:
            known = ", ".join(fields) or "none"
            raise BadOption(f"the strategy {name!r} has no parameter {key!r}; it has {known}.")
        default = fields[key].default
        try:
            if isinstance(default, bool):
                values[key] = {"true": True, "false": False}[text.lower()]
            elif isinstance(default, (int, float)):
                values[key] = type(default)(text)
            else:
                values[key] = text
        except (KeyError, ValueError):
            wanted = type(default).__name__
            raise BadOption(f"the parameter {key!r} of {name!r} must be of type {wanted}, not {text!r}.") from None
    return kind(**values)


def written(name: str, strategy: Strategy) -> str:
    """The canonical text of a strategy: its name, then its non-default parameters; ``single:ID`` for a single backbone."""
    parameters = strategy.parameters()
    if name == "single" and set(parameters) == {"backbone"}:
        return f"single:{parameters['backbone']}"
    return ":".join([name, *(f"{key}={value}" for key, value in parameters.items())])
