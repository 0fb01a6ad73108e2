"""Faster ways through an image tower that give the same features: what nobody reads is left out, what can be folded is folded.

- The last block of a transformer is asked for the class token alone, since nothing else of it is pooled.
- The attention pool of a ResNet has one query: it is carried to the tokens, and their keys and values are never made.
- A batch norm after a convolution becomes part of the convolution; with oneDNN, so do the activation and the sum behind it.

Modules are exchanged inside the tower; whoever exchanges them can put them back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, scaled_dot_product_attention

Linear = Callable[[Tensor, Tensor, "Tensor | None"], Tensor]


def onednn(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """``linear`` by oneDNN, which some processors are twice as fast with as with torch's default library."""
    found: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return found


class Dense(nn.Module):
    """A linear layer that shares its weights with the one it stands for."""

    def __init__(self, layer: nn.Linear, product: Linear) -> None:
        super().__init__()
        self.weight, self.bias, self.product = layer.weight, layer.bias, product

    def forward(self, x: Tensor) -> Tensor:
        return self.product(x, self.weight, self.bias)


class Attention(nn.Module):
    """Self-attention [n, s, d] with the weights of a ``MultiheadAttention``; ``first`` asks for the first token alone."""

    def __init__(self, layer: nn.MultiheadAttention, product: Linear, first: bool) -> None:
        super().__init__()
        self.weight, self.bias, self.out = layer.in_proj_weight, layer.in_proj_bias, layer.out_proj
        self.heads, self.product, self.first = layer.num_heads, product, first

    def forward(self, x: Tensor) -> Tensor:
        if self.first:
            width = x.shape[2]
            asked = self.product(x[:, :1], self.weight[:width], None if self.bias is None else self.bias[:width])
            rest = self.product(x, self.weight[width:], None if self.bias is None else self.bias[width:])
            key, value = rest.unflatten(2, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
            query = asked.unflatten(2, (self.heads, -1)).transpose(1, 2)
        else:
            query, key, value = self.product(x, self.weight, self.bias).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        met = scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        return self.product(met, self.out.weight, self.out.bias)


class Block(nn.Module):
    """A residual attention block without mask; ``first`` gives the first token alone, [n, 1, d]."""

    def __init__(self, block: Any, product: Linear, first: bool) -> None:
        super().__init__()
        self.attention = Attention(block.attn, product, first)
        self.ln_1, self.ls_1, self.ln_2, self.ls_2, self.first = block.ln_1, block.ls_1, block.ln_2, block.ls_2, first
        self.rise, self.act, self.fall = Dense(block.mlp.c_fc, product), block.mlp.gelu, Dense(block.mlp.c_proj, product)

    def get_weight_dtype(self) -> torch.dtype:
        """What open_clip's transformer asks its blocks for."""
        return self.rise.weight.dtype

    def forward(self, x: Tensor, *_: Any, **__: Any) -> Tensor:
        met = self.attention(self.ln_1(x))
        x = (x[:, :1] if self.first else x) + self.ls_1(met)
        risen: Tensor = x + self.ls_2(self.fall(self.act(self.rise(self.ln_2(x)))))
        return risen


class Pool(nn.Module):
    """The attention pool of a ResNet from its one query: [n, d, h, w] -> [n, out].

    With one query q a head's scores q . (K x) are (K'q) . x, and what it picks is V times the weighted mean of x: neither keys
    nor values of the single tokens are needed. The bias of the keys adds the same to every score and drops out.
    """

    def __init__(self, pool: Any) -> None:
        super().__init__()
        self.place, self.heads = pool.positional_embedding, pool.num_heads
        self.query, self.key, self.value, self.out = pool.q_proj, pool.k_proj, pool.v_proj, pool.c_proj

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(2).transpose(1, 2)  # [n, s, d]
        tokens = torch.cat([tokens.mean(1, keepdim=True), tokens], dim=1) + self.place.to(x.dtype)
        width = tokens.shape[2]
        query = self.query(tokens[:, 0]).unflatten(1, (self.heads, -1))  # [n, heads, e]
        carried = torch.einsum("nhe,hed->nhd", query, self.key.weight.unflatten(0, (self.heads, -1)))
        share = (carried @ tokens.transpose(1, 2) * (width // self.heads) ** -0.5).softmax(2)  # [n, heads, s]
        picked = torch.einsum("nhd,hed->nhe", share @ tokens, self.value.weight.unflatten(0, (self.heads, -1)))
        pooled: Tensor = self.out(picked.flatten(1) + self.value.bias)
        return pooled


class Folded(nn.Module):
    """A convolution with the batch norm behind it folded in; ``fused`` lets oneDNN do the sum and the ReLU as well."""

    def __init__(self, convolution: nn.Conv2d, norm: nn.BatchNorm2d, relu: bool, fused: bool) -> None:
        super().__init__()
        assert norm.running_mean is not None and norm.running_var is not None and convolution.groups == 1
        with torch.no_grad():
            grow = norm.weight.double() * torch.rsqrt(norm.running_var.double() + norm.eps)
            kind = convolution.weight.dtype
            weight = (convolution.weight.double() * grow[:, None, None, None]).to(kind)
            bias = (norm.bias.double() - norm.running_mean.double() * grow).to(kind)
        self.weight = nn.Parameter(weight.contiguous(memory_format=torch.channels_last), requires_grad=False)
        self.bias = nn.Parameter(bias, requires_grad=False)
        self.stride, self.padding, self.relu, self.fused = list(convolution.stride), convolution.padding, relu, fused

    def forward(self, x: Tensor, other: Tensor | None = None) -> Tensor:
        """The convolved [n, d, h, w]; with ``other``, the ReLU of its sum with that."""
        if not self.fused:
            y = nn.functional.conv2d(x, self.weight, self.bias, self.stride, self.padding)
            if other is not None:
                y += other
            return y.relu_() if self.relu or other is not None else y
        place = self.weight, self.bias, list(self.padding), self.stride, [1, 1], 1
        fused: Tensor
        if other is None:
            fused = torch.ops.mkldnn._convolution_pointwise(x, *place, "relu" if self.relu else "none", [], "")
        else:
            fused = torch.ops.mkldnn._convolution_pointwise.binary(x, other, *place, "add", 1.0, "relu", [], "")
        return fused


class Bottle(nn.Module):
    """A bottleneck of folded convolutions."""

    def __init__(self, block: Any, fused: bool) -> None:
        super().__init__()
        self.first = Folded(block.conv1, block.bn1, True, fused)
        self.second = Folded(block.conv2, block.bn2, True, fused)
        self.third = Folded(block.conv3, block.bn3, False, fused)
        self.pool, self.down, self.side = block.avgpool, None, None
        if block.downsample is not None:
            self.down, convolution, norm = block.downsample
            self.side = Folded(convolution, norm, False, fused)

    def forward(self, x: Tensor) -> Tensor:
        made = self.pool(self.second(self.first(x)))
        beside = x if self.side is None or self.down is None else self.side(self.down(x))
        found: Tensor = self.third(made, beside)
        return found


Swap = tuple[Any, str, nn.Module]


def _resnet(tower: Any, fused: bool) -> Iterator[Swap]:
    """What to exchange in open_clip's ModifiedResNet."""
    for number in "123":
        yield tower, f"conv{number}", Folded(getattr(tower, f"conv{number}"), getattr(tower, f"bn{number}"), True, fused)
        yield tower, f"bn{number}", nn.Identity()
        yield tower, f"act{number}", nn.Identity()
    for layer in (tower.layer1, tower.layer2, tower.layer3, tower.layer4):
        for place, block in enumerate(layer):
            yield layer, str(place), Bottle(block, fused)
    if type(tower.attnpool).__name__ == "AttentionPool2d":
        yield tower, "attnpool", Pool(tower.attnpool)


def _plain_block(block: Any) -> bool:
    from open_clip.transformer import ResidualAttentionBlock

    return (
        type(block) is ResidualAttentionBlock
        and not hasattr(block, "ln_1_kv")
        and type(block.attn) is nn.MultiheadAttention
        and block.attn.in_proj_weight is not None
        and block.attn.bias_k is None
        and not block.attn.add_zero_attn
        and block.attn.batch_first
    )


def _transformer(tower: Any, fused: bool) -> Iterator[Swap]:
    """What to exchange in open_clip's VisionTransformer: the last block, and with oneDNN all of them."""
    blocks = tower.transformer.resblocks
    alone = tower.pool_type == "tok" and tower.attn_pool is None and not tower.output_tokens
    for place, block in enumerate(blocks):
        last = alone and place == len(blocks) - 1
        if (fused or last) and _plain_block(block):
            yield blocks, str(place), Block(block, onednn if fused else linear, last)


def _dense(tower: Any) -> Iterator[Swap]:
    """Every linear layer of a tower that is not known here."""
    for parent in list(tower.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.Linear and type(parent) is not nn.MultiheadAttention:
                yield parent, name, Dense(child, onednn)


def swapped(tower: Any, fused: bool) -> Callable[[], None]:
    """Exchange what can be exchanged in an image tower; what comes back puts everything as it was. ``fused`` uses oneDNN."""
    kind = type(tower).__name__
    if kind == "ModifiedResNet":
        swaps = list(_resnet(tower, fused))
    elif kind == "VisionTransformer":
        swaps = list(_transformer(tower, fused))
    else:
        swaps = list(_dense(tower)) if fused else []
    before = [(parent, name, getattr(parent, name)) for parent, name, _ in swaps]
    for parent, name, module in swaps:
        setattr(parent, name, module.eval())

    def back() -> None:
        for parent, name, module in before:
            setattr(parent, name, module)

    return back
