"""Strategies by text and from files: spelling, plug-in files, and the digest that guards old numbers."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
import torch

from ensemble_bench import strategies
from ensemble_bench.cube import Cube
from ensemble_bench.errors import BadOption, BadPlugin, UnknownName
from ensemble_bench.metrics import decide
from ensemble_bench.registry import Registry
from ensemble_bench.strategies.base import Strategy, written
from ensemble_bench.strategies.build import named, source_digest
from ensemble_bench.strategies.plugin import add_file
from ensemble_bench.strategies.spelling import parsed
from ensemble_bench.testing.strategies import check_strategy
from ensemble_bench.testing.toy import toy

SUPPORT_WEIGHTED = '''from dataclasses import dataclass
from typing import ClassVar, Self
import torch
from ensemble_bench.cube import Cube
from ensemble_bench.strategies.base import TINY, Strategy
@dataclass(eq=False)
class SupportWeighted(Strategy):
    """Log-average in which each backbone weighs as much as its support accuracy, raised to ``sharpness``."""
    sharpness: float = 2.0
    family: ClassVar[str] = "calibrated"
    def fit(self, support: Cube) -> Self:
        weight = (support.logits.argmax(-1) == support.labels).float().mean(1) ** self.sharpness
        self.weight_ = weight / weight.sum().clamp_min(TINY)
        return self
    def predict(self, query: Cube) -> torch.Tensor: return torch.einsum("b,bsc->sc", self.weight_, query.logits.log_softmax(-1))
'''
HEAD = "from ensemble_bench.strategies.base import Strategy\n"
MEAN = '    """Mean."""\n    family = "static"\n    def predict(self, query): return query.logits.mean(0)\n'


@pytest.fixture(autouse=True)
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    """The registry, with plug-in files forgotten afterwards."""
    monkeypatch.setattr(strategies.registry, "_added", {})
    yield strategies.registry


def written_file(folder: Path, text: str, name: str = "mine.py") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_a_third_party_strategy_of_fifteen_lines(tmp_path: Path, registry: Registry) -> None:
    """The house's example as a plug-in file: it is listed, built by text, keeps every promise, and answers."""
    assert len(SUPPORT_WEIGHTED.splitlines()) == 15
    path = written_file(tmp_path, SUPPORT_WEIGHTED)
    assert add_file(path) == ["support-weighted"]
    assert "support-weighted" in registry and not registry.builtin("support-weighted")
    assert registry.row("support-weighted").summary.startswith("Log-average in which")
    check_strategy("support-weighted")
    check_strategy("support-weighted:sharpness=0.5")
    query = toy(120, 2)
    answers = decide(named("support-weighted").fit(toy(18, 1)).predict(query), query)
    assert float((answers == query.labels).double().mean()) > 0.8
    assert add_file(path) == ["support-weighted"]  # the same file again is no clash


def test_names_are_the_classes_or_their_own(tmp_path: Path) -> None:
    text = (
        HEAD
        + f"class NLCPlus(Strategy):\n{MEAN}"
        + f"class Other(Strategy):\n    name = 'two-words'\n{MEAN}"
        + f"class _Private(Strategy):\n{MEAN}"
        + "class Abstract(Strategy):\n    family = 'static'\n"
    )
    assert add_file(written_file(tmp_path, text)) == ["nlc-plus", "two-words"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("def (:\n", r"mine\.py has a syntax error in line 1"),
        ("import no_such_module_at_all\n", r"mine\.py cannot be imported: ModuleNotFoundError"),
        ("raise SystemExit(3)\n", r"mine\.py cannot be imported: SystemExit"),
        ("x = 1\n", r"mine\.py defines no strategy"),
        ("from ensemble_bench.strategies.vote import VoteTop1\n", r"mine\.py defines no strategy"),
        (f"{HEAD}class Nlc(Strategy):\n{MEAN}", r"mine\.py defines a strategy 'nlc', and there is one of that name"),
        (f"{HEAD}class A(Strategy):\n    name = 'Bad_Name'\n{MEAN}", r"calls a strategy 'Bad_Name': use lower case"),
        (f"{HEAD}class A(Strategy):\n    name = 'x'\n{MEAN}class B(A):\n    name = 'x'\n", r"two strategies called 'x'"),
    ],
)
def test_a_bad_file_is_a_sentence_and_registers_nothing(tmp_path: Path, registry: Registry, text: str, sentence: str) -> None:
    before = list(registry)
    with pytest.raises(BadPlugin, match=sentence):
        add_file(written_file(tmp_path, text))
    assert list(registry) == before


def test_a_clash_registers_nothing_of_the_file(tmp_path: Path, registry: Registry) -> None:
    add_file(written_file(tmp_path, f"{HEAD}class Mine(Strategy):\n{MEAN}"))
    both = written_file(tmp_path, f"{HEAD}class Fresh(Strategy):\n{MEAN}class Mine(Strategy):\n{MEAN}", "other.py")
    with pytest.raises(BadPlugin, match="defines a strategy 'mine', and there is one of that name"):
        add_file(both)
    assert "fresh" not in registry


def test_a_file_that_is_not_there_or_no_python(tmp_path: Path) -> None:
    with pytest.raises(BadPlugin, match=r"nowhere\.py cannot be read: No such file"):
        add_file(tmp_path / "nowhere.py")
    with pytest.raises(BadPlugin, match=r"its name must end in \.py"):
        add_file(written_file(tmp_path, "x = 1\n", "mine.txt"))
    with pytest.raises(BadPlugin, match="cannot be read"):
        add_file(tmp_path)


