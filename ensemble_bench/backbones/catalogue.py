"""What the installed open_clip has: architectures, tags, configurations; read from its files without importing it."""

from __future__ import annotations

import contextlib
import functools
import json
import re
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ensemble_bench import cache
from ensemble_bench.errors import BadStore, Missing, UnknownName
from ensemble_bench.registry import near


def package() -> Path:
    """The folder of the installed open_clip."""
    spec = find_spec("open_clip")
    if spec is None or not spec.submodule_search_locations:
        raise Missing("open_clip is not installed: pip install open_clip_torch.")
    return Path(next(iter(spec.submodule_search_locations)))


@functools.cache
def _packaged() -> frozenset[str]:
    return frozenset(path.stem for path in (package() / "model_configs").glob("*.json"))


def architectures() -> frozenset[str]:
    """Names of all architectures, those included that this process has added to an imported open_clip."""
    loaded = sys.modules.get("open_clip")
    return _packaged() if loaded is None else _packaged() | frozenset(loaded.list_models())


def configuration(architecture: str) -> dict[str, Any]:
    """The model configuration of an architecture."""
    path = package() / "model_configs" / f"{architecture}.json"
    if not path.is_file():  # added in this process
        return dict(sys.modules["open_clip"].get_model_config(architecture))
    return dict(json.loads(path.read_text(encoding="utf-8")))


@functools.cache
def tags() -> frozenset[str]:
    """Every pretrained tag in the source text of open_clip's table; which architectures have it is not said there."""
    return frozenset(re.findall(r"^\s+(\w+)=_\w*cfg\(", (package() / "pretrained.py").read_text(encoding="utf-8"), re.M))


def pretrained(architecture: str, tag: str) -> dict[str, Any]:
    """open_clip's entry of an architecture and a tag: where the weights are, how pictures are prepared, which activation.

    Imports open_clip once per installed version and keeps its table as JSON. Raises UnknownName.
    """
    from importlib.metadata import version

    memo = cache.root() / "open_clip" / f"{version('open_clip_torch')}.json"
    table: dict[str, dict[str, Any]] = {}
    with contextlib.suppress(OSError, ValueError):
        table = json.loads(memo.read_text(encoding="utf-8"))
    if tag not in table.get(architecture, {}):
        import open_clip

        for name, own in open_clip.list_pretrained():
            table.setdefault(name, {})[own] = open_clip.get_pretrained_cfg(name, own)
        with contextlib.suppress(BadStore):  # it only saves time
            cache.write(memo, cache.canonical(table).encode())
    tagged = table.get(architecture, {})
    if tag not in tagged:
        raise UnknownName(f"open_clip has no pretrained weights {tag!r} for {architecture}.{near(tag, tagged)}")
    return dict(tagged[tag])
