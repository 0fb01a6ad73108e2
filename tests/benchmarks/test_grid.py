"""A small grid end to end, ours and the host's way: ViT-B-32 with random weights; clean, gaussian_noise 3, glass_blur 3; 256
pictures, 20 classes x 80 prompts.

Ours is ``ensemble-bench run`` from an empty store, calibration included. The host's is imagecorruptions writing two corrupted
copies, then CLIP_benchmark's command once for each of the three, its accuracy function mended (numpy 2.4 breaks it). Measured
is CPU time of whole processes, one thread each. So that answers can be compared, the host is shown pictures that we corrupted.

    python tests/benchmarks/test_grid.py [--precision fp32] [--images 256] [--classes 20]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

ARCH = "ViT-B-32"
CONDITIONS = ("clean", "imagenet-c:gaussian_noise:3", "imagenet-c:glass_blur:3")
RATIO = 8.0
NEAR = {"bf16": 0.05, "fp32": 1e-3}  # of a logit (cosine x 100): closer than that, two classes may change places

HOST = """
import sys
import numpy as np
import clip_benchmark.cli
from clip_benchmark.metrics import zeroshot_classification as zeroshot

def accuracy(output, target, topk=(1,)):
    found = output.topk(max(topk), 1, True, True)[1].t()
    correct = found.eq(target.view(1, -1).expand_as(found))
    np.save(sys.argv_logits, output.numpy())
    return [correct[:k].reshape(-1).float().sum().item() / len(target) for k in topk]

zeroshot.accuracy = accuracy
sys.argv_logits = sys.argv.pop(1)
clip_benchmark.cli.main()
"""
CORRUPT = """
import sys
from pathlib import Path
import numpy as np
from PIL import Image
from ensemble_bench.corrupt import reference
source, out = map(Path, sys.argv[1:])
for name in ("gaussian_noise", "glass_blur"):
    for number, path in enumerate(sorted(source.rglob("*.png"))):
        made = reference.corrupted(np.asarray(Image.open(path)), name, 3, number)
        target = out / name / path.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(made).save(target)
