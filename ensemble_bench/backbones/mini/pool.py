"""The embedded backbones: compact weights beside the code, expanded once into a folder that open_clip itself can load."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ensemble_bench import cache
from ensemble_bench.backbones.open_clip import CONFIG, WEIGHTS, OpenClip, opened, read_config
from ensemble_bench.errors import BadWeights

if TYPE_CHECKING:
    from ensemble_bench.backbones.encoder import OpenClipEncoder

COMPACT = Path(__file__).parent / "weights"


@dataclass(frozen=True)
class Mini(OpenClip):
    """An embedded backbone: ``compact`` is the folder that holds NAME.safetensors and NAME.json."""

    compact: Path

    @property
    def name(self) -> str:
        return f"local-dir:{expanded(self.arch, self.compact)}"

    @cached_property
    def _digest(self) -> str:
        return _digest(self.compact / f"{self.arch}.safetensors")

    def configured(self) -> tuple[dict[str, Any], Mapping[str, Any]]:
        config = read_config(self.compact / f"{self.arch}.json")
        return config["model_cfg"], config["preprocess_cfg"]

    def card(self) -> Mapping[str, Any]:
        config = read_config(self.compact / f"{self.arch}.json")
        curve = config["card"].pop("curve", {"columns": [], "rows": []})
        steps = [
            ", ".join(f"{name} {value}" for name, value in zip(curve["columns"], row, strict=True)) for row in curve["rows"]
        ]
        return {"image tower": config["model_cfg"]["vision_cfg"], **config["card"], "curve": steps}

    def file(self, fetch: bool) -> Path | None:
        path = self.compact / f"{self.arch}.safetensors"
        return path if fetch or path.is_file() else None

    def load(self, device: str = "cpu", precision: str = "fp32") -> OpenClipEncoder:
        folder = expanded(self.arch, self.compact)
        encoder = opened(self, f"local-dir:{folder}", folder, folder / WEIGHTS[0], device, precision)
        encoder.use(replace(encoder.setting, way="lean"))  # measuring each machine would take longer than it gains
        return encoder


def mini(name: str, compact: Path = COMPACT) -> Mini:
    """The embedded backbone ``mini/NAME``."""
    path = compact / f"{name}.json"
    card = json.loads(path.read_text(encoding="utf-8"))["card"] if path.is_file() else {}
    return Mini(id=f"mini/{name}", arch=name, gflops=card.get("gflops"), parameters=card.get("parameters"), compact=compact)


def expanded(name: str, compact: Path = COMPACT) -> Path:
    """A folder with open_clip_config.json and open_clip_model.safetensors (float32, all token rows), made where it is missing.

    ``open_clip.create_model_and_transforms(f"local-dir:{folder}")`` loads it, as does the host. Raises BadWeights, BadStore.
    """
    source = compact / f"{name}.safetensors"
    folder = cache.root() / "backbones" / "mini" / f"{name}-{_digest(source)[:12]}"
    if (folder / CONFIG).is_file() and (folder / WEIGHTS[0]).is_file():
        return folder

    from safetensors import SafetensorError
    from safetensors.torch import save

    from ensemble_bench.backbones.mini import compact as packing

    config = read_config(compact / f"{name}.json")
    try:
        state = packing.restored(source, config["model_cfg"]["text_cfg"]["vocab_size"])
    except (SafetensorError, KeyError, IndexError) as error:
        raise BadWeights(f"{source} is no compact backbone ({error}): install the package again.") from error
    part = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{name}."))
        cache.write(part / WEIGHTS[0], save(state))
        cache.write(
            part / CONFIG, (json.dumps({key: config[key] for key in ("model_cfg", "preprocess_cfg")}, indent=1) + "\n").encode()
        )
        try:
            part.rename(folder)
        except OSError:
            if not (folder / CONFIG).is_file():  # else another process was quicker
                raise
    except OSError as error:
        raise cache.trouble(folder, error) from error
    finally:
        if part is not None:
            shutil.rmtree(part, ignore_errors=True)
    cache.settle(folder.parent)
    return folder


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BadWeights(
            f"the embedded weights {path} cannot be read ({error.strerror}): install the package again, "
            "or make them with python -m ensemble_bench.backbones.mini.train."
        ) from error


rn_narrow = mini("rn-narrow")
rn_wide = mini("rn-wide")
vit_8 = mini("vit-8")
vit_16 = mini("vit-16")
convnext = mini("convnext")
