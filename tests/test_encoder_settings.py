"""Settings of the image towers: other ways to the same features, chosen by measuring once and stayed with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ensemble_bench import calibration
from ensemble_bench.backbones import shortcuts, tuning
from ensemble_bench.backbones.base import Encoder
from ensemble_bench.backbones.encoder import OpenClipEncoder
from ensemble_bench.backbones.setting import Setting
from ensemble_bench.backbones.tuning import Trial

TEXT = {"context_length": 8, "vocab_size": 64, "width": 16, "heads": 2, "layers": 1}
TOWERS: dict[str, dict[str, Any]] = {
    "resnet": {"layers": [1, 2, 1, 1], "width": 16, "head_width": 32, "image_size": 64},
    "vit": {"layers": 3, "width": 48, "head_width": 16, "patch_size": 16, "image_size": 64},
    "vit-avg": {"layers": 2, "width": 48, "head_width": 16, "patch_size": 16, "image_size": 64, "pool_type": "avg"},
    "vit-scaled": {"layers": 2, "width": 48, "head_width": 16, "patch_size": 16, "image_size": 64, "ls_init_value": 0.5},
    "vit-attentional": {
        "layers": 2,
        "width": 48,
        "head_width": 16,
        "patch_size": 16,
        "image_size": 64,
        "attentional_pool": True,
    },
    "timm": {"timm_model_name": "test_convnext3", "timm_model_pretrained": False, "timm_pool": "avg", "image_size": 64},
}
PREPARED = {"size": 64, "mode": "RGB", "mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.25), "interpolation": "bicubic"}
PREPARED |= {"resize_mode": "shortest", "fill_color": 0}


@pytest.fixture(autouse=True)
def _store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENSEMBLE_BENCH_CACHE", str(tmp_path / "store"))


def made(kind: str, precision: str = "fp32") -> OpenClipEncoder:
    """A small encoder whose every parameter and statistic matters."""
    from open_clip.model import CLIP, convert_weights_to_lp

    torch.manual_seed(0)
    model: Any = CLIP(embed_dim=24, vision_cfg=TOWERS[kind], text_cfg=TEXT)
    with torch.no_grad():
        for part in model.visual.modules():
            if isinstance(part, torch.nn.BatchNorm2d):
                part.running_mean.normal_(0, 0.2)  # type: ignore[union-attr]
                part.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
                part.weight.uniform_(0.5, 1.5)
                part.bias.normal_(0, 0.3)
            if isinstance(part, torch.nn.MultiheadAttention):
                part.in_proj_bias.normal_(0, 0.3)
                part.out_proj.bias.normal_(0, 0.3)
        for name, parameter in model.visual.named_parameters():
            if name.endswith(("q_proj.bias", "k_proj.bias", "v_proj.bias", "c_proj.bias")):
                parameter.normal_(0, 0.3)
    if precision != "fp32":
        convert_weights_to_lp(model, torch.bfloat16)
    return OpenClipEncoder(model.eval(), lambda texts: torch.zeros(len(texts), 8, dtype=torch.long), PREPARED,
                           device="cpu", precision=precision, scale=100.0)  # fmt: skip


def pictures(count: int = 5) -> Tensor:
    return torch.randn(count, 3, 64, 64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("way", ["lean", "onednn"])
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("kind", TOWERS)
def test_every_way_gives_the_features_of_the_plain_one(kind: str, layout: str, way: str) -> None:
    encoder = made(kind)
    plain = encoder.images(pictures())
    changed = shortcuts.swapped(made(kind).model.visual, way == "onednn")
    with encoder.using(Setting(way, layout, batch=2)):
        assert tuning.apart(encoder.images(pictures()), plain) <= tuning.CLOSE["fp32"]
    assert torch.equal(encoder.images(pictures()), plain)
    changed()


def test_shortcuts_are_taken_where_they_are_known_to_be_right() -> None:
    def parts(kind: str, fused: bool) -> set[str]:
        tower = made(kind).model.visual
        shortcuts.swapped(tower, fused)
        return {type(part).__name__ for part in tower.modules() if type(part).__module__ == shortcuts.__name__}

    assert parts("resnet", False) == {"Folded", "Bottle", "Pool"}
    assert parts("vit", False) == {"Block", "Attention", "Dense"}
    assert parts("vit-avg", False) == parts("vit-attentional", False) == parts("timm", False) == set()
    assert parts("timm", True) == {"Dense"}


def test_the_first_token_alone_would_be_wrong_for_another_pool() -> None:
    """The rogue that the check of closeness is there for."""
    encoder = made("vit-avg")
    plain = encoder.images(pictures())
    blocks = encoder.model.visual.transformer.resblocks
    blocks[-1] = shortcuts.Block(blocks[-1], torch.nn.functional.linear, first=False)
    assert tuning.apart(encoder.images(pictures()), plain) <= tuning.CLOSE["fp32"]
    encoder.model.visual.pool_type = "tok"
    assert tuning.apart(encoder.images(pictures()), plain) > tuning.CLOSE["fp32"]


def test_a_setting_that_changes_features_is_not_even_tried_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shortcuts.Pool, "forward", lambda self, x: x.new_ones(len(x), 24))
    found = tuning.tried(made("resnet"))
    assert {trial.setting.way for trial in found} == {"plain"}


def test_a_setting_that_does_not_work_here_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking(*_: object) -> Tensor:
        raise RuntimeError("could not create a primitive descriptor")

    monkeypatch.setattr(shortcuts, "onednn", lacking)
    assert {trial.setting.way for trial in tuning.tried(made("vit"))} == {"lean", "plain"}


def test_the_preferred_setting_stays_unless_another_is_clearly_quicker() -> None:
    first, second, third = Setting("lean"), Setting("plain"), Setting("onednn")
    assert tuning.chosen([Trial(first, 10, 0), Trial(second, 9.6, 0)]).setting is first
    assert tuning.chosen([Trial(first, 10, 0), Trial(second, 9.4, 0), Trial(third, 9.2, 0)]).setting is second


def test_once_found_a_setting_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = Setting("lean", "channels_last", batch=3)
    encoder = made("resnet")
    calibration.note("encoders", {"resnet fp32": {"setting": {**wanted.__dict__}, "ms": 1.0}})
    monkeypatch.setattr(tuning, "measured", lambda *_: pytest.fail("measured again"))
    tuning.settle(encoder, "resnet")
    assert encoder.setting == wanted
    other = made("resnet")
    tuning.settle(other, "resnet")
    assert torch.equal(encoder.images(pictures()), other.images(pictures()))


def test_a_first_encoder_is_measured_and_what_was_measured_is_kept() -> None:
    encoder = made("vit")
    found = tuning.settle(encoder, "vit")
    kept = calibration.read()["encoders"]["vit fp32"]
    assert kept == found and Setting(**kept["setting"]) == encoder.setting
    assert {trial["way"] for trial in kept["trials"]} == {"lean", "plain", "onednn"}
    assert all(trial["apart"] <= tuning.CLOSE["fp32"] for trial in kept["trials"])


FOREIGN = '{"devices": {"cpu": {"encoders": {"vit fp32": {"setting": {"way": "x"}}}}}}'


@pytest.mark.parametrize("spoilt", ["", "{", "[]", '{"devices": []}', FOREIGN])
def test_a_spoilt_file_is_measured_again(spoilt: str) -> None:
    calibration.path().parent.mkdir(parents=True)
    calibration.path().write_text(spoilt, encoding="utf-8")
    encoder = made("vit")
    tuning.settle(encoder, "vit")
    assert Setting(**calibration.read()["encoders"]["vit fp32"]["setting"]) == encoder.setting


def test_a_store_that_cannot_be_written_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    monkeypatch.setenv("ENSEMBLE_BENCH_CACHE", str(tmp_path / "file"))
    encoder = made("vit")
    tuning.settle(encoder, "vit")
    assert encoder.images(pictures()).shape == (5, 24)


@pytest.mark.parametrize("kind", ["resnet", "vit"])
def test_bf16_in_the_arithmetic_of_a_machine_without_it(kind: str) -> None:
    """The weights are rounded, the sums are not: nearer to float32 than bf16 is, and back to bf16 afterwards."""
    plain = made(kind).images(pictures())
    encoder = made(kind, "bf16")
    rounded = encoder.images(pictures())
    with encoder.using(Setting("lean", "channels_last", "fp32")):
        wider = encoder.images(pictures())
    assert tuning.apart(wider, plain) < tuning.apart(rounded, plain)
    assert tuning.apart(rounded, wider) <= tuning.CLOSE["bf16"]
    assert torch.equal(encoder.images(pictures()), rounded)
    encoder.use(Setting("lean", "channels_last", "fp32"))
    assert torch.equal(encoder.images(pictures()), wider)
    assert {part.dtype for part in encoder.model.parameters()} == {torch.float32}
    assert encoder.texts(["a"]).shape == (1, 24)


def test_raw_pictures_normalised_later_are_the_same_bytes() -> None:
    """What goes to a CUDA device: a quarter of the bytes, and the same pictures."""
    from open_clip.transform import PreprocessCfg, image_transform_v2

    from ensemble_bench.backbones.encoder import Preparation

    transform = image_transform_v2(PreprocessCfg(**PREPARED), is_train=False)
    usual, raw = Preparation(transform, PREPARED), Preparation(transform, PREPARED, raw=True)
    for size in ((64, 64, 3), (90, 130, 3)):
        picture = np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8)
        assert raw(picture).dtype == torch.uint8 and raw(picture).shape == (3, 64, 64)
        assert torch.equal(raw.normalised(raw(picture)), usual(picture))
    encoder = made("vit")
    shown = torch.stack([raw(picture) for picture in np.random.default_rng(1).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)])
    assert torch.equal(encoder.images(shown), encoder.images(raw.normalised(shown)))


def test_peaks_are_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "SHAPE", (320, 64, 64))
    found = tuning.peaks()
    assert found["fp32"] > 0.1 and calibration.peak("fp32") == found["fp32"]
    monkeypatch.setattr(tuning, "peak", lambda *_: pytest.fail("measured again"))
    assert tuning.peaks() == found


class Rounded(Encoder):
    """Features that leave the plain ones by an angle at bf16."""

    def __init__(self, angle: float) -> None:
        self.angle = angle

    def preprocess(self, picture: Any) -> Tensor:
        return torch.zeros(3, 2, 2)

    def images(self, batch: Tensor) -> Tensor:
        angle = torch.tensor(self.angle, dtype=torch.float64)
        return torch.stack([angle.cos(), angle.sin()]).expand(len(batch), 2)

    def texts(self, prompts: Any) -> Tensor:
        raise NotImplementedError


class Named:
    def __init__(self, name: str, angle: float) -> None:
        self.name, self.angle, self.loads = name, angle, 0

    def weights(self) -> str:
        return self.name

    def load(self, device: str, precision: str) -> Rounded:
        self.loads += 1
        return Rounded(self.angle if precision != "fp32" else 0.0)


@pytest.mark.parametrize(
    ("speeds", "angles", "precision"),
    [
        ((100, 9, 10), (0.0, 0.0), "fp32"),  # a processor without bf16
        ((100, 104, 0), (0.0, 0.0), "fp32"),  # not clearly quicker
        ((100, 400, 0), (0.04, 0.01), "bf16"),  # 1 - cos 0.04 = 0.0008
        ((100, 400, 0), (0.04, 0.05), "fp32"),  # 1 - cos 0.05 = 0.00125: one backbone is too far off
    ],
)
def test_auto_is_the_quickest_precision_that_keeps_the_features(
    speeds: tuple[float, ...], angles: tuple[float, ...], precision: str
) -> None:
    calibration.note("peaks", dict(zip(("fp32", "bf16", "fp16"), speeds, strict=True)))
    pool: list[Any] = [Named(str(angle), angle) for angle in angles]
    assert tuning.quickest(pool) == precision
    loads = [one.loads for one in pool]
    assert tuning.quickest(pool) == precision and [one.loads for one in pool] == loads


def test_memory_that_does_not_reach_halves_the_batch_and_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    from ensemble_bench.embed import Embedder

    encoder = made("vit")
    encoder.use(Setting("lean", batch=16))
    whole = encoder.images(pictures(20))
    encode, seen = encoder._encoded, []

    def little(batch: Tensor) -> Tensor:
        if len(batch) > 3:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate too much")
        seen.append(len(batch))
        return encode(batch)

    encoder._forward = little
    embedder = Embedder([])
    found = embedder._images(encoder, pictures(20))
    assert max(seen) <= 3 and embedder.batch <= 3
    assert tuning.apart(found, whole) <= tuning.CLOSE["fp32"]


def test_nothing_fails_where_nothing_can_be_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking(*_: object, **__: object) -> Any:
        def run(batch: Tensor) -> Tensor:
            raise RuntimeError("InvalidCxxCompiler: No working C++ compiler found")

        return run

    plain = made("resnet").images(pictures())
    monkeypatch.setattr(torch, "compile", lacking)
    encoder = made("resnet")
    encoder.use(Setting("lean", "channels_last", compiled=True, batch=4))
    assert tuning.apart(encoder.images(pictures()), plain) <= tuning.CLOSE["fp32"] and not encoder.compiles
    assert any(setting.compiled for setting in tuning.candidates(made("vit").model.visual, "fp32", "cpu", compiled=True))
    assert not any(trial.setting.compiled for trial in tuning.tried(made("vit"), compiled=True))


def test_what_is_compiled_always_sees_one_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = set()

    def compiled(work: Any) -> Any:
        def run(batch: Tensor) -> Tensor:
            seen.add(tuple(batch.shape))
            return work(batch)

        return run

    monkeypatch.setattr(torch, "compile", compiled)
    encoder = made("vit")
    plain = encoder.images(pictures(10))
    encoder.use(Setting("lean", compiled=True, batch=4))
    assert tuning.apart(encoder.images(pictures(10)), plain) <= tuning.CLOSE["fp32"] and seen == {(4, 3, 64, 64)}
    assert encoder.compiles
