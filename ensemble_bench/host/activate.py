"""Prepares the installed CLIP_benchmark: checks that it is one we know, mends what breaks, opens our doors in it."""

from __future__ import annotations

import functools
import importlib
import inspect
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from ensemble_bench.errors import BadData, BadOption, Missing
from ensemble_bench.host import datasets, models, module, results, trouble
from ensemble_bench.host.running import RUNNING, output_of

LOW, HIGH = "1.6.2", "2"  # from the first up to, but not including, the second

# What is replaced, called or read, with the parameters that are relied on.
RELIED: dict[str, dict[str, tuple[str, ...]]] = {
    "cli": {"main": (), "run": ("args",), "main_build": ("base",)},
    "models": {"load_clip": ("model_type", "model_name", "pretrained", "cache_dir", "device")},
    "datasets.builder": {
        "build_dataset": (
            *("dataset_name", "root", "transform", "split", "download", "annotation_file", "language", "task"),
            *("wds_cache_dir", "custom_classname_file", "custom_template_file"),
        ),
        "get_dataset_default_task": ("dataset",),
        "get_dataset_collate_fn": ("dataset_name",),
    },
    "webdataset_builder": {"build_dataset": ("dataset_name", "root", "transform", "split")},
    "metrics.zeroshot_classification": {
        "accuracy": ("output", "target", "topk"),
        "zero_shot_classifier": ("model", "tokenizer", "classnames", "templates", "device", "amp"),
        "run_classification": ("model", "classifier", "dataloader", "device", "amp"),
        "evaluate": ("model", "dataloader", "tokenizer", "classnames", "templates", "device", "amp"),
    },
    "metrics.linear_probe": {"accuracy": ("output", "target", "topk")},
}


@dataclass
class Kept:
    """The sentences of evaluations that failed while the others went on, each once, and how many evaluations there were."""

    sentences: dict[str, int] = field(default_factory=dict)
    asked: int = 0


_host: ModuleType | None = None
_kept: Kept | None = None


def activate() -> ModuleType:
    """CLIP_benchmark's ``cli``, mended and with our doors open in this process; called again, it changes nothing more.

    Raises Missing where the installed version is not one that is known, or does not look like it.
    """
    global _host
    if _host is not None:
        return _host
    found = _checked()
    scores, probe = found["metrics.zeroshot_classification"], found["metrics.linear_probe"]
    scores.accuracy = probe.accuracy = accuracy
    scores.zero_shot_classifier = models.announced(scores.zero_shot_classifier)
    scores.run_classification = labels_checked(scores.run_classification)
    table, names = found["models"].TYPE2FUNC, found["models"].MODEL_TYPES
    for name, load in ((models.TYPE, models.load), (module.TYPE, module.load)):
        table[name] = load
        names.append(name)  # in place: the command line offers this very list
    build = datasets.opened(found["datasets.builder"].build_dataset)
    for name in ("datasets.builder", "cli", "webdataset_builder"):  # each holds the function under that name
        found[name].build_dataset = build
    found["datasets.builder"].dataset_collection.update(datasets.collections())
    found["cli"].run = _mended(found["cli"].run)
    found["cli"].main_build = results.checked_first(found["cli"].main_build)
    _host = found["cli"]
    return _host


