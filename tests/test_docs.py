"""The site: every page is reachable, every link leads somewhere, the reference says what the registries hold."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from ensemble_bench import backbones, cli, listing, metrics, strategies
from ensemble_bench.task import Catalogue

DOCS = Path(__file__).parents[1] / "docs"
PAGES = sorted(path for path in DOCS.glob("*.md"))


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    spec = importlib.util.spec_from_file_location("reference", DOCS / "reference.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_page_is_in_the_contents(reference: ModuleType) -> None:
    index = (DOCS / "index.md").read_text(encoding="utf-8")
    listed = [line for block in re.findall(r"```\{toctree\}\n(.*?)```", index, re.S) for line in block.splitlines()]
    names = [line for line in listed if line and not line.startswith(":")]
    assert sorted(names) == sorted(
        [*(path.stem for path in PAGES if path.stem != "index"), *(f"reference/{n}" for n in reference.PAGES)]
    )


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_links_between_pages_lead_somewhere(path: Path) -> None:
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.S)
    for target in re.findall(r"\]\(([^)#\s]+)", text):
        if not target.startswith(("http", "mailto:")):
            assert (DOCS / target).resolve().exists(), f"{path.name}: {target}"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_verbs_in_the_pages_exist(path: Path) -> None:
    for block in re.findall(r"```bash\n(.*?)```", path.read_text(encoding="utf-8"), re.S):
        for verb in re.findall(r"^ensemble-bench ([a-z-]+)", block, re.M):
            assert verb in {*cli.VERBS, *cli.ALIASES}, f"{path.name}: {verb}"


def test_the_reference_holds_every_name(reference: ModuleType, tmp_path: Path) -> None:
    reference.write(tmp_path)
    pages = {path.stem: path.read_text(encoding="utf-8") for path in tmp_path.glob("*.md")}
    assert set(pages) == set(reference.PAGES)
    for page, names in (
        ("strategies", list(strategies.registry)),
        ("tasks", list(Catalogue().paths)),
        ("backbones", [backbone.id for backbone in backbones.listed()]),
        ("corruptions", [thing["name"] for thing in listing.things("corruptions")]),
        ("metrics", list(metrics.METRICS)),
    ):
        for name in names:
            assert f"| {name} |" in pages[page], f"{page}: {name}"
    for verb in cli.VERBS:
        assert f"## {verb}\n" in pages["verbs"] and f"usage: ensemble-bench {verb}" in pages["verbs"]
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.md")}
    reference.write(tmp_path)
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.md")}
