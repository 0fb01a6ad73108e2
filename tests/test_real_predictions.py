"""Archives made from the predictions of real CLIP models: votes, oracles and most confident answers known from elsewhere.

The files lie beside the repository and nothing of them is in it; where one is missing, its tests are skipped by its name.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w
from numpy.typing import NDArray

from ensemble_bench import archive, cli

CLIPS = ("clip", "clip-16", "clip-14")
Rows = list[dict[str, Any]]
Parts = dict[str, NDArray[Any]]

# Images; right answers of the three, of their vote (ties to the lowest class index) and of their oracle.
RIGHT = {
    "contrast": (1280, (985, 1028, 1108), 1066, 1130),
    "high-pass": (1280, (772, 1019, 1125), 1060, 1184),
    "rotation": (1280, (1104, 1176, 1229), 1209, 1256),
    "silhouette": (160, (110, 117, 116), 118, 129),
    "stylized": (800, (439, 465, 471), 487, 588),
    "uniform-noise": (1280, (671, 706, 785), 764, 879),
}
PUBLISHED = {  # best single, vote, oracle
    "high-pass": (0.879, 0.828, 0.925),
    "stylized": (0.589, 0.609, 0.735),
    "silhouette": (0.731, 0.738, 0.806),
    "uniform-noise": (0.613, 0.597, 0.687),
}
NOISE = {
    "0.00": ((149, 150, 156), 153, 158),
    "0.03": ((144, 152, 157), 156, 159),
    "0.05": ((138, 140, 151), 148, 154),
    "0.10": ((121, 121, 130), 132, 142),
    "0.20": ((75, 77, 103), 97, 116),
    "0.35": ((25, 37, 61), 48, 80),
    "0.60": ((9, 19, 17), 20, 40),
    "0.90": ((10, 10, 10), 10, 30),
}


def opened(folder: Path, name: str) -> Parts:
    path = folder / name
    if not path.is_file():
        pytest.skip(f"{name} is not among the real predictions")
    with np.load(path, allow_pickle=False) as stored:
        return {key: stored[key] for key in stored.files}


def parts(folder: Path, name: str) -> Parts:
    """The arrays of an archive from a file of human-and-model comparisons: decisions of the three CLIPs."""
    held = opened(folder, f"mvh_{name}.npz")
    rows = [held["models"].tolist().index(model) for model in CLIPS]
    return {
        "labels": held["label"],
        "classes": held["classes"],
        "backbones": np.array(CLIPS),
        "ids": held["images"],
        "decisions": held["pred"][rows],
        "condition": held["condition"],
    }


def as_npz(made: Parts, path: Path) -> Path:
    np.savez(path.with_suffix(".npz"), **made)
    return path.with_suffix(".npz")


def as_folder(made: Parts, path: Path) -> Path:
    """Names in the card, numbers in files."""
    path.mkdir()
    lists = {}
    for name, array in made.items():
        if array.dtype.kind == "U":
            lists[name] = array.tolist()
        else:
            np.save(path / f"{name}.npy", array)
    (path / "archive.toml").write_text(tomli_w.dumps(lists), encoding="utf-8")
    return path


def as_csv(made: Parts, path: Path) -> Path:
    with path.with_suffix(".csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["condition", "backbone", "id", "prediction", "label"])
        for number, sample in enumerate(made["ids"]):
            for backbone, decisions in zip(made["backbones"], made["decisions"], strict=True):
                said, right = made["classes"][decisions[number]], made["classes"][made["labels"][number]]
                rows.writerow([made["condition"][number], backbone, sample, said, right])
    return path.with_suffix(".csv")


def evaluated(path: Path, capsys: pytest.CaptureFixture[str], *texts: str) -> Rows:
    assert cli.main(["evaluate", str(path), "-s", *texts, "--format", "json"]) == 0
    rows: Rows = json.loads(capsys.readouterr().out)
    return [row for row in rows if row["metric"] == "acc1"]


def right(rows: Rows, strategy: str, condition: str = "all") -> int:
    (row,) = [row for row in rows if (row["strategy"], row["condition"]) == (strategy, condition)]
    return round(row["value"] * row["n"])


@pytest.mark.parametrize("name", RIGHT)
@pytest.mark.parametrize("form", [as_npz, as_folder, as_csv], ids=["npz", "folder", "csv"])
def test_three_clips(name: str, form: Any, real_predictions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images, each, vote, oracle = RIGHT[name]
    made = parts(real_predictions, name)
    rows = evaluated(form(made, tmp_path / name), capsys, "single", "oracle-best-single", "vote-top1", "oracle")
    assert {row["n"] for row in rows if row["condition"] == "all"} == {images}
    assert tuple(right(rows, f"single:{model}") for model in CLIPS) == each
    assert (right(rows, "oracle-best-single"), right(rows, "vote-top1"), right(rows, "oracle")) == (max(each), vote, oracle)
    assert {row["condition"] for row in rows} == {"all", *made["condition"].tolist()}  # NaN, inf and 0.10 are names
    if name in PUBLISHED:
        values = {row["strategy"]: row["value"] for row in rows if row["condition"] == "all"}
        found = tuple(round(values[text], 3) for text in ("oracle-best-single", "vote-top1", "oracle"))
        assert found == pytest.approx(PUBLISHED[name], abs=1e-9)


def test_noise_level_by_level(real_predictions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = as_npz(parts(real_predictions, "uniform-noise"), tmp_path / "noise")
    rows = evaluated(path, capsys, "single", "oracle-best-single", "vote-top1", "oracle")
    assert list(dict.fromkeys(row["condition"] for row in rows)) == ["all", *NOISE]
    for level, (each, vote, oracle) in NOISE.items():
        assert tuple(right(rows, f"single:{model}", level) for model in CLIPS) == each, level
        found = [right(rows, text, level) for text in ("oracle-best-single", "vote-top1", "oracle")]
        assert found == [max(each), vote, oracle], level


@pytest.mark.parametrize("name", ["silhouette", "uniform-noise", "high-pass"])
def test_names_of_conditions_survive_being_imported(
    name: str, real_predictions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENSEMBLE_BENCH_CACHE", str(tmp_path / "store"))
    made = parts(real_predictions, name)
    for number, form in enumerate((as_npz, as_folder, as_csv)):
        archive.keep(form(made, tmp_path / name), f"copy-{number}")
        found = archive.find(f"copy-{number}")
        assert found.condition is not None and found.condition.tolist() == made["condition"].tolist()
        assert found.cube.ids == tuple(made["ids"].tolist())


def test_seven_clips_on_conflicting_cues(real_predictions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Shape is the label; confidences stand beside decisions."""
    held = opened(real_predictions, "cue_conflict_clip7x3.npz")
    suffix = "_a_photo_of_a_CLS."
    rows = [number for number, name in enumerate(held["models"].tolist()) if name.endswith(suffix)]
    names = [str(held["models"][row]).removesuffix(suffix) for row in rows]
    made = {
        "labels": held["shape"],
        "classes": held["classes"],
        "backbones": np.array(names),
        "ids": held["images"],
        "decisions": held["pred"][rows],
        "confidence": held["conf"][rows],
    }
    np.savez(tmp_path / "cues.npz", **made)
    found = evaluated(tmp_path / "cues.npz", capsys, "single", "vote-top1", "oracle", "confidence")
    each = [right(found, f"single:{name}") for name in names]
    assert sorted(each, reverse=True) == [772, 765, 703, 694, 684, 287, 253]
    assert (right(found, "vote-top1"), right(found, "oracle")) == (706, 913)
    first = made["decisions"][made["confidence"].argmax(0), np.arange(1280)]
    known = int((first == made["labels"]).sum())
    assert known / 1280 == pytest.approx(0.6008, abs=5e-5)  # of equally confident models the first answers
    assert right(found, "confidence") == known + 1  # on one image two are equally sure of a 5 and an 8, and 5 is right


