"""The verb ``doctor``: every trouble it knows is planted, found and given its cure; nothing else is called trouble."""

from __future__ import annotations

import json
import shutil
from argparse import Namespace
from collections import namedtuple
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch
from packaging.utils import canonicalize_name
from safetensors.torch import save_file

from ensemble_bench import cache, cards, strategies
from ensemble_bench.cli import doctor
from ensemble_bench.cli.doctor import Finding

Plant = Callable[..., None]


def troubles(found: Iterator[Finding]) -> list[Finding]:
    """What would stop a run."""
    return [finding for finding in found if finding.level == "trouble"]


def called(found: Iterator[Finding], what: str) -> Finding:
    """The one finding about that."""
    (only,) = [finding for finding in found if finding.what == what]
    return only


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Plant:
    """A function that pretends other versions; None stands for not installed."""
    real = metadata.version

    def plant(**versions: str | None) -> None:
        def version(name: str) -> str:
            name = name.replace("-", "_")
            if name not in versions:
                return real(name)
            found = versions[name]
            if found is None:
                raise metadata.PackageNotFoundError(name)
            return found

        monkeypatch.setattr(metadata, "version", version)

    return plant


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plant:
    """A function that puts modules with that source text before all others, for processes started later."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def plant(**texts: str) -> None:
        for name, text in texts.items():
            (tmp_path / f"{name}.py").write_text(text)
            monkeypatch.setitem(doctor.TRIED, name, doctor.TRIED.get(name, ""))
        for name in set(doctor.TRIED) - set(texts):
            monkeypatch.delitem(doctor.TRIED, name)

    return plant


TORCH = """
__version__ = "2.13.0+cpu"
def get_num_threads(): return 3
class cuda:
    device_count = staticmethod(lambda: 1)
    get_device_name = staticmethod(lambda number: "a card")
"""


def test_what_is_installed_here_is_allowed() -> None:
    assert troubles(doctor._requirements()) == []
    assert troubles(doctor._python()) == []


def test_our_requirements_are_those_of_the_project() -> None:
    names = {canonicalize_name(requirement.name) for requirement in doctor.declared()}
    assert {"torch", "open-clip-torch", "numpy", "pytest"} <= names


def test_a_version_out_of_range(installed: Plant) -> None:
    installed(numpy="1.20.0")
    (trouble,) = troubles(doctor._requirements())
    assert trouble.what == "numpy"
    assert "1.20.0" in trouble.says
    assert trouble.cure.startswith("pip install 'numpy") and ">=1.26" in trouble.cure


def test_a_lost_requirement_stops_a_run_or_does_not(installed: Plant) -> None:
    installed(requests=None, timm=None)
    found = list(doctor._requirements())
    assert called(iter(found), "requests").level == "note"
    assert called(iter(found), "requests").cure.startswith("pip install 'requests")
    assert called(iter(found), "timm").level == "trouble"


def test_headless_opencv_will_do(installed: Plant) -> None:
    installed(opencv_python=None, opencv_python_headless="4.12.0")
    assert "opencv-python" not in [finding.what for finding in doctor._requirements()]


def test_an_extra_that_is_not_complete(installed: Plant) -> None:
    installed(hypothesis=None)
    finding = called(doctor._extras(), "extra test")
    assert finding.level == "note"
    assert "hypothesis" in finding.says
    assert finding.cure == "pip install 'ensemble-bench[test]'"


@pytest.mark.parametrize(("numpy", "noted"), [("2.3.5", False), ("2.4.0", True), ("2.10.1", True)])
def test_the_host_beside_a_new_numpy(installed: Plant, numpy: str, noted: bool) -> None:
    installed(numpy=numpy, clip_benchmark="1.6.2")
    assert ("clip_benchmark" in [finding.what for finding in doctor._known_conflicts()]) is noted


def test_setuptools_without_pkg_resources(installed: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(imagecorruptions="1.1.2")
    monkeypatch.setattr(doctor, "find_spec", lambda name: None)
    assert called(doctor._known_conflicts(), "imagecorruptions").level == "note"
    monkeypatch.setattr(doctor, "find_spec", lambda name: name)
    assert "imagecorruptions" not in [finding.what for finding in doctor._known_conflicts()]


def test_another_build_of_torchvision(modules: Plant) -> None:
    nms = 'raise RuntimeError("operator torchvision::nms does not exist")'
    modules(torch=TORCH, torchvision=nms, open_clip="import torchvision")
    said: list[str] = []
    found = list(doctor._imports(said.append))
    (trouble,) = troubles(iter(found))  # open_clip falls over the same thing: said once
    assert trouble.what == "torchvision"
    assert trouble.cure.endswith(doctor.CPU_INDEX)
    assert called(iter(found), "threads").says.startswith("3 for torch")
    assert called(iter(found), "GPU").says == "a card"
    assert said == ["trying to import torch", "trying to import torchvision", "trying to import open_clip"]


def test_opencv_without_the_libraries_of_the_system(modules: Plant) -> None:
    lacking = 'raise ImportError("libGL.so.1: cannot open shared object file: No such file or directory")'
    modules(torch=TORCH, cv2=lacking)
    finding = called(doctor._imports(lambda line: None), "cv2")
    assert finding.level == "note"
    assert "libGL.so.1" in finding.says
    assert "libgl1" in finding.cure and "opencv-python-headless" in finding.cure


def test_an_import_that_kills_the_interpreter(modules: Plant) -> None:
    modules(torch=TORCH, scipy="import os; os._exit(139)", pandas="__version__ = '9'")
    found = list(doctor._imports(lambda line: None))
    assert called(iter(found), "scipy").level == "trouble"
    assert "139" in called(iter(found), "scipy").says
    assert "pandas 9" in called(iter(found), "imports").says  # what came after is tried all the same


@pytest.mark.parametrize(
    ("module", "problem", "cure"),
    [
        ("sklearn", "ModuleNotFoundError: No module named 'sklearn'", "pip install --force-reinstall scikit-learn"),
        ("open_clip", "ModuleNotFoundError: No module named 'ftfy'", "pip install ftfy"),
        ("timm", "ImportError: cannot import name 'x' from 'timm'", "pip install --force-reinstall timm"),
    ],
)
def test_any_other_failed_import(module: str, problem: str, cure: str) -> None:
    finding = doctor.diagnosed(module, problem)
    assert (finding.level, finding.cure) == ("trouble", cure)
    assert problem in finding.says


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty store."""
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "store"))
    return tmp_path / "store"


