"""A task: which images, which class names, which prompts. What a card in ``tasks/`` says, and what a collection holds."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from ensemble_bench import cards, shipped
from ensemble_bench.cards import Card
from ensemble_bench.errors import BadCard, BadData, Missing, UnknownName
from ensemble_bench.registry import near

SPLITS = ("train", "test")
KINDS = ("classification", "multilabel")
METRICS = ("acc1", "mean_per_class_recall", "map")
ORIGINS = ("card", "host", "source")


@dataclass(frozen=True)
class Support:
    """Labelled examples that come from the train split of another task.

    ``classes`` holds, for each class of ours, its places among the classes of ``task``; None where they are the same classes.
    """

    task: str
    classes: tuple[tuple[int, ...], ...] | None = None

    @property
    def wanted(self) -> frozenset[int] | None:
        """The places among the classes of ``task`` that are classes of ours; None where all are."""
        return None if self.classes is None else frozenset(place for many in self.classes for place in many)

    def labels(self, labels: Sequence[int]) -> list[int | None]:
        """Labels of the other task as places in our classes, None where a label is no class of ours."""
        if self.classes is None:
            return list(labels)
        ours = {theirs: place for place, many in enumerate(self.classes) for theirs in many}
        return [ours.get(label) for label in labels]


@dataclass(frozen=True)
class Task:
    """One data set with its question. ``version`` goes up whenever a number may change.

    ``source`` names the kind of source and ``options`` what that source needs; ``counts`` and ``digests`` hold, per split, how
    many images there must be and the sha256 over their pixels and labels (where the card gives one). A split that the card
    does not count is in ``splits`` all the same, with the reason in ``unknown``.

    ``classes`` and ``templates`` may be empty: ``classes_from`` and ``templates_from`` say whether they are the card's, ship
    with CLIP_benchmark (``host``) or come with the download (``source``), and ``with_names`` completes the task. ``trouble``
    says why they cannot be had. ``names`` holds the sha256 of both lists, where the card gives one.

    ``kind`` is classification or multilabel; ``metric`` the one that publications quote; ``support`` the task that lends its
    train split where this one has none, and ``unsupported`` the reason where nobody can; ``downloads`` megabytes per split;
    ``verified`` whether a fetched copy was found to be what the card says.
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
    splits: tuple[str, ...] = ()
    unknown: Mapping[str, str] = field(default_factory=dict)
    class_count: int = 0
    classes_from: str = "card"
    templates_from: str = "card"
    names: Mapping[str, str] = field(default_factory=dict)
    trouble: str = ""
    host: str = ""
    kind: str = "classification"
    metric: str = "acc1"
    support: Support | None = None
    unsupported: str = ""
    downloads: Mapping[str, float] = field(default_factory=dict)
    citation: str = ""
    traps: tuple[str, ...] = ()
    verified: bool = True

    def __post_init__(self) -> None:
        if not self.class_count:
            object.__setattr__(self, "class_count", len(self.classes))
        if not self.splits:
            object.__setattr__(self, "splits", tuple(self.counts))

    @property
    def chance(self) -> float | None:
        """Accuracy of blind guessing among the classes; None where several may be right, or their number is not known."""
        return 1 / self.class_count if self.class_count and self.kind == "classification" else None

    @property
    def complete(self) -> bool:
        """Whether its class names and templates are known."""
        return bool(self.classes and self.templates)

    def with_names(self, classes: Sequence[str], templates: Sequence[str]) -> Task:
        """The task with the names that came with its download; those that are not from there stay as they are.

        Raises BadData where they are not what the card says: their number, a placeholder, their sha256.
        """
        task = self
        if self.classes_from == "source":
            if self.class_count and len(classes) != self.class_count:
                raise BadData(f"{self.name}: {len(classes)} class names came with it; its card says {self.class_count}.")
            task = dataclasses.replace(task, classes=tuple(classes), class_count=len(classes))
        if self.templates_from == "source" or not self.templates:
            if not templates:
                raise BadData(f"{self.name}: no prompt templates came with it, and its card has none.")
            if bare := [text for text in templates if "{c}" not in text]:
                raise BadData(f'{self.name}: a template that came with it lacks "{{c}}": {bare[0]!r}.')
            task = dataclasses.replace(task, templates=tuple(templates))
        for key, texts in (("classes", task.classes), ("templates", task.templates)):
            if getattr(self, f"{key}_from") == "source" and self.names.get(key) not in (None, shipped.digest(texts)):
                raise BadData(
                    f"{self.name}: the {key} that came with it are not those of its card, whose sha256 is {self.names[key]}: "
                    "the data set has changed; fetch the revision of the card, or write a card with a higher version."
                )
        return task


