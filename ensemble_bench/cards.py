"""Finds and reads cards: TOML files, strict, found from a checkout, an editable install, a wheel and an sdist alike."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ensemble_bench.errors import BadCard, BadPlugin
from ensemble_bench.registry import entry_points, near

KINDS = ("tasks", "collections", "corruptions")


CHECKOUT = {"reference": "results/reference"}  # what lies elsewhere in the checkout than at the top


def folder(kind: str) -> Path:
    """The folder of the project's own cards of one kind: inside the installed package, else beside it in the checkout.

    ``reference`` is the folder of published figures.
    """
    package = Path(str(files("ensemble_bench")))
    inside = package / "_cards" / kind
    return inside if inside.is_dir() else package.parent / CHECKOUT.get(kind, kind)


def _plugin_folders(kind: str) -> list[Path]:
    """Folders that installed distributions bring: entry points ``NAME = PACKAGE`` of group ``ensemble_bench.cards``."""
    found = []
    for point in entry_points(group="ensemble_bench.cards"):
        spec = find_spec(point.module)
        places = list(spec.submodule_search_locations or ()) if spec else []
        if not places:
            raise BadPlugin(f"the cards of {point.name!r}: there is no package called {point.module!r}.")
        found += [Path(place) / kind for place in places if (Path(place) / kind).is_dir()]
    return found


def find(kind: str, more: Iterable[Path] = ()) -> dict[str, Path]:
    """Path of every card of one kind by its name: the path below its folder, without the ending.

    ``more`` are folders of the user (``--cards``) that hold a sub-folder ``kind``.
    """
    own = folder("tasks") / kind if kind == "collections" else folder(kind)  # collections of tasks lie with the tasks
    folders = [own, *_plugin_folders(kind)]
    for place in more:
        if not place.is_dir():
            raise BadCard(f"{place} is not a folder: --cards wants one that holds {' or '.join(f'{k}/' for k in KINDS)}.")
        if not any((place / k).is_dir() for k in KINDS):
            raise BadCard(f"{place} holds none of {', '.join(f'{k}/' for k in KINDS)}: put the cards into one of these.")
        folders.append(place / kind)
    found: dict[str, Path] = {}
    for place in folders:
        for path in sorted(place.rglob("*.toml")):
            name = path.relative_to(place).with_suffix("").as_posix()
            if kind == "tasks" and place == own and name.startswith("collections/"):
                continue
            if name in found:
                raise BadCard(f"{path} and {found[name]} have the same name {name!r}: rename one of them.")
            found[name] = path
    return found


class Card:
    """One card, read key by key: whatever is wrong or left over is an error that names the file and the key."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._data = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise BadCard(f"{path} cannot be read: {error.strerror}.") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise BadCard(f"{path} is no valid TOML: {error}.") from None
        self._seen: set[str] = set()

    @property
    def digest(self) -> str:
        """Sha256 of what the card says; layout and comments do not matter."""
        return hashlib.sha256(json.dumps(self._data, sort_keys=True).encode()).hexdigest()

    def wrong(self, key: str, sentence: str) -> BadCard:
        """The error that ``key`` is not as it must be."""
        return BadCard(f"{self.path}: {key!r} {sentence}")

    def has(self, key: str) -> bool:
        """Whether the card says anything of ``key``."""
        return key in self._data

    def _value(self, key: str, kind: type, wanted: str, default: Any) -> Any:
        self._seen.add(key)
        if key not in self._data:
            if default is None:
                raise self.wrong(key, f"is missing; it must be {wanted}.")
            return default
        value = self._data[key]
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise self.wrong(key, f"must be {wanted}, not {value!r}.")
        return value

    def text(self, key: str, default: str | None = None) -> str:
        """A string that is not empty."""
        value: str = self._value(key, str, "a text", default)
        if not value.strip() and default is None:
            raise self.wrong(key, "must not be empty.")
        return value

    def integer(self, key: str, low: int = 0, default: int | None = None) -> int:
        """A whole number of at least ``low``, or the default where the key is absent."""
        value: int = self._value(key, int, "a whole number", default)
        if key in self._data and value < low:
            raise self.wrong(key, f"must be at least {low}, not {value}.")
        return value

    def boolean(self, key: str, default: bool) -> bool:
        """True or false, or the default where the key is absent."""
        value: bool = self._value(key, bool, "true or false", default)
        return value

    def choice(self, key: str, allowed: Sequence[str], default: str) -> str:
        """One of the allowed texts, or the default where the key is absent."""
        value = self.text(key, default)
        if value not in allowed:
            raise self.wrong(key, f"must be one of {', '.join(allowed)}, not {value!r}.")
        return value

    def integers(self, key: str, default: tuple[int, ...]) -> tuple[int, ...]:
        """A list of whole numbers, not empty, none twice; or the default where the key is absent."""
        values: Sequence[Any] = self._value(key, list, "a list of whole numbers", [*default])
        if (not values and key in self._data) or len({*map(str, values)}) != len(values):
            raise self.wrong(key, f"must hold different whole numbers, not {list(values)}.")
        for value in values:
            if not isinstance(value, int) or isinstance(value, bool):
                raise self.wrong(key, f"must hold whole numbers, not {value!r}.")
        return tuple(values)

    def texts(self, key: str, default: tuple[str, ...] | None = None) -> tuple[str, ...]:
        """A list of strings, none empty, none twice; or the default where the key is absent."""
        values: Sequence[Any] = self._value(key, list, "a list of texts", default)
        if not values and key in self._data:
            raise self.wrong(key, "must not be empty.")
        for value in values:
            if not isinstance(value, str) or not value.strip():
                raise self.wrong(key, f"must hold texts that are not empty, not {value!r}.")
            if values.count(value) > 1:
                raise self.wrong(key, f"holds {value!r} more than once.")
        return tuple(values)

    def table(self, key: str, default: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
        """A table, as it stands; or the default where the key is absent."""
        value: Mapping[str, Any] = self._value(key, dict, "a table", default)
        return value

    def end(self) -> None:
        """Raise if the card has a key that nobody asked for."""
        for key in self._data:
            if key not in self._seen:
                raise BadCard(f"{self.path}: unknown key {key!r}.{near(key, self._seen)}")
