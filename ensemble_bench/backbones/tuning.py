"""The quickest setting of an image tower on this machine: measured once, kept, and stayed with.

The store's keys do not hold the setting, so a setting counts only if its features lie within ``CLOSE`` of those of the plain
one; and since it is kept in the same folder, the same question gets the same bytes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from ensemble_bench import calibration, threads
from ensemble_bench.backbones.base import PRECISIONS, Backbone
from ensemble_bench.backbones.setting import DTYPES, Setting
from ensemble_bench.errors import BadStore

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ensemble_bench.backbones.encoder import OpenClipEncoder

CLOSE = {"fp32": 1e-5, "bf16": 5e-2, "fp16": 1e-2}  # greatest |a - b| / |b| of one image's features, between two settings
FAITHFUL = 1e-3  # greatest 1 - cosine against float32 that --precision auto accepts
GAIN = 0.95  # of the time of what was preferred so far: a smaller gain may be noise
SECONDS = 1.0  # of one pass, where images are that quick
BATCHES = (8, 16, 32)
SHAPE = 3200, 768, 3072  # of the matrix product that the peak is measured with


@dataclass(frozen=True)
class Trial:
    """A setting, the milliseconds of one image on one core with it, and how far its features are from the plain one's."""

    setting: Setting
    ms: float
    apart: float


def _seconds(work: Callable[[], object], device: str) -> float:
    """Time of this thread on a processor, which other programs do not change; time that passes on a CUDA device."""
    if device == "cpu":
        start = time.thread_time()
        work()
        return time.thread_time() - start
    torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    torch.cuda.synchronize()
    return time.perf_counter() - start


def candidates(tower: Any, precision: str, device: str, compiled: bool = False) -> list[Setting]:
    """The settings worth trying, the preferred one first: it stays unless another is clearly quicker."""
    resnet, vit = (type(tower).__name__ == name for name in ("ModifiedResNet", "VisionTransformer"))
    convolves = sum(isinstance(part, torch.nn.Conv2d) for part in tower.modules()) > 1
    ways = ["lean", "plain"] if resnet or vit else ["plain"]
    if device == "cpu" and torch.backends.mkldnn.is_available():
        ways.append("onednn")
    layouts = ["channels_last"] if resnet else ["contiguous", "channels_last"] if convolves else ["contiguous"]
    kinds = [precision, "fp32"] if precision != "fp32" and device == "cpu" else [precision]
    batch = 16 if device == "cpu" else 0
    found = [Setting(way, layout, kind, batch=batch) for kind in kinds for layout in layouts for way in ways]
    if compiled:
        found += [dataclasses.replace(setting, compiled=True) for setting in found if setting.way == ways[0]]
    return found


def apart(one: Tensor, other: Tensor) -> float:
    """The greatest |a - b| / |b| of a row; infinite where something is not finite."""
    distance = (one.double() - other.double()).norm(dim=1) / other.double().norm(dim=1).clamp_min(1e-30)
    return float(distance.max()) if bool(torch.isfinite(distance).all()) else float("inf")


def tried(encoder: OpenClipEncoder, compiled: bool = False) -> list[Trial]:
    """Every setting that works here and is close enough, in the order of preference; the encoder is left as it came."""
    device = encoder.device.partition(":")[0]
    options = candidates(encoder.model.visual, encoder.precision, device, compiled)
    shape = 3, *encoder.size
    one = torch.randn(1, *shape, generator=torch.Generator().manual_seed(0))
    with threads.one():
        with encoder.using(Setting("plain", options[0].layout, encoder.precision)):
            first = _seconds(lambda: encoder.images(one), device)
            first = min(first, _seconds(lambda: encoder.images(one), device))
            pictures = torch.randn(
                max(2, min(16 if device == "cpu" else 64, int(SECONDS / max(first, 1e-9)))),
                *shape,
                generator=torch.Generator().manual_seed(0),
            )
            plain = encoder.images(pictures)
        found = []
        for setting in options:
            try:
                with encoder.using(setting):
                    features = encoder.images(pictures)
                    away = apart(features, plain)
                    if away > CLOSE[encoder.precision] or (setting.compiled and not encoder.compiles):
                        continue
                    times = [_seconds(lambda: encoder.images(pictures), device) for _ in range(2)]
            except Exception:  # whatever an operator says that this build or processor does not have
                continue
            found.append(Trial(setting, 1000 * min(times) / len(pictures), away))
    return found