def _splits(card: Card, key: str, kind: type | tuple[type, ...], wanted: str, *more: str) -> dict[str, Any]:
    """A table of the card by split (and by the words ``more``)."""
    table = card.table(key, {} if key != "counts" else None)
    for split, value in table.items():
        if split not in (*SPLITS, *more):
            raise card.wrong(f"{key}.{split}", f"is no split: there are {' and '.join(SPLITS)}.")
        if not isinstance(value, kind) or isinstance(value, bool) or not value:
            raise card.wrong(f"{key}.{split}", f"must be {wanted}, not {value!r}.")
    return dict(table)


def _counts(card: Card) -> tuple[dict[str, int], dict[str, str], tuple[str, ...], int]:
    """Images of each split, the reasons for those not counted, the splits, and the number of classes (0: not said)."""
    counts = _splits(card, "counts", int, "a number of images", "classes")
    classes = counts.pop("classes", 0)
    unknown = _splits(card, "unknown", str, "the reason why its images are not counted")
    splits = card.texts("splits", tuple(split for split in SPLITS if split in counts or split == "test"))
    if strange := [split for split in splits if split not in SPLITS]:
        raise card.wrong("splits", f"must be among {', '.join(SPLITS)}, not {strange[0]!r}.")
    for split in sorted({*splits, "test"} - {*counts, *unknown}):
        raise card.wrong(f"counts.{split}", f"is missing; it must be a number of images, or 'unknown.{split}' the reason.")
    for split in sorted({*counts, *unknown} - {*splits}):
        raise card.wrong("splits", f"must hold {split!r}, of which the card speaks.")
    return counts, unknown, splits, classes


@dataclass(frozen=True)
class _Names:
    """Class names and templates of a card: the lists that are known, where each is from, digests, what is wrong."""

    lists: Mapping[str, tuple[str, ...]]
    origins: Mapping[str, str]
    digests: Mapping[str, str]
    trouble: str


def _names(card: Card, name: str, host: str) -> _Names:
    """The class names and templates of a card, as far as they are known without its data."""
    digests = card.table("names", {})
    origins = {what: card.choice(f"{what}_from", ORIGINS, "card") for what in ("classes", "templates")}
    if strange := sorted(set(digests) - set(origins)):
        raise card.wrong(f"names.{strange[0]}", "is unknown: there are classes, templates, each a sha256.")
    lists: dict[str, tuple[str, ...]] = {}
    troubles = []
    for what, origin in origins.items():
        if origin != "card" and card.has(what):
            raise card.wrong(what, f"is given, and '{what}_from' says {origin!r}.")
        lists[what] = card.texts(what) if origin == "card" else ()
        if origin == "host":
            lists[what], trouble = _shipped(card, what, host, digests.get(what))
            troubles += [f"{name}: {trouble}"] if trouble else []
    for place, template in enumerate(lists["templates"], 1):
        if "{c}" not in template:
            raise card.wrong("templates", f'must contain "{{c}}" in every entry; number {place} is {template!r}.')
    return _Names(lists, origins, digests, " ".join(troubles))


def _shipped(card: Card, what: str, host: str, digest: str | None) -> tuple[tuple[str, ...], str]:
    """Class names or templates that CLIP_benchmark ships, and an empty text; or nothing, and why."""
    key = card.text(f"{what}_key", host.rpartition("/")[2] or None)
    subset = card.integers("classes_subset", ()) if what == "classes" else ()
    try:
        lists = shipped.lists(shipped.CLASSES if what == "classes" else shipped.TEMPLATES)
    except Missing as error:
        return (), str(error)
    if key not in lists:
        return (), f"{shipped.version()} ships no {what} called {key!r}: install the release that its card was made with."
    texts = lists[key]
    if outside := [place for place in subset if not 0 <= place < len(texts)]:
        raise card.wrong("classes_subset", f"must be places among {len(texts)} names, not {outside[0]}.")
    texts = tuple(texts[place] for place in subset) if subset else texts
    if digest not in (None, shipped.digest(texts)):
        return (), (
            f"the {what} that {shipped.version()} ships are not those its card was made with, whose sha256 is {digest}: "
            "install that release, or write a card with a higher version."
        )
    return texts, ""


def _support(card: Card, splits: Sequence[str], count: int) -> tuple[Support | None, str]:
    """The task that lends its train split, and why there is none.

    Without ``classes`` they are the same classes, or those of ``classes_subset``.
    """
    subset = card.integers("classes_subset", ())
    table = card.table("support", {})
    if "train" in splits and table:
        raise card.wrong("support", "is for tasks without a train split, and this one has it.")
    if not table:
        return None, ""
    if strange := sorted(set(table) - {"task", "classes", "none"}):
        raise card.wrong(f"support.{strange[0]}", "is unknown: there are task, classes, none.")
    if ("task" in table) == ("none" in table):
        raise card.wrong("support", "must hold either 'task', which lends its train split, or 'none', the reason.")
    for key in ("task", "none"):
        if key in table and not (isinstance(table[key], str) and table[key].strip()):
            raise card.wrong(f"support.{key}", f"must be a text, not {table[key]!r}.")
    if "none" in table:
        return None, table["none"]
    given = table.get("classes", [*subset] or None)
    if given is None:
        return Support(table["task"]), ""
    many = [place if isinstance(place, list) else [place] for place in given] if isinstance(given, list) else []
    flat = [place for places in many for place in places]
    if len(many) != count or not all(many) or any(not isinstance(place, int) or isinstance(place, bool) for place in flat):
        raise card.wrong("support.classes", f"must hold, for each of the {count} classes, its places there.")
    if len(set(flat)) != len(flat):
        raise card.wrong("support.classes", "names a class of the other task for two of ours.")
    return Support(table["task"], tuple(map(tuple, many))), ""


