"""What a run is asked to do: options of the command line, a configuration file, or a call from Python."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ensemble_bench.errors import BadOption
from ensemble_bench.registry import near

DEVICES = ("auto", "cpu", "cuda")
PRECISIONS = ("fp32", "bf16", "fp16", "auto")


@dataclass(frozen=True)
class Request:
    """Everything that ``run`` can be told; ``limit`` and ``output`` may be None."""

    tasks: tuple[str, ...] = ("mini",)
    backbones: tuple[str, ...] = ("mini",)
    strategies: tuple[str, ...] = ("default",)
    corruptions: tuple[str, ...] = ("clean",)
    shots: int = 1
    draws: int = 5
    seed: int = 0
    limit: int | None = None
    device: str = "auto"
    precision: str = "fp32"
    output: Path | None = None
    cards: tuple[Path, ...] = ()
    plugins: tuple[Path, ...] = ()
    save_fits: bool = False
    offline: bool = False

    def __post_init__(self) -> None:
        for name, low in (("shots", 1), ("draws", 1), ("seed", 0)):
            if getattr(self, name) < low:
                raise BadOption(f"--{name} must be at least {low}, not {getattr(self, name)}.")
        if self.limit is not None and self.limit < 1:
            raise BadOption(f"--limit must be at least 1, not {self.limit}.")
        for name, allowed in (("device", DEVICES), ("precision", PRECISIONS)):
            if getattr(self, name) not in allowed:
                raise BadOption(f"--{name} must be one of {', '.join(allowed)}, not {getattr(self, name)!r}.")

    def resolved(self) -> dict[str, Any]:
        """What can be written to a configuration file and read again; where the results go is not part of it."""
        plain = {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.name != "output"}
        texts = {key: [str(item) for item in value] if isinstance(value, tuple) else value for key, value in plain.items()}
        return {key: value for key, value in texts.items() if value is not None}

    def digest(self) -> str:
        """Twelve hexadecimal digits that name the resolved configuration."""
        return hashlib.sha256(json.dumps(self.resolved(), sort_keys=True).encode()).hexdigest()[:12]

    def changed(self, **changes: Any) -> Request:
        """The same request with other values."""
        return dataclasses.replace(self, **changes)


_KINDS = {field.name: field.default for field in dataclasses.fields(Request)}
NAMES = tuple(_KINDS)


def _fitting(key: str, value: Any, where: str) -> Any:
    """One value of a configuration file as the request wants it."""
    default = _KINDS[key]
    paths = key in ("cards", "plugins")
    if isinstance(default, tuple):
        values = [value] if isinstance(value, str) else value
        if isinstance(values, list) and all(isinstance(item, str) for item in values):
            return tuple(Path(item) if paths else item for item in values)
        wanted = "a text or a list of texts"
    elif key == "output":
        if isinstance(value, str):
            return Path(value)
        wanted = "a path"
    else:
        kind = int if key == "limit" else type(default)
        if isinstance(value, kind) and not (kind is int and isinstance(value, bool)):
            return value
        wanted = {int: "a whole number", str: "a text", bool: "true or false"}[kind]
    raise BadOption(f"{where}: {key!r} must be {wanted}, not {value!r}.")


def read(path: Path) -> dict[str, Any]:
    """The values that a configuration file sets."""
    try:
        data: Mapping[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadOption(f"the configuration {path} cannot be read: {error.strerror}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadOption(f"{path} is no valid TOML: {error}.") from None
    for key in data:
        if key not in _KINDS:
            raise BadOption(f"{path}: unknown key {key!r}.{near(key, _KINDS)}")
    return {key: _fitting(key, value, str(path)) for key, value in data.items()}