def chosen(trials: Sequence[Trial]) -> Trial:
    """The first trial, unless a later one is clearly quicker."""
    best = trials[0]
    for trial in trials[1:]:
        if trial.ms < GAIN * best.ms:
            best = trial
    return best


def batched(encoder: OpenClipEncoder, trial: Trial) -> Trial:
    """The same setting with the number of images at a time that suits the caches best, where trying that is quick."""
    largest = max(BATCHES)
    if encoder.device != "cpu" or trial.ms * largest > 3000 * SECONDS:
        return trial
    pictures = torch.randn(largest, 3, *encoder.size, generator=torch.Generator().manual_seed(0))
    options = []
    with threads.one():
        for batch in sorted(BATCHES, key=lambda size: size != trial.setting.batch):
            setting = dataclasses.replace(trial.setting, batch=batch)
            with encoder.using(setting):
                times = [_seconds(lambda: encoder.images(pictures), encoder.device) for _ in range(2)]
            options.append(Trial(setting, 1000 * min(times) / largest, trial.apart))
    return chosen(options)


def measured(encoder: OpenClipEncoder, compiled: bool = False) -> dict[str, Any]:
    """What is kept of an architecture: ``setting``, ``ms`` of one image on one core, ``plain`` as open_clip does it, trials."""
    trials = tried(encoder, compiled)
    plain = [trial.ms for trial in trials if trial.setting.way == "plain" and trial.setting.arithmetic == encoder.precision]
    if not trials:  # not even the plain one is like itself, which only broken weights bring about
        return {"setting": dataclasses.asdict(encoder.setting), "ms": None, "plain": None, "gflops": encoder.gflops}
    best = batched(encoder, chosen(trials))
    return {
        "setting": dataclasses.asdict(best.setting),
        "ms": best.ms,
        "plain": plain[0] if plain else best.ms,
        "apart": best.apart,
        "gflops": encoder.gflops,
        "trials": [{**dataclasses.asdict(trial.setting), "ms": trial.ms, "apart": trial.apart} for trial in trials],
    }


def settle(encoder: OpenClipEncoder, architecture: str, *, again: bool = False, compiled: bool = False) -> dict[str, Any]:
    """Give the encoder the setting that is kept for its architecture; measured first where there is none, or ``again``."""
    name = calibration.name(architecture, encoder.precision)

    def kept() -> dict[str, Any] | None:
        found = calibration.read(encoder.device).get("encoders", {}).get(name)
        with contextlib.suppress(TypeError, KeyError):
            if found is not None:
                Setting(**found["setting"])
                return dict(found)
        return None

    found = None if again else kept()
    if found is None:
        found = measured(encoder, compiled)
        if not again:
            found = kept() or found  # another process was quicker: one setting for both
        with contextlib.suppress(BadStore):  # it can be measured again
            calibration.note("encoders", {name: found}, encoder.device)
    encoder.use(Setting(**found["setting"]))
    return found


def peaks(device: str = "cpu", precisions: Sequence[str] = PRECISIONS) -> dict[str, float]:
    """GFLOP/s of one thread in a large matrix product, by precision: no encoder gets beyond. Measured where not kept."""
    known = calibration.read(device).get("peaks", {})
    found = {precision: peak(precision, device) for precision in precisions if precision not in known}
    if found:
        with contextlib.suppress(BadStore):
            calibration.note("peaks", dict(found), device)
    return {precision: float({**known, **found}[precision]) for precision in precisions}