def read(path: Path, name: str) -> Task:
    """The task of one card."""
    card = Card(path)
    if card.text("name") != name:
        raise card.wrong("name", f"must be {name!r}, as the file is called, not {card.text('name')!r}.")
    options = dict(card.table("source"))
    source = options.pop("kind", None)
    if not isinstance(source, str):
        raise card.wrong("source.kind", "is missing; it must name a kind of source.")
    counts, unknown, splits, stated = _counts(card)
    host = card.text("host", "")
    names = _names(card, name, host)
    classes = names.lists["classes"]
    count = stated or len(classes)
    if classes and len(classes) != count:
        raise card.wrong("counts.classes", f"is {count}, and there are {len(classes)} class names.")
    if count < 2 and not names.trouble:
        raise card.wrong("classes" if names.origins["classes"] == "card" else "counts.classes", "must hold at least two.")
    kind = card.choice("kind", KINDS, "classification")
    support, unsupported = _support(card, splits, count)
    task = Task(
        name=name,
        version=card.integer("version", low=1),
        title=card.text("title"),
        source=source,
        options=options,
        classes=classes,
        templates=names.lists["templates"],
        counts=counts,
        digests=_splits(card, "digests", str, "a sha256"),
        licence=card.text("licence"),
        provenance=card.text("provenance"),
        card_digest=card.digest,
        splits=splits,
        unknown=unknown,
        class_count=count,
        classes_from=names.origins["classes"],
        templates_from=names.origins["templates"],
        names=names.digests,
        trouble=names.trouble,
        host=host,
        kind=kind,
        metric=card.choice("metric", METRICS, "acc1" if kind == "classification" else "map"),
        support=support,
        unsupported=unsupported,
        downloads=_splits(card, "megabytes", (int, float), "a number of megabytes"),
        citation=card.text("citation", ""),
        traps=card.texts("traps", ()),
        verified=card.boolean("verified", True),
    )
    if (task.metric == "map") != (kind == "multilabel"):
        raise card.wrong("metric", f"must {'' if kind == 'multilabel' else 'not '}be map where the kind is {kind}.")
    card.end()
    return task


@dataclass(frozen=True)
class Collection:
    """Tasks that belong together: their names, in the order of the card, and where that list is from."""

    name: str
    title: str
    tasks: tuple[str, ...]
    provenance: str = ""


def read_collection(path: Path, name: str) -> Collection:
    """The collection of one card; whether its tasks exist is not looked up."""
    card = Card(path)
    if card.text("name") != name:
        raise card.wrong("name", f"must be {name!r}, as the file is called, not {card.text('name')!r}.")
    found = Collection(name, card.text("title"), card.texts("tasks"), card.text("provenance"))
    card.end()
    return found


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
    def groups(self) -> Mapping[str, Collection]:
        """Every collection by name, sorted: those that have a card, and the folders of tasks that have none."""
        found: dict[str, Collection] = {}
        for name, path in cards.find("collections", self.more).items():
            found[name] = one = read_collection(path, name)
            for task in one.tasks:
                if task not in self.paths:
                    raise BadCard(f"{path}: 'tasks' names {task!r}, and no task is called so.{near(task, self.paths)}")
            if name in self.paths:
                raise BadCard(f"{path}: there is a task called {name!r} too: rename one of them.")
        folders: dict[str, list[str]] = {}
        for name in self.paths:
            folders.setdefault(name.rpartition("/")[0], []).append(name)
        for folder, names in folders.items():
            if folder and folder not in found:
                found[folder] = Collection(folder, f"the tasks in the folder {folder}/", tuple(names))
        return dict(sorted(found.items()))

    @cached_property
    def collections(self) -> Mapping[str, tuple[str, ...]]:
        """Names of tasks by collection."""
        return {name: one.tasks for name, one in self.groups.items()}

    def belongs(self, name: str) -> dict[str, int]:
        """The collections of a task, and how many tasks of each have one right answer an image: what a mean is over."""
        if self.task(name).kind != "classification":
            return {}
        mine = {key: names for key, names in self.collections.items() if name in names}
        return {key: sum(self.task(one).kind == "classification" for one in names) for key, names in mine.items()}

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