def test_truncated_and_foreign_files_in_the_store(store: Path) -> None:
    (store / "features").mkdir(parents=True)
    whole, cut, foreign, empty = (store / "features" / f"{name}.safetensors" for name in ("a", "b", "c", "d"))
    save_file({"x": torch.ones(100)}, whole, {"key": "{}"})
    assert troubles(doctor._store()) == []
    cut.write_bytes(whole.read_bytes()[:-1])
    foreign.write_text("what is this " * 9)
    empty.touch()
    assert [trouble.cure for trouble in troubles(doctor._store())] == [f"rm '{path}'" for path in (cut, foreign, empty)]


def test_a_store_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "file" / "store"))
    (trouble,) = troubles(doctor._store())
    assert trouble.cure == f"export {cache.VARIABLE}=FOLDER"


@pytest.mark.parametrize(("free", "level"), [(10**7, "trouble"), (10**9, "note"), (10**11, "ok")])
def test_little_disk_space(store: Path, monkeypatch: pytest.MonkeyPatch, free: int, level: str) -> None:
    usage = namedtuple("usage", "total used free")(10**12, 10**12 - free, free)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    first, *_ = doctor._store()
    assert first.level == level
    assert not store.exists()  # looking changes nothing


def points(monkeypatch: pytest.MonkeyPatch, *found: metadata.EntryPoint) -> None:
    """Pretend that these strategies are the only plug-ins."""

    def entry_points(**wanted: Any) -> metadata.EntryPoints:
        return metadata.EntryPoints(found).select(**wanted)

    monkeypatch.setattr(metadata, "entry_points", entry_points)
    monkeypatch.setattr(strategies.registry, "_entry_points", None)


def point(name: str, value: str) -> metadata.EntryPoint:
    return metadata.EntryPoint(name, value, strategies.registry.group)


def test_a_broken_plugin_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    points(monkeypatch, point("sound", "json:JSONDecoder"), point("torn", "no_such_module_anywhere:Torn"))
    found = list(doctor._plugins())
    assert called(iter(found), "plug-in sound").level == "ok"
    torn = called(iter(found), "plug-in torn")
    assert torn.level == "note" and "no_such_module_anywhere" in torn.says and torn.cure.startswith("pip uninstall")
    assert troubles(iter(found)) == []


def test_a_plugin_with_a_name_that_is_taken_is_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    points(monkeypatch, point("nlc", "json:JSONDecoder"))
    (trouble,) = troubles(doctor._plugins())
    assert "nlc" in trouble.says


def test_a_broken_card_and_no_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [finding.level for finding in doctor._cards()] == ["ok"]
    (tmp_path / "tasks").mkdir()
    monkeypatch.setattr(cards, "folder", lambda kind: tmp_path / kind)
    assert "no task card" in troubles(doctor._cards())[0].says
    (tmp_path / "tasks" / "bad.toml").write_text("name = ")
    (trouble,) = troubles(doctor._cards())
    assert "bad.toml" in trouble.says


@pytest.mark.parametrize(("level", "code"), [("ok", 0), ("note", 0), ("trouble", 2)])
@pytest.mark.parametrize("as_json", [True, False])
def test_exit_codes_and_output(
    level: str, code: int, as_json: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    finding = Finding(level, "thing", "is so.", "pip install it")
    monkeypatch.setattr(doctor, "findings", lambda say: iter([finding]))
    assert doctor.main(Namespace(json=as_json)) == code
    out = capsys.readouterr().out
    if as_json:
        assert json.loads(out) == [{"level": level, "what": "thing", "says": "is so.", "cure": "pip install it"}]
    else:
        assert out.splitlines()[0] == f"{level:<7}  thing: is so. Cure: pip install it"


def test_the_whole_of_it_here(modules: Plant, store: Path) -> None:
    modules(torch=TORCH)
    found = list(doctor.findings(lambda line: None))
    assert troubles(iter(found)) == []
    assert {"Python", "requirements", "imports", "threads", "GPU", "store", "cards"} <= {finding.what for finding in found}
