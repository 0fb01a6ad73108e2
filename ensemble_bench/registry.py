"""From a name to the thing it names, loaded when asked for and not before."""

from __future__ import annotations

import fnmatch
import functools
import importlib
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.machinery import PathFinder
from typing import TYPE_CHECKING, Any

from ensemble_bench.errors import BadPlugin, UnknownName

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint


def near(name: str, names: Iterable[str]) -> str:
    """The end of an unknown-name sentence: the nearest names, or all of them where there are few."""
    import difflib

    names = sorted(names)
    close = [known for known in names if known.rsplit("/", 1)[-1] == name]  # a name without its folder: digits for mini/digits
    close = close or difflib.get_close_matches(name, names, n=3, cutoff=0.55)
    if close:
        return f" Did you mean {' or '.join(close)}?"
    return f" There are: {', '.join(names)}." if 0 < len(names) <= 12 else ""


def entry_points(group: str) -> Iterable[EntryPoint]:
    """The entry points of a group that installed distributions bring.

    The library that reads them takes longer to load than a list takes to print, so it is left alone where no distribution
    speaks of us.
    """
    if "importlib.metadata" not in sys.modules and not _spoken_of():
        return ()
    from importlib import metadata

    return metadata.entry_points(group=group)


@functools.cache
def _spoken_of() -> bool:
    """Whether some installed distribution may have entry points for us; yes where that cannot be seen from its files."""
    if any(hasattr(finder, "find_distributions") and finder is not PathFinder for finder in sys.meta_path):
        return True
    for folder in sys.path:
        try:
            names = os.listdir(folder or ".")  # noqa: PTH208
        except NotADirectoryError:  # an archive
            return True
        except OSError:
            continue
        for name in names:
            if name.endswith(".egg"):
                return True
            if name.endswith((".dist-info", ".egg-info")):
                try:
                    with open(f"{folder or '.'}/{name}/entry_points.txt", "rb") as file:  # noqa: PTH123
                        if b"[ensemble_bench." in file.read():
                            return True
                except OSError:
                    continue
    return False


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
