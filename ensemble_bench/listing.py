"""What there is, noun by noun, as plain data: what ``ls`` and ``show`` print. Loads neither torch nor weights.

Each noun's modules are imported where they are asked for: a list of one should not wait for those of the others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ensemble_bench.errors import BadPlugin, UnknownName
from ensemble_bench.registry import Registry, near

if TYPE_CHECKING:
    from ensemble_bench.corrupt.suite import Suite
    from ensemble_bench.task import Task

KINDS = ("tasks", "collections", "backbones", "pools", "strategies", "corruptions")
_SINGULAR = {"strategy": "strategies"}
Thing = dict[str, Any]

COLUMNS = {
    "tasks": ("name", "classes", "test", "metric", "collections", "licence"),
    "collections": ("name", "size", "title"),
}
"""What a table shows of a kind, where it is not everything; JSON holds all of it."""


def kind(text: str) -> str:
    """The kind that ``text`` names, in the plural or the singular."""
    plural = _SINGULAR.get(text, text if text in KINDS else f"{text}s")
    if plural not in KINDS:
        raise UnknownName(f"there is no kind {text!r}.{near(plural, KINDS)}")
    return plural


def _task(task: Task, collections: Sequence[str]) -> Thing:
    return {
        "name": task.name,
        "version": task.version,
        "classes": task.class_count,
        "test": task.counts.get("test"),
        "train": task.counts.get("train"),
        "metric": task.metric,
        "chance": None if task.chance is None else round(task.chance, 4),
        "collections": list(collections),
        "kind": task.kind,
        "verified": task.verified,
        "licence": task.licence,
        "title": task.title,
    }


def _tasks(cards: tuple[Path, ...]) -> list[Thing]:
    from ensemble_bench.task import Catalogue

    catalogue = Catalogue(cards)
    mine: dict[str, list[str]] = {}
    for collection, names in catalogue.collections.items():
        for name in names:
            mine.setdefault(name, []).append(collection)
    return [_task(catalogue.task(name), mine.get(name, [])) for name in catalogue.paths]


def _whole_task(task: Task, listed: Thing) -> Thing:
    """Everything that a card says; what it leaves open stands as the reason."""
    names = {"card": "the card", "host": "CLIP_benchmark", "source": "the download"}
    shown: Thing = {key: value for key, value in listed.items() if key not in ("classes", "train", "test", "title")}
    shown = {"name": task.name, "title": task.title, **shown}
    for split in task.splits:
        shown[f"{split} images"] = task.counts.get(split, f"not counted: {task.unknown.get(split)}")
    shown["support"] = _support(task)
    shown["classes"] = task.classes or f"{task.class_count}, which come with the download"
    shown["templates"] = task.templates or "they come with the download"
    shown["names from"] = f"classes: {names[task.classes_from]}; templates: {names[task.templates_from]}"
    if task.trouble:
        shown["trouble"] = task.trouble
    if task.host:
        shown["CLIP_benchmark"] = task.host
    shown["source"] = " ".join([task.source, *(f"{key}={value}" for key, value in task.options.items())])
    if task.downloads:
        shown["megabytes"] = ", ".join(f"{split} {size:,}" for split, size in task.downloads.items())
    if task.traps:
        shown["traps"] = task.traps
    if task.citation:
        shown["citation"] = task.citation
    return {**shown, "provenance": task.provenance, "card digest": task.card_digest}


def _support(task: Task) -> str:
    if "train" in task.splits:
        return "its own train split"
    if task.support is None:
        return f"none: {task.unsupported or 'it has no train split'}"
    which = "the same classes" if task.support.classes is None else f"{sum(map(len, task.support.classes))} of its classes"
    return f"the train split of {task.support.task}, {which}"


def _plugin_facts(registry: Registry, name: str) -> Thing:
    """What a plug-in says of itself; listing one means importing it, and one that cannot be imported is listed as broken."""
    try:
        thing = registry.load(name)
    except BadPlugin as error:
        return {"broken": str(error)}
    facts = {key: getattr(thing, key, None) for key in ("family", "labels")}
    return {**facts, "summary": (thing.__doc__ or "").strip().partition("\n")[0]}


def _collections(cards: tuple[Path, ...]) -> list[Thing]:
    from ensemble_bench.task import Catalogue

    return [
        {"name": name, "size": len(one.tasks), "title": one.title, "tasks": list(one.tasks), "provenance": one.provenance}
        for name, one in Catalogue(cards).groups.items()
    ]


def _strategies() -> list[Thing]:
    from ensemble_bench.strategies import registry

    found = []
    for name in registry:
        row = registry.row(name)
        facts = {"summary": row.summary, **row.facts} if registry.builtin(name) else _plugin_facts(registry, name)
        keys = ("family", "labels", "summary", "broken")
        found.append({"name": name, **{key: facts[key] for key in keys if key in facts}})
    return found


def _backbones() -> list[Thing]:
    from ensemble_bench import backbones

    return [{"name": b.id, "gflops": b.gflops, "parameters": b.parameters} for b in backbones.listed()]


def _pools() -> list[Thing]:
    from ensemble_bench import backbones

    return [{"name": name, "backbones": list(ids)} for name, ids in backbones.POOLS.items()]


def things(kind: str, *, cards: tuple[Path, ...] = (), plugins: tuple[Path, ...] = ()) -> list[Thing]:
    """Everything of one kind, each with at least ``name``."""
    if plugins:
        from ensemble_bench.strategies.plugin import add_file

        for path in plugins:
            add_file(path)
    made: dict[str, Callable[[], list[Thing]]] = {
        "tasks": lambda: _tasks(cards),
        "collections": lambda: _collections(cards),
        "backbones": _backbones,
        "pools": _pools,
        "strategies": _strategies,
        "corruptions": lambda: [_suite(one) for one in suites(cards).values()],
    }
    return made[kind]()


def suites(more: tuple[Path, ...] = ()) -> dict[str, Suite]:
    """Every corruption suite by name, sorted."""
    from ensemble_bench.corrupt import suite

    return {name: suite.read(path, name) for name, path in sorted(suite.suites(more).items())}


def _suite(one: Suite) -> Thing:
    return {
        "name": one.name,
        "version": one.version,
        "engine": one.engine,
        "corruptions": len(one.amounts),
        "conditions": len(one.amounts) * len(one.severities),
        "title": one.title,
    }


def _amounts(values: tuple[tuple[float, ...], ...]) -> str:
    """Five amounts in one line; long ones, which are steps of a range, by their ends."""
    texts = [" ".join(f"{x:g}" for x in v) if len(v) < 9 else f"{v[0]:g} {v[1]:g} ... {v[-1]:g}" for v in values]
    return " | ".join(texts)


def _whole_suite(one: Suite) -> Thing:
    from ensemble_bench.corrupt.suite import ENGINES

    width = max(map(len, one.amounts))
    return {
        **_suite(one),
        "corruptions": [f"{name:<{width}}  {_amounts(values)}".rstrip() for name, values in one.amounts.items()],
        "severities": " ".join(map(str, one.severities)),
        "side": one.side or "as the picture is",
        "jpeg": one.jpeg or "no round trip",
        "engine": f"{one.engine}: {ENGINES[one.engine]}",
        "source": one.source,
        "licence": one.licence,
        "provenance": one.provenance.strip(),
        "card digest": one.digest,
    }


def _kernel(name: str, cards: tuple[Path, ...]) -> Thing:
    """One corruption: what it does, where it is defined, its amounts in every suite that has it."""
    from ensemble_bench.corrupt import registry

    row = registry.row(name)
    own = {one.name: one.amounts[name] for one in suites(cards).values() if name in one.amounts and not one.on_disk}
    width = max(map(len, own), default=0)
    return {
        "name": name,
        "kind": row.facts.get("kind", "plug-in"),
        "summary": row.summary,
        "defined in": row.target,
        "amounts": [f"{suite:<{width}}  {_amounts(values)}" for suite, values in own.items()],
        "documentation": _documentation(row.target),
    }


def _documentation(target: str) -> str:
    """The docstring of ``module:name``, read from its source without importing it."""
    import ast
    from importlib.util import find_spec

    module, _, name = target.partition(":")
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        return ""
    for node in ast.parse(Path(spec.origin).read_text(encoding="utf-8")).body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and node.name == name:
            return ast.get_docstring(node) or ""
    return ""


def details(kind: str, name: str, *, cards: tuple[Path, ...] = (), plugins: tuple[Path, ...] = ()) -> Thing:
    """Everything known about one thing."""
    every = {thing["name"]: thing for thing in things(kind, cards=cards, plugins=plugins)}
    if kind == "backbones":
        from ensemble_bench import backbones

        found = backbones.find([name])[0]
        return {"name": found.id, "gflops": found.gflops, "parameters": found.parameters, **found.card()}
    if kind == "corruptions":
        from ensemble_bench.corrupt import registry

        if name in every:
            return _whole_suite(suites(cards)[name])
        if name in registry:
            return _kernel(name, cards)
        raise UnknownName(f"no suite or corruption is called {name!r}.{near(name, [*every, *registry])}")
    if name not in every:
        raise UnknownName(f"{kind}: there is none called {name!r}.{near(name, every)}")
    if kind == "tasks":
        from ensemble_bench.task import Catalogue

        return _whole_task(Catalogue(cards).task(name), every[name])
    if kind == "strategies":
        from ensemble_bench import strategies

        row = strategies.registry.row(name)
        return {**every[name], "defined in": row.target, "documentation": _documentation(row.target)}
    return every[name]
