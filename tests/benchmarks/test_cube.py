"""Seven strategies and the table of pairs from logits on disk, beside plain torch that loads them: time and memory.

Processes of their own, one thread each, taken in turns: CPU seconds from the file to the numbers, imports apart, and the peak
of memory that the system counts. The archive is 10 backbones x 50,000 samples x 1,000 classes (2 GB of disk, and 8 GB of memory
for plain torch); ENSEMBLE_BENCH_CUBE=10x5000x1000 is a quick look without bars. ``tox -e benchmarks`` holds the bars, and
``python tests/benchmarks/test_cube.py`` prints the table.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

VARIABLE = "ENSEMBLE_BENCH_CUBE"
FULL = "10x50000x1000"
TEXTS = ("vote-top1", "confidence", "mean-probability", "mean-logit", "log-avg", "oracle", "oracle-best-single")
MEASURES = ("disagreement", "label_disagreement")
ROUNDS = 3
TIMES, ABOVE = 3.5, 0.2  # at least as many times as fast; at most as many GiB above a process that has only imported torch
WORK = {
    "torch": "torch imported, nothing done",
    "read": "every byte read once from the page cache",
    "plain": "plain torch, all in memory",
    "ours": "ours, from disk in pieces",
}

Found = dict[str, Any]


def make(folder: Path, backbones: int, samples: int, classes: int) -> Path:
    """A folder archive with signal in it: backbones that are mostly right, all with more trouble on the same hard samples."""
    draw = np.random.default_rng(0)
    labels = draw.integers(0, classes, samples)
    hard = draw.standard_normal(samples)
    with (folder / "logits.npy").open("wb") as file:
        shape = (backbones, samples, classes)
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
        for backbone in range(backbones):
            for start in range(0, samples, 1000):
                rows = slice(start, min(start + 1000, samples))
                size = rows.stop - start
                logits = draw.standard_normal((size, classes), dtype=np.float32) * 2.5
                more = 9.5 + 3 * hard[rows] + 2 * draw.standard_normal(size) + 0.1 * backbone
                logits[np.arange(size), labels[rows]] += more.astype(np.float32)
                file.write(logits.data)
    np.save(folder / "labels.npy", labels)
    for name, count in (("ids", samples), ("classes", classes), ("backbones", backbones)):
        np.save(folder / f"{name}.npy", np.array([f"{name}-{number:05d}" for number in range(count)]))
    (folder / "archive.toml").write_text("schema = 1\n")
    return folder


# What each process does ----------------------------------------------------------------------------------------------


def read(folder: Path) -> Callable[[], Found]:
    """The floor: every byte once, into one buffer."""

    def work() -> Found:
        buffer = memoryview(bytearray(1 << 20))
        with (folder / "logits.npy").open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass
        return {}

    return work


def plain(folder: Path) -> Callable[[], Found]:
    """Everything in memory, a line of torch for each thing: accuracies, negative log-likelihoods, pairs, and no more."""
    import torch

    def work() -> Found:
        logits = torch.from_numpy(np.load(folder / "logits.npy"))
        labels = torch.from_numpy(np.load(folder / "labels.npy"))
        b, s, c = logits.shape
        probabilities = logits.softmax(-1)
        decisions = logits.argmax(-1)
        right = decisions == labels
        votes = torch.zeros(s, c).scatter_add_(1, decisions.T, torch.ones(s, b))
        scores = {
            "vote-top1": votes,
            "confidence": probabilities[probabilities.amax(-1).argmax(0), torch.arange(s)].log(),
            "mean-probability": probabilities.mean(0).log(),
            "mean-logit": logits.mean(0).log_softmax(-1),
            "log-avg": logits.log_softmax(-1).mean(0).log_softmax(-1),
            "oracle": votes + torch.nn.functional.one_hot(labels, c) * right.any(0)[:, None] * (b + 1),
            "oracle-best-single": logits[right.float().mean(1).argmax()].log_softmax(-1),
        }
        found: Found = {}
        for text, one in scores.items():
            found[text] = {"acc1": float((one.argmax(-1) == labels).double().mean())}
            if "vote" not in text and text != "oracle":
                found[text]["nll"] = float(-one.gather(1, labels[:, None]).double().mean())
        first, second = torch.triu_indices(b, b, 1)
        pairs = (right[first] != right[second]), (decisions[first] != decisions[second])
        return found | {name: one.double().mean(1).tolist() for name, one in zip(MEASURES, pairs, strict=True)}

    return work


def ours(folder: Path) -> Callable[[], Found]:
    """The archive through the doors of ``ensemble-bench evaluate``: every metric of every strategy, every measure of pairs."""
    from ensemble_bench import archive, diversity, evaluation, metrics, passes  # noqa: F401 - imports are not counted
    from ensemble_bench.strategies.build import named

    asked = [evaluation.Asked(named(text), text) for text in TEXTS]

    def work() -> Found:
        answers, query = evaluation.said(asked, archive.read(folder).cube)
        found: Found = {}
        for text, answer in zip(TEXTS, answers, strict=True):
            assert isinstance(answer, evaluation.Answer), answer
            found[text] = metrics.measured(dict(answer.samples), query.labels)
        cells = diversity.Joint.of(query.decisions.numpy(), query.labels.numpy()).cells
        return found | {name: one.of(cells).tolist() for name, one in diversity.MEASURES.items()}

    return work


def process(what: str, folder: Path) -> None:
    """Do one kind of work and print seconds, peak of memory in GiB, and what was found."""
    import torch

    torch.set_num_threads(1)
    work = {"torch": lambda folder: dict, "read": read, "plain": plain, "ours": ours}[what](folder)
    start, wall = time.process_time(), time.perf_counter()
    found = work()
    seconds, wall = time.process_time() - start, time.perf_counter() - wall
    lines = Path("/proc/self/status").read_text().splitlines()
    peak = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 2**20
    print(json.dumps({"seconds": seconds, "wall": wall, "peak": peak, "found": found}))


# What is made of it --------------------------------------------------------------------------------------------------


class Measured:
    """Every kind of work ROUNDS times, in turns, and ours once before, when nothing has been compiled yet."""

    def __init__(self, place: Path, size: str) -> None:
        self.size = size
        few, folder = place / "few", place / "all"
        few.mkdir()
        folder.mkdir()
        make(folder, *map(int, size.split("x")))
        self.environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "NUMBA_CACHE_DIR": str(place)}
        self.environment["PYTHONPATH"] = str(Path(__file__).resolve().parents[2])
        self.first = self._run("ours", make(few, 3, 2000, 3000))
        self.found: dict[str, list[Found]] = {what: [] for what in WORK}
        for _ in range(ROUNDS):
            for what in WORK:
                self.found[what].append(self._run(what, folder))

    def _run(self, what: str, folder: Path) -> Found:
        command = [sys.executable, __file__, what, str(folder)]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        found: Found = json.loads(done.stdout)
        return found

    def middle(self, what: str, key: str) -> float:
        return statistics.median(one[key] for one in self.found[what])

    def times(self, slow: str = "plain", fast: str = "ours") -> float:
        """How many times as fast: the median over rounds of the ratios within a round."""
        pairs = zip(self.found[slow], self.found[fast], strict=True)
        return statistics.median(one["seconds"] / other["seconds"] for one, other in pairs)

    def above(self, what: str = "ours") -> float:
        """GiB at the peak above a process that has only imported torch."""
        return self.middle(what, "peak") - self.middle("torch", "peak")

    def agree(self) -> None:
        """Both have the same numbers; plain torch lets the first of equal votes win, ours the higher mean probability."""
        plain, ours = self.found["plain"][0]["found"], self.found["ours"][0]["found"]
        for text in TEXTS:
            tied = 0.05 if text == "vote-top1" else 2e-4
            assert ours[text]["acc1"] == pytest.approx(plain[text]["acc1"], abs=tied), text
            if "nll" in plain[text]:
                assert ours[text]["nll"] == pytest.approx(plain[text]["nll"], abs=1e-4), text
        for name in MEASURES:
            assert ours[name] == pytest.approx(plain[name], abs=1e-12), name

    def table(self) -> str:
        """The medians in Markdown."""
        lines = ["| what | CPU s | seconds | times as fast | peak, GiB | above torch |", "|---|---:|---:|---:|---:|---:|"]
        for what, name in WORK.items():
            ratio = f"{self.times(fast=what):.1f}" if what in ("plain", "ours") else ""
            seconds = [f"{self.middle(what, key):.2f}" for key in ("seconds", "wall")] if what != "torch" else ["", ""]
            cells = [name, *seconds, ratio, f"{self.middle(what, 'peak'):.2f}", f"{self.above(what):.2f}"]
            lines.append(f"| {' | '.join(cells)} |")
        floor = self.times("ours", "read")
        first = f"{self.first['seconds']:.1f} CPU seconds and {self.first['peak']:.2f} GiB"
        more = f"Ours takes {floor:.1f} times the CPU of reading alone. The first call of all, which compiles: {first}."
        return "\n".join([f"{self.size} float32, medians of {ROUNDS} rounds", "", *lines, "", more])

    def hold(self) -> None:
        """The numbers of both, and at full size the bars."""
        self.agree()
        if self.size != FULL:
            return  # waking numba takes as long as thousands of samples: the bar of time means nothing there
        assert self.times() >= TIMES, f"{self.times():.2f} times as fast as plain torch, not {TIMES}"
        assert self.above() <= ABOVE, f"{self.above():.3f} GiB above torch, not {ABOVE}"


def test_seven_strategies_and_the_pairs(
    benchmark: BenchmarkFixture, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if not Path("/proc/self/status").exists():
        pytest.skip("this system does not say how much memory a process has used")
    found = benchmark.pedantic(Measured, (tmp_path, os.environ.get(VARIABLE, FULL)), rounds=1)
    benchmark.extra_info.update(times=round(found.times(), 2), above=round(found.above(), 3))
    with capsys.disabled():
        print(f"\n{found.table()}")
    found.hold()


if __name__ == "__main__":
    if len(sys.argv) == 3:
        process(sys.argv[1], Path(sys.argv[2]))
    else:
        with tempfile.TemporaryDirectory() as place:
            found = Measured(Path(place), os.environ.get(VARIABLE, FULL))
            print(found.table())
            found.hold()
