"""Backbones: names, identity, loading of real and broken weights, the embedded ones."""

from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ensemble_bench import backbones
from ensemble_bench.backbones import catalogue, cost
from ensemble_bench.backbones.base import Backbone, Encoder
from ensemble_bench.backbones.mini import compact, recipe
from ensemble_bench.backbones.mini.pool import COMPACT, expanded, mini
from ensemble_bench.backbones.open_clip import Pretrained, folder, pretrained, saved
from ensemble_bench.errors import BadOption, BadPlugin, BadWeights, Missing, UnknownName
from ensemble_bench.testing import backbones as shipped

CONFIG: dict[str, Any] = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2},
}
WORDS = ["a photo of a cat", "cat", "a rather long sentence about nothing but many many words, with signs; and more"]


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache for this module, and no network."""
    root = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("ENSEMBLE_BENCH_CACHE", str(root))
        patched.setenv("HF_HUB_OFFLINE", "1")
        yield root


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with compact random weights under the names of the embedded backbones."""
    from open_clip.model import CLIP

    path = tmp_path_factory.mktemp("compact")
    rows = torch.cat([torch.arange(500), torch.tensor([49406, 49407])])
    for seed, name in enumerate(recipe.VISION):
        torch.manual_seed(seed)
        state = CLIP(**recipe.model_config(name, vocabulary=len(rows))).state_dict()
        compact.save(path / f"{name}.safetensors", state, rows)
        content = {"model_cfg": recipe.model_config(name), "preprocess_cfg": recipe.PREPROCESS, "card": {}}
        (path / f"{name}.json").write_text(json.dumps(content))
    return path


