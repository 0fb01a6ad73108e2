"""The loaded form of an open_clip model."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

from ensemble_bench.backbones import cost, prompts, shortcuts
from ensemble_bench.backbones.base import Encoder
from ensemble_bench.backbones.setting import DTYPES, Setting

TEXTS = 256  # prompts at a time
TOKENS = 16384  # prompts tokenized at a time
_CLOSE = {"fp32": 1e-6, "bf16": 2e-2, "fp16": 2e-3}  # between unit vectors, for the cut text batch


class Preparation:
    """open_clip's transform of a picture uint8 [h, w, 3] to float32 [3, H, W]; light, so that other processes can have it.

    ``raw`` leaves out what comes last, the division by 255 and the normalisation: uint8 [3, H, W], a quarter of the bytes.
    ``normalised`` does it for a whole batch, wherever that lies.
    """

    def __init__(self, transform: Callable[[Any], Tensor], preprocessing: Mapping[str, Any], raw: bool = False) -> None:
        self.transform, self.size = transform, _two(preprocessing["size"])
        steps = getattr(transform, "transforms", ())
        self.raw = raw and [type(step).__name__ for step in steps[-2:]] == ["MaybeToTensor", "Normalize"]
        self._as_is = self.size[0] == self.size[1] and preprocessing["resize_mode"] != "longest"
        self._mean = torch.tensor(preprocessing["mean"])[:, None, None]
        self._std = torch.tensor(preprocessing["std"])[:, None, None]

    def __call__(self, picture: NDArray[np.uint8]) -> Tensor:
        if self._as_is and picture.shape[:2] == self.size:  # the transform would neither resize nor crop: same bytes, quicker
            sized = torch.tensor(picture).permute(2, 0, 1).contiguous()
            return sized if self.raw else self.normalised(sized)
        from PIL import Image

        shown: Any = Image.fromarray(picture)
        if not self.raw:
            return self.transform(shown)
        for step in self.transform.transforms[:-2]:  # type: ignore[attr-defined]
            shown = step(shown)
        return torch.tensor(np.array(shown)).permute(2, 0, 1).contiguous()

    def normalised(self, sized: Tensor) -> Tensor:
        """Pictures uint8 [..., 3, H, W] as float32, less the mean and over the deviation of the training pictures."""
        return (sized.float() / 255).sub_(self._mean.to(sized.device)).div_(self._std.to(sized.device))


class OpenClipEncoder(Encoder):
    """An open_clip model in evaluation mode, with its tokenizer and its preparation of pictures (``PreprocessCfg`` fields)."""

    def __init__(
        self,
        model: Any,
        tokenizer: Callable[[list[str]], Tensor],
        preprocessing: Mapping[str, Any],
        *,
        device: str,
        precision: str,
        scale: float,
    ) -> None:
        from open_clip.transform import PreprocessCfg, image_transform_v2

        self.model, self.tokenizer, self.scale, self.device, self.precision = model, tokenizer, scale, device, precision
        self.size: tuple[int, int] = _two(preprocessing["size"])
        self.gflops = cost.gflops(model.visual, self.size)
        self.parameters = cost.parameters(model)
        transform = image_transform_v2(PreprocessCfg(**preprocessing), is_train=False)
        self._prepare = Preparation(transform, preprocessing)
        self._pack = Preparation(transform, preprocessing, raw=device.startswith("cuda"))  # uint8 over the bus
        resnet = type(model.visual).__name__ == "ModifiedResNet"  # a quarter faster; a ViT would be slower
        self.setting = Setting(layout="channels_last" if resnet else "contiguous", arithmetic=precision)
        self._forward: Callable[[Tensor], Tensor] = self._encoded
        self._put(self.setting)
        self._cuts: bool | None = None  # neither is known before the first prompts
        self._shares: bool | None = None

    def preprocess(self, picture: NDArray[np.uint8]) -> Tensor:
        return self._prepare(picture)

    def packed(self, picture: NDArray[np.uint8]) -> Tensor:
        return self._pack(picture)

    def preparation(self) -> Preparation:
        return self._prepare

    def images(self, batch: Tensor) -> Tensor:
        parts = batch.split(self.setting.batch or len(batch))
        with torch.no_grad():
            return torch.cat([self._some(part) for part in parts]).float().cpu()

    def _some(self, batch: Tensor) -> Tensor:
        """Features of as many pictures as are encoded at a time."""
        on_cuda = self.device.startswith("cuda")
        there = (batch.pin_memory() if on_cuda else batch).to(self.device, non_blocking=on_cuda)
        if there.dtype == torch.uint8:
            there = self._prepare.normalised(there)
        there = there.to(DTYPES[self.setting.arithmetic])
        lacking = self.setting.batch - len(there) if self.setting.compiled else 0
        if lacking > 0:  # what was compiled wants one shape
            there = torch.cat([there, there[-1:].expand(lacking, -1, -1, -1)])
        return self._forward(there.contiguous(memory_format=self.setting.format))[: len(batch)]

    def _encoded(self, batch: Tensor) -> Tensor:
        features: Tensor = self.model.encode_image(batch, normalize=False)
        return features

    @property
    def compiles(self) -> bool:
        """Whether what should be compiled is: not where that was tried and failed."""
        return self._forward != self._encoded

    def use(self, setting: Setting) -> None:
        """Run the image tower in this way from now on; the text tower computes in the same arithmetic."""
        self._put(setting)
        if any(part.dtype not in (torch.float32, DTYPES[setting.arithmetic]) for part in self.model.parameters()):
            self.model.to(DTYPES[setting.arithmetic])
        if setting.compiled:  # before several threads ask for it at once
            self.images(torch.zeros(1, 3, *self.size))

    @contextmanager
    def using(self, setting: Setting) -> Iterator[None]:
        """The same for a while: afterwards everything is as it was."""
        before, tower, forward = self.setting, self.model.visual, self._forward
        back = self._put(setting)
        try:
            yield
        finally:
            back()
            self.model.visual = tower.to(memory_format=before.format)
            self.setting, self._forward = before, forward

    def _put(self, setting: Setting) -> Callable[[], None]:
        """Change the image tower; what comes back takes the shortcuts out again."""
        tower, wanted = self.model.visual, DTYPES[setting.arithmetic]
        if any(part.dtype not in (wanted, torch.float32) for part in tower.parameters()):
            tower = copy.deepcopy(tower).to(wanted)
            self.model.visual = tower
        tower.to(memory_format=setting.format)
        back = (lambda: None) if setting.way == "plain" else shortcuts.swapped(tower, setting.way == "onednn")
        self.setting, self._forward = setting, self._compiled() if setting.compiled else self._encoded
        return back

    def _compiled(self) -> Callable[[Tensor], Tensor]:
        """The image tower through torch.compile with frozen weights; as it is where nothing can be compiled here."""
        import torch._inductor.config as inductor

        def frozen(batch: Tensor) -> Tensor:
            try:
                with inductor.patch(freezing=True):
                    return made(batch)
            except (MemoryError, torch.OutOfMemoryError):
                raise
            except Exception:  # no compiler, or one that does not know the machine: no reason to fail
                self._forward = self._encoded
                return self._encoded(batch)

        made: Callable[[Tensor], Tensor] = torch.compile(self._encoded)
        return frozen

    def texts(self, prompts: Sequence[str]) -> Tensor:
        tokens = self.tokenizer(list(prompts)).to(self.device)
        tower = _causal(self.model)
        if tower is None:
            parts = [self._plain(chunk) for chunk in torch.split(tokens, TEXTS)]
            return torch.cat(parts).float().cpu()
        order = _ends(tower, tokens).argsort(stable=True)
        if self._cuts is None:
            ends = torch.cat([order[:4], order[-4:]])
            one, other = (normalize(f(tokens[ends]).float(), dim=1) for f in (self._plain, self._cut))
            self._cuts = bool((one - other).abs().max() <= _CLOSE[self.precision])
        read = self._cut if self._cuts else self._plain
        found = torch.cat([read(tokens[chunk]) for chunk in torch.split(order, TEXTS)])
        return found[order.argsort()].float().cpu()

    def classes(self, names: Sequence[str], templates: Sequence[str]) -> Tensor:
        """As promised, but the beginning that the prompts of a template share is read once."""
        tower = _causal(self.model)
        if tower is None or not prompts.readable(tower):
            return super().classes(names, templates)
        texts = [template.replace("{c}", name) for template in templates for name in names]
        tokens = torch.cat([self.tokenizer(texts[start : start + TOKENS]) for start in range(0, len(texts), TOKENS)])
        tokens = tokens.to(self.device).unflatten(0, (len(templates), len(names)))
        ends = _ends(tower, tokens.flatten(0, 1)).unflatten(0, tokens.shape[:2])
        reader = prompts.Reader(tower)
        with torch.no_grad():
            if self._shares is None:
                some = [number * (len(names) - 1) // 3 for number in range(4)]
                one = normalize(reader.embeddings(tokens[:2, some], ends[:2, some]).float().flatten(0, 1), dim=1)
                other = normalize(self._plain(tokens[:2, some].flatten(0, 1)).float(), dim=1)
                self._shares = bool((one - other).abs().max() <= _CLOSE[self.precision])
            if not self._shares:
                return super().classes(names, templates)
            each = normalize(reader.embeddings(tokens, ends).float(), dim=2)
        return normalize(each.mean(0), dim=1).cpu()

    def _plain(self, tokens: Tensor) -> Tensor:
        with torch.no_grad():
            features: Tensor = self.model.encode_text(tokens, normalize=False)
        return features

    def _cut(self, tokens: Tensor) -> Tensor:
        """``encode_text`` without what follows the last end of text: attention looks back only, so it cannot matter."""
        tower = _causal(self.model)
        ends = _ends(tower, tokens)
        length = int(ends.max()) + 1
        kind = tower.transformer.get_cast_dtype()
        with torch.no_grad():
            x = tower.token_embedding(tokens[:, :length]).to(kind) + tower.positional_embedding[:length].to(kind)
            x = tower.ln_final(tower.transformer(x, attn_mask=tower.attn_mask[:length, :length]))
            pooled: Tensor = x[torch.arange(len(x), device=x.device), ends]
            projection = tower.text_projection
            if projection is None:
                return pooled
            projected: Tensor = projection(pooled) if isinstance(projection, torch.nn.Module) else pooled @ projection
            return projected


def _two(size: Any) -> tuple[int, int]:
    """Height and width of a size that may be one number."""
    height, width = (size, size) if isinstance(size, int) else size
    return int(height), int(width)


def _causal(model: Any) -> Any:
    """The part of a model that holds a text tower which only looks back and pools one token, or None."""
    import open_clip
    from open_clip.transformer import TextTransformer

    if type(model) is open_clip.CLIP:
        tower, pool = model, model.text_pool_type
    elif type(getattr(model, "text", None)) is TextTransformer:
        tower, pool = model.text, model.text.pool_type
        if tower.cls_emb is not None or tower.use_pad_mask or tower.output_tokens:
            return None
    else:
        return None
    return tower if tower.attn_mask is not None and pool in ("argmax", "eos") else None


def _ends(tower: Any, tokens: Tensor) -> Tensor:
    """Where each text's pooled token stands, [n]."""
    if getattr(tower, "text_pool_type", None) == "eos" or getattr(tower, "pool_type", None) == "eos":
        tokens = (tokens == (tower.text_eos_id if hasattr(tower, "text_eos_id") else tower.eos_id)).int()
    return tokens.argmax(1)
