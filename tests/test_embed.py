"""Embedding: what is computed, how often, and that nothing is computed twice."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from ensemble_bench import embed
from ensemble_bench.backbones.base import Backbone, Encoder
from ensemble_bench.condition import CLEAN, Condition
from ensemble_bench.embed import Embedder, Work
from ensemble_bench.errors import BadData, BadOption, BadStore, BadWeights, Lacking
from ensemble_bench.store import Store

FOG = Condition("mini-c", "fog", 3, seed=1)


@dataclass(frozen=True)
class Task:
    name: str = "mini/toy"
    version: int = 1
    classes: tuple[str, ...] = ("cat", "dog", "bird")
    templates: tuple[str, ...] = ("a {c}", "the {c}.")


@dataclass
class Toy:
    """Picture number i has the value i everywhere. Counts what it hands out; stops after ``last`` pictures."""

    last: int = 10**9
    given: list[str] = field(default_factory=list)

    def pictures(self, split: str, ids: Sequence[str]) -> Iterator[NDArray[np.uint8]]:
        for name in ids:
            if len(self.given) == self.last:
                raise KeyboardInterrupt
            self.given.append(name)
            yield np.full((4, 5, 3), int(name) % 256, dtype=np.uint8)


@dataclass
class ToyEncoder(Encoder):
    """Features (value, value x factor); a text is its length and its number of words."""

    factor: float
    scale: float = 2.0
    gflops: float = 0.5
    parameters: int = 3
    memory: int = 10**9
    prepared: list[int] = field(default_factory=list)

    def preprocess(self, picture: NDArray[np.uint8]) -> Tensor:
        self.prepared.append(int(picture[0, 0, 0]))
        return torch.tensor(picture).permute(2, 0, 1).float()

    def images(self, batch: Tensor) -> Tensor:
        if len(batch) > self.memory:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate too much")
        value = batch[:, 0, 0, 0] + 1
        return torch.stack([value, value * self.factor], 1)

    def texts(self, prompts: Sequence[str]) -> Tensor:
        return torch.tensor([[float(len(prompt)), len(prompt.split()) * self.factor] for prompt in prompts])


@dataclass(frozen=True)
class ToyBackbone(Backbone):
    encoder: ToyEncoder = field(compare=False, hash=False)
    prepares: str = "alike"
    salt: str = ""

    def weights(self) -> str:
        return f"weights {self.encoder.factor}{self.salt}"

    def preprocessing(self) -> str:
        return self.prepares

    def architecture(self) -> str:
        return "toy"

    def fetched(self) -> bool:
        return True

    def load(self, device: str = "cpu", precision: str = "fp32") -> Encoder:
        return self.encoder


def toy(name: str, factor: float, gflops: float | None = 0.25, **changes: Any) -> ToyBackbone:
    return ToyBackbone(name, name, gflops, None, ToyEncoder(factor, **changes))


@pytest.fixture
def pool() -> list[ToyBackbone]:
    return [toy("toy/a", 1.0), toy("toy/b", 2.0), replace(toy("toy/c", 3.0, gflops=None), prepares="otherwise")]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def blocks_of_ten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embed, "BLOCK", 10)


def names(count: int) -> list[str]:
    return [str(i) for i in range(count)]


def test_features_worked_out_by_hand(pool: list[ToyBackbone], store: Store) -> None:
    found = Embedder(pool, store).features(Task(), Toy(), "test", ["7", "0", "3"])
    assert found["toy/a"].tolist() == [[8, 8], [1, 1], [4, 4]]
    assert found["toy/b"].tolist() == [[8, 16], [1, 2], [4, 8]]
    assert list(found) == ["toy/a", "toy/b", "toy/c"]


def test_heads_worked_out_by_hand(store: Store) -> None:
    """'a cat' has 5 signs and 2 words, 'the cat.' 8 and 2: (5, 2) and (8, 2) to unit length, their mean too, times scale 2."""
    head = Embedder([toy("toy/a", 1.0)], store).heads(Task())["toy/a"]
    one, other = np.array([5, 2]) / np.sqrt(29), np.array([8, 2]) / np.sqrt(68)
    mean = (one + other) / 2
    assert head.shape == (3, 2)
    assert head[0].tolist() == pytest.approx(2 * mean / np.linalg.norm(mean))
    assert head[1].tolist() == pytest.approx(head[0].tolist())  # 'dog' is as long as 'cat'


def test_everything_once(pool: list[ToyBackbone], store: Store, blocks_of_ten: None) -> None:
    source, embedder = Toy(), Embedder(pool, store, batch=4)
    shown: list[int] = []
    embedder.cube(Task(), source, "test", names(25), progress=shown.append)
    assert embedder.work == Work(loads=3, class_builds=3, decodes=25, encodes=75)
    assert source.given == names(25)
    assert sum(shown) == 75
    assert len(pool[0].encoder.prepared) == 25 and not pool[1].encoder.prepared  # prepared alike: prepared once
    assert len(pool[2].encoder.prepared) == 25
    again = Embedder(pool, store)
    again.cube(Task(), source, "test", names(25))
    assert again.work == Work()


def test_stored_equals_computed(pool: list[ToyBackbone], store: Store, blocks_of_ten: None) -> None:
    first = Embedder(pool, store).cube(Task(), Toy(), "test", names(25), labels=[i % 3 for i in range(25)])
    second = Embedder(pool, store).cube(Task(), Toy(), "test", names(25), labels=[i % 3 for i in range(25)])
    assert torch.equal(first.logits, second.logits) and torch.equal(first.labels, second.labels)
    assert first.ids == tuple(names(25)) and first.backbones == ("toy/a", "toy/b", "toy/c")
    assert first.gflops.tolist() == [0.25, 0.25, 0.5]  # the last one as measured
    assert not Embedder(pool, store).cube(Task(), Toy(), "test", names(3)).labelled


def test_only_what_is_missing(pool: list[ToyBackbone], store: Store, blocks_of_ten: None) -> None:
    Embedder(pool[:1], store).features(Task(), Toy(), "test", names(20))
    embedder, source = Embedder(pool[:2], store), Toy()
    assert embedder.missing(Task(), "test", names(25)) == {"toy/a": 5, "toy/b": 25}
    embedder.features(Task(), source, "test", names(25))
    assert embedder.work == Work(loads=2, decodes=25, encodes=30)
    assert embedder.missing(Task(), "test", names(25)) == {"toy/a": 0, "toy/b": 0}


def test_an_interruption_keeps_what_was_finished(pool: list[ToyBackbone], store: Store, blocks_of_ten: None) -> None:
    with pytest.raises(KeyboardInterrupt):
        Embedder(pool, store).features(Task(), Toy(last=23), "test", names(30))
    embedder = Embedder(pool, store)
    assert set(embedder.missing(Task(), "test", names(30)).values()) == {10}
    whole = embedder.features(Task(), Toy(), "test", names(30))
    assert embedder.work.decodes == 10
    assert torch.equal(
        whole["toy/b"], Embedder(pool, Store(store.root / "fresh")).features(Task(), Toy(), "test", names(30))["toy/b"]
    )


@pytest.mark.parametrize(
    "change",
    [
        lambda e, t, s, c: (e, replace(t, version=2), s, c),
        lambda e, t, s, c: (e, replace(t, name="mini/other"), s, c),
        lambda e, t, s, c: (e, t, "train", c),
        lambda e, t, s, c: (e, t, s, replace(c, seed=2)),
        lambda e, t, s, c: (e, t, s, replace(c, severity=4)),
        lambda e, t, s, c: (replace(e, precision="bf16", _hows={}), t, s, c),
        lambda e, t, s, c: (replace(e, device="cuda:1", _hows={}), t, s, c),
        lambda e, t, s, c: (replace(e, backbones=[replace(e.backbones[0], salt="+")], _hows={}), t, s, c),
        lambda e, t, s, c: (replace(e, backbones=[replace(e.backbones[0], prepares="new")], _hows={}), t, s, c),
    ],
)
def test_whatever_changes_a_number_changes_the_key(
    store: Store, change: Callable[[Embedder, Task, str, Condition], tuple[Embedder, Task, str, Condition]]
) -> None:
    embedder = Embedder([toy("toy/a", 1.0)], store)
    embedder.features(Task(), Toy(), "test", names(3), FOG, alter=lambda name, picture: picture)
    assert embedder.missing(Task(), "test", names(3), FOG) == {"toy/a": 0}
    other, task, split, condition = change(embedder, Task(), "test", FOG)
    assert other.missing(task, split, names(3), condition) == {"toy/a": 3}


def test_other_samples_or_their_order_are_another_block(store: Store) -> None:
    embedder = Embedder([toy("toy/a", 1.0)], store)
    embedder.features(Task(), Toy(), "test", ["1", "2"])
    for other in (["2", "1"], ["1"], ["12"], ["1", "3"]):
        assert embedder.missing(Task(), "test", other) == {"toy/a": len(other)}


def test_another_kernel_is_another_key(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    backbones = [toy("toy/a", 1.0)]
    Embedder(backbones, store).cube(Task(), Toy(), "test", names(3))
    monkeypatch.setattr(embed, "KERNEL", embed.KERNEL + 1)
    embedder = Embedder(backbones, store)
    embedder.cube(Task(), Toy(), "test", names(3))
    assert embedder.work == Work(loads=1, class_builds=1, decodes=3, encodes=3)


@pytest.mark.parametrize(
    "change", [{"classes": ("cat", "dog", "birds")}, {"templates": ("a {c}",)}, {"classes": ("dog", "cat", "bird")}]
)
def test_prompts_are_part_of_the_text_key_alone(store: Store, change: dict[str, Any]) -> None:
    backbones = [toy("toy/a", 1.0)]
    Embedder(backbones, store).cube(Task(), Toy(), "test", names(3))
    embedder = Embedder(backbones, store)
    embedder.cube(replace(Task(), **change), Toy(), "test", names(3))
    assert embedder.work == Work(loads=1, class_builds=1)


def test_heads_do_not_depend_on_the_condition(store: Store) -> None:
    embedder = Embedder([toy("toy/a", 1.0)], store)
    clean = embedder.cube(Task(), Toy(), "test", names(3))
    foggy = embedder.cube(Task(), Toy(), "test", names(3), FOG, alter=lambda name, picture: picture // 2 + 100)
    assert embedder.work == Work(loads=1, class_builds=1, decodes=6, corruptions=3, encodes=6)
    assert not torch.equal(clean.features[0], foggy.features[0])


def test_a_corruption_and_its_condition_belong_together(store: Store) -> None:
    embedder = Embedder([toy("toy/a", 1.0)], store)
    with pytest.raises(BadOption, match="mini-c:fog:3 needs a corruption"):
        embedder.features(Task(), Toy(), "test", names(2), FOG)
    with pytest.raises(BadOption, match="clean takes no corruption"):
        embedder.features(Task(), Toy(), "test", names(2), CLEAN, alter=lambda name, picture: picture)


def test_memory_that_does_not_reach(store: Store) -> None:
    embedder = Embedder([toy("toy/a", 1.0, memory=3)], store, batch=16)
    found = embedder.features(Task(), Toy(), "test", names(40))
    assert found["toy/a"][:, 0].tolist() == [i + 1 for i in range(40)]
    assert embedder.batch <= 3 and embedder.work.encodes == 40
    with pytest.raises(Lacking, match="not enough memory on cpu for one picture"):
        Embedder([toy("toy/b", 2.0, memory=0)], store).features(Task(), Toy(), "test", names(4))


def test_an_error_that_is_not_about_memory_stays_ours(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = toy("toy/a", 1.0)

    def broken(batch: Tensor) -> Tensor:
        raise RuntimeError("shape mismatch")

    monkeypatch.setattr(backbone.encoder, "images", broken)
    with pytest.raises(RuntimeError, match="shape mismatch"):
        Embedder([backbone], store).features(Task(), Toy(), "test", names(4))


def test_features_that_are_not_numbers_are_not_stored(store: Store) -> None:
    with pytest.raises(BadWeights, match="toy/a gives NaN or infinite features at fp32"):
        Embedder([toy("toy/a", float("nan"))], store).features(Task(), Toy(), "test", names(2))
    assert not (store.root / "features").exists()


class Short(Toy):
    def pictures(self, split: str, ids: Sequence[str]) -> Iterator[NDArray[np.uint8]]:
        yield from super().pictures(split, ids[:-1])


class Long(Toy):
    def pictures(self, split: str, ids: Sequence[str]) -> Iterator[NDArray[np.uint8]]:
        yield from super().pictures(split, [*ids, "0"])


class Grey(Toy):
    def pictures(self, split: str, ids: Sequence[str]) -> Iterator[NDArray[np.uint8]]:
        yield from (picture[..., 0] for picture in super().pictures(split, ids))


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (Short(), "only 4 pictures came for 5"),
        (Long(), "more pictures came than the 5"),
        (Grey(), r"must be uint8 \[h, w, 3\]"),
    ],
)
def test_a_source_that_does_not_keep_its_word(store: Store, source: Toy, said: str) -> None:
    with pytest.raises(BadData, match=rf"mini/toy \(test\): .*{said}"):
        Embedder([toy("toy/a", 1.0)], store).features(Task(), source, "test", names(5))
    assert not (store.root / "features").exists()


def test_a_twin_in_the_pool(store: Store) -> None:
    with pytest.raises(BadOption, match="toy/a and toy/twin are the same backbone under two names"):
        Embedder([toy("toy/a", 1.0), toy("toy/twin", 1.0)], store).distinct()
    Embedder([toy("toy/a", 1.0), toy("toy/b", 2.0)], store).distinct()


def test_a_spoilt_block_is_named(store: Store) -> None:
    embedder = Embedder([toy("toy/a", 1.0)], store)
    embedder.features(Task(), Toy(), "test", names(3))
    (path,) = (store.root / "features").rglob("*.safetensors")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(BadStore, match="Delete it and run again"):
        embedder.features(Task(), Toy(), "test", names(3))


def test_a_stored_run_loads_no_model(tmp_path: Path) -> None:
    """The embedded road from end to end: the second process imports neither open_clip nor timm, a plan not even torch."""
    code = """
