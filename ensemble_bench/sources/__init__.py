"""Where images come from: one file a kind of source."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ensemble_bench.registry import Registry, Row

if TYPE_CHECKING:
    from ensemble_bench.sources.base import Source
    from ensemble_bench.task import Task

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
        "webdataset": Row(f"{_HERE}.webdataset:Webdataset", "tar shards of pictures and class numbers, on disk"),
    },
)


def of(task: Task) -> Source:
    """The source of a task."""
    source: Source = registry.load(task.source)(task)
    return source
