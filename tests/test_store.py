"""The store: found again by its whole key, written whole or not at all, checked when read."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ensemble_bench import cache
from ensemble_bench.cache import JSON
from ensemble_bench.errors import BadStore, BadWeights
from ensemble_bench.store import Store

KEY: dict[str, JSON] = {"weights": "ab", "version": 1, "split": "test"}
TENSORS = {"features": torch.arange(12, dtype=torch.float32).reshape(3, 4), "scale": torch.tensor(2.5, dtype=torch.float64)}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def files(store: Store) -> list[Path]:
    return [path for path in store.root.rglob("*") if path.is_file()]


def test_comes_back_as_it_was(store: Store) -> None:
    assert store.get("features", KEY) is None
    assert not store.has("features", KEY)
    store.put("features", KEY, TENSORS)
    found = store.get("features", KEY)
    assert found is not None and store.has("features", KEY)
    assert found.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert found[name].dtype == tensor.dtype and torch.equal(found[name], tensor)
    assert files(store) == [store.path("features", KEY)]


@pytest.mark.parametrize("changed", [{"weights": "ac"}, {"version": 2}, {"version": "1"}, {"split": "train"}, {"more": None}])
def test_every_entry_of_a_key_counts(store: Store, changed: dict[str, JSON]) -> None:
    store.put("features", KEY, TENSORS)
    assert store.get("features", {**KEY, **changed}) is None
    assert store.get("heads", KEY) is None


def test_order_of_a_key_does_not_count(store: Store) -> None:
    assert store.path("features", KEY) == store.path("features", dict(reversed(KEY.items())))


def test_a_strided_tensor_is_stored_as_its_values(store: Store) -> None:
    store.put("features", KEY, {"x": TENSORS["features"].T})
    found = store.get("features", KEY)
    assert found is not None and torch.equal(found["x"], TENSORS["features"].T)


def spoil_end(data: bytes) -> bytes:
    return data[:-5]


def spoil_header(data: bytes) -> bytes:
    return data[:20]


def spoil_value(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


def spoil_shape(data: bytes) -> bytes:
    return data.replace(b"[3,4]", b"[4,3]")


def spoil_all(data: bytes) -> bytes:
    return b"something else altogether"


def spoil_nothing(data: bytes) -> bytes:
    return b""


def foreign_safetensors(data: bytes) -> bytes:
    from safetensors.torch import save

    return save(TENSORS)


@pytest.mark.parametrize(
    "spoil", [spoil_end, spoil_header, spoil_value, spoil_shape, spoil_all, spoil_nothing, foreign_safetensors]
)
def test_a_spoilt_file_is_named_and_kept(store: Store, spoil: object) -> None:
    store.put("features", KEY, TENSORS)
    path = store.path("features", KEY)
    spoilt = spoil(path.read_bytes())  # type: ignore[operator]
    assert spoilt != path.read_bytes()
    path.write_bytes(spoilt)
    with pytest.raises(BadStore, match=r"spoilt.*Delete it and run again") as caught:
        store.get("features", KEY)
    assert str(path) in str(caught.value)
    assert path.read_bytes() == spoilt


def test_a_file_under_another_name_is_refused(store: Store) -> None:
    other: dict[str, JSON] = {**KEY, "split": "train"}
    store.put("features", KEY, TENSORS)
    target = store.path("features", other)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(store.path("features", KEY).read_bytes())
    with pytest.raises(BadStore, match="belongs to another key"):
        store.get("features", other)


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_loses_nothing(store: Store, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    store.put("features", KEY, TENSORS)
    before = store.path("features", KEY).read_bytes()

    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        if call == "fsync":
            patched.setattr(os, "fsync", full)
        else:
            patched.setattr(Path, "replace", full)
        for key in (KEY, {**KEY, "version": 2}):
            with pytest.raises(BadStore, match=r"no space left on the disk.*ENSEMBLE_BENCH_CACHE"):
                store.put("features", key, {"x": torch.zeros(2)})
    assert store.path("features", KEY).read_bytes() == before
    assert files(store) == [store.path("features", KEY)]


def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    """A limit on the size of files stands in for a small disk: the system itself refuses, in the middle of the data."""
    code = f"""
import resource, signal, torch
from pathlib import Path
from ensemble_bench.errors import BadStore
from ensemble_bench.store import Store
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
try:
    Store(Path({str(tmp_path)!r})).put("features", {{"a": 1}}, {{"x": torch.zeros(10_000)}})
except BadStore as error:
    print("told:", error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("told:") and "no space left" in done.stdout
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_folder_that_cannot_be_one(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    store = Store(blocked / "store")
    for call in (
        lambda: store.put("features", KEY, TENSORS),
        lambda: store.get("features", KEY),
        lambda: store.has("features", KEY),
    ):
        with pytest.raises(BadStore, match=r"cannot be used.*ENSEMBLE_BENCH_CACHE"):
            call()
    assert blocked.read_text() == "in the way"


def test_two_processes_may_store_the_same(store: Store) -> None:
    code = f"""
import torch
from pathlib import Path
from ensemble_bench.store import Store
store = Store(Path({str(store.root)!r}))
for _ in range(50):
    store.put("features", {KEY!r}, {{"x": torch.ones(200, 200)}})
    assert torch.equal(store.get("features", {KEY!r})["x"], torch.ones(200, 200))
"""
    both = [subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for process in both:
        said = process.communicate(timeout=120)[1]
        assert process.returncode == 0, said
    assert files(store) == [store.path("features", KEY)]


def test_asking_needs_no_torch(store: Store) -> None:
    store.put("features", KEY, TENSORS)
    code = f"""
import sys
from pathlib import Path
from ensemble_bench.store import Store
assert Store(Path({str(store.root)!r})).has("features", {KEY!r})
assert "torch" not in sys.modules and "numpy" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_where_it_lives(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ENSEMBLE_BENCH_CACHE", str(tmp_path / "own"))
    assert Store().root == tmp_path / "own"
    monkeypatch.delenv("ENSEMBLE_BENCH_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert Store().root == tmp_path / "ensemble_bench"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert Store().root == Path.home() / ".cache" / "ensemble_bench"


def test_a_file_is_digested_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ENSEMBLE_BENCH_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "weights.pt"
    path.write_bytes(b"abc")
    abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # sha256 of "abc", FIPS 180-2
    assert cache.digest(path) == abc
    memo = next((tmp_path / "cache" / "digests").iterdir())
    known = json.loads(memo.read_text())
    memo.write_text(json.dumps({**known, "sha256": "remembered"}))
    assert cache.digest(path) == "remembered"
    os.utime(path, ns=(0, known["changed"] + 1))
    assert cache.digest(path) == abc
    memo.write_text("spoilt")
    assert cache.digest(path) == abc
    with pytest.raises(BadWeights, match=r"nowhere\.pt cannot be read"):
        cache.digest(tmp_path / "nowhere.pt")
