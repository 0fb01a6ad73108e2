"""Where images come from: one file a kind of source."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ensemble_bench import health, selection
from ensemble_bench.errors import BadData, Missing
from ensemble_bench.registry import Registry, Row

if TYPE_CHECKING:
    from ensemble_bench.health import Finding
    from ensemble_bench.progress import Progress
    from ensemble_bench.sources.base import Fetched, Source, Wanted
    from ensemble_bench.task import Catalogue, Task

_HERE = "ensemble_bench.sources"
registry = Registry(
    "source",
    "ensemble_bench.sources",
    {
        "drawn": Row(f"{_HERE}.drawn:Drawn", "pictures drawn by the project"),
        "digits": Row(f"{_HERE}.digits:Digits", "the handwritten digits that scikit-learn carries"),
        "faces": Row(f"{_HERE}.faces:Faces", "the face crops that scikit-image carries"),
        "surfaces": Row(f"{_HERE}.surfaces:Surfaces", "crops of three photographs that scikit-image carries"),
        "folder": Row(f"{_HERE}.folder:Folder", "picture files, one sub-folder a class"),
        "imagenet-c": Row(
            f"{_HERE}.imagenet_c:ImagenetC", "the same, with copies corrupted earlier: CORRUPTION/SEVERITY/CLASS"
        ),
        "manual": Row(f"{_HERE}.manual:Manual", "nothing: the card says how to bring the data by hand"),
        "webdataset": Row(f"{_HERE}.webdataset:Webdataset", "tar shards of pictures and class numbers, on disk or a server"),
        "torchvision": Row(f"{_HERE}.torchvision:Torchvision", "a data set class of torchvision"),
        "huggingface": Row(
            f"{_HERE}.huggingface:Huggingface", "a data set of the hub, read by the library datasets (an extra)"
        ),
    },
)


def of(task: Task) -> Source:
    """The source of a task."""
    source: Source = registry.load(task.source)(task)
    return source


def chosen(asked: Sequence[str], catalogue: Catalogue) -> list[Task]:
    """The tasks that names, collections, globs, list files, ``folder:PATH`` and ``wds:PATH`` stand for, each once.

    Tasks whose class names come with the images have none yet: ``named``.
    """
    from ensemble_bench.sources import own

    groups = {**catalogue.collections, "all": list(catalogue.paths)}
    texts = selection.chosen(asked, list(catalogue.paths), groups, "task", own.PREFIXES)
    tasks = [own.read(text) if own.is_own(text) else catalogue.task(text) for text in texts]
    return list({task.name: task for task in tasks}.values())


def wording(task: Task) -> list[Finding]:
    """What is wrong with the names and templates of a task.

    A name that stands twice is a warning where there is a card, which may know of it. A name that is empty is one where the
    card holds the sha256 of the names: so they are, as CLIP_benchmark ships them.
    """
    twice = "warning" if task.card_digest else "error"
    empty = "warning" if "classes" in task.names else "error"
    return [*health.classes(task.classes, twice, empty), *health.templates(task.templates)]


def named(source: Source) -> Source:
    """The source with the names of its classes, which may come with the images.

    Raises BadData where there are none, or names or templates cannot be used: before anything is encoded.
    """
    task = source.task
    if task.trouble:
        raise BadData(task.trouble)
    if "source" in (task.classes_from, task.templates_from) and not task.complete:
        names = source.names()
        if names is None:
            raise BadData(f"{task.name}: no class names come with the images: put one a line into classnames.txt beside them.")
        source.task = task.with_names(names.classes, names.templates)
        health.demand(task.name, wording(source.task))
    if not source.task.splits:
        source.task = dataclasses.replace(source.task, splits=source.splits())
    return source


def fetch(task: Task, wanted: Wanted, catalogue: Catalogue, progress: Progress) -> Fetched:
    """Bring what is wanted of a task onto this machine, its support too where another task lends that."""
    from ensemble_bench.sources.base import Fetched

    done = of(task).fetch(wanted, progress)
    if task.support is not None and (wanted.shots or wanted.whole):
        lender = catalogue.task(task.support.task)
        try:
            lent = of(lender).fetch(dataclasses.replace(wanted, test=False, labels=task.support.wanted), progress)
        except (BadData, Missing) as error:
            raise type(error)(f"the examples that {lender.name} lends {task.name}: {error}") from None
        done = Fetched(done.files + lent.files, done.bytes + lent.bytes, done.kept + lent.kept, done.where or lent.where)
    return done