def random_state(config: dict[str, Any], seed: int = 0) -> dict[str, Tensor]:
    import open_clip

    torch.manual_seed(seed)
    state: dict[str, Tensor] = open_clip.CLIP(**copy.deepcopy(config)).state_dict()
    return state


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Small architectures that open_clip is told of, and their configurations."""
    import open_clip

    other = copy.deepcopy(CONFIG)
    other["vision_cfg"]["width"] = 48
    stretched = copy.deepcopy(CONFIG)
    stretched["vision_cfg"]["image_size"] = 64
    every = {
        "test-tiny": CONFIG,
        "test-tiny-quickgelu": {**CONFIG, "quick_gelu": True},
        "test-other": other,
        "test-stretched": stretched,
        "test-custom": {**CONFIG, "custom_text": True},
    }
    path = tmp_path_factory.mktemp("configs")
    for name, config in every.items():
        (path / f"{name}.json").write_text(json.dumps(config))
    open_clip.add_model_config(path)
    return every


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, known: dict[str, Any]) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "tiny.pt"
    torch.save({"state_dict": random_state(CONFIG)}, path)
    return path


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("local") / "tiny-folder"
    path.mkdir()
    (path / "open_clip_config.json").write_text(json.dumps({"model_cfg": CONFIG, "preprocess_cfg": {"resize_mode": "squash"}}))
    save_file(random_state(CONFIG, 1), path / "open_clip_model.safetensors")
    return path


def picture(height: int, width: int, seed: int = 0) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


# Names


def ids(*texts: str) -> list[str]:
    return [backbone.id for backbone in backbones.find(texts)]


def test_names_pools_globs_and_lists() -> None:
    assert ids("mini") == list(backbones.POOLS["mini"])
    assert ids("mini/vit-8") == ["mini/vit-8"]
    assert ids("mini/vit-*") == ["mini/vit-16", "mini/vit-8"]
    assert ids("mini/vit-8, mini/rn-wide", "mini/vit-8") == ["mini/vit-8", "mini/rn-wide"]
    assert len(ids("openai")) == 9
    assert ids("mini,openai") == [*backbones.POOLS["mini"], *backbones.POOLS["openai"]]


def test_a_known_pair_is_one_backbone_although_its_tag_is_a_pool() -> None:
    assert ids("RN50,openai") == ["openai/RN50"]
    assert ids("mini/vit-8,RN50,openai,mini/rn-wide") == ["mini/vit-8", "openai/RN50", "mini/rn-wide"]
    with pytest.raises(BadOption, match="'RN50' is an architecture: say which weights"):
        backbones.find(["RN50", "openai"])


@pytest.mark.parametrize("text", ["openai/RN50", "RN50-quickgelu,openai", "openai/RN50-quickgelu", "RN50,OpenAI"])
def test_twins_are_one(text: str) -> None:
    assert ids("RN50,openai", text) == ["openai/RN50"]


def test_other_tags_need_no_open_clip_to_be_named() -> None:
    (found,) = backbones.find(["ViT-B/32,laion2b_s34b_b79k"])
    assert (found.id, found.arch, found.gflops) == ("laion2b_s34b_b79k/ViT-B-32", "ViT-B-32", None)
    assert ids("laion2b_s34b_b79k/ViT-B-32", "laion2b-s34b-b79k/ViT-B-32") == [found.id]
    assert ids("hf-hub:timm/vit_base_patch32_clip_224.openai") == ["hf-hub:timm/vit_base_patch32_clip_224.openai"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("openai/RN5", "Did you mean openai/RN50"),
        ("mini/rn-narow", "Did you mean mini/rn-narrow"),
        ("minni", "Did you mean mini"),
        ("ViT-B-32,opena1", "no pretrained weights 'opena1' for ViT-B-32. Did you mean openai"),
        ("mini/zz*", "no backbone matches"),
    ],
)
def test_a_misspelt_name_says_what_is_near(text: str, said: str) -> None:
    with pytest.raises(UnknownName, match=said):
        backbones.find([text])


@pytest.mark.parametrize("text", ["", " , ", "hf-hub:nothing"])
def test_names_that_make_no_sense(text: str) -> None:
    with pytest.raises(BadOption):
        backbones.find([text])


def test_a_tag_of_another_architecture() -> None:
    with pytest.raises(
        UnknownName, match=r"no pretrained weights 'laion2b_s34b_b79k' for RN50\. There are: cc12m, openai, yfcc15m"
    ):
        backbones.find(["RN50,laion2b_s34b_b79k"])[0].weights()


def test_files_and_folders(checkpoint: Path, local: Path) -> None:
    (one,) = backbones.find([f"test-tiny,{checkpoint}"])
    digest = one.weights()
    assert one.id == f"file:{digest[:12]}/test-tiny"
    (other,) = backbones.find([f"local-dir:{local}"])
    assert other.id == f"file:{other.weights()[:12]}/tiny-folder"
    assert ids(f"test-tiny,{checkpoint},mini/vit-8,local-dir:{local}") == [one.id, "mini/vit-8", other.id]


def test_naming_loads_nothing_heavy(tmp_path: Path) -> None:
    code = """
