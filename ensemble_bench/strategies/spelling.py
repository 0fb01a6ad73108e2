"""How a strategy with its parameters is spelt on the command line and in records. Needs no torch."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ensemble_bench.errors import BadOption

EACH = "backbone=each"


def parsed(text: str) -> tuple[str, dict[str, str]]:
    """Name and parameters of ``name:key=value:key=value``; ``single:ID`` is short for ``single:backbone=ID``.

    >>> parsed("nlc:form=weight:epochs=10")
    ('nlc', {'form': 'weight', 'epochs': '10'})
    >>> parsed("single:file:0123/ViT-B-32")
    ('single', {'backbone': 'file:0123/ViT-B-32'})
    """
    name, _, rest = text.partition(":")
    if not rest:
        return name, {}
    if name == "single" and not rest.startswith("backbone="):
        return name, {"backbone": rest}
    parameters: dict[str, str] = {}
    for part in rest.split(":"):
        key, equals, value = part.partition("=")
        if equals and key in parameters:
            raise BadOption(f"{text!r} gives the parameter {key!r} twice.")
        if equals:
            parameters[key] = value
        elif parameters:  # a colon inside a value: file:0123/ViT-B-32
            parameters[list(parameters)[-1]] += f":{part}"
        else:
            raise BadOption(f"{text!r}: parameters of a strategy are written name:key=value:key=value.")
    return name, parameters


def each(text: str, backbones: Sequence[str]) -> list[str]:
    """The strategy once for every backbone where it says ``backbone=each`` (or is ``single``), else the strategy as it is.

    >>> each("linear-probe:backbone=each:penalty=1.0", ["openai/RN50", "mini/a"])
    ['linear-probe:backbone=openai/RN50:penalty=1.0', 'linear-probe:backbone=mini/a:penalty=1.0']
    >>> each("single", ["mini/a"]), each("lda", ["mini/a"])
    (['single:mini/a'], ['lda'])
    """
    if text in ("single", "single:each", f"single:{EACH}"):
        return [f"single:{name}" for name in backbones]
    parts = text.split(":")
    if EACH not in parts:
        return [text]
    return [":".join(f"backbone={name}" if part == EACH else part for part in parts) for name in backbones]


def kebab(name: str) -> str:
    """A class name as a registry name.

    >>> kebab("SupportWeighted"), kebab("NLCPlus"), kebab("VoteTop3")
    ('support-weighted', 'nlc-plus', 'vote-top3')
    """
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", name).lower()
