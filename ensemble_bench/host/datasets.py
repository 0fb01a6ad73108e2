"""Our tasks as CLIP_benchmark's datasets, ``eb/TASK`` and ``eb/TASK@SUITE:CORRUPTION:SEVERITY``, and its own ones shielded."""

from __future__ import annotations

import functools
import inspect
import json
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from ensemble_bench import shards, sources
from ensemble_bench.condition import CLEAN, Condition
from ensemble_bench.corrupt.suite import Suite
from ensemble_bench.errors import BadData, BadOption, Missing
from ensemble_bench.host.running import RUNNING
from ensemble_bench.host.trouble import refused
from ensemble_bench.pictures import Picture
from ensemble_bench.sources.base import Source, checked
from ensemble_bench.task import Catalogue, Task

PREFIX = "eb/"
NAMED = ("zeroshot_classification", "linear_probe")  # the tasks of the host that need names and templates
SPLITTER = "group_by_keys"  # the stage of the host's reader that makes samples; the next ones decode them


def collections() -> dict[str, list[str]]:
    """Our collections by their names at the host, each the names of its datasets."""
    found = Catalogue().collections
    return {f"{PREFIX}{name}": [f"{PREFIX}{task}" for task in tasks] for name, tasks in found.items()}


class Pictures(Dataset[tuple[Any, int]]):
    """The samples of one split of a task under a condition: (transformed picture, label), in the order of the task's index.

    The pictures are those that ``run`` shows, byte for byte. Without a ``transform`` they are PIL images.
    """

    def __init__(self, task: Task, split: str, condition: Condition = CLEAN, suite: Suite | None = None) -> None:
        source = sources.named(sources.of(task))
        task = source.task
        if split not in task.splits:
            raise BadOption(f"{task.name} has no split {split!r}, only {' and '.join(task.splits)}: give --split.")
        self.classes, self.templates = list(task.classes), list(task.templates)
        self.split, self.condition, self.suite = split, condition, suite
        self.transform: Callable[[Any], Any] | None = None
        index = checked(source, split)
        self.ids, self.labels = index.ids, index.labels
        self.source: Source = source.under(condition) if suite is not None and suite.on_disk else source
        if reason := self.source.lacking(split, self.ids):
            raise BadData(reason)

    @cached_property
    def alter(self) -> Callable[[str, Picture], Picture] | None:
        """What corrupts a picture, given its id; None where there is nothing to do."""
        return None if self.suite is None or self.suite.on_disk else self.suite.alter(self.condition)

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in vars(self).items() if key != "alter"}  # made again in the other process

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, place: int) -> tuple[Any, int]:
        return self.__getitems__([place])[0]

    def __getitems__(self, places: Sequence[int]) -> list[tuple[Any, int]]:
        """Several samples at once, which sources that draw their pictures do far quicker."""
        from PIL import Image

        ids = [self.ids[place] for place in places]
        shown = []
        for name, place, picture in zip(ids, places, self.source.pictures(self.split, ids), strict=True):
            image = Image.fromarray(picture if self.alter is None else self.alter(name, picture))
            shown.append((image if self.transform is None else self.transform(image), self.labels[place]))
        return shown


