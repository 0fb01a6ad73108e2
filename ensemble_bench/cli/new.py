"""Write a small distribution to start from: a strategy of your own, its entry point, a test that runs the shipped checks.

DIR gets a pyproject.toml, the strategy, its test and a README; docs/new-strategy.md goes on from there.
"""

from __future__ import annotations

import argparse
import importlib.util
import keyword
import re
from pathlib import Path

PROJECT = """\
[build-system]
requires = ["hatchling>=1.26"]
build-backend = "hatchling.build"

[project]
name = "ensemble-bench-{name}"
version = "0.1.0"
description = "The strategy {name} for ensemble-bench"
requires-python = ">=3.11"
dependencies = ["ensemble-bench"]

[project.entry-points."ensemble_bench.strategies"]
{name} = "{module}:{kind}"

[tool.hatch.build.targets.wheel]
include = ["{module}.py"]
"""

STRATEGY = '''\
"""The strategy {name}."""

from dataclasses import dataclass
from typing import ClassVar, Self

from ensemble_bench import Cube, Strategy


@dataclass(eq=False)
class {kind}(Strategy):
    """Mean of the logits, each backbone weighted by its accuracy on the support to the power of ``sharpness``."""

    name: ClassVar[str] = "{name}"
    sharpness: float = 2.0
    family: ClassVar[str] = "calibrated"
    gives: ClassVar[str] = "logits"

    def fit(self, support: Cube) -> Self:
        seen = support.canonical()
        right = (seen.decisions == seen.labels).double().mean(1)
        self.backbones_, self.weight_ = seen.backbones, (right + 1e-6) ** self.sharpness
        return self

    def predict(self, query: Cube):
        self.fitted()
        logits = query.only(self.backbones_).logits.double()
        return (self.weight_[:, None, None] * logits).sum(0) / self.weight_.sum()
'''

TEST = '''\
"""Every promise that a strategy makes to ensemble-bench."""

from ensemble_bench.testing.strategies import parametrize_with_checks

from {module} import {kind}


@parametrize_with_checks([{kind}])
def test_promises(strategy, check):
    check(strategy)
'''

README = """\
# {name}: a strategy for ensemble-bench
`pip install -e .`, then `python -m pytest` holds it to the promises that every strategy keeps.
`ensemble-bench run -s {name} default`, or `ensemble-bench evaluate ARCHIVE -s {name} default`, compares it with the others.
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("noun", choices=("strategy",), help="what to start")
    parser.add_argument("name", metavar="NAME", help="its name: lower case letters, digits and hyphens")
    parser.add_argument("folder", type=Path, metavar="DIR", help="a folder that is empty or not there")


def main(options: argparse.Namespace) -> int:
    from ensemble_bench.errors import BadOption
    from ensemble_bench.strategies import registry

    name, folder = options.name, options.folder
    module = name.replace("-", "_")
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name) or keyword.iskeyword(module):
        raise BadOption(f"a strategy is called by lower case letters, digits and hyphens, like my-mean, not {name!r}.")
    if name in registry:
        raise BadOption(f"there is already a strategy {name!r}: give yours another name.")
    found = importlib.util.find_spec(module)
    if found is not None and found.origin is not None:  # a folder of that name hides nothing
        raise BadOption(f"a module {module!r} would hide one that is installed: give the strategy another name than {name!r}.")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise BadOption(f"{folder} is already there and not empty: give another folder.")
    parts = {"name": name, "module": module, "kind": "".join(word.capitalize() for word in name.split("-"))}
    files = {
        "pyproject.toml": PROJECT,
        f"{parts['module']}.py": STRATEGY,
        f"test_{parts['module']}.py": TEST,
        "README.md": README,
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file, text in files.items():
            (folder / file).write_text(text.format(**parts), encoding="utf-8")
    except OSError as error:
        raise BadOption(f"{folder} cannot be written: {error.strerror}.") from None
    print(f"{folder}: {', '.join(files)}")
    print(f"next: pip install -e {folder} && pytest {folder} && ensemble-bench run -s {name}")
    return 0
