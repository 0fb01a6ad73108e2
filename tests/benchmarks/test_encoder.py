"""The image towers beside the host's loop: random weights, batches of 64, one thread, one process, taken in turns.

``tox -e benchmarks`` prints the table and holds the bars, which are ratios only: times are of one machine on one day.
``python tests/benchmarks/test_encoder.py`` writes the table into docs/encoder-speed.md, row by row; ``--batch`` and
``--rounds`` make it shorter.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize

from ensemble_bench import cache, calibration
from ensemble_bench.backbones import tuning
from ensemble_bench.backbones.encoder import OpenClipEncoder
from ensemble_bench.backbones.setting import Setting

PAGE = Path(__file__).resolve().parents[2] / "docs" / "encoder-speed.md"
BEGIN, END = "<!-- encoder table -->\n", "<!-- end of it -->\n"
BARS = {("RN50", "fp32"): 1.4, ("ViT-B-32", "fp32"): 1.0, ("RN50", "bf16"): 1.8, ("ViT-B-32", "bf16"): 1.0}
BATCH = 64
ROUNDS = 3
PATIENCE = 60.0  # seconds that one pass of the host may take; where 64 images would take longer, FEW are encoded, once
FEW = 8
PREPARED = {"size": 224, "mode": "RGB", "mean": (0, 0, 0), "std": (1, 1, 1)}
PREPARED |= {"interpolation": "bicubic", "resize_mode": "shortest", "fill_color": 0}


@dataclass(frozen=True)
class Row:
    """Milliseconds of one image for the host's loop and for ours, and what 1 - cosine lies between them at most."""

    arch: str
    precision: str
    host: float
    ours: float
    gflops: float
    setting: Setting
    apart: float

    @property
    def ratio(self) -> float:
        return self.host / self.ours


def model(arch: str, precision: str) -> Any:
    """The same random weights every time, whose batch norms are not the identity."""
    import open_clip
    from open_clip.model import convert_weights_to_lp

    torch.manual_seed(0)
    made = open_clip.create_model(arch, pretrained=None).eval()
    for part in made.visual.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.05)
            part.running_var.uniform_(0.5, 1.5)
            part.weight.data.uniform_(0.5, 1.5)
    if precision == "bf16":
        convert_weights_to_lp(made, torch.bfloat16)
    return made


def host(made: Any, amp: bool) -> Callable[[Tensor], Tensor]:
    """What CLIP_benchmark 1.6.2 does with a batch in run_classification."""

    def loop(images: Tensor) -> Tensor:
        with torch.no_grad(), torch.autocast("cpu", enabled=amp):
            return normalize(made.encode_image(images), dim=-1)

    return loop


def row(arch: str, precision: str, batch: int = BATCH, rounds: int = ROUNDS) -> Row:
    """Medians of CPU time of this thread, the two in turns."""
    encoder = OpenClipEncoder(
        model(arch, precision),
        lambda texts: torch.zeros(len(texts), 77),
        PREPARED,
        device="cpu",
        precision=precision,
        scale=1.0,
    )
    tuning.settle(encoder, arch)
    loop = host(model(arch, "fp32"), precision == "bf16")
    images = torch.randn(batch, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    ways: dict[str, Callable[[Tensor], Tensor]] = {"host": loop, "ours": encoder.images}
    times: dict[str, list[float]] = {name: [] for name in ways}
    features = {}
    encoder.images(images[:2])
    start = time.thread_time()
    loop(images[:2])
    slow = (time.thread_time() - start) * batch / 2 > PATIENCE
    images = images[:FEW] if slow else images
    for turn in range(1 if slow else rounds):
        for name in sorted(ways, reverse=bool(turn % 2)):
            start = time.thread_time()
            features[name] = ways[name](images)
            times[name].append(time.thread_time() - start)
    apart = 1 - cosine_similarity(features["host"].double(), features["ours"].double())
    host_ms, ours_ms = (1000 * statistics.median(times[name]) / len(images) for name in ("host", "ours"))
    return Row(arch, precision, host_ms, ours_ms, encoder.gflops, encoder.setting, float(apart.max()))


def rows(batch: int = BATCH, rounds: int = ROUNDS) -> Iterator[tuple[list[Row], dict[str, float]]]:
    """The rows so far, and the peaks of this machine, measured in the same process."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    found: list[Row] = []
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv(cache.VARIABLE, folder)
        peaks = tuning.peaks()
        for each in BARS:
            found.append(row(*each, batch, rounds))
            peaks = {precision: max(speed, tuning.peak(precision)) for precision, speed in peaks.items() if precision != "fp16"}
            yield found, peaks
    torch.set_num_threads(threads)


def table(found: list[Row], peaks: dict[str, float]) -> str:
    """The rows in Markdown."""
    lines = [
        "| image tower | precision | host's loop, ms | ours, ms | times | GFLOP/s | of the peak | 1 - cos | setting |",
        "|---|---|---:|---:|---:|---:|---:|---:|---|",
    ]
    for each in found:
        reached = each.gflops / each.ours * 1000
        setting = each.setting
        lines.append(
            f"| {each.arch} | {each.precision} | {each.host:.0f} | {each.ours:.0f} | **{each.ratio:.2f}** | {reached:.0f} "
            f"| {reached / peaks[setting.arithmetic]:.0%} | {each.apart:.0e} "
            f"| {setting.way}, {setting.layout}, {setting.arithmetic} arithmetic, {setting.batch} at a time |"
        )
    return "\n".join(lines)


def machine(peaks: dict[str, float]) -> str:
    """What the figures belong to."""
    said = ", ".join(f"{precision} {speed:.0f}" for precision, speed in peaks.items())
    return (
        f"{calibration.processor()['name']} ({platform.machine()}, {torch.backends.cpu.get_cpu_capability()}), "
        f"{os.cpu_count()} cores shared with other work, torch {torch.__version__}. "
        f"Peak of one thread in a matrix product of {' x '.join(map(str, tuning.SHAPE))}, GFLOP/s: {said}."
    )


def test_image_towers(benchmark: Any, capsys: pytest.CaptureFixture[str]) -> None:
    found, peaks = benchmark.pedantic(lambda: list(rows())[-1], rounds=1)
    benchmark.extra_info.update({f"{each.arch} {each.precision}": round(each.ratio, 2) for each in found})
    with capsys.disabled():
        print(f"\n{machine(peaks)}\n{table(found, peaks)}")
    for each in found:
        assert each.ratio >= BARS[each.arch, each.precision], each
        assert each.apart <= (tuning.CLOSE["fp32"] if each.precision == "fp32" else tuning.FAITHFUL), each


def write(batch: int, rounds: int) -> None:
    """Write the table into the page, as far as it is measured."""
    for found, peaks in rows(batch, rounds):
        made = f"{machine(peaks)} Batches of {batch}, rounds: {rounds}.\n\n{table(found, peaks)}\n"
        print(made, flush=True)
        before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}{made}{END}{rest.partition(END)[2]}", encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=BATCH)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    chosen = parser.parse_args()
    write(chosen.batch, chosen.rounds)
