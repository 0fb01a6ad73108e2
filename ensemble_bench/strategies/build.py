"""From the text of a strategy to the strategy, and from a strategy to the digest of what defines it."""

from __future__ import annotations

import ast
import hashlib
import inspect
from collections.abc import Mapping
from functools import lru_cache
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


def _source(kind: type) -> tuple[bytes, Path | None]:
    """The source of the file that defines a class, and where it is; of the class alone where there is no file."""
    try:
        path = inspect.getsourcefile(kind)
        if path is not None and Path(path).is_file():
            return Path(path).read_bytes(), Path(path)
        return inspect.getsource(kind).encode(), None
    except (OSError, TypeError):
        raise BadPlugin(f"the source of {kind.__name__} cannot be read: define the strategy in a file.") from None


@lru_cache(maxsize=256)
def _names(source: bytes, package: str) -> tuple[str, ...]:
    """The modules of ``package`` (of any, where that is empty) that a source imports, and what may be one."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            home = ".".join(part for part in (package if node.level == 1 else "", node.module) if part)
            if node.level <= 1:
                found += [home, *(f"{home}.{alias.name}" for alias in node.names)]
    start = f"{package}." if package else ""
    return tuple(name.removeprefix(start) for name in found if name.startswith(start))


def _files(kind: type) -> list[bytes]:
    """The sources of the file that defines a class and of what it imports, directly or not, from the same folder."""
    source, path = _source(kind)
    if path is None:
        return [source]
    found, waiting = {path: source}, [path]
    package = kind.__module__.rpartition(".")[0]
    base = Path(inspect.getfile(Strategy))
    while waiting:
        for name in _names(found[waiting.pop()], package):
            beside = path.parent / f"{name.replace('.', '/')}.py"
            if beside not in found and beside != base and beside.is_file():
                found[beside] = beside.read_bytes()
                waiting.append(beside)
    return [source, *(found[beside] for beside in sorted(found) if beside != path)]


def source_digest(strategy: Strategy) -> str:
    """SHA-256 of the file that defines the strategy's class, of those it imports from the same folder, and of its parents'.

    An edited plug-in, or one whose parent or helper was edited, therefore never gets old numbers.
    """
    kinds = [kind for kind in type(strategy).__mro__ if issubclass(kind, Strategy) and kind is not Strategy]
    sources = list(dict.fromkeys(source for kind in kinds for source in _files(kind)))
    if len(sources) == 1:
        return hashlib.sha256(sources[0]).hexdigest()
    return hashlib.sha256("".join(hashlib.sha256(source).hexdigest() for source in sources).encode()).hexdigest()
