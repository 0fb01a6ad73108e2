"""Compact weights: fp16, only the token rows that were trained. ``restored`` gives the full float32 state back."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

_ROWS = "token_rows"
_EMBEDDING = "token_embedding.weight"


def save(path: Path, state: dict[str, Tensor], rows: Tensor) -> str:
    """Write the state (token embedding rows numbered by ``rows``) and return the file's sha256."""
    from safetensors.torch import save as packed

    tensors = {key: value.half() if value.is_floating_point() else value for key, value in state.items()}
    tensors = {key: value.contiguous() for key, value in tensors.items() if key != "attn_mask"}
    data = packed({**tensors, _ROWS: rows.int()})
    part = path.with_suffix(".part")
    part.write_bytes(data)
    part.replace(path)
    return hashlib.sha256(data).hexdigest()


def restored(path: Path, vocabulary: int) -> dict[str, Any]:
    """The full float32 state: token rows that were never trained are zeros."""
    from safetensors.torch import load_file

    state = load_file(path)
    rows = state.pop(_ROWS).long()
    state = {key: value.float() if value.is_floating_point() else value for key, value in state.items()}
    trained = state[_EMBEDDING]
    embedding = torch.zeros(vocabulary, trained.shape[1])
    embedding[rows] = trained
    return {**state, _EMBEDDING: embedding}