@pytest.mark.parametrize(
    ("text", "error", "sentence"),
    [
        ("mean-logits", UnknownName, "no strategy is called 'mean-logits'"),
        ("vote-top2", UnknownName, "Did you mean vote-top"),
        ("nlc:depth=3", BadOption, "the strategy 'nlc' has no parameter 'depth'; it has form, epochs"),
        ("nlc:epochs=many", BadOption, "'epochs' of 'nlc' must be of type int, not 'many'"),
        ("nlc:form=sideways", BadOption, "form is temperature or weight, not 'sideways'"),
        ("nlc:fast", BadOption, "are written name:key=value"),
        ("nlc:epochs=1:epochs=2", BadOption, "gives the parameter 'epochs' twice"),
        ("nlc:seed=1", BadOption, "has no parameter 'seed'"),
        ("super-learner:form=arithmetic", BadOption, "form is convex or linear"),
        ("super-learner:pull=-1", BadOption, "pull must be at least 0"),
        ("genetic:members=0", BadOption, "members must be at least 1"),
        ("oracle:k=-1", BadOption, "k is a number of backbones"),
        ("vote-top3:borda=maybe", BadOption, "must be of type bool"),
    ],
)
def test_a_strategy_that_cannot_be_is_a_sentence(text: str, error: type[Exception], sentence: str) -> None:
    with pytest.raises(error, match=sentence):
        named(text)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("nlc", "nlc"),
        ("nlc:form=temperature", "nlc"),
        ("nlc:epochs=0300:form=weight", "nlc:form=weight"),
        ("vote-top3:borda=True", "vote-top3:borda=true"),
        ("oracle:k=2", "oracle:k=2"),
        ("single:openai/RN50", "single:openai/RN50"),
        ("single:backbone=file:0123/RN50", "single:file:0123/RN50"),
        ("super-learner:pull=1e-2", "super-learner"),
    ],
)
def test_every_spelling_has_one_canonical_form(text: str, canonical: str) -> None:
    name = parsed(text)[0]
    assert written(name, named(text)) == canonical
    assert written(name, named(canonical)) == canonical


def test_a_required_parameter_is_asked_for(tmp_path: Path) -> None:
    text = (
        "from dataclasses import dataclass\n" + HEAD + "@dataclass(eq=False)\nclass Mine(Strategy):\n    anchor: str\n" + MEAN
    )
    add_file(written_file(tmp_path, text.replace('    """Mean."""\n', "")))
    with pytest.raises(BadOption, match="'mine' needs its parameter 'anchor': write mine:anchor=VALUE"):
        named("mine")
    assert written("mine", named("mine:anchor=x")) == "mine:anchor=x"


def test_the_digest_is_of_the_defining_file_and_of_its_parents(tmp_path: Path) -> None:
    strategy = named("log-avg")
    path = Path(inspect.getsourcefile(type(strategy)) or "")
    assert source_digest(strategy) == hashlib.sha256(path.read_bytes()).hexdigest()
    assert source_digest(named("vote-top1")) == source_digest(named("vote-top3")) != source_digest(named("borda"))
    text = f"{HEAD}from ensemble_bench.strategies.log_avg import LogAvg\nclass Mine(LogAvg):\n    pass\n"
    add_file(written_file(tmp_path, text))
    one = source_digest(named("mine"))
    assert one not in (source_digest(named("log-avg")), hashlib.sha256(text.encode()).hexdigest()) and len(one) == 64


def test_an_edited_plugin_gets_another_digest(tmp_path: Path, registry: Registry) -> None:
    digests = []
    for text in (SUPPORT_WEIGHTED, SUPPORT_WEIGHTED.replace("2.0", "3.0")):
        registry._added.clear()
        add_file(written_file(tmp_path, text))
        digests.append(source_digest(named("support-weighted")))
    assert digests[0] == hashlib.sha256(SUPPORT_WEIGHTED.encode()).hexdigest() != digests[1]


def test_an_edited_helper_beside_a_strategy_gives_another_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "others_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "mine.py").write_text(
        f"{HEAD}from others_package import near\nfrom .far import x\nclass Mine(Strategy):\n{MEAN}"
    )
    (package / "near.py").write_text("from others_package.deep import y\n")
    for name in ("far", "deep", "alone"):
        (package / f"{name}.py").write_text("x = y = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("others_package.mine")
    seen = [source_digest(module.Mine())]
    for name in ("near", "far", "deep", "alone"):
        with (package / f"{name}.py").open("a") as file:
            file.write("z = 2\n")
        seen.append(source_digest(module.Mine()))
    assert len(set(seen[:4])) == 4 and seen[3] == seen[4]
    for name in [name for name in sys.modules if name.startswith("others_package")]:
        monkeypatch.delitem(sys.modules, name)


def test_what_is_not_declared_promises_least() -> None:
    @dataclass(eq=False)
    class Quiet(Strategy):
        """Says its family only."""

        family: ClassVar[str] = "oracle"

        def predict(self, query: Cube) -> torch.Tensor:
            return query.logits.mean(0)

    assert (Quiet.labels, Quiet.needs, Quiet.gives) == ("query", ("logits",), "votes")
    assert not hasattr(Quiet(), "weight_") and not hasattr(Quiet(), "seed")


def test_listing_needs_no_torch() -> None:
    script = (
        "import sys; from ensemble_bench import strategies; from ensemble_bench.strategies import plugin, spelling\n"
        "rows = [strategies.registry.row(name) for name in strategies.registry]\n"
        "assert all(row.facts['family'] and row.summary for row in rows) and len(rows) >= 14\n"
        "sys.exit(bool({'torch', 'numpy', 'scipy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", script], timeout=60).returncode == 0
