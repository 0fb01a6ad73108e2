"""From a name to the thing it names, loaded when asked for and not before."""

from __future__ import annotations

import difflib
import fnmatch
import importlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ensemble_bench.errors import BadPlugin, UnknownName


def near(name: str, names: Iterable[str]) -> str:
    """The end of an unknown-name sentence: the nearest names, or all of them where there are few."""
    names = sorted(names)
    close = [known for known in names if known.rsplit("/", 1)[-1] == name]  # a name without its folder: digits for mini/digits
    close = close or difflib.get_close_matches(name, names, n=3, cutoff=0.55)
    if close:
        return f" Did you mean {' or '.join(close)}?"
    return f" There are: {', '.join(names)}." if 0 < len(names) <= 12 else ""


@dataclass(frozen=True)
class Row:
    """One registered thing: where it lives (``module:attribute``) and what a listing says of it without importing it."""

    target: str
    summary: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Registry:
    """All things of one noun: a built-in table of strings, the installed distributions' entry points, the plug-in files."""

    noun: str
    group: str
    table: Mapping[str, Row]
    _added: dict[str, Any] = field(default_factory=dict)
    _entry_points: dict[str, Row] | None = None

    def _rows(self) -> dict[str, Row]:
        if self._entry_points is None:
            from importlib.metadata import entry_points

            self._entry_points = {}
            for point in entry_points(group=self.group):
                if point.name in self.table or point.name in self._entry_points:
                    raise BadPlugin(
                        f"the {self.noun} {point.name!r} of {point.value} (entry point {self.group}) has the name of another "
                        f"{self.noun}: uninstall that distribution or rename it."
                    )
                self._entry_points[point.name] = Row(point.value, "plug-in")
        added = {name: Row("plug-in file", (thing.__doc__ or "").partition("\n")[0]) for name, thing in self._added.items()}
        return {**self.table, **self._entry_points, **added}

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._rows()))

    def __contains__(self, name: object) -> bool:
        return name in self._rows()

    def row(self, name: str) -> Row:
        """What is known of ``name`` without importing it."""
        rows = self._rows()
        if name not in rows:
            raise UnknownName(f"no {self.noun} is called {name!r}.{near(name, rows)}")
        return rows[name]

    def builtin(self, name: str) -> bool:
        """Whether the project itself brings it."""
        return name in self.table

    def load(self, name: str) -> Any:
        """The thing itself."""
        row = self.row(name)
        if name in self._added:
            return self._added[name]
        module, _, attribute = row.target.partition(":")
        try:
            return getattr(importlib.import_module(module), attribute)
        except Exception as error:
            if name in self.table:
                raise
            raise BadPlugin(f"the {self.noun} {name!r} ({row.target}) cannot be imported: {error!r}.") from error

    def add(self, name: str, thing: Any) -> None:
        """Register a thing for this process (plug-in files); a clash with another name is an error."""
        if self._added.get(name) is not thing and name in self._rows():
            raise BadPlugin(f"there is already a {self.noun} called {name!r}: give yours another name.")
        self._added[name] = thing

    def matching(self, pattern: str) -> list[str]:
        """Names that a glob pattern matches."""
        return fnmatch.filter(self, pattern)
