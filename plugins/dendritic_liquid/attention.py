"""Self-attention of few tokens."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from .operators import fits_attention, short_attention, short_masked_attention
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

    def mixed(self, qkv: Tensor, weights: Tensor | None = None) -> Tensor:
        """What tokens attend to, (B, N, D) of (B, N, 3D); `weights` (B, N) of keys, None for all
        alike."""
        if fits_attention(qkv, self.num_heads):
            short: Tensor = (
                short_attention(qkv, self.num_heads)
                if weights is None
                else short_masked_attention(qkv, weights.float(), self.num_heads)
            )
            return short
        if weights is None:
            mixed = F.scaled_dot_product_attention(*self.heads(qkv))
        else:
            mixed = masked_attention(*self.heads(qkv), weights)
        return mixed.transpose(1, 2).flatten(2)