import json, sys
from pathlib import Path
import numpy as np
from ensemble_bench.backbones.mini.pool import mini
from ensemble_bench.embed import Embedder

class Task:
    name, version, classes, templates = "mini/noise", 1, ("cat", "dog"), ("a {c}",)

class Source:
    def pictures(self, split, ids):
        for name in ids:
            yield np.random.default_rng(int(name)).integers(0, 256, (64, 64, 3), dtype=np.uint8)

pool = [mini(name, Path(sys.argv[1])) for name in ("vit-16", "rn-narrow")]
ids = [str(i) for i in range(9)]
plan = Embedder(pool).missing(Task, "test", ids)
assert "torch" not in sys.modules
embedder = Embedder(pool)
cube = embedder.cube(Task, Source(), "test", ids)
print(json.dumps([plan, vars(embedder.work), cube.logits.sum().item(), sorted({"open_clip", "timm"} & set(sys.modules))]))
"""
    weights = tmp_path / "weights"
    make_weights(weights, ("vit-16", "rn-narrow"))
    environment = {**os.environ, "ENSEMBLE_BENCH_CACHE": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1"}
    said = []
    for _ in range(2):
        command = [sys.executable, "-c", code, str(weights)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
        assert done.returncode == 0, done.stderr
        said.append(done.stdout)
    import json

    (plan, work, total, loaded), (plan_again, work_again, total_again, loaded_again) = map(json.loads, said)
    assert plan == {"mini/vit-16": 9, "mini/rn-narrow": 9} and plan_again == {"mini/vit-16": 0, "mini/rn-narrow": 0}
    assert work == {"loads": 2, "class_builds": 2, "decodes": 9, "corruptions": 0, "encodes": 18}
    assert "open_clip" in loaded and set(work_again.values()) == {0} and loaded_again == []
    assert total == total_again


def make_weights(folder: Path, wanted: Sequence[str]) -> None:
    """Compact random weights under the names of embedded backbones."""
    import json

    from open_clip.model import CLIP

    from ensemble_bench.backbones.mini import compact, recipe

    folder.mkdir()
    rows = torch.cat([torch.arange(500), torch.tensor([49406, 49407])])
    for name in wanted:
        torch.manual_seed(0)
        compact.save(folder / f"{name}.safetensors", CLIP(**recipe.model_config(name, vocabulary=len(rows))).state_dict(), rows)
        content = {"model_cfg": recipe.model_config(name), "preprocess_cfg": recipe.PREPROCESS, "card": {}}
        (folder / f"{name}.json").write_text(json.dumps(content))
