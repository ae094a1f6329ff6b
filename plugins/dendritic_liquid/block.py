"""A pre-norm transformer block, its importance and its gate."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from .attention import Attention
from .config import DendriticLiquidConfig
from .dendrites import DendriticGating, blended, straight
from .liquid import LiquidGate


class Block(nn.Module):
    """y = x + Attention(LN x); y = y + MLP(LN y); then x' = (1 - s) x + s y + gate(x, y).

    s is the importance of a token, 1 for CLS and where it is not asked for, or shall hold nothing
    back; the gate adds nothing where there is none. So with neither, x' = y to the last bit. In
    training, images skip attention or the MLP by lot, more of them in later blocks (stochastic
    depth, Huang et al. 2016).
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
        rate = config.drop_path * place / max(1, config.depth - 1)
        self.drop_path = StochasticDepth(rate, "row")
        self.apply(_init_linear)
        self.dendrites: DendriticGating | None = None
        if config.dendrites is not None:
            self.dendrites = DendriticGating(width, config.dendrites)
        self._is_straight = config.dendrites is not None and config.dendrites.blend == "straight"
        self.liquid: LiquidGate | None = None
        if config.liquid is not None:
            self.liquid = LiquidGate(width, config.liquid, place, config.depth)

    def importance(self, tokens: Tensor) -> Tensor | None:
        """float32 (...) of tokens (..., D); None without dendrites."""
        return None if self.dendrites is None else self.dendrites(tokens)

    def qkv(self, tokens: Tensor) -> Tensor:
        """(..., 3D) of tokens (..., D): their queries, keys and values."""
        of_tokens: Tensor = self.attention.qkv(self.norm1(tokens))
        return of_tokens

    def write(self, tokens: Tensor, mixed: Tensor, importance: Tensor | None) -> Tensor:
        """x' (..., D) of tokens x (..., D), what they attended to (..., D), and the importance
        (...) of each, 1 for CLS."""
        if importance is not None and self._is_straight:
            importance = straight(importance) if torch.is_grad_enabled() else None
        halfway: Tensor = tokens + self._branch(self.attention.proj(mixed))
        change = self._branch(self.mlp(self.norm2(halfway)))
        if self.liquid is not None:
            left: Tensor = self.liquid(tokens, halfway, change, importance)
            return left
        return blended(tokens, halfway + change, importance)

    def _branch(self, change: Tensor) -> Tensor:
        dropped: Tensor = self.drop_path(self.dropout(change))
        return dropped


def _init_linear(module: nn.Module) -> None:
    """As the vision transformer's authors begin (Dosovitskiy et al. 2021): Xavier's, no bias."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def with_cls(of_patches: Tensor) -> Tensor:
    """(B, 1 + n) of (B, n): 1 for CLS."""
    return torch.cat([torch.ones_like(of_patches[:, :1]), of_patches], 1)