def _checked() -> dict[str, Any]:
    """The modules of the host by their names, once they are what we know."""
    from packaging.version import Version

    try:
        here = version("clip_benchmark")
    except PackageNotFoundError:
        raise Missing("CLIP_benchmark is not installed: pip install 'clip_benchmark>=1.6.2,<2'.") from None
    known = f"pip install 'clip_benchmark>={LOW},<{HIGH}'"
    if not Version(LOW) <= Version(here) < Version(HIGH):
        raise Missing(
            f"clip_benchmark {here} is installed, and what is known here is {LOW} up to, not including, {HIGH}: {known}."
        )
    if find_spec("requests") is None:
        raise Missing("clip_benchmark imports requests and does not bring it along: pip install requests.")
    found = {name: importlib.import_module(f"clip_benchmark.{name}") for name in RELIED}
    for name, functions in RELIED.items():
        for function, wanted in functions.items():
            has = _parameters(getattr(found[name], function, None))
            lost = [parameter for parameter in wanted if has is None or parameter not in has]
            if has is None or lost:
                what = f"lacks {function}" if has is None else f"has a {function} without {', '.join(lost)}"
                raise Missing(f"clip_benchmark {here} is not as it is known here: its {name} {what}: {known}.")
    for name, attribute, kind in (
        ("models", "TYPE2FUNC", dict),
        ("models", "MODEL_TYPES", list),
        ("datasets.builder", "dataset_collection", dict),
    ):
        if not isinstance(getattr(found[name], attribute, None), kind):
            raise Missing(f"clip_benchmark {here} is not as it is known here: its {name} has no {attribute}: {known}.")
    return found


def _parameters(function: Any) -> list[str] | None:
    return list(inspect.signature(function).parameters) if callable(function) else None


def accuracy(output: Any, target: Any, topk: Sequence[int] = (1,)) -> list[float]:
    """Share of samples whose target is among the k best of ``output`` [n, c], for each k.

    The host's own turns an array of one element into a number, which numpy 2.4 refuses.
    """
    best = output.topk(max(topk), 1, True, True).indices
    right = best == target.view(-1, 1)
    return [int(right[:, :k].sum()) / len(target) for k in topk]


def labels_checked(original: Callable[..., Any]) -> Callable[..., Any]:
    """``run_classification`` that notices labels which are no classes."""

    @functools.wraps(original)
    def run_classification(model: Any, classifier: Any, dataloader: Any, device: Any, amp: bool = True) -> Any:
        logits, target = original(model, classifier, dataloader, device, amp=amp)
        count = classifier.shape[1]
        if target.ndim == 1 and len(target) and not 0 <= int(target.min()) <= int(target.max()) < count:
            wrong = int(target.max()) if int(target.max()) >= count else int(target.min())
            raise BadData(f"the data have the label {wrong}, but there are {count} class names.")
        return logits, target

    return run_classification


def _mended(original: Callable[[Namespace], Any]) -> Callable[[Namespace], Any]:
    """``run`` with an output that can be written; under ``main`` a failed evaluation does not end the others."""

    from torch.cuda import is_available as cuda

    @functools.wraps(original)
    def run(args: Namespace) -> Any:
        if _kept is not None:
            _kept.asked += 1
        token = RUNNING.set(args)
        try:
            if args.model_type == models.TYPE and args.task not in ("auto", "zeroshot_classification"):
                raise BadOption(models.ONLY.format(task=args.task))
            if args.task == "linear_probe" and not cuda():
                raise BadOption(
                    "--task linear_probe: CLIP_benchmark trains its probe on a CUDA device only, and there is none here."
                )
            output_of(args)
            return original(args)
        except Exception as error:
            told = trouble.told(error, args.dataset)
            if told is None:
                raise
            if _kept is None:
                raise told from error
            sentence = str(told)
            if sentence not in _kept.sentences:
                print(f"ensemble-bench: {sentence}", file=sys.stderr)
            _kept.sentences[sentence] = _kept.sentences.get(sentence, 0) + 1
            return None
        finally:
            RUNNING.reset(token)

    return run


def main(words: Sequence[str], prog: str = "ensemble-bench clip-benchmark") -> int:
    """Run CLIP_benchmark's command line with our doors open: 0, or 2 where some evaluation failed; the others go on."""
    global _kept
    host = activate()
    before, sys.argv, _kept = sys.argv, [prog, *words], Kept()
    try:
        host.main()
        failed = sum(_kept.sentences.values())
        if failed:
            print(f"ensemble-bench: {failed} of {_kept.asked} evaluations failed; the others are finished.", file=sys.stderr)
        return 2 if failed else 0
    finally:
        sys.argv, _kept = before, None
