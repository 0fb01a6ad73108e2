"""Backbones: dual encoders by name. Strings only; nothing is imported before a backbone is asked for."""

from __future__ import annotations

import fnmatch
import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ensemble_bench.backbones.base import Backbone
from ensemble_bench.backbones.catalogue import architectures, tags
from ensemble_bench.errors import BadOption, BadPlugin, UnknownName
from ensemble_bench.registry import Registry, Row, near

_MINI = "ensemble_bench.backbones.mini.pool"
_REAL = "ensemble_bench.backbones.open_clip"
_OPENAI = "ensemble_bench.backbones.openai"

POOLS: dict[str, tuple[str, ...]] = {
    "mini": ("mini/rn-narrow", "mini/rn-wide", "mini/vit-8", "mini/vit-16", "mini/convnext"),
    "openai": (
        "openai/RN50",
        "openai/RN101",
        "openai/RN50x4",
        "openai/RN50x16",
        "openai/RN50x64",
        "openai/ViT-B-32",
        "openai/ViT-B-16",
        "openai/ViT-L-14",
        "openai/ViT-L-14-336",
    ),
}
_TABLE = {
    **{name: Row(f"{_MINI}:{name.partition('/')[2].replace('-', '_')}", "embedded, 64 pixels") for name in POOLS["mini"]},
    **{name: Row(f"{_OPENAI}:{name.partition('/')[2].replace('-', '_')}", "OpenAI's checkpoint") for name in POOLS["openai"]},
}
registry = Registry("backbone", "ensemble_bench.backbones", _TABLE)


def _made(kind: str, *arguments: Any) -> Backbone:
    made: Backbone = getattr(importlib.import_module(_REAL), kind)(*arguments)
    return made


def _architecture(text: str) -> str | None:
    """open_clip's name for an architecture (``ViT-B/32`` is ``ViT-B-32``), or None."""
    name = text.replace("/", "-")
    return name if name in architectures() else None


def _is_path(text: str) -> bool:
    return "/" in text or text.endswith((".pt", ".safetensors"))


def _pair(architecture: str, tag: str) -> Backbone:
    """The backbone of an architecture and a pretrained tag. Its QuickGELU twin is the same backbone: the tag decides."""
    if not tag:
        raise BadOption(
            f"{architecture!r} is an architecture: say which weights, as {architecture},TAG or {architecture},PATH."
        )
    plain = architecture.removesuffix("-quickgelu")
    architecture = plain if plain in architectures() else architecture
    tag = tag.lower().replace("-", "_")
    name = f"{tag}/{architecture}"
    if name in registry:
        return _registered(name)
    if tag not in tags():
        raise UnknownName(f"open_clip has no pretrained weights {tag!r} for {architecture}.{near(tag, tags())}")
    return _made("pretrained", architecture, tag)


def _registered(name: str) -> Backbone:
    found = registry.load(name)
    if isinstance(found, type):
        found = found()
    if not isinstance(found, Backbone) or found.id != name:
        raise BadPlugin(f"the backbone {name!r} ({registry.row(name).target}) must be a Backbone whose id is {name!r}.")
    return found


def _single(item: str) -> list[Backbone]:
    """What one item without commas stands for."""
    if item in POOLS:
        return [_registered(name) for name in POOLS[item]]
    if item in registry:
        return [_registered(item)]
    if item.startswith("hf-hub:"):
        return [_made("hub", item.removeprefix("hf-hub:"))]
    if item.startswith("local-dir:"):
        return [_made("folder", Path(item.removeprefix("local-dir:")))]
    if any(sign in item for sign in "*?["):
        names = fnmatch.filter(registry, item)
        if not names:
            raise UnknownName(f"no backbone matches {item!r}.{near(item, [*registry, *POOLS])}")
        return [_registered(name) for name in names]
    tag, _, rest = item.partition("/")
    if architecture := _architecture(rest):
        return [_pair(architecture, tag)]
    raise UnknownName(f"no backbone is called {item!r}.{near(item, [*registry, *POOLS, *architectures()])}")


def find(texts: Sequence[str]) -> list[Backbone]:
    """The backbones that the texts name, each once, in the order asked for; loads no weights.

    A text is a name (``mini/vit-8``, ``openai/RN50``), a pool, a glob over the registered names, ``ARCH,TAG``, ``ARCH,PATH``
    (PATH contains ``/`` or ends in .pt or .safetensors), ``hf-hub:ORG/NAME``, ``local-dir:FOLDER``, or several of them with
    commas. ``ARCH,TAG`` is one backbone where ARCH is an architecture of open_clip, even if TAG is a pool too; otherwise commas
    separate. Names of the same backbone, such as RN50 and RN50-quickgelu with OpenAI's weights, are folded into one. Raises
    UnknownName, and BadOption where nothing is named.
    """
    found: dict[str, Backbone] = {}
    for text in texts:
        items = [item.strip() for item in text.split(",")]
        while items:
            item = items.pop(0)
            if not item:
                continue
            architecture = None if item in registry or item in POOLS else _architecture(item)
            if architecture is None:
                here = _single(item)
            elif items and _is_path(items[0]):
                here = [_made("saved", architecture, Path(items.pop(0)))]
            else:
                here = [_pair(architecture, items.pop(0) if items else "")]
            for backbone in here:
                found.setdefault(backbone.id, backbone)
    if not found:
        raise BadOption(f"no backbone was chosen: {' '.join(texts)!r} is empty.")
    return list(found.values())


def listed() -> list[Backbone]:
    """Every backbone that has a name of its own: the pools in their order, then those of plug-ins."""
    own = [name for pool in POOLS.values() for name in pool]
    return [_registered(name) for name in [*own, *(name for name in registry if name not in own)]]