def test_fifteen_encoders_with_rounded_probabilities(
    real_predictions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Probabilities of three digits, and bare decisions, which are not quite those that the rounded probabilities give."""
    held = opened(real_predictions, "conformal_clip_extrusion.npz")
    second = held["prob_defective"]
    names = {
        "labels": held["label"],
        "classes": np.array(["nominal", "defective"]),
        "backbones": held["models"],
        "ids": np.array([f"part-{number}" for number in range(len(held["label"]))]),
    }
    np.savez(tmp_path / "soft.npz", **names, probabilities=np.stack([1 - second, second], -1))
    np.savez(tmp_path / "hard.npz", **names, decisions=held["pred"])
    soft = evaluated(tmp_path / "soft.npz", capsys, "mean-probability")
    tied = (np.rint(second.astype(np.float64) * 1000).sum(0) * 2 == 1000 * len(second)).sum()
    assert tied == 1  # in thousandths, which float32 does not hold: its answer counts in one and not in the other
    assert right(soft, "mean-probability") / 200 in (0.825, 0.820)
    hard = evaluated(tmp_path / "hard.npz", capsys, "single", "vote-top1", "oracle")
    each = [right(hard, f"single:{name}") / 200 for name in held["models"]]
    assert (min(each), max(each)) == (0.665, 0.820)
    assert (right(hard, "vote-top1") / 200, right(hard, "oracle") / 200) == (0.800, 0.985)
