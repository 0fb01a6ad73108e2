"""Backbones that open_clip can build: pretrained tags, checkpoint files, folders, hub ids."""

from __future__ import annotations

import json
import os
import pickle
import warnings
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ensemble_bench import cache
from ensemble_bench.backbones import catalogue, cost
from ensemble_bench.backbones.base import PRECISIONS, Backbone
from ensemble_bench.errors import BadOption, BadWeights, Missing

if TYPE_CHECKING:
    from ensemble_bench.backbones.encoder import OpenClipEncoder

_PREPARED = {  # open_clip's PreprocessCfg
    "mode": "RGB",
    "mean": [0.48145466, 0.4578275, 0.40821073],
    "std": [0.26862954, 0.26130258, 0.27577711],
    "interpolation": "bicubic",
    "resize_mode": "shortest",
    "fill_color": 0,
}
CONFIG = "open_clip_config.json"
WEIGHTS = (  # in the order in which open_clip takes them from a folder
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
    "open_clip_pytorch_model.pth",
    "model.safetensors",
    "pytorch_model.bin",
    "pytorch_model.pth",
    "model.pth",
)


@dataclass(frozen=True)
class OpenClip(Backbone):
    """A backbone that open_clip builds from a model configuration and one file of weights."""

    @property
    @abstractmethod
    def name(self) -> str:
        """What open_clip calls the model."""

    @abstractmethod
    def file(self, fetch: bool) -> Path | None:
        """The file of weights; None where it is not at hand and not to be fetched. Raises Missing, BadWeights."""

    @abstractmethod
    def configured(self) -> tuple[dict[str, Any], Mapping[str, Any]]:
        """Model configuration, and what its preparation of pictures changes in open_clip's defaults."""

    def weights(self) -> str:
        return self._digest

    def preprocessing(self) -> str:
        return cache.sha256(self._prepared)

    def architecture(self) -> str:
        return cache.sha256(self._configured[0])

    def prompt_gflops(self) -> float | None:
        return cost.prompt_gflops(self._configured[0].get("text_cfg", {}))

    def fetched(self) -> bool:
        return self.file(fetch=False) is not None

    def load(self, device: str = "cpu", precision: str = "fp32") -> OpenClipEncoder:
        return self._settled(opened(self, self.name, None, self._weights_file(), device, precision))

    def _settled(self, encoder: OpenClipEncoder) -> OpenClipEncoder:
        """The encoder with the quickest setting of its architecture on this machine."""
        from ensemble_bench.backbones import tuning

        tuning.settle(encoder, self.architecture())
        return encoder

    def _weights_file(self) -> Path:
        path = self.file(fetch=True)
        assert path is not None
        return path

    @cached_property
    def _digest(self) -> str:
        return cache.digest(self._weights_file())

    @cached_property
    def _configured(self) -> tuple[dict[str, Any], Mapping[str, Any]]:
        return self.configured()

    @cached_property
    def _prepared(self) -> dict[str, Any]:
        model, changed = self._configured
        given = {key: changed[key] for key in _PREPARED if changed.get(key) is not None}
        lists = {
            key: list(value) if isinstance(value, Sequence) and not isinstance(value, str) else value
            for key, value in given.items()
        }
        return {**_PREPARED, **lists, "size": model["vision_cfg"].get("image_size", 224)}


@dataclass(frozen=True)
class Pretrained(OpenClip):
    """An architecture with one of the pretrained tags of open_clip. ``repository`` is its hub id where it is known here."""

    tag: str
    repository: str = ""

    @property
    def name(self) -> str:
        return self.arch

    @cached_property
    def _entry(self) -> Mapping[str, Any]:
        if self.repository:
            return {"hf_hub": f"{self.repository}/", "quick_gelu": True}
        return catalogue.pretrained(self.arch, self.tag)

    def configured(self) -> tuple[dict[str, Any], Mapping[str, Any]]:
        return {**catalogue.configuration(self.arch), "quick_gelu": bool(self._entry.get("quick_gelu"))}, self._entry

    def file(self, fetch: bool) -> Path | None:
        if hub := self._entry.get("hf_hub"):
            repository, _, name = hub.rpartition("/")
            return _of_hub(self.id, repository, _alternatives(name or "open_clip_pytorch_model.bin"), fetch)
        url = str(self._entry.get("url", ""))
        path = Path("~/.cache/clip").expanduser() / url.rpartition("/")[2]
        if path.is_file():
            return path
        if not fetch:
            return None
        if _offline():
            raise Missing(f"the weights of {self.id} are not here, and HF_HUB_OFFLINE is set: put {url} into {path.parent}.")
        from open_clip import download_pretrained_from_url

        try:
            return Path(str(download_pretrained_from_url(url)))
        except (OSError, RuntimeError) as error:
            raise Missing(f"the weights of {self.id} cannot be fetched ({error}): put {url} into {path.parent}.") from error


