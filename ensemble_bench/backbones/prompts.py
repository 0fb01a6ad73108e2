"""Class prompts through a causal text tower, each shared beginning read once.

A tower that only looks back computes the same keys and values for "a photo of a" whatever follows, so they are computed once a
template; what comes after the end of a text cannot matter, so it is left out; and the last layer is asked for the end alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear, scaled_dot_product_attention

PROMPTS = 512  # at a time
BEGINNINGS = 64  # templates at a time: their keys and values are kept meanwhile

Past = list[tuple[Tensor, Tensor]]
"""Keys and values [n, heads, p, d] of the beginnings, layer by layer."""


def readable(tower: Any) -> bool:
    """Whether the tower is made of the blocks that are read here: anything else takes the plain road."""
    from open_clip.transformer import ResidualAttentionBlock

    return all(
        type(block) is ResidualAttentionBlock
        and not hasattr(block, "ln_1_kv")
        and type(block.attn) is torch.nn.MultiheadAttention
        and block.attn.in_proj_weight is not None
        and block.attn.bias_k is None
        for block in tower.transformer.resblocks
    )


def shared(tokens: Tensor, ends: Tensor) -> int:
    """How many first tokens all of these texts [n, length] have in common, each keeping at least its end."""
    same = (tokens == tokens[:1]).all(0).long().cumprod(0).sum()
    return int(min(int(same), int(ends.min())))


@dataclass
class Reader:
    """Reads texts of several templates through one tower. ``tower`` is what open_clip calls CLIP or TextTransformer."""

    tower: Any

    def embeddings(self, tokens: Tensor, ends: Tensor) -> Tensor:
        """Pooled and projected embeddings [t, c, d] of token rows [t, c, length] whose ends stand at ``ends`` [t, c]."""
        found = [
            self._some(tokens[start : start + BEGINNINGS], ends[start : start + BEGINNINGS])
            for start in range(0, len(tokens), BEGINNINGS)
        ]
        return torch.cat(found)

    def _some(self, tokens: Tensor, ends: Tensor) -> Tensor:
        t, c, _ = tokens.shape
        begun = torch.tensor([shared(*pair) for pair in zip(tokens, ends, strict=True)], device=tokens.device)
        longest = int(begun.max())
        beginnings = tokens[:, 0, :longest]
        no_past = torch.zeros(t, dtype=torch.long, device=tokens.device)
        past: Past = []
        if longest:
            self._read(beginnings, no_past, [], torch.arange(t, device=tokens.device), keep=past)
        texts, stops = tokens.flatten(0, 1), ends.flatten()
        template = torch.arange(t, device=tokens.device).repeat_interleave(c)
        rest = stops - begun[template]
        order = rest.argsort(stable=True)
        found: Tensor | None = None
        for chunk in order.split(PROMPTS):
            own = template[chunk]
            width = int(rest[chunk].max()) + 1
            place = (begun[own, None] + torch.arange(width, device=tokens.device)).clamp_max(tokens.shape[2] - 1)
            read = self._read(texts[chunk].gather(1, place), begun[own], past, own, ends=rest[chunk])
            found = read.new_empty(t * c, read.shape[1]) if found is None else found
            found[chunk] = read
        assert found is not None
        return found.reshape(t, c, -1)

    def _read(
        self,
        tokens: Tensor,
        begun: Tensor,
        past: Sequence[tuple[Tensor, Tensor]],
        own: Tensor,
        *,
        ends: Tensor | None = None,
        keep: Past | None = None,
    ) -> Tensor:
        """Embeddings of texts [n, s] that go on after ``begun`` [n] tokens of the beginnings numbered ``own``, at ``ends`` [n].

        With ``keep`` nothing is pooled: keys and values go there.
        """
        n, s = tokens.shape
        tower, blocks = self.tower, self.tower.transformer.resblocks
        kind = tower.transformer.get_cast_dtype()
        place = (begun[:, None] + torch.arange(s, device=tokens.device)).clamp_max(len(tower.positional_embedding) - 1)
        x: Tensor = tower.token_embedding(tokens).to(kind) + tower.positional_embedding[place].to(kind)
        rows = torch.arange(n, device=tokens.device)
        back = torch.ones(s, s, dtype=torch.bool, device=tokens.device).tril()
        seen = back.expand(n, 1, s, s)
        if past:
            there = torch.arange(past[0][0].shape[2], device=tokens.device) < begun[:, None]  # [n, p]
            seen = torch.cat([there[:, None, None].expand(-1, 1, s, -1), seen], dim=3)
        for number, block in enumerate(blocks):
            last = keep is None and number == len(blocks) - 1
            inner = linear(block.ln_1(x), block.attn.in_proj_weight, block.attn.in_proj_bias)
            query, key, value = inner.unflatten(2, (3, block.attn.num_heads, -1)).permute(2, 0, 3, 1, 4)
            if keep is not None:
                keep.append((key, value))
                if number == len(blocks) - 1:
                    return x
            if past:
                key = torch.cat([past[number][0][own], key], dim=2)
                value = torch.cat([past[number][1][own], value], dim=2)
            looked = seen
            if last:
                assert ends is not None
                query, looked, x = (
                    query[rows, :, ends].unsqueeze(2),
                    seen[rows, :, ends].unsqueeze(2),
                    x[rows, ends].unsqueeze(1),
                )
            met = scaled_dot_product_attention(query, key, value, attn_mask=looked)
            x = x + block.ls_1(block.attn.out_proj(met.transpose(1, 2).flatten(2)))
            x = x + block.ls_2(block.mlp(block.ln_2(x)))
        pooled: Tensor = tower.ln_final(x).squeeze(1)
        projection = tower.text_projection
        if projection is None:
            return pooled
        projected: Tensor = projection(pooled) if isinstance(projection, torch.nn.Module) else pooled @ projection
        return projected
