"""What there is, noun by noun, as plain data: what ``ls`` and ``show`` print. Loads neither torch nor weights."""

from __future__ import annotations

import ast
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ensemble_bench import backbones, cards, strategies
from ensemble_bench.errors import BadPlugin, UnknownName
from ensemble_bench.registry import Registry, near
from ensemble_bench.strategies.plugin import add_file
from ensemble_bench.task import Catalogue, Task

KINDS = ("tasks", "collections", "backbones", "pools", "strategies", "corruptions")
_SINGULAR = {"strategy": "strategies"}
Thing = dict[str, Any]


def kind(text: str) -> str:
    """The kind that ``text`` names, in the plural or the singular."""
    plural = _SINGULAR.get(text, text if text in KINDS else f"{text}s")
    if plural not in KINDS:
        raise UnknownName(f"there is no kind {text!r}.{near(plural, KINDS)}")
    return plural


def _task(task: Task) -> Thing:
    return {
        "name": task.name,
        "version": task.version,
        "classes": len(task.classes),
        "test": task.counts["test"],
        "train": task.counts.get("train"),
        "title": task.title,
    }


def _plugin_facts(registry: Registry, name: str) -> Thing:
    """What a plug-in says of itself; listing one means importing it, and one that cannot be imported is listed as broken."""
    try:
        thing = registry.load(name)
    except BadPlugin as error:
        return {"broken": str(error)}
    facts = {key: getattr(thing, key, None) for key in ("family", "labels")}
    return {**facts, "summary": (thing.__doc__ or "").strip().partition("\n")[0]}


def _strategies() -> list[Thing]:
    registry = strategies.registry
    found = []
    for name in registry:
        row = registry.row(name)
        facts = {"summary": row.summary, **row.facts} if registry.builtin(name) else _plugin_facts(registry, name)
        keys = ("family", "labels", "summary", "broken")
        found.append({"name": name, **{key: facts[key] for key in keys if key in facts}})
    return found


def _backbones() -> list[Thing]:
    return [{"name": b.id, "gflops": b.gflops, "parameters": b.parameters} for b in backbones.listed()]


def things(kind: str, *, cards: tuple[Path, ...] = (), plugins: tuple[Path, ...] = ()) -> list[Thing]:
    """Everything of one kind, each with at least ``name``."""
    catalogue = Catalogue(cards)
    for path in plugins:
        add_file(path)
    made: dict[str, Callable[[], list[Thing]]] = {
        "tasks": lambda: [_task(catalogue.task(name)) for name in catalogue.paths],
        "collections": lambda: [{"name": name, "tasks": list(names)} for name, names in catalogue.collections.items()],
        "backbones": _backbones,
        "pools": lambda: [{"name": name, "backbones": list(ids)} for name, ids in backbones.POOLS.items()],
        "strategies": _strategies,
        "corruptions": lambda: [{"name": name} for name in sorted(cards_of_suites(cards))],
    }
    return made[kind]()


def cards_of_suites(more: tuple[Path, ...]) -> dict[str, Path]:
    """Path of every corruption suite by name."""
    return cards.find("corruptions", more)


def _documentation(target: str) -> str:
    """The docstring of ``module:Class``, read from its source without importing it."""
    module, _, name = target.partition(":")
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        return ""
    for node in ast.parse(Path(spec.origin).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            return ast.get_docstring(node) or ""
    return ""


def details(kind: str, name: str, *, cards: tuple[Path, ...] = (), plugins: tuple[Path, ...] = ()) -> Thing:
    """Everything known about one thing."""
    every = {thing["name"]: thing for thing in things(kind, cards=cards, plugins=plugins)}
    if kind == "backbones":
        found = backbones.find([name])[0]
        return {"name": found.id, "gflops": found.gflops, "parameters": found.parameters, **found.card()}
    if name not in every:
        raise UnknownName(f"{kind}: there is none called {name!r}.{near(name, every)}")
    if kind == "tasks":
        task = Catalogue(cards).task(name)
        return {
            **every[name],
            "classes": task.classes,
            "templates": task.templates,
            "chance": round(task.chance, 4),
            "source": " ".join([task.source, *(f"{key}={value}" for key, value in task.options.items())]),
            "licence": task.licence,
            "provenance": task.provenance,
            "card digest": task.card_digest,
        }
    if kind == "strategies":
        row = strategies.registry.row(name)
        return {**every[name], "defined in": row.target, "documentation": _documentation(row.target)}
    return every[name]