@dataclass(frozen=True)
class Saved(OpenClip):
    """A checkpoint file of a known architecture, which decides everything that the file does not hold, QuickGELU included."""

    path: Path

    @property
    def name(self) -> str:
        return self.arch

    def configured(self) -> tuple[dict[str, Any], Mapping[str, Any]]:
        return catalogue.configuration(self.arch), {}

    def file(self, fetch: bool) -> Path | None:
        return self.path

    def load(self, device: str = "cpu", precision: str = "fp32") -> OpenClipEncoder:
        encoder = super().load(device, precision)
        _same_grids(encoder.model, self.path, self.arch)
        return encoder


@dataclass(frozen=True)
class Folder(OpenClip):
    """A folder with open_clip_config.json and weights."""

    path: Path
    config: Mapping[str, Any] = field(repr=False, hash=False)

    @property
    def name(self) -> str:
        return f"local-dir:{self.path}"

    def configured(self) -> tuple[dict[str, Any], Mapping[str, Any]]:
        return self.config["model_cfg"], self.config.get("preprocess_cfg", {})

    def file(self, fetch: bool) -> Path | None:
        return _in_folder(self.path)

    def load(self, device: str = "cpu", precision: str = "fp32") -> OpenClipEncoder:
        return self._settled(opened(self, self.name, self.path, self._weights_file(), device, precision))


@dataclass(frozen=True)
class Hub(OpenClip):
    """A model of the Hugging Face hub with open_clip's configuration file."""

    repository: str

    @property
    def name(self) -> str:
        return f"hf-hub:{self.repository}"

    def configured(self) -> tuple[dict[str, Any], Mapping[str, Any]]:
        path = _of_hub(self.id, self.repository, [CONFIG], fetch=True)
        assert path is not None
        config = read_config(path)
        return config["model_cfg"], config.get("preprocess_cfg", {})

    def file(self, fetch: bool) -> Path | None:
        return _of_hub(self.id, self.repository, _alternatives("open_clip_pytorch_model.bin"), fetch)

    def load(self, device: str = "cpu", precision: str = "fp32") -> OpenClipEncoder:
        return self._settled(opened(self, self.name, Path(self.repository), self._weights_file(), device, precision))


def pretrained(arch: str, tag: str) -> Pretrained:
    """The backbone ``TAG/ARCH``."""
    return Pretrained(id=f"{tag}/{arch}", arch=arch, gflops=None, parameters=None, tag=tag)


def saved(arch: str, path: Path) -> Saved:
    """The backbone of a checkpoint file. Raises BadWeights where there is no such file."""
    path = path.expanduser().absolute()
    return Saved(id=f"file:{cache.digest(path)[:12]}/{arch}", arch=arch, gflops=None, parameters=None, path=path)


def folder(path: Path) -> Folder:
    """The backbone of a folder. Raises BadWeights where it has no usable configuration or no weights."""
    path = path.expanduser().absolute()
    config = read_config(path / CONFIG)
    name = f"file:{cache.digest(_in_folder(path))[:12]}/{path.name}"
    return Folder(id=name, arch=path.name, gflops=None, parameters=None, path=path, config=config)


def hub(repository: str) -> Hub:
    """The backbone ``hf-hub:ORG/NAME``. Raises BadOption where that is no hub id."""
    if repository.count("/") != 1:
        raise BadOption(f"a hub id is written hf-hub:ORG/NAME, not 'hf-hub:{repository}'.")
    return Hub(
        id=f"hf-hub:{repository}", arch=repository.partition("/")[2], gflops=None, parameters=None, repository=repository
    )


def read_config(path: Path) -> dict[str, Any]:
    """The content of an open_clip_config.json. Raises BadWeights."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        config["model_cfg"]["vision_cfg"], config["model_cfg"]["text_cfg"], config["model_cfg"]["embed_dim"]
    except OSError as error:
        raise BadWeights(f"{path} cannot be read: {error.strerror or error}.") from error
    except (ValueError, KeyError, TypeError):
        raise BadWeights(
            f"{path} is no open_clip configuration: it must hold model_cfg with embed_dim, vision_cfg, text_cfg."
        ) from None
    return dict(config)


def _in_folder(path: Path) -> Path:
    """The file that open_clip would take from a folder."""
    there = sorted(p for end in ("safetensors", "bin", "pth") for p in path.glob(f"*.{end}"))
    there.sort(key=lambda p: (WEIGHTS.index(p.name) if p.name in WEIGHTS else len(WEIGHTS), p.suffix != ".safetensors"))
    if not there:
        raise BadWeights(f"{path} holds no weights: there must be a file such as {WEIGHTS[0]}.")
    return there[0]


def _offline() -> bool:
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")


def _alternatives(name: str) -> list[str]:
    """Names under which the hub may hold a file of weights, safetensors first."""
    safe = "open_clip_model.safetensors" if name == "open_clip_pytorch_model.bin" else f"{name.rpartition('.')[0]}.safetensors"
    return list(dict.fromkeys([safe, name]))


def _of_hub(backbone: str, repository: str, names: list[str], fetch: bool) -> Path | None:
    """The first of these files that the local hub cache holds; else fetched, or None."""
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    for name in names:
        if isinstance(found := try_to_load_from_cache(repository, name), str):
            return Path(found)
    if not fetch:
        return None
    why = "HF_HUB_OFFLINE is set"
    if not _offline():
        for name in names:
            try:
                return Path(hf_hub_download(repository, name))
            except LocalEntryNotFoundError as error:
                why = str(error.__cause__ or error).partition("\n")[0]
                break
            except EntryNotFoundError:
                why = f"{repository} has none of {', '.join(names)}"
            except Exception as error:  # whatever a network can do
                why = str(error).partition("\n")[0] or type(error).__name__
                break
    raise Missing(
        f"{backbone} is not on this machine and could not be fetched ({why}). Where there is a network: "
        f"hf download {repository} {names[0]}; then copy the folder $HF_HOME (default ~/.cache/huggingface) here."
    )


def _reason(error: BaseException) -> str:
    """The first lines of an error, as part of a sentence."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = " ".join(lines[:2]) or type(error).__name__
    return text[:300].rstrip(".")


