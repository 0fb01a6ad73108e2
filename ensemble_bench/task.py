"""A task: which images, which class names, which prompts. What a card in ``tasks/`` says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from ensemble_bench import cache, cards
from ensemble_bench.cards import Card
from ensemble_bench.errors import UnknownName
from ensemble_bench.registry import near

SPLITS = ("train", "test")


@dataclass(frozen=True)
class Task:
    """One data set with its question. ``version`` goes up whenever a number may change.

    ``source`` names the kind of source and ``options`` what that source needs; ``counts`` and ``digests`` hold, per split, how
    many images there must be and the sha256 over their pixels and labels (where the card gives one).
    """

    name: str
    version: int
    title: str
    source: str
    options: Mapping[str, Any]
    classes: tuple[str, ...]
    templates: tuple[str, ...]
    counts: Mapping[str, int]
    digests: Mapping[str, str]
    licence: str
    provenance: str
    card_digest: str

    @property
    def collection(self) -> str:
        """The folder of its card: ``mini`` for ``mini/digits``."""
        return self.name.rpartition("/")[0]

    @property
    def prompts(self) -> str:
        """Sha256 of class names and templates."""
        return cache.sha256({"classes": list(self.classes), "templates": list(self.templates)})

    @property
    def chance(self) -> float:
        """Accuracy of blind guessing among the classes."""
        return 1 / len(self.classes)


def _splits(card: Card, key: str, kind: type, wanted: str) -> Mapping[str, Any]:
    table = card.table(key)
    for split, value in table.items():
        if split not in SPLITS:
            raise card.wrong(f"{key}.{split}", f"is no split: there are {' and '.join(SPLITS)}.")
        if not isinstance(value, kind) or isinstance(value, bool) or not value:
            raise card.wrong(f"{key}.{split}", f"must be {wanted}, not {value!r}.")
    return table


def read(path: Path, name: str) -> Task:
    """The task of one card."""
    card = Card(path)
    if card.text("name") != name:
        raise card.wrong("name", f"must be {name!r}, as the file is called, not {card.text('name')!r}.")
    templates = card.texts("templates")
    for place, template in enumerate(templates, 1):
        if "{c}" not in template:
            raise card.wrong("templates", f'must contain "{{c}}" in every entry; number {place} is {template!r}.')
    options = dict(card.table("source"))
    source = options.pop("kind", None)
    if not isinstance(source, str):
        raise card.wrong("source.kind", "is missing; it must name a kind of source.")
    counts = _splits(card, "counts", int, "a number of images")
    if "test" not in counts:
        raise card.wrong("counts.test", "is missing; it must be a number of images.")
    task = Task(
        name=name,
        version=card.integer("version", low=1),
        title=card.text("title"),
        source=source,
        options=options,
        classes=card.texts("classes"),
        templates=templates,
        counts=counts,
        digests=_splits(card, "digests", str, "a sha256"),
        licence=card.text("licence"),
        provenance=card.text("provenance"),
        card_digest=card.digest,
    )
    if len(task.classes) < 2:
        raise card.wrong("classes", "must hold at least two.")
    card.end()
    return task


@dataclass
class Catalogue:
    """Every task there is: the project's cards, those of plug-ins, those in the user's folders ``more``."""

    more: tuple[Path, ...] = ()
    _read: dict[str, Task] = field(default_factory=dict)

    @cached_property
    def paths(self) -> Mapping[str, Path]:
        """Path of every task card by name, sorted."""
        return dict(sorted(cards.find("tasks", self.more).items()))

    @cached_property
    def collections(self) -> Mapping[str, tuple[str, ...]]:
        """Names of tasks by collection: the cards of one folder."""
        found: dict[str, list[str]] = {}
        for name in self.paths:
            collection = name.rpartition("/")[0]
            if collection:
                found.setdefault(collection, []).append(name)
        return {collection: tuple(names) for collection, names in found.items()}

    def task(self, name: str) -> Task:
        """The task of that name."""
        if name not in self.paths:
            raise UnknownName(f"no task is called {name!r}.{near(name, [*self.paths, *self.collections])}")
        if name not in self._read:
            self._read[name] = read(self.paths[name], name)
        return self._read[name]

    def tasks(self, names: Iterable[str]) -> list[Task]:
        """The tasks of those names."""
        return [self.task(name) for name in names]
