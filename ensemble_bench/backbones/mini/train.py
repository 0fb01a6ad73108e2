"""Makes the embedded backbones again: ``python -m ensemble_bench.backbones.mini.train [NAME ...] --output DIR``.

Draws the picture-caption pairs once into DIR/pairs (2.4 GB), then trains each backbone on them with CLIP's contrastive loss,
where pictures with the very same caption count as positives of one another. Interrupt it at any time: the same command goes on
from the last checkpoint. Training again gives accuracies within about 3 points, not the same bytes.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # two trainings side by side must not spin on each other's cores

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from rich.progress import track
from torch import Tensor

from ensemble_bench.backbones import cost
from ensemble_bench.backbones.mini import compact, recipe
from ensemble_bench.backbones.mini.captions import every_caption, pairs

CHUNK = 2_048
VALIDATION = 4_096
SAVE_EVERY = 500


def _chunk(path: Path, domain: str, start: int, count: int) -> None:
    pictures, captions = pairs(domain, np.arange(start, start + count))
    part = path.with_suffix(f".{os.getpid()}")
    with part.open("wb") as file:
        np.savez(file, pictures=pictures, captions=np.array(captions))
    part.replace(path)


def _tokens(captions: list[str]) -> Tensor:
    from open_clip import SimpleTokenizer

    tokens: Tensor = SimpleTokenizer(context_length=recipe.CONTEXT_LENGTH)(captions)
    return tokens


def drawn(folder: Path, domain: str, count: int, workers: int) -> tuple[NDArray[np.uint8], Tensor]:
    """Pictures uint8 [n, 64, 64, 3] (memory-mapped) and token ids int64 [n, 32]; drawn where they are not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    whole, words = folder / f"{domain}-{count}.npy", folder / f"{domain}-{count}.tokens.npy"
    if not words.exists():
        starts = range(0, count, CHUNK)
        chunks = [folder / f"{domain}-{start:07d}.npz" for start in starts]
        with ProcessPoolExecutor(workers) as pool:
            jobs = [
                pool.submit(_chunk, path, domain, start, min(CHUNK, count - start))
                for path, start in zip(chunks, starts, strict=True)
                if not path.exists()
            ]
            for job in track(jobs, description=f"drawing {domain} pairs"):
                job.result()
        side = recipe.IMAGE_SIZE
        pictures = np.lib.format.open_memmap(whole, "w+", dtype=np.uint8, shape=(count, side, side, 3))
        captions: list[str] = []
        for path, start in zip(chunks, starts, strict=True):
            with np.load(path) as part:
                pictures[start : start + len(part["pictures"])] = part["pictures"]
                captions += part["captions"].tolist()
        pictures.flush()
        part_file = words.with_suffix(".part")
        with part_file.open("wb") as file:
            np.save(file, _tokens(captions).numpy())
        part_file.replace(words)
        for path in chunks:
            path.unlink()
    return np.load(whole, mmap_mode="r"), torch.from_numpy(np.load(words))


def _normalised(pictures: NDArray[np.uint8]) -> Tensor:
    mean, std = torch.tensor(recipe.PREPROCESS["mean"]), torch.tensor(recipe.PREPROCESS["std"])
    return ((torch.from_numpy(np.array(pictures)).float() / 255 - mean) / std).permute(0, 3, 1, 2)


def _encode_text(model: Any, tokens: Tensor) -> Tensor:
    """``model.encode_text`` on tokens cut at the longest caption: attention is causal, so nothing later can matter."""
    length = int((tokens > 0).sum(1).max())
    tokens = tokens[:, :length]
    x = model.token_embedding(tokens) + model.positional_embedding[:length]
    x = model.transformer(x, attn_mask=model.attn_mask[:length, :length])
    x = model.ln_final(x)
    projected: Tensor = x[torch.arange(len(x)), tokens.argmax(1)] @ model.text_projection
    return projected


def _loss(image: Tensor, text: Tensor, scale: Tensor, tokens: Tensor) -> Tensor:
    """CLIP's symmetric cross-entropy; rows with equal captions share the target."""
    logits = scale * F.normalize(image, dim=1) @ F.normalize(text, dim=1).T
    same = (tokens[:, None] == tokens[None]).all(-1).float()
    target = same / same.sum(1, keepdim=True)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def _retrieval(model: Any, pictures: NDArray[np.uint8], tokens: Tensor) -> float:
    """Share of validation pictures whose own caption (or its equal) scores highest among all of them."""
    model.eval()
    with torch.no_grad():
        image = torch.cat([model.encode_image(_normalised(pictures[i : i + 256])) for i in range(0, len(pictures), 256)])
        unique, own = tokens.unique(dim=0, return_inverse=True)
        text = torch.cat([_encode_text(model, unique[i : i + 256]) for i in range(0, len(unique), 256)])
        best = (F.normalize(image, dim=1) @ F.normalize(text, dim=1).T).argmax(1)
    model.train()
    return float((best == own).float().mean())


def costs(name: str) -> dict[str, float | int]:
    """``gflops`` of the image tower for one picture, and ``parameters`` of both towers as they are used."""
    from open_clip.model import CLIP

    with torch.device("meta"):
        model = CLIP(**recipe.model_config(name))
    side = recipe.IMAGE_SIZE
    return {"gflops": round(cost.gflops(model.visual, (side, side)), 6), "parameters": cost.parameters(model)}


