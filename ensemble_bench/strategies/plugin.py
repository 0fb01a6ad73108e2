"""Strategies from a file of the user's."""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import re
import sys
from pathlib import Path
from types import ModuleType

from ensemble_bench.errors import BadPlugin
from ensemble_bench.strategies import registry
from ensemble_bench.strategies.spelling import kebab


def _module(path: Path) -> ModuleType:
    """The file's module, imported under a name of its own that holds its path and content: the same file is imported once."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BadPlugin(f"the plug-in {path} cannot be read: {error.strerror or error}.") from None
    name = f"ensemble_bench_plugin_{hashlib.sha256(bytes(path.resolve()) + content).hexdigest()[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise BadPlugin(f"the plug-in {path} is not a Python file: its name must end in .py.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    except SyntaxError as error:
        del sys.modules[name]
        raise BadPlugin(f"the plug-in {path} has a syntax error in line {error.lineno}: {error.msg}.") from None
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise BadPlugin(f"the plug-in {path} cannot be imported: {type(error).__name__}: {error}.") from error
    return module


def add_file(path: Path) -> list[str]:
    """Names of the strategies that the file defines, now registered for this process.

    Every public concrete subclass of ``Strategy`` defined in the file counts, under its own ``name`` or the kebab-case of its
    class name. A file that cannot be imported or defines none, a name that is taken or badly formed: ``BadPlugin``, and nothing
    is registered. Adding the same file again is no clash.
    """
    from ensemble_bench.strategies.base import Strategy

    path = Path(path)
    module = _module(path)
    found: dict[str, type[Strategy]] = {}
    for label, thing in vars(module).items():
        own = isinstance(thing, type) and issubclass(thing, Strategy) and thing.__module__ == module.__name__
        if not own or label.startswith("_") or thing.__name__.startswith("_") or inspect.isabstract(thing):
            continue
        name = vars(thing).get("name") or kebab(thing.__name__)
        if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name):
            raise BadPlugin(f"the plug-in {path} calls a strategy {name!r}: use lower case letters, digits and hyphens.")
        if found.get(name, thing) is not thing:
            raise BadPlugin(f"the plug-in {path} has two strategies called {name!r}: give one of them another name.")
        taken = name in registry and (registry.builtin(name) or registry.load(name) is not thing)
        if taken:
            raise BadPlugin(f"the plug-in {path} defines a strategy {name!r}, and there is one of that name: rename yours.")
        found[name] = thing
    if not found:
        raise BadPlugin(f"the plug-in {path} defines no strategy: a public subclass of Strategy that has a predict method.")
    for name, thing in found.items():
        registry.add(name, thing)
    return list(found)