import sys
from ensemble_bench import backbones
assert len(backbones.find(["mini", "openai", "ViT-B-32,laion2b_s34b_b79k"])) == 15
assert len(backbones.listed()) >= 14 and all(b.gflops for b in backbones.listed() if b.id.startswith("openai/"))
assert not any(b.fetched() for b in backbones.find(["openai"]))
heavy = {"torch", "open_clip", "pandas", "numpy", "timm"} & set(sys.modules)
assert not heavy, heavy
"""
    import os

    environment = {**os.environ, "HF_HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


def test_a_plug_in_must_answer_to_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(backbones.registry._added, "mine/one", "no backbone")
    with pytest.raises(BadPlugin, match="must be a Backbone whose id is 'mine/one'"):
        backbones.find(["mine/one"])


# The nine checkpoints of OpenAI, held against open_clip's own table


@pytest.mark.parametrize("name", backbones.POOLS["openai"])
def test_the_nine_are_what_open_clip_says(name: str) -> None:
    import open_clip

    (found,) = backbones.find([name])
    assert isinstance(found, Pretrained)
    entry = open_clip.get_pretrained_cfg(found.arch, "openai")
    assert entry["hf_hub"] == f"{found.repository}/" and entry["quick_gelu"] is True
    by_table = pretrained(found.arch, "openai")
    assert found.preprocessing() == by_table.preprocessing()
    assert found.architecture() == by_table.architecture()
    assert found.configured()[0]["quick_gelu"] is True


@pytest.mark.parametrize(("name", "size"), [("openai/RN50", 224), ("openai/ViT-B-32", 224), ("openai/RN50x4", 288)])
def test_their_costs_are_those_of_their_towers(name: str, size: int) -> None:
    import open_clip

    (found,) = backbones.find([name])
    with torch.device("meta"):
        model = open_clip.CLIP(**catalogue.configuration(found.arch))
    assert cost.gflops(model.visual, (size, size)) == pytest.approx(found.gflops, abs=0.006)
    assert cost.parameters(model) == pytest.approx(found.parameters, abs=6_000)


def test_unfetched_weights_say_how_to_fetch_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (found,) = backbones.find(["openai/RN50"])
    if found.fetched():
        pytest.skip("the weights of openai/RN50 are on this machine")
    for call in (found.weights, found.load):
        with pytest.raises(Missing, match=r"hf download timm/resnet50_clip\.openai open_clip_model\.safetensors"):
            call()
    with pytest.raises(Missing, match=r"hf download nobody/nothing open_clip_config\.json"):
        backbones.find(["hf-hub:nobody/nothing"])[0].preprocessing()


def test_a_tag_loads_with_its_own_activation(known: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The way of the OpenAI checkpoints, with a small architecture in the place of RN50 and a file in that of the hub."""
    file = tmp_path / "open_clip_model.safetensors"
    save_file(random_state(CONFIG), file)
    monkeypatch.setattr("ensemble_bench.backbones.open_clip._of_hub", lambda *arguments: file)
    found = replace(pretrained("test-tiny", "openai"), repository="somebody/tiny.openai")
    encoder = found.load()
    kinds = {type(module).__name__ for module in encoder.model.modules()}
    assert "QuickGELU" in kinds and "GELU" not in kinds
    plain = saved("test-tiny", file)
    assert plain.weights() == found.weights() and plain.architecture() != found.architecture()
    batch = torch.stack([encoder.preprocess(picture(32, 32))])
    assert not torch.allclose(encoder.images(batch), plain.load().images(batch), atol=1e-6)