"""


@dataclass(frozen=True)
class Grid:
    """CPU seconds by step, accuracies by condition (ours, the host's), and the answers that differ."""

    ours: float
    corrupting: float
    host: tuple[float, ...]
    accuracies: dict[str, tuple[float, float]]
    differing: list[str]
    far: list[str]

    @property
    def ratio(self) -> float:
        return (self.corrupting + sum(self.host)) / self.ours


def spent(words: list[Any], folder: Path) -> float:
    """CPU seconds of a command and of whatever it started."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "ENSEMBLE_BENCH_CACHE": str(folder / "store")}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, *map(str, words)], env=environment, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def written(folder: Path, images: int, classes: int) -> None:
    """Crops of photographs in class folders, ImageNet's names and prompts as the host ships them, random weights."""
    import importlib.util

    import open_clip
    import torch
    from PIL import Image
    from skimage import data
    from sklearn.datasets import load_sample_image

    spec = importlib.util.find_spec("clip_benchmark")
    assert spec is not None and spec.submodule_search_locations
    shipped = Path(spec.submodule_search_locations[0]) / "datasets"
    names = json.loads((shipped / "en_classnames.json").read_text(encoding="utf-8"))["imagenet1k"]
    names = names[:: len(names) // classes][:classes]
    templates = json.loads((shipped / "en_zeroshot_classification_templates.json").read_text(encoding="utf-8"))["imagenet1k"]
    draws = np.random.default_rng(0)
    photographs = [load_sample_image("china.jpg"), load_sample_image("flower.jpg"), data.astronaut()]
    for number in range(images):
        photograph = photographs[number % 3]
        side = int(draws.integers(160, 400))
        top, left = (int(draws.integers(0, length - side + 1)) for length in photograph.shape[:2])
        crop = Image.fromarray(photograph[top : top + side, left : left + side]).resize((224, 224), Image.Resampling.BICUBIC)
        path = folder / "pictures" / f"c{number % classes:03d}" / f"{number:05d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        crop.save(path)
    (folder / "pictures" / "classnames.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    (folder / "pictures" / "zeroshot_classification_templates.txt").write_text(
        "".join(f"{template}\n" for template in templates), encoding="utf-8"
    )
    (folder / "names.json").write_text(json.dumps({"imagenet_sketch": names}), encoding="utf-8")
    torch.manual_seed(0)
    torch.save(open_clip.create_model(ARCH, pretrained=None).state_dict(), folder / "random.pt")


def our_answers(folder: Path) -> dict[str, tuple[list[str], NDArray[np.int64], NDArray[np.int64]]]:
    """Ids, labels and decisions by condition."""
    found = {}
    for line in (folder / "ours" / "records.jsonl").read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        with np.load(folder / "ours" / "predictions" / f"{record['cell']}.npz") as kept:
            found[record["condition"]] = list(kept["ids"]), kept["labels"], kept["decisions"][0]
    return found


def measured(folder: Path, precision: str, images: int, classes: int) -> Grid:
    """The grid done both ways."""
    written(folder, images, classes)
    pictures, weights = folder / "pictures", folder / "random.pt"
    ours = ["-m", "ensemble_bench", "run", "-t", f"folder:{pictures}", "-b", f"{ARCH},{weights}", "-c", *CONDITIONS[1:]]
    seconds = spent([*ours, "-s", "confidence", "--precision", precision, "-o", folder / "ours", "-q"], folder)
    corrupting = spent(["-c", CORRUPT, pictures, folder / "theirs"], folder)
    spent(["-m", "ensemble_bench", "corrupt", pictures, folder / "copy", "-c", *CONDITIONS[1:], "-q"], folder)
    host, accuracies, differing, far = [], {}, [], []
    answers = our_answers(folder)
    for condition in CONDITIONS:
        _, _, corruption = condition.partition(":")
        shown = folder / "copy" / corruption.replace(":", "/") if corruption else pictures
        name = corruption.replace(":", "-") or condition
        words = ["eval", "--dataset", "imagenet_sketch", "--dataset_root", shown, "--model", ARCH, "--pretrained", weights]
        words += ["--custom_classname_file", folder / "names.json", "--output", folder / f"{name}.json", "--num_workers", 0]
        words += ["--task", "zeroshot_classification", *(["--no_amp"] if precision == "fp32" else [])]
        host.append(spent(["-c", HOST, folder / f"{name}.npy", *words], folder))
        logits = np.load(folder / f"{name}.npy").astype(np.float64)
        metrics = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))["metrics"]
        ids, labels, decisions = answers[condition]
        assert ids == sorted(ids) and len(logits) == len(ids)
        accuracies[condition] = float((decisions == labels).mean()), metrics["acc1"]
        for row in np.flatnonzero(decisions != logits.argmax(1)):
            gap = float(logits[row].max() - logits[row, decisions[row]])
            said = f"{condition} {ids[row]}: the host's best two are {gap:.4f} of a logit apart"
            (differing if gap <= NEAR[precision] else far).append(said)
    return Grid(seconds, corrupting, tuple(host), accuracies, differing, far)


def told(grid: Grid, precision: str) -> str:
    """The grid in words."""
    lines = [f"{precision}: ours {grid.ours:.0f} s of CPU; imagecorruptions {grid.corrupting:.0f} s, CLIP_benchmark "]
    lines[0] += f"{' + '.join(f'{part:.0f}' for part in grid.host)} s: {grid.ratio:.1f} times ours"
    lines += [f"{name}: acc1 {own:.4f}, host {host:.4f}" for name, (own, host) in grid.accuracies.items()]
    lines += [f"near-tie: {line}" for line in grid.differing] + [f"DIFFERENT: {line}" for line in grid.far]
    return "\n".join(lines)


@pytest.mark.filterwarnings("default")
def test_small_grid(benchmark: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found: Grid = benchmark.pedantic(measured, args=(tmp_path, "bf16", 256, 20), rounds=1)
    with capsys.disabled():
        print(f"\n{told(found, 'bf16')}")
    assert not found.far
    for own, host in found.accuracies.values():
        assert abs(own - host) <= len(found.differing) / 256
    assert found.ratio >= RATIO


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--precision", choices=("bf16", "fp32"), default="bf16")
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--classes", type=int, default=20)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        print(told(measured(Path(place), chosen.precision, chosen.images, chosen.classes), chosen.precision))