def _custom(file: str | None, name: str, what: str) -> Any:
    """What a JSON file of the user's says for a dataset of ours, or None where no file is given."""
    if not file:
        return None
    try:
        found: Mapping[str, Any] = json.loads(Path(file).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadOption(f"the {what} file {file} cannot be read: {error}.") from None
    keys = [name, name.removeprefix(PREFIX), name.removeprefix(PREFIX).partition("@")[0]]
    for key in keys:
        if key in found:
            return found[key]
    raise BadOption(f"the {what} file {file} has none of {', '.join(dict.fromkeys(keys))}.")


def ours(name: str, asked: Mapping[str, Any]) -> Pictures:
    """The dataset ``eb/...`` as the host asks for it."""
    if asked.get("language", "en") != "en":
        raise BadOption(
            f"{name}: its class names and templates are English; --language {asked['language']} changes nothing in them."
        )
    task, condition, own = shards.named(name.removeprefix(PREFIX))
    made = Pictures(task, asked.get("split", "test"), condition, own)
    made.transform = asked.get("transform")
    made.templates = _custom(asked.get("custom_template_file"), name, "template") or made.templates
    classes = _custom(asked.get("custom_classname_file"), name, "class name") or made.classes
    if len(classes) != len(made.classes):
        raise BadOption(f"{name}: {len(made.classes)} classes, and the class name file has {len(classes)}.")
    made.classes = list(classes)
    return made


def check_root(name: str, root: str, split: str) -> None:
    """Raise BadData where a webdataset cannot be at ``root``; what is on the net is only held against the shell."""
    if "://" in root:
        if any(sign in root for sign in "'\"\\`$ \n"):
            raise BadData(f"{name}: the address {root!r} has a quote, a space or a sign of the shell's, which it is handed to.")
        return
    folder = Path(root) / split
    if not folder.is_dir():
        raise BadData(
            f"{name}: there is no folder {folder}: --dataset_root must hold {split}/0.tar, {split}/nshards.txt and so on."
        )
    counted = folder / "nshards.txt"
    try:
        text = counted.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        raise BadData(f"{name}: {counted} is not there or cannot be read; it must hold the number of shards.") from None
    there = len(list(folder.glob("*.tar")))
    lies = not text.isdecimal() or int(text) != there
    if lies or not there or any(not (folder / f"{n}.tar").is_file() for n in range(there)):
        raise BadData(f"{name}: {counted} says {text!r} shards, and there are {there}: fetch the data set again.")


def shielded(dataset: Any) -> Any:
    """A webdataset of the host's whose reader refuses code and names that lead out; never more workers than it has shards."""
    stages = dataset.pipeline
    place = next((n for n, stage in enumerate(stages) if SPLITTER in repr(stage)), None)
    if place is None:
        raise Missing(
            "the installed webdataset makes its samples in a way that is not known here: pip install 'webdataset<1.1'."
        )
    stages.insert(place + 1, refused)
    args: Namespace | None = RUNNING.get()
    if args is not None:
        args.num_workers = min(args.num_workers, len(stages[0]))
    return dataset


def opened(original: Callable[..., Any]) -> Callable[..., Any]:
    """``build_dataset`` that knows our names, and says in a sentence what is wrong with the others."""
    signature = inspect.signature(original)

    @functools.wraps(original)
    def build_dataset(*args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        asked = bound.arguments
        name = asked["dataset_name"]
        if name.startswith(PREFIX):
            return ours(name, asked)
        webdataset = name.startswith("wds/")
        if webdataset:
            check_root(name, asked["root"], asked["split"])
        elif asked["task"] in NAMED:  # before anything is downloaded
            check_language(name, asked["language"])
        try:
            made = original(*args, **kwargs)
        except FileNotFoundError as error:
            raise BadData(f"{name}: {error}: is --dataset_root {asked['root']} right, and can it be reached?") from error
        except (OSError, RuntimeError) as error:  # a server that does not answer, files that are not what they should be
            raise BadData(f"{name}: CLIP_benchmark cannot fetch or read it: {error}.") from error
        if not webdataset:
            return made
        if made.classes is not None:
            check_language(name, asked["language"])
        return shielded(made)

    return build_dataset


def check_language(name: str, language: str) -> None:
    """Raise BadOption for a language in which the host packages no class names and templates."""
    import clip_benchmark.datasets

    end = "_zeroshot_classification_templates.json"
    there = sorted(path.name.removesuffix(end) for path in Path(str(clip_benchmark.datasets.__path__[0])).glob(f"*{end}"))
    if language not in there:
        raise BadOption(
            f"{name}: CLIP_benchmark has no class names and templates for --language {language}, only for {', '.join(there)}."
        )