def test_the_wrong_activation_is_an_error(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = saved("test-tiny", checkpoint)
    monkeypatch.setattr(type(found), "configured", lambda self: ({**CONFIG, "quick_gelu": False}, {}))
    import open_clip

    built = open_clip.create_model
    monkeypatch.setattr(open_clip, "create_model", lambda *a, **k: built(*a, **{**k, "force_quick_gelu": True}))
    with pytest.raises(BadWeights, match="trained with GELU, but open_clip built it with QuickGELU"):
        found.load()
    monkeypatch.setattr(type(found), "configured", lambda self: ({**CONFIG, "quick_gelu": True}, {}))
    monkeypatch.setattr(open_clip, "create_model", lambda *a, **k: built(*a, **{**k, "force_quick_gelu": False}))
    with pytest.raises(BadWeights, match="trained with QuickGELU, but open_clip built it with GELU"):
        saved("test-tiny", checkpoint).load()


# Loading


def reference(name: str, file: Path | None, shown: list[Any]) -> tuple[Tensor, Tensor, float]:
    """Features of pictures and embeddings of WORDS by open_clip's own road."""
    import open_clip
    from PIL import Image

    model, _, transform = open_clip.create_model_and_transforms(name, pretrained=None if file is None else str(file))
    model.eval()
    tokens = open_clip.get_tokenizer(name)(WORDS)
    with torch.no_grad():
        images = model.encode_image(torch.stack([transform(Image.fromarray(one)) for one in shown]))
        return images, model.encode_text(tokens), float(model.logit_scale.exp())


@pytest.mark.parametrize("kind", ["file", "folder", "custom text", "true architecture"])
def test_numbers_are_those_of_open_clip(kind: str, checkpoint: Path, local: Path, tmp_path: Path) -> None:
    shown = [picture(40, 60), picture(32, 32), picture(70, 33)]
    if kind == "folder":
        found: Backbone = folder(local)
        wanted = reference(f"local-dir:{local}", None, shown)
    else:
        arch, file = "test-tiny", checkpoint
        if kind == "custom text":
            arch = "test-custom"
        elif kind == "true architecture":
            arch, file = "ViT-S-32-alt", tmp_path / "small.pt"
            torch.save(random_state(catalogue.configuration(arch)), file)
        found = saved(arch, file)
        wanted = reference(arch, file, shown)
    encoder = found.load()
    images = encoder.images(torch.stack([encoder.preprocess(one) for one in shown]))
    for mine, theirs in ((images, wanted[0]), (encoder.texts(WORDS), wanted[1])):
        unit = torch.nn.functional.normalize
        assert torch.allclose(unit(mine, dim=1), unit(theirs, dim=1), rtol=0, atol=1e-6)
        assert torch.allclose(mine.norm(dim=1), theirs.norm(dim=1))
    assert encoder.scale == pytest.approx(wanted[2])


def test_the_quick_way_of_preparing_is_the_same(local: Path) -> None:
    from PIL import Image

    encoder: Any = folder(local).load()
    one = picture(32, 32)
    assert torch.equal(encoder.preprocess(one), encoder.preparation().transform(Image.fromarray(one)))


def test_text_is_cut_only_where_it_cannot_matter(local: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder: Any = folder(local).load()
    seen: list[int] = []
    inner = encoder.model.transformer.forward
    monkeypatch.setattr(encoder.model.transformer, "forward", lambda x, **k: seen.append(x.shape[1]) or inner(x, **k))
    encoder.texts(WORDS)
    assert encoder._cuts is True and seen[-1] < 30
    looks_ahead: Any = folder(local).load()
    looks_ahead.model.attn_mask.zero_()
    plain = looks_ahead._plain(looks_ahead.tokenizer(WORDS))
    assert torch.equal(looks_ahead.texts(WORDS), plain) or torch.allclose(looks_ahead.texts(WORDS), plain, atol=1e-6)
    assert looks_ahead._cuts is False


TEMPLATES = ["a photo of a {c}.", "{c}", "a {c}, seen from far above, in the morning.", "art of the {c}.", "art of the {c} {c}"]
NAMES = ["cat", "very large, very old ship", "dog", "three-toed sloth", "a", "x" * 40]


@pytest.mark.parametrize("kind", ["folder", "custom text", "true architecture"])
@pytest.mark.parametrize("count", [1, 2, 6])
def test_beginnings_are_read_once(
    kind: str, count: int, checkpoint: Path, local: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ensemble_bench.backbones import prompts
    from ensemble_bench.backbones.base import Encoder

    monkeypatch.setattr(prompts, "PROMPTS", 7)
    monkeypatch.setattr(prompts, "BEGINNINGS", 2)
    if kind == "true architecture":
        file = tmp_path / "small.pt"
        torch.save(random_state(catalogue.configuration("ViT-S-32-alt")), file)
        encoder: Any = saved("ViT-S-32-alt", file).load()
    else:
        encoder = folder(local).load() if kind == "folder" else saved("test-custom", checkpoint).load()
    mine = encoder.classes(NAMES[:count], TEMPLATES)
    assert encoder._shares is True
    assert torch.allclose(mine, Encoder.classes(encoder, NAMES[:count], TEMPLATES), rtol=0, atol=1e-6)
    assert torch.allclose(mine.norm(dim=1), torch.ones(count))


def test_a_tower_that_looks_ahead_reads_every_prompt_whole(local: Path) -> None:
    encoder: Any = folder(local).load()
    encoder.model.attn_mask.zero_()
    unit = torch.nn.functional.normalize
    tokens = encoder.tokenizer([template.replace("{c}", name) for name in NAMES for template in TEMPLATES])
    each = unit(encoder._plain(tokens), dim=1).reshape(len(NAMES), len(TEMPLATES), -1)
    assert torch.allclose(encoder.classes(NAMES, TEMPLATES), unit(each.mean(1), dim=1), rtol=0, atol=1e-6)
    assert encoder._shares is False


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("name", ["rn-narrow", "vit-16", "convnext"])
def test_low_precision_gives_nearly_the_same(weights: Path, name: str, precision: str) -> None:
    found = mini(name, weights)
    full, low = found.load(), found.load(precision=precision)
    batch = torch.stack([full.preprocess(picture(64, 64, seed)) for seed in range(4)])
    one, other = full.images(batch), low.images(batch)
    assert other.dtype == torch.float32 and not torch.equal(one, other)
    assert bool((torch.cosine_similarity(one, other) > 0.99).all())
    assert low.classes(WORDS, ["{c}"]).dtype == torch.float32
    assert low.scale == pytest.approx(full.scale, rel=1e-5)


def test_a_precision_or_device_that_is_not_there(local: Path) -> None:
    with pytest.raises(BadOption, match="fp32, bf16, fp16, not 'int8'"):
        folder(local).load(precision="int8")
    if not torch.cuda.is_available():
        with pytest.raises(BadOption, match="no CUDA device"):
            folder(local).load("cuda")


# Weights that cannot be used


class Harmful:
    """Unpickling this would make a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.write_text, (self.path, "it ran")


def test_code_in_a_checkpoint_never_runs(known: dict[str, Any], tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    for name, write in {
        "zip.pt": lambda path: torch.save({"state_dict": {"x": Harmful(trap)}}, path),
        "plain.pt": lambda path: path.write_bytes(pickle.dumps({"x": Harmful(trap)})),
    }.items():
        path = tmp_path / name
        write(path)
        with pytest.raises(BadWeights, match=r"holds code beside weights.*best as safetensors"):
            saved("test-tiny", path).load()
    assert not trap.exists()
    with trap.open("rb") if trap.exists() else (tmp_path / "plain.pt").open("rb") as file:
        pickle.load(file)
    assert trap.read_text() == "it ran", "the trap itself must work, or the test shows nothing"


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning", "ignore::FutureWarning")
def test_an_archive_of_torchscript_is_refused(known: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "script.pt"
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), path)
    with pytest.raises(BadWeights, match=r"script\.pt holds code"):
        saved("test-tiny", path).load()


def truncated(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def test_a_truncated_or_foreign_file(checkpoint: Path, local: Path, tmp_path: Path) -> None:
    half = tmp_path / "half.pt"
    half.write_bytes(checkpoint.read_bytes())
    truncated(half)
    text = tmp_path / "text.safetensors"
    text.write_text("no weights at all")
    empty = tmp_path / "empty.pt"
    empty.touch()
    for path in (half, text, empty):
        with pytest.raises(BadWeights, match="truncated, or no checkpoint") as caught:
            saved("test-tiny", path).load()
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    other = tmp_path / "folder"
    other.mkdir()
    for name in ("open_clip_config.json", "open_clip_model.safetensors"):
        (other / name).write_bytes((local / name).read_bytes())
    truncated(other / "open_clip_model.safetensors")
    with pytest.raises(BadWeights, match="truncated"):
        folder(other).load()


@pytest.mark.parametrize("arch", ["test-other", "test-stretched", "RN50"])
def test_a_checkpoint_of_another_architecture(checkpoint: Path, arch: str) -> None:
    with pytest.raises(BadWeights, match=rf"tiny\.pt is not a checkpoint of {arch}: .*Name the architecture") as caught:
        saved(arch, checkpoint).load()
    assert len(str(caught.value)) < 600


def test_a_folder_without_what_it_needs(tmp_path: Path) -> None:
    config = tmp_path / "open_clip_config.json"
    for content, said in (("{", "no open_clip configuration"), ("{}", "no open_clip configuration"), ("[]", "no open_clip")):
        config.write_text(content)
        with pytest.raises(BadWeights, match=said):
            folder(tmp_path)
    config.write_text(json.dumps({"model_cfg": CONFIG}))
    with pytest.raises(BadWeights, match="holds no weights"):
        folder(tmp_path)


def test_of_several_files_open_clip_takes_the_same(tmp_path: Path) -> None:
    from open_clip.factory import _find_checkpoint_in_dir

    from ensemble_bench.backbones.open_clip import _in_folder

    for name in (
        "b.bin",
        "a.pth",
        "model.pth",
        "pytorch_model.bin",
        "x.safetensors",
        "model.safetensors",
        "open_clip_pytorch_model.bin",
    ):
        (tmp_path / name).touch()
        assert str(_in_folder(tmp_path)) == _find_checkpoint_in_dir(tmp_path)


# The embedded ones


def test_expanded_once_into_a_folder_of_open_clip(weights: Path, own_cache: Path) -> None:
    found = mini("vit-16", weights)
    path = expanded("vit-16", weights)
    assert path == own_cache / "backbones" / "mini" / f"vit-16-{found.weights()[:12]}"
    assert {file.name for file in path.iterdir()} == {"open_clip_config.json", "open_clip_model.safetensors"}
    before = (path / "open_clip_model.safetensors").stat().st_mtime_ns
    assert expanded("vit-16", weights) == path
    assert (path / "open_clip_model.safetensors").stat().st_mtime_ns == before
    embedding = load_file(path / "open_clip_model.safetensors")["token_embedding.weight"]
    assert embedding.shape[0] == 49408
    assert bool((embedding[:500] != 0).any(1).all()) and not bool(embedding[500:49406].any())
    shown = [picture(64, 64), picture(90, 64)]
    images, texts, scale = reference(f"local-dir:{path}", None, shown)
    encoder = found.load()
    assert torch.allclose(encoder.images(torch.stack([encoder.preprocess(one) for one in shown])), images, atol=1e-6)
    assert torch.allclose(encoder.texts(WORDS), texts, atol=1e-6) and encoder.scale == pytest.approx(scale)
    assert not list(path.parent.glob(".*"))


def test_spoilt_compact_weights(weights: Path, tmp_path: Path) -> None:
    for name in ("vit-16.json", "vit-16.safetensors"):
        (tmp_path / name).write_bytes((weights / name).read_bytes())
    truncated(tmp_path / "vit-16.safetensors")
    with pytest.raises(BadWeights, match=r"no compact backbone.*install the package again"):
        mini("vit-16", tmp_path).load()
    with pytest.raises(BadWeights, match="cannot be read"):
        mini("vit-8", tmp_path).weights()


@pytest.mark.parametrize("name", recipe.VISION)
def test_what_is_shipped_is_what_its_card_says(name: str) -> None:
    from ensemble_bench.backbones.mini.train import costs

    (found,) = backbones.find([f"mini/{name}"])
    if not found.fetched():
        pytest.skip("the embedded weights have not been trained yet")
    card = json.loads((COMPACT / f"{name}.json").read_text(encoding="utf-8"))["card"]
    assert found.weights() == card["weights"]
    assert {key: card[key] for key in ("gflops", "parameters")} == costs(name)
    assert (COMPACT / f"{name}.safetensors").stat().st_size < 4 * 2**20
    assert sum(path.stat().st_size for path in COMPACT.iterdir()) <= 16e6


def test_prepared_alike_and_told_apart(weights: Path) -> None:
    pool = [mini(name, weights) for name in recipe.VISION]
    assert len({found.preprocessing() for found in pool}) == 1
    assert len({found.weights() for found in pool}) == len({found.architecture() for found in pool}) == len(pool)


@pytest.mark.parametrize("check", shipped.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", recipe.VISION)
def test_an_embedded_backbone_keeps_its_promises(weights: Path, name: str, check: Callable[[Backbone], None]) -> None:
    check(mini(name, weights))


# Rogues: each breaks one promise, and the check of that promise finds it


class Honest(Encoder):
    """Features are mean colours, embeddings letter counts: enough to keep every promise."""

    scale, gflops, parameters = 10.0, 0.001, 7

    def preprocess(self, picture: Any) -> Tensor:
        return torch.tensor(picture).float().mean((0, 1))[:, None, None].expand(3, 2, 2) / 255

    def images(self, batch: Tensor) -> Tensor:
        return torch.cat([batch.mean((2, 3)), batch.square().mean((2, 3))], 1)

    def texts(self, prompts: Any) -> Tensor:
        return torch.tensor([[prompt.count(letter) + 1.0 for letter in "aeiort"] for prompt in prompts])


@dataclass(frozen=True)
class Built(Backbone):
    make: Callable[[], Encoder] = Honest

    def weights(self) -> str:
        return "weights"

    def preprocessing(self) -> str:
        return "preprocessing"

    def architecture(self) -> str:
        return "architecture"

    def fetched(self) -> bool:
        return True

    def load(self, device: str = "cpu", precision: str = "fp32") -> Encoder:
        return self.make()


class Writes(Honest):
    def preprocess(self, picture: Any) -> Tensor:
        if picture.flags.writeable or picture.base is None:
            picture.setflags(write=True)
            picture[0, 0, 0] ^= 1
        return super().preprocess(picture)


class Shapeless(Honest):
    def preprocess(self, picture: Any) -> Tensor:
        return torch.tensor(picture).permute(2, 0, 1).float()


class Random(Honest):
    def images(self, batch: Tensor) -> Tensor:
        return super().images(batch) + torch.rand(len(batch), 6)


class LooksAround(Honest):
    def images(self, batch: Tensor) -> Tensor:
        return super().images(batch) - super().images(batch).mean(0)


class Unscaled(Honest):
    scale = float("inf")


class Blank(Honest):
    def images(self, batch: Tensor) -> Tensor:
        return torch.ones(len(batch), 6)


class Long(Honest):
    def classes(self, names: Any, templates: Any) -> Tensor:
        return super().classes(names, templates) * self.scale


class FirstPrompt(Honest):
    def classes(self, names: Any, templates: Any) -> Tensor:
        return super().classes(names, sorted(templates)[:1])


class Dear(Honest):
    gflops = float("nan")


ROGUES = {
    Writes: "check_pictures_are_left_alone",
    Shapeless: "check_pictures_are_left_alone",
    Random: "check_same_again",
    LooksAround: "check_batch_does_not_matter",
    Unscaled: "check_scale",
    Blank: "check_features",
    Long: "check_classes",
    FirstPrompt: "check_classes_are_means",
    Dear: "check_costs",
}


def built(make: Callable[[], Encoder], **changes: Any) -> Built:
    return Built(**{"id": "rogue/one", "arch": "one", "gflops": None, "parameters": None, "make": make, **changes})


@pytest.mark.parametrize("check", shipped.CHECKS, ids=lambda check: check.__name__)
def test_an_honest_one_passes(check: Callable[[Backbone], None]) -> None:
    check(built(Honest))


@pytest.mark.parametrize("rogue", ROGUES, ids=lambda rogue: rogue.__name__)
def test_a_rogue_is_found(rogue: type[Encoder]) -> None:
    with pytest.raises(AssertionError):
        getattr(shipped, ROGUES[rogue])(built(rogue))


def test_wrong_costs_and_digests_are_found() -> None:
    with pytest.raises(AssertionError, match="says parameters 9, measured 7"):
        shipped.check_costs(built(Honest, parameters=9))

    class Forgetful(Built):
        def weights(self) -> str:
            return str(id(object()) + int.from_bytes(np.random.default_rng().bytes(6)))

    with pytest.raises(AssertionError, match="changes from call to call"):
        shipped.check_known_before_loading(Forgetful(id="x", arch="y", gflops=None, parameters=None))


def test_every_check_has_its_rogue() -> None:
    covered = {*ROGUES.values(), "check_known_before_loading"}
    assert covered == {check.__name__ for check in shipped.CHECKS}
