"""What every way of combining backbones promises."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import Tensor

from ensemble_bench.cube import Cube
from ensemble_bench.errors import BadOption, Lacking
from ensemble_bench.strategies.spelling import parsed as parsed

FAMILIES = ("static", "calibrated", "adaptive", "control", "oracle")
LABELS = ("none", "support", "query")
GIVES = ("votes", "probabilities", "logits")
USUAL_LABELS = {"static": "none", "calibrated": "support", "adaptive": "support", "control": "support", "oracle": "query"}
TINY = float(torch.finfo(torch.float32).tiny)


class NotFitted(Lacking, AttributeError):
    """A learner was asked before ``fit``; an AttributeError too, so that ``hasattr(strategy, "weight_")`` still answers."""


@dataclass(eq=False)
class Strategy(ABC):
    """One way of turning what backbones say into one answer. A dataclass: fields are parameters, learnt state ends in ``_``.

    ``family`` is one of FAMILIES; ``labels`` says which labels it may see (none, those of the support, those of the query:
    oracles only) and follows from the family where it is not given (USUAL_LABELS); ``needs`` names what a cube must have (NEEDS
    in ``cube.py``); ``gives`` says what its scores are: ``votes`` (only their order means something), ``probabilities`` (rows
    sum to one within 1e-4), or ``logits`` (softmax gives probabilities). What is not declared promises least. ``convex`` is
    True where a unanimous decision of the backbones is always kept and a single backbone stays itself; where it is False,
    ``convex_reason`` says why. ``transductive`` strategies want the whole query in one call. ``rough`` may be True where scores
    are convex combinations over backbones of what ``metrics`` gives as posteriors, or means of these or of logits: of a long
    query they are then made in single precision first, and again in double precision wherever that may change an answer.

    Learnt state is made of tensors, numbers, strings and tuples of them, so that a fit can be saved without pickle. A field
    called ``seed`` is set by the runner and is no part of the name.
    """

    name: ClassVar[str] = ""
    family: ClassVar[str]
    labels: ClassVar[str] = "none"
    needs: ClassVar[tuple[str, ...]] = ("logits",)
    gives: ClassVar[str] = "votes"
    convex: ClassVar[bool] = True
    convex_reason: ClassVar[str] = ""
    transductive: ClassVar[bool] = False
    rough: ClassVar[bool] = False

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        if "family" in vars(cls) and "labels" not in vars(cls):
            cls.labels = USUAL_LABELS.get(cls.family, "none")

    def prepare(self, others: Mapping[str, Cube]) -> None:  # noqa: B027 - a hook, not a duty
        """Learn from other tasks, once, before ``fit``: labelled train-split cubes by task name, none of the task at hand.

        Only a strategy that overrides this is called; its labels then count those of the other tasks too.
        """

    def fit(self, support: Cube) -> Self:
        """Learn from the labelled support and return self; a strategy without labels learns nothing."""
        return self

    @abstractmethod
    def predict(self, query: Cube) -> Tensor:
        """Scores [s, c], finite, higher is better. ``metrics.decide`` turns them into answers; nobody takes an argmax here."""

    def used(self, query: Cube) -> Tensor:
        """Which backbones each sample really needed, bool [b, s]: all, unless the strategy says less."""
        return torch.ones(len(query.backbones), len(query), dtype=torch.bool)

    def wants_whole(self) -> bool:
        """Whether, with these parameters, it wants the whole query at once: ``transductive``, unless a parameter decides it."""
        return self.transductive

    def settled(self, query: Cube) -> Strategy | None:
        """The strategy that answers any part of ``query`` as this one does within the whole; None if only the whole will do.

        It may ask for the decisions, and if it is an oracle for the labels, of the whole query; more may not fit into memory.
        """
        return None if self.wants_whole() else self

    def keeps_unanimous(self) -> bool:
        """Whether, with these parameters, a unanimous decision is always kept: ``convex``, unless a parameter decides it."""
        return self.convex

    def prepares(self) -> bool:
        """Whether it wants to learn from other tasks first."""
        return type(self).prepare is not Strategy.prepare

    def learnt(self) -> dict[str, Any]:
        """State learnt by ``fit``: every attribute whose name ends in one underscore."""
        return {key: value for key, value in vars(self).items() if key.endswith("_") and not key.startswith("_")}

    def fitted(self) -> None:
        """Raise ``Lacking`` unless ``fit`` has been called: the first line of a learner's ``predict``."""
        if not self.learnt():
            raise NotFitted(f"{type(self).__name__} has not been fitted: call fit(support) first.")

    if not TYPE_CHECKING:  # a learner that reads its state before it has any says so, even without ``fitted()``

        def __getattr__(self, name: str) -> Any:
            if name.endswith("_") and not name.startswith("_"):
                raise NotFitted(f"{type(self).__name__} has not been fitted (no {name}): call fit(support) first.")
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}.")

    def parameters(self) -> dict[str, Any]:
        """Non-default parameters, ``seed`` apart (the runner sets it)."""
        fields = [f for f in dataclasses.fields(self) if f.name != "seed"]
        return {f.name: getattr(self, f.name) for f in fields if getattr(self, f.name) != f.default}


def built(kind: type[Strategy], given: dict[str, str], name: str) -> Strategy:
    """The strategy with parameters read from text, each as the type of its default."""
    fields = {f.name: f for f in dataclasses.fields(kind) if f.name != "seed"}
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
    absent = [key for key, field in fields.items() if key not in values and is_required(field)]
    if absent:
        raise BadOption(f"the strategy {name!r} needs its parameter {absent[0]!r}: write {name}:{absent[0]}=VALUE.")
    return kind(**values)


def is_required(field: dataclasses.Field[Any]) -> bool:
    """Whether a parameter has no default."""
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def written(name: str, strategy: Strategy) -> str:
    """The canonical text of a strategy: its name, then its non-default parameters; ``single:ID`` for a single backbone."""
    parameters = strategy.parameters()
    if name == "single" and set(parameters) == {"backbone"}:
        return f"single:{parameters['backbone']}"
    texts = {key: str(value).lower() if isinstance(value, bool) else str(value) for key, value in parameters.items()}
    return ":".join([name, *(f"{key}={text}" for key, text in texts.items())])
