"""What counts as a regression: the level of the test, the smallest drop, and tolerances such as ``mean:0.2pp``."""

from __future__ import annotations

import fnmatch
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ensemble_bench.errors import BadOption
from ensemble_bench.registry import near

LEVEL = 0.02
DROP = 0.01
UNITS = {"acc1": "pp", "mean": "pp", "gflops": "%", "time": "%"}
KEYS = ("tolerances", "level", "tasks", "strategies")


@dataclass(frozen=True)
class Rules:
    """When the gate fires. Shares are fractions: ``drop`` 0.01 is one point.

    A row regresses where McNemar's exact one-sided test, Holm over the rows of its strategy, is below ``level`` and its
    accuracy drops by ``drop`` or more. ``mean``: the mean over all compared rows of a strategy may not drop by more, whatever
    the test says. ``gflops`` and ``time``: what an image costs, and what fitting and answering took in all, may not grow by
    a larger share. None: not looked at. ``tasks`` and ``strategies`` are globs of what is compared.
    """

    level: float = LEVEL
    drop: float = DROP
    mean: float | None = None
    gflops: float | None = None
    time: float | None = None
    tasks: tuple[str, ...] = ("*",)
    strategies: tuple[str, ...] = ("*",)

    def wants(self, task: str, strategy: str) -> bool:
        """Whether rows of this task and strategy are compared."""
        return _matches(task, self.tasks) and _matches(strategy, self.strategies)

    def tolerating(self, texts: Sequence[str], where: str) -> Rules:
        """The same with tolerances, each ``acc1:0.5pp``, ``mean:0.2pp``, ``gflops:5%`` or ``time:20%``.

        >>> Rules().tolerating(["acc1:0.5pp", "time:20%"], "--tolerance")
        Rules(level=0.02, drop=0.005, mean=None, gflops=None, time=0.2, tasks=('*',), strategies=('*',))
        """
        rules = self
        for text in texts:
            found = re.fullmatch(r"([a-z0-9]+):([0-9]+(?:\.[0-9]+)?)(pp|%)", text.strip())
            if not found or UNITS.get(found[1]) != found[3]:
                allowed = ", ".join(f"{name}:NUMBER{unit}" for name, unit in UNITS.items())
                raise BadOption(f"{where}: a tolerance is one of {allowed}, not {text!r}.")
            share = float(found[2]) / 100
            match found[1]:
                case "acc1":
                    rules = replace(rules, drop=share)
                case "mean":
                    rules = replace(rules, mean=share)
                case "gflops":
                    rules = replace(rules, gflops=share)
                case _:
                    rules = replace(rules, time=share)
        return rules


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def read(path: Path) -> Rules:
    """The rules of a gate file: ``tolerances`` (list of texts), ``level``, ``tasks`` and ``strategies`` (lists of globs)."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadOption(f"the gate file {path} cannot be read: {error.strerror}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadOption(f"{path} is no valid TOML: {error}.") from None
    for key in data:
        if key not in KEYS:
            raise BadOption(f"{path}: unknown key {key!r}.{near(key, KEYS)}")
    for key in ("tolerances", "tasks", "strategies"):
        value = data.get(key, [])
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise BadOption(f"{path}: {key!r} must be a list of texts, not {value!r}.")
    level = data.get("level", LEVEL)
    if isinstance(level, bool) or not isinstance(level, (int, float)) or not 0 < level < 1:
        raise BadOption(f"{path}: 'level' must be a number between 0 and 1, not {level!r}.")
    every = ("*",)
    rules = Rules(
        level=float(level),
        tasks=tuple(data.get("tasks", every)) or every,
        strategies=tuple(data.get("strategies", every)) or every,
    )
    return rules.tolerating(data.get("tolerances", []), f"{path}, 'tolerances'")
