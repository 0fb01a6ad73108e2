"""Learnt state of strategies on disk: tensors as safetensors, everything else as JSON, both named by one digest."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ensemble_bench import cache
from ensemble_bench.errors import BadStore, BadWeights

FOLDER = "fits"  # of the results


def shelf() -> Path:
    """The folder in which every fit of this machine is found by its ID, whatever results it belongs to."""
    return cache.root() / "fits"


def of(folder: Path) -> dict[str, dict[str, Any]]:
    """Facts of every fit in a folder by ID, sorted; what is no fit is left out."""
    found = {}
    for path in sorted(folder.glob("*.json")):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            facts = json.loads(path.read_text(encoding="utf-8"))["facts"]
            found[path.stem] = {**facts}
    return found


def save(folder: Path, learnt: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    """Write one fit, FOLDER/ID.safetensors and FOLDER/ID.json, and return its ID, twelve hexadecimal digits.

    ``facts`` say what it is a fit of: strategy, task, digest of its prompts, pool with digests, draw; ``learnt`` is
    ``Strategy.learnt()``.
    """
    from safetensors.torch import save as packed

    tensors = {key: value.detach().contiguous() for key, value in learnt.items() if isinstance(value, Tensor)}
    plain = {key: value for key, value in learnt.items() if key not in tensors}
    data = packed(tensors)
    try:
        text = json.dumps({"facts": dict(facts), "learnt": plain}, sort_keys=True, allow_nan=False, indent=1)
    except (TypeError, ValueError) as error:
        raise BadStore(
            f"the learnt state {sorted(plain)} cannot be written as JSON ({error}): keep tensors, numbers, texts."
        ) from None
    name = hashlib.sha256(data + text.encode()).hexdigest()[:12]
    cache.write(folder / f"{name}.safetensors", data)
    cache.write(folder / f"{name}.json", text.encode())
    return name


def load(folder: Path, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Facts and learnt state of one fit; lists come back as tuples. Raises BadWeights where they are not what was saved."""
    from safetensors import SafetensorError
    from safetensors.torch import load as unpacked

    try:
        data, text = (folder / f"{name}.safetensors").read_bytes(), (folder / f"{name}.json").read_bytes()
    except OSError as error:
        raise BadWeights(f"there is no fit {name!r} in {folder} ({error.strerror}): save one by 'run --save-fits'.") from None
    if hashlib.sha256(data + text).hexdigest()[:12] != name:
        raise BadWeights(f"the fit {name!r} in {folder} is spoilt: make it again by 'run --save-fits'.")
    try:
        tensors, found = unpacked(data), json.loads(text)
    except (SafetensorError, ValueError) as error:
        raise BadWeights(f"the fit {name!r} in {folder} cannot be read: {error}.") from None
    plain = {key: tuple(value) if isinstance(value, list) else value for key, value in found["learnt"].items()}
    return found["facts"], {**plain, **tensors}
