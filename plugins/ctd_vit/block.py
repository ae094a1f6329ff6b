"""A pre-norm transformer block in two halves, between which tokens may be dropped."""

from __future__ import annotations

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from .config import CtdVitConfig
from .cost import mlp_width


class Heads(NamedTuple):
    """Queries, keys and values of all heads, each (B, H, N, d)."""

    queries: Tensor
    keys: Tensor
    values: Tensor


class DropPath(nn.Module):
    """Stochastic depth (Huang et al. 2016): images skip a residual branch, others scale it up."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, branch: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return branch
        keep = 1 - self.rate
        mask = branch.new_empty(branch.shape[0], 1, 1).bernoulli_(keep)
        return branch * mask / keep

    def extra_repr(self) -> str:
        return f"{self.rate:g}"


class Attention(nn.Module):
    """Multi-head self-attention with biases; no dropout on the attention itself."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def heads(self, tokens: Tensor) -> Heads:
        """Queries, keys and values of (B, N, D) tokens."""
        qkv = self.qkv(tokens).unflatten(-1, (3, self.num_heads, -1))
        return Heads(*qkv.permute(2, 0, 3, 1, 4).unbind(0))

    def forward(self, heads: Heads) -> Tensor:
        """(B, N, D) of what the heads attend to."""
        mixed: Tensor = self.proj(F.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2))
        return mixed


class Block(nn.Module):
    """x + Attention(LN x), then x + MLP(LN x)."""

    def __init__(self, config: CtdVitConfig, drop_path: float) -> None:
        super().__init__()
        width = config.embed_dim
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attention = Attention(width, config.num_heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = nn.Sequential(
            nn.Linear(width, mlp_width(config)),
            nn.GELU(),
            nn.Dropout(config.dropout),
            nn.Linear(mlp_width(config), width),
        )
        self.dropout = nn.Dropout(config.dropout)
        self.drop_path = DropPath(drop_path)

    def attend(self, tokens: Tensor) -> tuple[Tensor, Heads]:
        """The first half, (B, N, D) -> (B, N, D), and the heads that tokens are ranked by."""
        heads = self.attention.heads(self.norm1(tokens))
        return tokens + self.drop_path(self.dropout(self.attention(heads))), heads

    def feed(self, tokens: Tensor) -> Tensor:
        """The second half, (B, N, D) -> (B, N, D)."""
        fed: Tensor = tokens + self.drop_path(self.dropout(self.mlp(self.norm2(tokens))))
        return fed

    def forward(self, tokens: Tensor) -> Tensor:
        return self.feed(self.attend(tokens)[0])
