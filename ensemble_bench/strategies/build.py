"""From the text of a strategy to the strategy, and from a strategy to the digest of what defines it."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ensemble_bench.errors import BadPlugin
from ensemble_bench.strategies import registry
from ensemble_bench.strategies.base import Strategy, built
from ensemble_bench.strategies.spelling import parsed


def named(text: str) -> Strategy:
    """The unfitted strategy that ``name:key=value:key=value`` names; unknown names and parameters are errors with a cure.

    >>> named("nlc:form=weight:epochs=10").parameters()
    {'form': 'weight', 'epochs': 10}
    """
    name, given = parsed(text)
    kind = registry.load(name)
    if not (isinstance(kind, type) and issubclass(kind, Strategy)):
        raise BadPlugin(f"the strategy {name!r} ({registry.row(name).target}) is not a subclass of Strategy.")
    if inspect.isabstract(kind):
        raise BadPlugin(f"the strategy {name!r} ({registry.row(name).target}) does not define predict.")
    return built(kind, given, name)


def refitted(text: str, learnt: Mapping[str, Any]) -> Strategy:
    """The strategy that ``text`` names with the state that an earlier fit learnt."""
    strategy = named(text)
    for key, value in learnt.items():
        setattr(strategy, key, value)
    return strategy


def _source(kind: type) -> bytes:
    try:
        path = inspect.getsourcefile(kind)
        if path is not None and Path(path).is_file():
            return Path(path).read_bytes()
        return inspect.getsource(kind).encode()
    except (OSError, TypeError):
        raise BadPlugin(f"the source of {kind.__name__} cannot be read: define the strategy in a file.") from None


def source_digest(strategy: Strategy) -> str:
    """SHA-256 of the source file that defines the strategy's class; a class that builds on others counts their files too.

    An edited plug-in, or one whose parent was edited, therefore never gets old numbers.
    """
    kinds = [kind for kind in type(strategy).__mro__ if issubclass(kind, Strategy) and kind is not Strategy]
    sources = list(dict.fromkeys(_source(kind) for kind in kinds))
    if len(sources) == 1:
        return hashlib.sha256(sources[0]).hexdigest()
    return hashlib.sha256("".join(hashlib.sha256(source).hexdigest() for source in sources).encode()).hexdigest()
