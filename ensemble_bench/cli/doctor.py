"""Find what would keep a run from working here, and say the cure. Changes nothing; exit code 2 if something stops a run."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import threading
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from packaging.requirements import Requirement

NAME = "ensemble-bench"
PYTHONS = ((3, 11), (3, 14))
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
PATIENCE = 180  # seconds for all trial imports together
LITTLE, NONE = 2 * 10**9, 10**8  # bytes free on the disk of the store: a note below the first, trouble below the second

# Modules tried in a process of their own, and what they are for where a run on embedded data does without them.
TRIED = {
    "torch": "",
    "torchvision": "",
    "open_clip": "",
    "timm": "",
    "numpy": "",
    "scipy": "",
    "sklearn": "",
    "skimage": "",
    "pandas": "",
    "PIL": "",
    "safetensors": "",
    "rich": "",
    "cv2": "corruptions",
}
# Distributions that a run on embedded data does without; the rest of what we declare stops it.
SPARED = {
    "opencv-python": "corruptions need it",
    "imagecorruptions": "only the reference engine of corruptions needs it",
    "clip-benchmark": "only its own data sets need it",
    "requests": "clip_benchmark imports it without declaring it",
}

Line: TypeAlias = "Iterator[Finding]"


@dataclass(frozen=True)
class Finding:
    """One thing looked at. ``level`` is ok, note (worth knowing, stops nothing) or trouble (stops a run)."""

    level: str
    what: str
    says: str
    cure: str = ""

    def __str__(self) -> str:
        return f"{self.level:<7}  {self.what}: {self.says}" + (f" Cure: {self.cure}" if self.cure else "")


def _python() -> Line:
    low, high = (".".join(map(str, version)) for version in PYTHONS)
    if PYTHONS[0] <= sys.version_info[:2] <= PYTHONS[1]:
        yield Finding("ok", "Python", f"{platform.python_version()} at {sys.executable}")
    else:
        cure = f"python{high} -m venv .venv && .venv/bin/pip install {NAME}"
        yield Finding("trouble", "Python", f"{platform.python_version()} is not among {low} to {high}.", cure)


def declared() -> list[Requirement]:
    """What our own metadata ask for, extras included; those of pyproject.toml beside the package where it is not installed."""
    from packaging.requirements import Requirement

    try:
        return [Requirement(text) for text in metadata.requires(NAME) or ()]
    except metadata.PackageNotFoundError:
        project = tomllib.loads((Path(__file__).resolve().parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        texts = list(project["dependencies"])
        for extra, wanted in project["optional-dependencies"].items():
            texts += [f'{text}; extra == "{extra}"' for text in wanted]
        return [Requirement(text) for text in texts]


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _command(requirement: Requirement) -> str:
    return f"pip install '{requirement.name}{requirement.specifier}'"


def _requirements() -> Line:
    from packaging.utils import canonicalize_name

    if _installed(NAME) is None:
        yield Finding(
            "note", NAME, "runs from a checkout that is not installed: plug-ins cannot depend on it.", "pip install -e ."
        )
    good = 0
    for requirement in declared():
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        name, found = canonicalize_name(requirement.name), _installed(requirement.name)
        if found is None and name == "opencv-python":
            found = _installed("opencv-python-headless")
        if found is not None and requirement.specifier.contains(found, prereleases=True):
            good += 1
            continue
        says = f"version {found} is not {requirement.specifier}" if found else "is not installed"
        spared = SPARED.get(name, "")
        says += f" ({spared})." if spared else "."
        yield Finding("note" if spared else "trouble", requirement.name, says, _command(requirement))
    yield Finding("ok", "requirements", f"{good} are installed in a version that is allowed.")


def _extras() -> Line:
    lacking: dict[str, list[str]] = {}
    for requirement in declared():
        extras = {part.strip("'\" )") for part in str(requirement.marker or "").split("extra == ")[1:]}
        found = _installed(requirement.name)
        if extras and not (found and requirement.specifier.contains(found, prereleases=True)) and requirement.name != NAME:
            for extra in extras - {"all"}:
                lacking.setdefault(extra, []).append(requirement.name)
    for extra, names in sorted(lacking.items()):
        cure = f"pip install '{NAME}[{extra}]'"
        yield Finding("note", f"extra {extra}", f"is not complete: {', '.join(sorted(names))}.", cure)


def _known_conflicts() -> Line:
    """Conflicts between versions that nobody's metadata tell."""
    numpy, host = _installed("numpy"), _installed("clip_benchmark")
    if numpy and host and tuple(map(int, numpy.split(".")[:2])) >= (2, 4) and host == "1.6.2":
        says = f"its own command (version {host}) fails at its end beside numpy {numpy}; ours is not touched by that."
        yield Finding("note", "clip_benchmark", says, "pip install 'numpy<2.4'")
    if _installed("imagecorruptions") and find_spec("pkg_resources") is None:
        says = (
            "cannot be imported by itself: it wants pkg_resources, which setuptools no longer has; ours is not touched by that."
        )
        yield Finding("note", "imagecorruptions", says, "pip install 'setuptools<81'")


