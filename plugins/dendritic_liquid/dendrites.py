"""Dendritic gating: how important a token is, by the strongest of several small branches."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import DendritesConfig
from .operators import fits_importance, importance, is_half_inference


class DendriticGating(nn.Module):
    """s = sigmoid(max_b u_b) with u_b = w_b . GELU(W_b x + a_b) + c_b, of every token by itself.

    All branches are one product D -> branches * hidden, and a sum over each branch's part.
    """

    def __init__(self, width: int, config: DendritesConfig) -> None:
        super().__init__()
        self.config = config
        self.branches = nn.Linear(width, config.branches * config.hidden)
        self.weight = nn.Parameter(torch.empty(config.branches, config.hidden))
        self.bias = nn.Parameter(torch.full((config.branches,), config.bias))
        fits = fits_importance(width, config.branches, config.hidden)
        self._is_fused = config.pool == "max" and fits
        nn.init.trunc_normal_(self.branches.weight, std=0.02)
        nn.init.zeros_(self.branches.bias)
        nn.init.trunc_normal_(self.weight, std=0.02)

    def drive(self, tokens: Tensor) -> Tensor:
        """float32 (B, N, branches): u_b of (B, N, D) tokens."""
        hidden = F.gelu(self.branches(tokens)).unflatten(-1, self.weight.shape)
        drive: Tensor = (hidden * self.weight).sum(-1).float() + self.bias.float()
        return drive

    def forward(self, tokens: Tensor) -> Tensor:
        """Importance, float32 (B, N) from 0 to 1, of (B, N, D) tokens."""
        weights = (*self.branches.parameters(), self.weight, self.bias)
        if self._is_fused and is_half_inference(tokens, *weights):
            scores: Tensor = importance(tokens, *weights)
            return scores
        drive = self.drive(tokens)
        pooled = drive.amax(-1) if self.config.pool == "max" else drive.logsumexp(-1)
        return pooled.sigmoid()


def straight(importance: Tensor) -> Tensor:
    """1 for every token, with the gradient of its importance (...) on the way back."""
    return 1 + (importance - importance.detach())


def blended(read: Tensor, written: Tensor, importance: Tensor | None) -> Tensor:
    """(1 - s) x + s y of a block's input x and output y (..., D), s their importance (...); y to
    the last bit without."""
    if importance is None:
        return written
    share = importance[..., None].to(written.dtype)
    return (1 - share) * read + share * written