def add_costs(path: Path) -> None:
    """Add what ``costs`` says to the card in NAME.json, where it was written without."""
    content = json.loads(path.read_text(encoding="utf-8"))
    content["card"] |= costs(path.stem)
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def train(name: str, folder: Path, steps: int, workers: int) -> None:
    """Train one backbone in ``folder``, leaving NAME.safetensors (compact, fp16) and NAME.json (config and card)."""
    from open_clip.model import CLIP

    pictures, token_ids = drawn(folder / "pairs", "pretrain", recipe.PAIRS, workers)
    held_pictures, held_ids = drawn(folder / "pairs", "validation", VALIDATION, workers)
    vocabulary = torch.cat([torch.tensor([0]), _tokens(every_caption()).unique()]).unique()
    tokens, held = (torch.searchsorted(vocabulary, ids) for ids in (token_ids, held_ids))
    assert torch.equal(vocabulary[tokens], token_ids), "every_caption() misses a word that the pairs use"

    torch.manual_seed(recipe.SEED)
    config = recipe.model_config(name, vocabulary=len(vocabulary))
    model: Any = CLIP(**config).to(memory_format=torch.channels_last)
    decayed = [p for p in model.parameters() if p.ndim >= 2]
    plain = [p for p in model.parameters() if p.ndim < 2]
    optimiser = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": recipe.WEIGHT_DECAY}, {"params": plain, "weight_decay": 0.0}],
        betas=(0.9, 0.98),
    )
    done, curve, spent = 0, [], 0.0
    checkpoint = folder / f"{name}.checkpoint.pt"
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        done, curve, spent = state["done"], state["curve"], state["spent"]
        if state["steps"] != steps:
            raise SystemExit(
                f"{checkpoint} belongs to a training of {state['steps']} steps, not {steps}: delete it or ask for those."
            )

    per_epoch = recipe.PAIRS // recipe.BATCH
    running, began = 0.0, time.perf_counter()
    for step in track(range(done, steps), description=name, total=steps, completed=done):
        rate = min((step + 1) / recipe.WARM_UP, 0.5 + 0.5 * float(np.cos(np.pi * step / steps)))
        for group in optimiser.param_groups:
            group["lr"] = recipe.LEARNING_RATE * rate
        order = torch.randperm(recipe.PAIRS, generator=torch.Generator().manual_seed(recipe.SEED + step // per_epoch))
        place = step % per_epoch * recipe.BATCH
        chosen = order[place : place + recipe.BATCH].sort().values
        batch = tokens[chosen]
        image, text = model.encode_image(_normalised(pictures[chosen.numpy()])), _encode_text(model, batch)
        loss = _loss(image, text, model.logit_scale.exp(), batch)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, float(np.log(100)))
        running += (loss.item() - running) / (step % 100 + 1)
        if (step + 1) % SAVE_EVERY == 0 or step + 1 == steps:
            accuracy = _retrieval(model, held_pictures, held)
            spent += time.perf_counter() - began
            began = time.perf_counter()
            curve.append([step + 1, round(running, 4), round(accuracy, 4)])
            print(
                f"{name}: step {step + 1}, loss {running:.3f}, validation retrieval {accuracy:.3f}, {spent:.0f} s", flush=True
            )
            part = checkpoint.with_suffix(".part")
            torch.save(
                {
                    "model": model.state_dict(),
                    "optimiser": optimiser.state_dict(),
                    "done": step + 1,
                    "steps": steps,
                    "curve": curve,
                    "spent": spent,
                },
                part,
            )
            part.replace(checkpoint)
    digest = compact.save(folder / f"{name}.safetensors", model.state_dict(), vocabulary)
    card = {
        "model_cfg": recipe.model_config(name),
        "preprocess_cfg": recipe.PREPROCESS,
        "card": {
            "weights": digest,
            **costs(name),
            "pairs": recipe.PAIRS,
            "batch": recipe.BATCH,
            "steps": steps,
            "seed": recipe.SEED,
            "learning_rate": recipe.LEARNING_RATE,
            "weight_decay": recipe.WEIGHT_DECAY,
            "seconds": round(spent),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "curve": {"columns": ["step", "loss", "validation retrieval"], "rows": curve},
        },
    }
    (folder / f"{name}.json").write_text(json.dumps(card, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m ensemble_bench.backbones.mini.train", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"any of {', '.join(recipe.VISION)} (default: all)")
    parser.add_argument("--output", type=Path, default=Path("mini-backbones"), help="folder for pairs, checkpoints and weights")
    parser.add_argument("--steps", type=int, default=recipe.STEPS)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    unknown = set(arguments.names) - set(recipe.VISION)
    if unknown:
        parser.error(f"no embedded backbone is called {sorted(unknown)[0]!r}; there are {', '.join(recipe.VISION)}")
    torch.set_num_threads(arguments.threads)
    for name in arguments.names or recipe.VISION:
        if not (arguments.output / f"{name}.json").exists():
            train(name, arguments.output, arguments.steps, arguments.threads)


if __name__ == "__main__":
    main()