def peak(precision: str, device: str = "cpu") -> float:
    """GFLOP/s of one thread in the matrix product of ``SHAPE``, by the quicker of torch's libraries; 0 where there is none."""
    from ensemble_bench.backbones.shortcuts import onednn

    m, k, n = SHAPE
    best = 0.0
    with threads.one(), torch.no_grad():
        for product in (torch.nn.functional.linear, onednn):
            with contextlib.suppress(RuntimeError, AttributeError, NotImplementedError):
                x, weight, bias = (torch.randn(*size, device=device).to(DTYPES[precision]) for size in ((m, k), (n, k), (n,)))
                few = x[: m // 32]
                per_row = _seconds(lambda: product(few, weight, bias), device) / len(few)  # noqa: B023 - called at once
                rows = few if per_row * m > SECONDS else x  # a processor without the instructions takes its time
                times = [_seconds(lambda: product(rows, weight, bias), device) for _ in range(5)]  # noqa: B023
                best = max(best, 2e-9 * len(rows) * k * n / min(times))
    return best


def deviation(backbone: Backbone, precision: str, device: str) -> float:
    """The greatest 1 - cosine of features at a precision against float32, over random pictures. Measured where not kept."""
    name = calibration.name(backbone.weights(), precision)
    known = calibration.read(device).get("deviations", {}).get(name)
    if known is not None:
        return float(known)
    pictures = np.random.default_rng(0).integers(0, 256, (4, 224, 224, 3), dtype=np.uint8)

    def features(kind: str) -> Tensor:
        encoder = backbone.load(device, kind)
        return encoder.images(torch.stack([encoder.preprocess(picture) for picture in pictures])).double()

    found = float((1 - cosine_similarity(features("fp32"), features(precision))).max())
    found = found if found == found else 2.0  # NaN is no JSON, and as far off as can be
    with contextlib.suppress(BadStore):
        calibration.note("deviations", {name: found}, device)
    return found


def started() -> float:
    """Seconds of this process so far, with everything imported that a run imports: called first, what a start costs."""
    import open_clip  # noqa: F401

    return time.process_time()


def speed(backbone: Backbone, device: str, precision: str, *, again: bool = False, compiled: bool = False) -> str:
    """A backbone loaded and measured, in words; kept are the milliseconds of one image on one core, preparation included."""
    name = calibration.name(backbone.architecture(), precision)
    encoder = backbone.load(device, precision)
    kept = calibration.read(device).get("encoders", {}).get(name)
    if again and kept is not None:
        settle(encoder, backbone.architecture(), again=True, compiled=compiled)  # type: ignore[arg-type]
        kept = calibration.read(device)["encoders"][name]
    pictures = np.random.default_rng(0).integers(0, 256, (64, 64, 64, 3), dtype=np.uint8)

    def encoded(some: NDArray[np.uint8]) -> None:
        encoder.images(torch.stack([encoder.preprocess(picture) for picture in some]))

    with threads.one():
        encoded(pictures[:2])
        one = _seconds(lambda: encoded(pictures[:2]), device) / 2
        some = pictures[: max(4, min(64, int(SECONDS / one)))]
        ms = 1000 * min(_seconds(lambda: encoded(some), device) for _ in range(3)) / len(some)
    calibration.note("rates", {calibration.name(backbone.id, precision): ms}, device)
    said = f"{ms:,.2f} ms an image on one core, {1000 * encoder.gflops / ms:,.1f} GFLOP/s"
    if kept is None or not kept["ms"]:
        return said
    setting = Setting(**kept["setting"])
    words = [setting.way, setting.layout, f"{setting.arithmetic} arithmetic", f"{setting.batch or 'all'} at a time"]
    words += ["compiled"] * setting.compiled
    return f"{said}; its tower {kept['plain'] / kept['ms']:.2f} times as fast as plain ({', '.join(words)})"


def quickest(backbones: Sequence[Backbone], device: str = "cpu") -> str:
    """The precision that ``auto`` stands for: the quickest here that keeps all features within ``FAITHFUL`` of float32."""
    speed = peaks(device)
    for precision in sorted(PRECISIONS, key=lambda one: (-speed[one], PRECISIONS.index(one))):
        if precision == "fp32" or GAIN * speed[precision] < speed["fp32"]:
            return "fp32"
        if all(deviation(backbone, precision, device) <= FAITHFUL for backbone in backbones):
            return precision
    return "fp32"
