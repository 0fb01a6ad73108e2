"""What the page for users of CLIP_benchmark shows runs as it stands, in one new folder and without a network."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

PAGE = (Path(__file__).parents[1] / "docs" / "clip-benchmark.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```bash\n(.*?)```", PAGE, re.S)


def test_the_module_of_the_page_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENSEMBLE_BENCH_CACHE", str(tmp_path))
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    held: dict[str, object] = {}
    with contextlib.redirect_stdout(io.StringIO()) as said:
        exec(compile(code, "page", "exec"), held)
    rows = [float(number) for number in re.findall(r"\d\.\d+(?:e-\d+)?", said.getvalue())]
    assert len(rows) == 4 and rows[0] + rows[1] == pytest.approx(1, abs=1e-3)
    assert rows[0] > 0.5 and rows[3] > 0.5, "red is red and blue is blue"
    assert held["head"].shape[1] == 2  # type: ignore[attr-defined]


@pytest.mark.slow
def test_every_command_of_the_page_runs(tmp_path: Path) -> None:
    """One after the other, as a reader would; only the comparison of both doors takes one task instead of all."""
    rng = np.random.default_rng(0)
    for place in range(6):
        path = tmp_path / "home" / "pets" / ("cat", "dog")[place % 2] / f"{place}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(path)
    place = {"HOME": str(tmp_path / "home"), "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    place |= {"ENSEMBLE_BENCH_CACHE": str(tmp_path / "store"), "HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "ignore"}
    said = []
    for block in BLOCKS:
        words = ["bash", "-euo", "pipefail", "-c", block.replace("--dataset eb/mini ", "--dataset eb/mini/faces ")]
        done = subprocess.run(words, cwd=tmp_path, env={**os.environ, **place}, capture_output=True, text=True, timeout=1200)
        assert done.returncode == 0, f"{block}\n{done.stderr[-3000:]}"
        said.append(done.stdout)
    assert {path.name for path in (tmp_path / "json").iterdir()} == {
        "eb_mini_faces_log-avg.json",
        "eb_mini_faces_confidence.json",
        "eb_mini_faces@mini-c:fog:3_confidence.json",
    }
    nlc = json.loads((tmp_path / "nlc.json").read_text())["metrics"]["acc1"]
    board = next(text for block, text in zip(BLOCKS, said, strict=True) if "both.csv" in block)
    assert all(name in board for name in ("nlc", "log-avg", "confidence", "mini/vit-16", f"{100 * nlc:.1f}"))
    exports = next(text for block, text in zip(BLOCKS, said, strict=True) if "export task" in block)
    (shown,) = re.findall(r"```text\n(.*?)```", PAGE, re.S)
    assert shown in exports and (tmp_path / "pets" / "test" / "0.tar").is_file()
    assert not (tmp_path / "fog" / "train").exists()
