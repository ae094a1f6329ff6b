"""A vision transformer whose parameters and operations are known to the unit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

# B batch, N tokens, H heads, K width of a head, D = H K


class Attention(nn.Module):
    def __init__(self, dim: int, heads: int, *, fused: bool) -> None:
        super().__init__()
        self.heads, self.fused = heads, fused
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.out = nn.Linear(dim, dim)

    def forward(self, x_BND: Tensor) -> Tensor:
        qkv = self.qkv(x_BND).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        q_BHNK, k_BHNK, v_BHNK = qkv.unbind()
        if self.fused:
            y_BHNK = F.scaled_dot_product_attention(q_BHNK, k_BHNK, v_BHNK)
        else:
            scores = q_BHNK @ k_BHNK.transpose(-2, -1) * q_BHNK.shape[-1] ** -0.5
            y_BHNK = scores.softmax(-1) @ v_BHNK
        out: Tensor = self.out(y_BHNK.transpose(1, 2).flatten(2))
        return out


class Block(nn.Module):
    def __init__(self, dim: int, heads: int, *, fused: bool) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = Attention(dim, heads, fused=fused)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))

    def forward(self, x_BND: Tensor) -> Tensor:
        x_BND = x_BND + self.attention(self.norm1(x_BND))
        out: Tensor = x_BND + self.mlp(self.norm2(x_BND))
        return out


class Vit(nn.Module):
    """Patch 4 on 32 x 32 images, class token, learned positions, final norm over all tokens."""

    def __init__(self, *, fused: bool, dim: int = 256, depth: int = 6, heads: int = 8) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, dim, 4, stride=4)
        self.token = nn.Parameter(torch.zeros(1, 1, dim))
        self.positions = nn.Parameter(torch.zeros(1, 65, dim))
        self.blocks = nn.Sequential(*(Block(dim, heads, fused=fused) for _ in range(depth)))
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, 10)

    def forward(self, images: Tensor, knobs: Mapping[str, Any]) -> Tensor:
        patches = self.patches(images).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(len(images), -1, -1), patches], 1) + self.positions
        logits: Tensor = self.head(self.norm(self.blocks(tokens))[:, 0])
        return logits


@pytest.fixture
def build_vit() -> Callable[..., nn.Module]:
    """`build_vit(fused=True)`: 6 blocks of width 256, 8 heads, or `dim=`, `depth=`, `heads=`."""
    return Vit
