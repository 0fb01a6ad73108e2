"""How long it takes to index a train split of 100,000 samples in ten shards and to draw 16 of each of 1,000 classes from it.

``python tests/benchmarks/test_sources.py`` prints it for the machine it runs on, ``tox -e benchmarks`` holds a ratio: headers
are read faster than by Python's ``tarfile``.
"""

from __future__ import annotations

import os
import sys
import tarfile
import tempfile
import time
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest

from ensemble_bench import pictures, plan, tars
from ensemble_bench.request import Request
from ensemble_bench.sources import own

CLASSES = 1000
AT_LEAST = 2  # times as fast as tarfile


def shard(path: Path, numbers: range) -> None:
    """Tiny PNG files with class numbers, with the times of change that webdataset's writer gives."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shown = [pictures.encoded(np.random.default_rng(n).integers(0, 256, (16, 16, 3), dtype=np.uint8)) for n in range(64)]
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for number in numbers:
            for ending, data in (("png", shown[number % 64]), ("cls", str(number % CLASSES).encode())):
                info = tarfile.TarInfo(f"s{number:07d}.{ending}")
                info.size = len(data)
                tar.addfile(info, BytesIO(data))


def by_tarfile(path: Path) -> list[tuple[str, int, int]]:
    """What Python's own reader finds."""
    with tarfile.open(path, "r:") as tar:
        return [(info.name, info.offset_data, info.size) for info in tar]


def test_headers_are_read_faster_than_by_tarfile(tmp_path: Path) -> None:
    path = tmp_path / "0.tar"
    shard(path, range(5000))
    times: dict[str, list[float]] = {"ours": [], "tarfile": []}
    for _ in range(5):
        for name, read in (("ours", tars.members), ("tarfile", by_tarfile)):
            start = time.process_time()
            found = read(path)  # type: ignore[operator]
            times[name].append(time.process_time() - start)
            assert len(found) == 10_000
    ratio = min(times["tarfile"]) / min(times["ours"])
    assert ratio >= AT_LEAST, f"only {ratio:.1f} times as fast as tarfile"


@pytest.mark.slow
def test_a_large_train_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing but the drawn pictures is ever decoded."""
    monkeypatch.setenv("ENSEMBLE_BENCH_CACHE", str(tmp_path / "store"))
    print(measured(tmp_path))


def measured(folder: Path) -> str:
    """The times, wall clock and processor, as text."""
    for number in range(10):
        shard(folder / "big" / "train" / f"{number}.tar", range(10_000 * number, 10_000 * (number + 1)))
    shard(folder / "big" / "test" / "0.tar", range(2000))
    (folder / "big" / "classnames.txt").write_text("".join(f"class {number}\n" for number in range(CLASSES)))
    lines = []
    for what in ("index and draw", "the same again"):
        wall, own_time = time.perf_counter(), time.process_time()
        shown = plan.samples(own.read(f"wds:{folder / 'big'}"), Request(shots=16, draws=5))
        lines.append(f"{what}: {time.perf_counter() - wall:.1f} s ({time.process_time() - own_time:.1f} s of one core)")
    assert [len(support.ids) for support in shown.supports] == [16 * CLASSES] * 5
    ids = shown.supports[0].ids
    wall, own_time = time.perf_counter(), time.process_time()
    assert sum(1 for _ in shown.source.pictures("train", ids)) == 16 * CLASSES
    spent = f"{time.perf_counter() - wall:.1f} s ({time.process_time() - own_time:.1f} s of one core)"
    lines.append(f"decoding the {len(ids):,} pictures of one draw: {spent}")
    return "\n".join(lines)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        os.environ["ENSEMBLE_BENCH_CACHE"] = str(Path(place) / "store")
        print(measured(Path(place)))
        sys.exit(0)
