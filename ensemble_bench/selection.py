"""From what a user typed to names: commas, repeats, globs, groups and list files, the same for every list option."""

from __future__ import annotations

import fnmatch
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from ensemble_bench.errors import BadOption, UnknownName
from ensemble_bench.registry import near


def lines(path: Path) -> list[str]:
    """The entries of a list file: one a line, ``#`` starts a comment, blank lines do not count."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadOption(f"the list file {path} cannot be read: {error}.") from None
    return [line for line in (raw.partition("#")[0].strip() for raw in text.splitlines()) if line]


def opened(values: Iterable[str], known: Collection[str] = ()) -> list[str]:
    """The values, with each that is the path of a file (and no known name) replaced by the file's lines."""
    found: list[str] = []
    for value in values:
        is_file = value not in known and "," not in value and Path(value).is_file()
        found += lines(Path(value)) if is_file else [value]
    return found


def chosen(
    values: Sequence[str],
    names: Collection[str],
    groups: Mapping[str, Sequence[str]],
    noun: str,
    prefixes: tuple[str, ...] = (),
) -> list[str]:
    """Names, in the order asked for, each once. A value is a name, a group, a glob, a list file, or several with commas.

    Only the part of an item before its first colon is looked up, and not at all in a glob: parameters stay as they are. A value
    that begins with one of the ``prefixes`` is a path: it is not looked up, and its commas are its own.
    """
    found: dict[str, None] = {}
    for value in opened(values, {*names, *groups}):
        if value.strip().startswith(prefixes):
            found[value.strip()] = None
            continue
        for item in (part.strip() for part in value.split(",")):
            if not item:
                continue
            if item in groups:
                found |= dict.fromkeys(groups[item])
            elif item.partition(":")[0] in names or item.startswith(prefixes):
                found[item] = None
            elif any(sign in item for sign in "*?["):
                matching = sorted(fnmatch.filter(names, item))
                if not matching:
                    raise UnknownName(f"no {noun} matches {item!r}.")
                found |= dict.fromkeys(matching)
            else:
                raise UnknownName(f"no {noun} is called {item!r}.{near(item.partition(':')[0], [*names, *groups])}")
    if not found:
        raise BadOption(f"no {noun} was chosen: {' '.join(values)!r} is empty.")
    return list(found)
