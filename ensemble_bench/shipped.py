"""Class names and prompt templates that CLIP_benchmark ships, read as data: the package is found, never imported."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from ensemble_bench.errors import Missing

CLASSES = "en_classnames.json"
TEMPLATES = "en_zeroshot_classification_templates.json"


@cache
def lists(file: str) -> Mapping[str, tuple[str, ...]]:
    """The lists of one file (CLASSES or TEMPLATES) by the name of their data set."""
    spec = find_spec("clip_benchmark")
    places = list(spec.submodule_search_locations or ()) if spec else []
    path = Path(places[0]) / "datasets" / file if places else None
    if path is None or not path.is_file():
        raise Missing(f"these names are those of clip_benchmark, whose {file} is not here: pip install clip_benchmark.")
    found: dict[str, list[str]] = json.loads(path.read_text(encoding="utf-8"))
    return {name: tuple(texts) for name, texts in found.items()}


def digest(texts: Sequence[str]) -> str:
    """Sha256 of a list of texts, its order included."""
    return hashlib.sha256(json.dumps(list(texts), ensure_ascii=False).encode()).hexdigest()


def version() -> str:
    """The installed clip_benchmark, for sentences: ``clip_benchmark 1.6.2``."""
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    try:
        return f"clip_benchmark {installed('clip_benchmark')}"
    except PackageNotFoundError:
        return "clip_benchmark (not installed)"
