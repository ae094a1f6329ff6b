"""A pre-norm transformer block, its importance and its gate."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import DendriticLiquidConfig
from .dendrites import DendriticGating
from .liquid import LiquidGate
from .sparsity import masked_attention


class Attention(nn.Module):
    """Multi-head self-attention; queries, keys and values without biases."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.proj = nn.Linear(width, width)

    def heads(self, qkv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, each (B, H, N, d), of what `qkv` made of tokens, (B, N, 3D)."""
        parted = qkv.unflatten(-1, (3, self.num_heads, -1))
        queries, keys, values = parted.permute(2, 0, 3, 1, 4).unbind(0)
        return queries, keys, values


def attended(
    queries: Tensor, keys: Tensor, values: Tensor, weights: Tensor | None = None
) -> Tensor:
    """(B, N, D) of heads (B, H, N, d); `weights` (B, N) of keys, None for all alike."""
    if weights is None:
        mixed = F.scaled_dot_product_attention(queries, keys, values)
    else:
        mixed = masked_attention(queries, keys, values, weights)
    return mixed.transpose(1, 2).flatten(2)


class Block(nn.Module):
    """y = x + Attention(LN x); y = y + MLP(LN y); then x' = (1 - s) x + s y + gate(x, y).

    s is the importance of a token, 1 for CLS and where it is not asked for; the gate adds nothing
    where there is none. So with neither, x' = y to the last bit.
    """

    def __init__(self, config: DendriticLiquidConfig, place: int) -> None:
        super().__init__()
        width, hidden = config.embed_dim, max(1, round(config.embed_dim * config.mlp_ratio))
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attention = Attention(width, config.num_heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = nn.Sequential(
            nn.Linear(width, hidden),
            nn.GELU(),
            nn.Dropout(config.dropout),
            nn.Linear(hidden, width),
        )
        self.dropout = nn.Dropout(config.dropout)
        self.apply(_init_linear)
        self.dendrites: DendriticGating | None = None
        if config.dendrites is not None:
            self.dendrites = DendriticGating(width, config.dendrites)
        self.liquid: LiquidGate | None = None
        if config.liquid is not None:
            self.liquid = LiquidGate(width, config.liquid, place, config.depth)

    def importance(self, patches: Tensor) -> Tensor | None:
        """float32 (...) of patches (..., D); None without dendrites."""
        return None if self.dendrites is None else self.dendrites(patches)

    def qkv(self, tokens: Tensor) -> Tensor:
        """(..., 3D) of tokens (..., D): their queries, keys and values."""
        of_tokens: Tensor = self.attention.qkv(self.norm1(tokens))
        return of_tokens

    def write(self, tokens: Tensor, mixed: Tensor, importance: Tensor | None) -> Tensor:
        """x' (..., D) of tokens x (..., D), what they attended to (..., D), and the importance
        (...) of each, 1 for CLS."""
        written: Tensor = tokens + self.dropout(self.attention.proj(mixed))
        written = written + self.dropout(self.mlp(self.norm2(written)))
        blended = written
        if importance is not None:
            share = importance[..., None].to(written.dtype)
            blended = (1 - share) * tokens + share * written
        if self.liquid is not None:
            blended = blended + self.liquid(tokens, written)
        return blended


def _init_linear(module: nn.Module) -> None:
    """As the vision transformer's authors begin (Dosovitskiy et al. 2021): Xavier's, no bias."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def with_cls(of_patches: Tensor) -> Tensor:
    """(B, 1 + n) of (B, n): 1 for CLS."""
    return torch.cat([torch.ones_like(of_patches[:, :1]), of_patches], 1)
