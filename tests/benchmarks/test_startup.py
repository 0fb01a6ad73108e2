"""Start-up beside the host's: whole processes in turns, medians, byte code warm on both sides.

    python tests/benchmarks/test_startup.py        prints the table

Seconds are of CPU, user and system, which other work on the machine hardly touches; where there is none, the clock agrees.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SCRIPTS = Path(sys.executable).parent
HOST = ("clip_benchmark", "eval", "--help")
OURS = (
    ("ensemble-bench", "--help"),
    ("ensemble-bench", "ls", "strategies"),
    ("ensemble-bench", "ls", "tasks"),
    ("ensemble-bench", "run", "--dry-run"),
)
HELD = OURS[:2]
RATIO, SECONDS = 50.0, 0.2
ROUNDS = 3


@dataclass(frozen=True)
class Row:
    """One command: median seconds of CPU and on the clock, and how many times the host's ``eval --help`` takes as long."""

    words: tuple[str, ...]
    cpu: float
    clock: float
    ratio: float


def _once(words: tuple[str, ...]) -> tuple[float, float]:
    """Seconds of CPU and on the clock of one process."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    command = [str(SCRIPTS / words[0]), *words[1:]]
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    after, clock = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter() - start
    assert done.returncode == 0 and done.stdout, done.stderr
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, clock


def rows(commands: tuple[tuple[str, ...], ...] = OURS, rounds: int = ROUNDS) -> list[Row]:
    """The host first, then ours; in every round the host once and each of ours three times."""
    times: dict[tuple[str, ...], list[tuple[float, float]]] = {words: [] for words in (HOST, *commands)}
    for words in times:
        _once(words)  # writes the byte code
    for _ in range(rounds):
        times[HOST].append(_once(HOST))
        for _ in range(3):
            for words in commands:
                times[words].append(_once(words))
    medians = {words: [statistics.median(column) for column in zip(*found, strict=True)] for words, found in times.items()}
    return [Row(words, cpu, clock, medians[HOST][0] / cpu) for words, (cpu, clock) in medians.items()]


def table(found: list[Row]) -> str:
    """The rows in Markdown."""
    lines = ["| command | CPU, s | clock, s | times quicker |", "|---|---:|---:|---:|"]
    lines += [f"| `{' '.join(row.words)}` | {row.cpu:.2f} | {row.clock:.2f} | {row.ratio:.0f} |" for row in found]
    return "\n".join(lines)


def test_startup(benchmark: Any, capsys: Any) -> None:
    found = benchmark.pedantic(rows, rounds=1)
    benchmark.extra_info.update({" ".join(row.words): round(row.ratio, 1) for row in found})
    with capsys.disabled():
        print(f"\n{table(found)}")
    for row in found:
        if row.words in HELD:
            assert row.ratio >= RATIO and row.cpu <= SECONDS, row


if __name__ == "__main__":
    print(table(rows()))
