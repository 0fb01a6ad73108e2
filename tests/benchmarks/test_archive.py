"""Seven strategies and the table of pairs over 10 x 50,000 x 1,000 logits on disk, beside plain torch that loads them.

Processes of their own, one thread each, taken in turns: CPU seconds from the file to the numbers, imports apart, and the
peak of memory. ``tox -e benchmarks`` takes 8,000 samples and holds the bars; ENSEMBLE_BENCH_ARCHIVE_SAMPLES=50000 takes all of
them, for which 2 GB of disk and 8 GB of memory must be free. ``python tests/benchmarks/test_archive.py`` writes
docs/archive-speed.md.
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

PAGE = Path(__file__).resolve().parents[2] / "docs" / "archive-speed.md"
VARIABLE = "ENSEMBLE_BENCH_ARCHIVE_SAMPLES"
BACKBONES, CLASSES = 10, 1000
TEXTS = ("vote-top1", "vote-top3", "confidence", "mean-probability", "log-avg", "oracle", "oracle-best-single")
ROUNDS = 5
TIMES, ABOVE = 3.5, 0.2  # at least as many times as fast; at most as many GiB above a process that has only imported torch
WORK = ("torch", "read", "plain", "ours")

Found = dict[str, Any]


def make(folder: Path, samples: int) -> Path:
    """A folder archive with signal in it: backbones of 0.6 to 0.7, all with more trouble on the same hard samples."""
    draw = np.random.default_rng(0)
    labels = draw.integers(0, CLASSES, samples)
    hard = draw.standard_normal(samples)
    shape = (BACKBONES, samples, CLASSES)
    with (folder / "logits.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
        for backbone in range(BACKBONES):
            for start in range(0, samples, 1000):
                rows = slice(start, min(start + 1000, samples))
                size = rows.stop - start
                logits = draw.standard_normal((size, CLASSES), dtype=np.float32) * 2.5
                more = 9.5 + 3 * hard[rows] + 2 * draw.standard_normal(size) + 0.1 * backbone
                logits[np.arange(size), labels[rows]] += more.astype(np.float32)
                file.write(logits.data)
    np.save(folder / "labels.npy", labels)
    for name, count in (("ids", samples), ("classes", CLASSES), ("backbones", BACKBONES)):
        np.save(folder / f"{name}.npy", np.array([f"{name}-{number:05d}" for number in range(count)]))
    (folder / "archive.toml").write_text("schema = 1\n")
    return folder


# What each process does ----------------------------------------------------------------------------------------------


def read(folder: Path) -> Callable[[], Found]:
    """The floor: every byte read once, into one buffer."""

    def work() -> Found:
        buffer = memoryview(bytearray(1 << 22))
        with (folder / "logits.npy").open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass
        return {}

    return work


def plain(folder: Path) -> Callable[[], Found]:
    """Everything in memory, a line of torch for each thing that is asked for."""
    import torch

    def one_hot(places: torch.Tensor) -> torch.Tensor:
        votes = torch.zeros(places.shape[0], CLASSES)
        return votes.scatter_add_(1, places, torch.ones(places.shape))

    def measures(scores: torch.Tensor, labels: torch.Tensor, gives: str) -> dict[str, float]:
        five = scores.topk(5, dim=-1).indices
        answers = five[:, 0]
        right = answers == labels
        found = {"acc1": float(right.float().mean()), "acc5": float((five == labels[:, None]).any(1).float().mean())}
        recall = torch.zeros(CLASSES).scatter_add_(0, labels, right.float()) / labels.bincount(minlength=CLASSES)
        found["mean_per_class_recall"] = float(recall.nanmean())
        if gives == "votes":
            return found
        log = scores.log_softmax(-1) if gives == "logits" else scores.clamp_min(1e-38).log()
        probability = log.exp()
        own = probability.gather(1, labels[:, None])[:, 0]
        found["nll"] = float(-log.gather(1, labels[:, None]).mean())
        found["brier"] = float((probability.square().sum(-1) - 2 * own + 1).mean())
        sure = probability.gather(1, answers[:, None])[:, 0]
        bins = torch.zeros(15).scatter_add_(0, (sure * 15).ceil().long().clamp(1, 15) - 1, sure - right.float())
        found["ece"] = float(bins.abs().sum() / len(labels))
        return found

    def work() -> Found:
        logits = torch.from_numpy(np.load(folder / "logits.npy"))
        labels = torch.from_numpy(np.load(folder / "labels.npy"))
        b, s, c = logits.shape
        probabilities, log = logits.softmax(-1), logits.log_softmax(-1)
        decisions = logits.argmax(-1)
        right = decisions == labels
        best = int(right.float().mean(1).argmax())
        votes = one_hot(decisions.T)
        three = logits.topk(3, dim=-1).indices.permute(1, 0, 2).reshape(s, -1)
        surest = probabilities.amax(-1).argmax(0)
        crown = torch.nn.functional.one_hot(labels, c) * right.any(0)[:, None] * (b + 1)
        found: Found = {
            "vote-top1": measures(votes, labels, "votes"),
            "vote-top3": measures(one_hot(three), labels, "votes"),
            "confidence": measures(probabilities[surest, torch.arange(s)], labels, "probabilities"),
            "mean-probability": measures(probabilities.mean(0), labels, "probabilities"),
            "log-avg": measures(log.mean(0), labels, "logits"),
            "oracle": measures(votes + crown, labels, "votes"),
            "oracle-best-single": measures(logits[best], labels, "logits"),
        }
        good = right.float()
        pairs = torch.triu_indices(b, b, 1)
        first, second = good[pairs[0]], good[pairs[1]]
        both, only, other = (first * second).mean(1), (first * (1 - second)).mean(1), ((1 - first) * second).mean(1)
        none = 1 - both - only - other
        expected = (both + only) * (both + other) + (other + none) * (only + none)
        q = (both * none - only * other) / (both * none + only * other)
        rho = (both * none - only * other) / ((both + only) * (other + none) * (both + other) * (only + none)).sqrt()
        differ = (decisions[pairs[0]] != decisions[pairs[1]]).float().mean(1)
        kappa = (both + none - expected) / (1 - expected)
        table = {"disagreement": only + other, "label_disagreement": differ, "q": q, "rho": rho, "double_fault": none}
        return found | {"pairs": {name: values.tolist() for name, values in {**table, "kappa": kappa}.items()}}

    return work


def ours(folder: Path) -> Callable[[], Found]:
    """The archive through the same doors as ``ensemble-bench evaluate``, but for intervals and the printing of a table."""
    from ensemble_bench import archive, diversity, evaluation, metrics
    from ensemble_bench.strategies.build import named

    def work() -> Found:
        asked = [evaluation.Asked(named(text), text) for text in TEXTS]
        answers, query = evaluation.said(asked, archive.read(folder).cube)
        found: Found = {}
        for text, answer in zip(TEXTS, answers, strict=True):
            assert isinstance(answer, evaluation.Answer), answer
            found[text] = metrics.measured(dict(answer.samples), query.labels)
        cells = diversity.Joint.of(query.decisions.numpy(), query.labels.numpy()).cells
        return found | {"pairs": {name: one.of(cells).tolist() for name, one in diversity.MEASURES.items()}}

    return work


def process(what: str, folder: Path) -> None:
    """Do one kind of work and print CPU seconds, peak of memory in GiB, and what was found."""
    import torch

    torch.set_num_threads(1)
    work = {"torch": lambda folder: dict, "read": read, "plain": plain, "ours": ours}[what](folder)
    start = time.process_time()
    found = work()
    seconds = time.process_time() - start
    lines = Path("/proc/self/status").read_text().splitlines()
    peak = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 2**20
    print(json.dumps({"seconds": seconds, "peak": peak, "found": found}))


def measured(folder: Path) -> dict[str, list[Found]]:
    """Every kind of work ROUNDS times, in turns."""
    root = str(Path(__file__).resolve().parents[2])
    environment = {**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    found: dict[str, list[Found]] = {what: [] for what in WORK}
    for _ in range(ROUNDS):
        for what in WORK:
            command = [sys.executable, __file__, what, str(folder)]
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
            found[what].append(json.loads(done.stdout))
    return found


def times(found: dict[str, list[Found]], what: str) -> float:
    """How many times as fast as plain torch: the median over rounds of the ratios within a round."""
    return statistics.median(one["seconds"] / other["seconds"] for one, other in zip(found["plain"], found[what], strict=True))


def middle(found: dict[str, list[Found]], what: str, key: str) -> float:
    return statistics.median(one[key] for one in found[what])


def agree(found: dict[str, list[Found]]) -> None:
    """Both have the same numbers; plain torch breaks ties as it happens, ours by the mean probability."""
    plain, ours = found["plain"][0]["found"], found["ours"][0]["found"]
    for text in TEXTS:
        tied = 0.05 if "vote" in text or text == "oracle" else 1e-4
        for name, value in plain[text].items():
            assert ours[text][name] == pytest.approx(value, abs=tied if name.startswith(("acc", "mean")) else 1e-3), (
                text,
                name,
            )
    assert ours["oracle"]["acc1"] == pytest.approx(plain["oracle"]["acc1"], abs=1e-6)
    for name, values in plain["pairs"].items():
        assert ours["pairs"][name] == pytest.approx(values, abs=1e-4), name


def table(found: dict[str, list[Found]]) -> str:
    """The medians in Markdown."""
    base = middle(found, "torch", "peak")
    names = {
        "plain": "plain torch, in memory",
        "ours": "ours, from disk in pieces",
        "read": "every byte read once, nothing done",
    }
    lines = ["| what | CPU s | times as fast | peak, GiB | above torch alone |", "|---|---:|---:|---:|---:|"]
    for what, name in names.items():
        seconds, peak = middle(found, what, "seconds"), middle(found, what, "peak")
        ratio = "" if what == "read" else f"{times(found, what):.1f}"
        lines.append(f"| {name} | {seconds:.2f} | {ratio} | {peak:.2f} | {peak - base:.2f} |")
    return "\n".join(lines)


def test_seven_strategies_and_the_pairs(
    benchmark: BenchmarkFixture,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if not request.config.getoption("--benchmark-only"):
        pytest.skip("speed is measured alone: tox -e benchmarks")
    if not Path("/proc/self/status").exists():
        pytest.skip("this system does not say how much memory a process has used")
    folder = make(tmp_path, int(os.environ.get(VARIABLE, "8000")))
    found = benchmark.pedantic(measured, (folder,), rounds=1)
    agree(found)
    benchmark.extra_info.update(times=round(times(found, "ours"), 2))
    with capsys.disabled():
        print(f"\n{table(found)}")
    assert times(found, "ours") >= TIMES
    assert middle(found, "ours", "peak") - middle(found, "torch", "peak") <= ABOVE


def write() -> None:
    """Write the page."""
    samples = int(os.environ.get(VARIABLE, "50000"))
    with tempfile.TemporaryDirectory() as place:
        found = measured(make(Path(place), samples))
    agree(found)
    floor = middle(found, "ours", "seconds") / middle(found, "read", "seconds")
    PAGE.write_text(
        f"""# Speed of archives

Written by `python tests/benchmarks/test_archive.py`; `tox -e benchmarks` measures the same on 8,000 samples and holds the bars.
A folder archive of {BACKBONES} backbones x {samples:,} samples x {CLASSES:,} classes of float32 logits
({BACKBONES * samples * CLASSES * 4 / 1e9:.1f} GB, in the page cache). Asked for are {", ".join(f"`{text}`" for text in TEXTS)},
every metric of each, and six measures of all {BACKBONES * (BACKBONES - 1) // 2} pairs of backbones. CPU seconds of one thread
from the file to the numbers, imports apart, medians of {ROUNDS} rounds in which the processes took turns. The machine had two
cores, shared with other work: only the ratios travel.

{table(found)}

Ours needs {floor:.0f} times the CPU of reading alone, the floor that memory sets: most of it is one exponential for each score,
and a dozen passes over the [s, c] scores of each strategy. What plain torch does longest is to ask the system for memory.

Ours checks that every score is finite and breaks ties by the rule, in double precision; single precision alone is used where
that cannot change an answer.
""",
        encoding="utf-8",
    )


if __name__ == "__main__":
    if len(sys.argv) == 3:
        process(sys.argv[1], Path(sys.argv[2]))
    else:
        write()
