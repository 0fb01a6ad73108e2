"""The evaluation that CLIP_benchmark is running: its options, and where its result goes."""

from __future__ import annotations

import json
from argparse import Namespace
from contextvars import ContextVar
from pathlib import Path

from ensemble_bench.errors import BadOption

RUNNING: ContextVar[Namespace | None] = ContextVar("RUNNING", default=None)


def output_of(args: Namespace) -> Path:
    """Where the result of one evaluation goes; ``args.output`` becomes exactly that, in a folder that is there.

    The host fills in its template as it is: a ``/`` in a model's name leads into a folder that nobody made, which shows when
    all the work is done. A file that an earlier run left half-written is no reason to skip.
    """
    from clip_benchmark.datasets.builder import get_dataset_default_task

    dataset = args.dataset.removeprefix("wds/")
    is_file = Path(args.pretrained).is_file()
    flat = args.pretrained.replace("/", "_")
    try:
        output = args.output.format(
            model=args.model.replace("/", "_"),
            pretrained=Path(args.pretrained).name if is_file else flat,
            pretrained_full_path=flat,
            task=get_dataset_default_task(dataset) if args.task == "auto" else args.task,
            dataset=dataset.replace("/", "_"),
            language=args.language,
        )
    except (KeyError, IndexError, ValueError) as error:
        raise BadOption(
            f"--output {args.output}: {{{error}}} is none of model, pretrained, pretrained_full_path, task, dataset, language."
        ) from None
    path = Path(output)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadOption(f"--output: the folder {path.parent} cannot be made: {error.strerror}.") from None
    if args.skip_existing and path.is_file():
        args.skip_existing = _whole(path)
    args.output = output.replace("{", "{{").replace("}", "}}")
    return path


def _whole(path: Path) -> bool:
    try:
        return bool(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return False
