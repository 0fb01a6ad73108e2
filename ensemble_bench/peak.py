"""How fast this machine multiplies matrices: what no encoder can exceed, and what shares of a peak are shares of."""

from __future__ import annotations

import contextlib
import json
import platform
import time
from pathlib import Path

from ensemble_bench import cache, provenance
from ensemble_bench.errors import BadStore

SIDE = {"cpu": 1024, "cuda": 8192}
SECONDS = 0.2


def gflops(device: str, precision: str, threads: int) -> float:
    """10^9 operations a second of large matrix products: the best of those that fit into ``SECONDS``.

    ``device`` is cpu or cuda. On a CPU one thread's computing is timed, which other work on the machine hardly slows down, and
    taken ``threads`` times. Measured once a machine, then read from the store.
    """
    asked: dict[str, cache.JSON] = {"device": device, "precision": precision, "threads": threads}
    asked |= {"machine": platform.node(), "processor": _processor(device), "torch": provenance.versions()["torch"]}
    path = cache.root() / "peaks" / f"{cache.sha256(asked)}.json"
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        return float(json.loads(path.read_text(encoding="utf-8"))["gflops"])
    found = _measured(device, precision) * (threads if device == "cpu" else 1)
    with contextlib.suppress(BadStore):  # it only saves time
        cache.write(path, cache.canonical({**asked, "gflops": found}).encode())
    return found


def _processor(device: str) -> str:
    if device != "cpu":
        import torch

        return str(torch.cuda.get_device_name())
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _measured(device: str, precision: str) -> float:
    """The best of one thread, or of the device."""
    import torch

    kind = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    clock = time.thread_time if device == "cpu" else time.perf_counter
    side = SIDE[device]
    one, other = (torch.ones(side, side, dtype=kind, device=device) for _ in range(2))
    best, spent = float("inf"), 0.0
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        torch.mm(one, other)  # warms up
        while spent < SECONDS:
            start = clock()
            torch.mm(one, other)
            if device != "cpu":
                torch.cuda.synchronize()
            best, spent = min(best, clock() - start), spent + clock() - start
    finally:
        torch.set_num_threads(before)
    return 2e-9 * side**3 / best