_TRIAL = """
import importlib, json, sys
for name in sys.argv[1:]:
    print(json.dumps({"trying": name}), flush=True)
    facts = {}
    try:
        module = importlib.import_module(name)
        facts["version"] = str(getattr(module, "__version__", ""))
        if name == "torch":
            facts["threads"] = module.get_num_threads()
            facts["cuda"] = [module.cuda.get_device_name(i) for i in range(module.cuda.device_count())]
        problem = ""
    except BaseException as error:
        problem = f"{type(error).__name__}: {error}"
    print(json.dumps({"tried": name, "problem": problem, **facts}), flush=True)
"""


def tried(names: list[str], say: Callable[[str], None]) -> dict[str, dict[str, Any]]:
    """What importing each module gave, in a process that may die of it: ``problem`` (empty where it went well), ``version``.

    The names after one that kills the process are tried in a new one.
    """
    found: dict[str, dict[str, Any]] = {}
    while left := [name for name in names if name not in found]:
        with subprocess.Popen(
            [sys.executable, "-P", "-W", "ignore", "-c", _TRIAL, *left],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as trial:
            clock = threading.Timer(PATIENCE, trial.kill)
            clock.start()
            last = left[0]
            for line in trial.stdout or ():
                try:
                    event = json.loads(line)
                except ValueError:  # what a module prints
                    continue
                if "trying" in event:
                    last = event["trying"]
                    say(f"trying to import {last}")
                else:
                    found[event["tried"]] = event
            clock.cancel()
        if last not in found:
            found[last] = {"problem": f"the interpreter died (exit {trial.returncode}) or took longer than {PATIENCE} s"}
    return found


def diagnosed(module: str, problem: str, torch_version: str = "") -> Finding:
    """What a failed import means, and its cure."""
    level = "note" if TRIED.get(module) else "trouble"
    if "torchvision::nms" in problem:
        says = "is another build than torch, so their operators do not find each other."
        if "+cpu" in torch_version:
            cure = f"pip install --force-reinstall torch torchvision --index-url {CPU_INDEX}"
        else:
            cure = "pip install --force-reinstall torch torchvision"
        return Finding("trouble", "torchvision", says, cure)
    if "libGL" in problem or "libgthread" in problem:
        says = f"lacks a library of the system ({problem.partition(': ')[2].partition(':')[0]}); corruptions need it."
        return Finding(level, module, says, "apt-get install libgl1 libglib2.0-0, or pip install opencv-python-headless")
    if "pkg_resources" in problem:
        return Finding(level, module, "imports pkg_resources, which setuptools no longer has.", "pip install 'setuptools<81'")
    names = {"cv2": "opencv-python", "sklearn": "scikit-learn", "skimage": "scikit-image", "PIL": "pillow"}
    lost = problem.partition("No module named ")[2].strip("'\"").partition(".")[0] or module
    distribution = names.get(lost, "open_clip_torch" if lost == "open_clip" else lost)
    cure = f"pip install {distribution}" if lost != module else f"pip install --force-reinstall {distribution}"
    used = f" It is for {TRIED[module]} only." if TRIED.get(module) else ""
    return Finding(level, module, f"cannot be imported: {problem}.{used}", cure)


def _imports(say: Callable[[str], None]) -> Line:
    found = tried(list(TRIED), say)
    torch_version = str(found["torch"].get("version", ""))
    seen = set()
    for module, facts in found.items():
        if facts["problem"]:
            finding = diagnosed(module, facts["problem"], torch_version)
            if (finding.what, finding.says) not in seen:
                seen.add((finding.what, finding.says))
                yield finding
    good = [f"{name} {facts.get('version', '')}".strip() for name, facts in found.items() if not facts["problem"]]
    yield Finding("ok", "imports", ", ".join(good))
    if not found["torch"]["problem"]:
        yield Finding("ok", "threads", f"{found['torch']['threads']} for torch, {os.cpu_count()} processors")
        cuda = found["torch"]["cuda"]
        yield Finding("ok", "GPU", ", ".join(cuda) if cuda else "none that torch can use; everything runs on the processor")


def _whole(path: Path) -> bool:
    """Whether a safetensors file is as long as its header says."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        size = path.stat().st_size
        if length > size:
            return False
        header = json.loads(file.read(length))
    ends = [value["data_offsets"][1] for key, value in header.items() if key != "__metadata__"]
    return bool(size == 8 + length + max(ends, default=0))


def _store() -> Line:
    from ensemble_bench import cache

    root = cache.root()
    there = next(place for place in (root, *root.parents) if place.exists())
    elsewhere = f"export {cache.VARIABLE}=FOLDER"
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        yield Finding("trouble", "store", f"{root} cannot be written: {error.strerror or error}.", elsewhere)
        return
    free = shutil.disk_usage(there).free
    if free < LITTLE:
        level = "trouble" if free < NONE else "note"
        yield Finding(level, "store", f"{free / 1e6:,.0f} MB are free on the disk of {root}.", elsewhere)
    files, spoilt = sorted(root.rglob("*.safetensors")), []
    for path in files:
        try:
            whole = _whole(path)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError):
            whole = False
        if not whole:
            spoilt.append(path)
            yield Finding("trouble", "store", f"{path} is truncated or foreign.", f"rm '{path}'")
    if not spoilt:
        yield Finding("ok", "store", f"{root}: {len(files)} files, {free / 1e9:,.0f} GB free")


def _plugins() -> Line:
    from ensemble_bench import backbones, strategies
    from ensemble_bench.errors import BadPlugin

    count = 0
    for registry in (strategies.registry, backbones.registry):
        try:
            names = [name for name in registry if not registry.builtin(name)]
        except BadPlugin as error:
            yield Finding("trouble", f"{registry.noun} plug-ins", str(error), "pip uninstall DISTRIBUTION")
            continue
        for name in names:
            count += 1
            try:
                registry.load(name)
            except BadPlugin as error:
                owner = _owner(registry.group, name)
                yield Finding("note", f"plug-in {name}", f"{error} Runs without it go on.", f"pip uninstall {owner}")
            else:
                yield Finding("ok", f"plug-in {name}", f"{registry.noun} of {_owner(registry.group, name)}")
    if not count:
        yield Finding("ok", "plug-ins", "none installed")


def _owner(group: str, name: str) -> str:
    """The distribution that brings an entry point."""
    for point in metadata.entry_points(group=group, name=name):
        if point.dist is not None:
            return point.dist.name
    return "DISTRIBUTION"


def _cards() -> Line:
    from ensemble_bench.errors import BenchError
    from ensemble_bench.task import Catalogue

    catalogue, good = Catalogue(), 0
    try:
        names = list(catalogue.paths)
    except BenchError as error:
        yield Finding("trouble", "cards", str(error), "mend or remove that card")
        return
    for name in names:
        try:
            catalogue.task(name)
            good += 1
        except BenchError as error:
            yield Finding("trouble", "cards", str(error), f"mend or remove {catalogue.paths[name]}")
    if good:
        yield Finding("ok", "cards", f"{good} tasks")
    if not names:
        cure = f"pip install --force-reinstall --no-deps {NAME}"
        yield Finding("trouble", "cards", "there is no task card: the installation is not whole.", cure)


def findings(say: Callable[[str], None]) -> Line:
    """Everything looked at, in the order in which it can matter; ``say`` is told what takes time."""
    yield from _python()
    yield from _requirements()
    yield from _extras()
    yield from _known_conflicts()
    yield from _imports(say)
    yield from _store()
    yield from _cards()
    yield from _plugins()


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="a JSON list of objects with level, what, says and cure")


def main(options: argparse.Namespace) -> int:
    def say(line: str) -> None:
        print(f"... {line}", file=sys.stderr)

    found = []
    for finding in findings(say):
        found.append(finding)
        if not options.json:
            print(finding, flush=True)
    if options.json:
        print(json.dumps([dataclasses.asdict(finding) for finding in found], indent=1))
    stopped = any(finding.level == "trouble" for finding in found)
    if not options.json:
        print("something above would stop a run" if stopped else "nothing stops a run")
    return 2 if stopped else 0