def _told(error: Exception, file: Path, arch: str) -> BadWeights:
    text = str(error)
    if "Error(s) in loading state_dict" in text or isinstance(error, (KeyError, AssertionError)):
        return BadWeights(f"{file} is not a checkpoint of {arch}: {_reason(error)}. Name the architecture it was made with.")
    code = (isinstance(error, pickle.UnpicklingError) and "Unsupported" in text) or "TorchScript" in text
    if code:
        return BadWeights(
            f"{file} holds code beside weights, and code is never run ({_reason(error)}). "
            "Save the state dict alone, best as safetensors."
        )
    return BadWeights(f"{file} cannot be loaded as {arch}; it is truncated, or no checkpoint of it: {_reason(error)}.")


def opened(backbone: OpenClip, name: str, source: Path | None, file: Path, device: str, precision: str) -> OpenClipEncoder:
    """The loaded backbone. ``source`` is None where ``name`` is an architecture, which is then filled from ``file``."""
    import open_clip
    import torch

    from ensemble_bench.backbones.encoder import OpenClipEncoder

    if precision not in PRECISIONS:
        raise BadOption(f"a precision is one of {', '.join(PRECISIONS)}, not {precision!r}.")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise BadOption("there is no CUDA device here: use --device cpu.")
    model_cfg, prepared = backbone._configured[0], backbone._prepared
    quick = bool(model_cfg.get("quick_gelu"))
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message="QuickGELU mismatch")
            warnings.filterwarnings("ignore", message="Detected pickle protocol")  # the refusal that follows says more
            model = open_clip.create_model(
                name,
                pretrained=str(file) if source is None else None,
                precision=precision,
                device=device,
                force_quick_gelu=quick,
                force_preprocess_cfg=prepared,
                require_pretrained=True,
                weights_only=True,
            )
            tokenizer = open_clip.get_tokenizer(name)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # open_clip, torch, safetensors and timm each have their own
        raise _told(error, file, backbone.arch) from error
    _check_activation(model, quick, backbone.id)
    scale = model.logit_scale
    if scale.dtype != torch.float32:  # a tower that was cast as a whole has lost digits of it
        scale = open_clip.factory.load_state_dict(str(file)).get("logit_scale", scale)
    return OpenClipEncoder(
        model.eval(), tokenizer, prepared, device=device, precision=precision, scale=float(scale.detach().float().exp())
    )


def _check_activation(model: Any, quick: bool, backbone: str) -> None:
    """Raise BadWeights unless the towers that open_clip builds itself have the activation the weights were trained with."""
    from open_clip.transformer import QuickGELU
    from torch.nn import GELU

    foreign = [key for key, part in (("visual", model.visual), ("text", getattr(model, "text", None))) if _foreign(part)]
    kinds = {type(module) for key, module in model.named_modules() if key.partition(".")[0] not in foreign}
    if (GELU if quick else QuickGELU) in kinds or (quick and kinds and QuickGELU not in kinds):
        wanted, got = ("QuickGELU", "GELU") if quick else ("GELU", "QuickGELU")
        raise BadWeights(f"{backbone} was trained with {wanted}, but open_clip built it with {got}: its scores would be wrong.")


def _foreign(tower: Any) -> bool:
    """Whether a tower comes from timm or transformers, which know no QuickGELU switch."""
    return type(tower).__name__ in ("TimmModel", "HFTextEncoder")


def _same_grids(model: Any, file: Path, arch: str) -> None:
    """Raise BadWeights where open_clip had to stretch position embeddings: the file is of another architecture."""
    from open_clip.factory import load_state_dict

    state = load_state_dict(str(file))
    own = model.state_dict()
    for key in ("visual.positional_embedding", "positional_embedding"):
        if key in state and key in own and state[key].shape != own[key].shape:
            shapes = f"{list(state[key].shape)} instead of {list(own[key].shape)}"
            raise BadWeights(
                f"{file} is not a checkpoint of {arch}: its {key} is {shapes}. Name the architecture it was made with."
            )
