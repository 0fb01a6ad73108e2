"""The quick ratios of speed, measured again and held against the committed ones of ratios.toml: a job of three minutes.

    python tests/benchmarks/test_ratios.py             prints the table
    python tests/benchmarks/test_ratios.py --write     and makes today's ratios the committed ones

Ratios travel from machine to machine, times do not: nothing here is compared with a time of another day. A ratio fails where
it has lost more than the tolerance of what it was, or is below its bar.
"""

from __future__ import annotations

import importlib.util
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import tomli_w

HERE = Path(__file__).resolve().parent
FILE = HERE / "ratios.toml"
HEAD = """\
# Written by `python tests/benchmarks/test_ratios.py --write`, held by `tox -e ratios`. `ratio` is how many times as fast as
# `against` it was when it was committed, `bar` what it must never be below. A ratio may lose `tolerance` of itself: that is
# more than two runs on a busy machine differed by (a quarter), and less than what a lost trick costs.

"""
KERNELS = ("gaussian_noise", "zoom_blur", "brightness", "snow")  # one a kind, of which the reference is not too slow


def _sibling(name: str) -> ModuleType:
    """Another benchmark of this folder."""
    spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def startup() -> dict[str, float]:
    """Help and a list."""
    module = _sibling("test_startup")
    found = module.rows(module.HELD, rounds=1)
    return {" ".join(row.words[1:]): row.ratio for row in found if row.words in module.HELD}


def text() -> dict[str, float]:
    """Class embeddings of a small extract."""
    ours, host, off = _sibling("test_text").measured(classes=10, hosted=1)
    assert off <= 1e-6, off
    return {"class embeddings": host / ours}


def corruptions() -> dict[str, float]:
    """A few kernels, with draws of our own."""
    module = _sibling("test_corruptions")
    with module.one_thread():
        pictures = module.photographs()
        rows = [module.row(name, pictures) for name in KERNELS]
    return {row.name: row.reference / row.native for row in rows}


MEASURES: tuple[Callable[[], dict[str, float]], ...] = (startup, text, corruptions)


def committed() -> dict[str, dict[str, float | str]]:
    """What is held: by name, ``ratio``, ``bar``, ``against``."""
    return {name: row for name, row in tomllib.loads(FILE.read_text(encoding="utf-8")).items() if isinstance(row, dict)}


def tolerance() -> float:
    """The share of itself that a ratio may lose."""
    return float(tomllib.loads(FILE.read_text(encoding="utf-8"))["tolerance"])


def least(row: dict[str, float | str], tolerance: float) -> float:
    """What a ratio must reach."""
    return max(float(row["bar"]), float(row["ratio"]) * (1 - tolerance))


def table(now: dict[str, float]) -> str:
    """Committed ratios beside today's, in Markdown."""
    lines = ["| what | against | committed | bar | now |", "|---|---|---:|---:|---:|"]
    for name, row in committed().items():
        lines.append(f"| {name} | {row['against']} | {row['ratio']} | {row['bar']} | {now[name]:.1f} |")
    return "\n".join(lines)


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("measure", MEASURES, ids=lambda measure: measure.__name__)
def test_ratios(measure: Callable[[], dict[str, float]]) -> None:
    now, held = measure(), committed()
    assert now and set(now) <= set(held), "every ratio is committed: --write"
    slower = {name: (round(ratio, 1), held[name]) for name, ratio in now.items() if ratio < least(held[name], tolerance())}
    assert not slower, slower


def test_what_a_ratio_must_reach() -> None:
    assert least({"ratio": 100.0, "bar": 50.0}, 0.3) == 70.0
    assert least({"ratio": 60.0, "bar": 50.0}, 0.3) == 50.0, "never below its bar"
    names = set(committed())
    assert names == {"--help", "ls strategies", "class embeddings", *KERNELS}
    assert all(float(row["ratio"]) >= float(row["bar"]) for row in committed().values())


def write(now: dict[str, float]) -> None:
    """Make these the committed ratios; bars and peers stay."""
    said = tomllib.loads(FILE.read_text(encoding="utf-8"))
    for name, ratio in now.items():
        said[name]["ratio"] = round(ratio, 1)
    FILE.write_text(HEAD + tomli_w.dumps(said), encoding="utf-8")


if __name__ == "__main__":
    found = {name: ratio for measure in MEASURES for name, ratio in measure().items()}
    print(table(found))
    if "--write" in sys.argv[1:]:
        write(found)
