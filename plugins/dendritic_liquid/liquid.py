"""A closed-form continuous-time gate between what a block reads and what it writes."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import LiquidConfig
from .dendrites import blended
from .operators import fits_gate, gated, is_half_inference

UNIT_TIME = math.log(math.e - 1)
"""softplus of it is 1."""


class LiquidGate(nn.Module):
    """gamma o g + (1 - gamma) o h with gamma = sigmoid(-f t), as Hasani et al. 2022 (Nature Machine
    Intelligence 4) publish the closed form of a liquid time-constant cell.

    f, g and h are heads on c = SiLU(W [x; y]), g and h behind tanh. Time is softplus(tau) (l + 1) /
    L in block l of L: later blocks are further along. f begins near 0, so gamma at 1/2. The result
    is scaled as in LayerScale (Touvron et al. 2021).
    """

    def __init__(self, width: int, config: LiquidConfig, place: int, depth: int) -> None:
        super().__init__()
        self.backbone = nn.Linear(2 * width, config.hidden)
        self.heads = nn.Linear(config.hidden, 3 * width)
        self.tau = nn.Parameter(torch.full((width,), UNIT_TIME))
        self.scale = nn.Parameter(torch.full((width,), config.scale))
        self.share = (place + 1) / depth
        self._is_fused = fits_gate(width, config.hidden)
        for linear in (self.backbone, self.heads):
            nn.init.trunc_normal_(linear.weight, std=0.02)
            nn.init.zeros_(linear.bias)

    def time(self) -> Tensor:
        """(D,): softplus(tau) (l + 1) / L."""
        return F.softplus(self.tau) * self.share

    def gate(self, read: Tensor, written: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """gamma, g and h, each (B, N, D)."""
        of_read, of_written = self.backbone.weight.chunk(2, 1)
        # Two products: to join the tokens first would write and read them once more.
        drive = F.linear(read, of_read) + F.linear(written, of_written, self.backbone.bias)
        hidden = F.silu(drive)
        flow, first, second = self.heads(hidden).chunk(3, -1)
        return torch.sigmoid(-flow * self.time()), first.tanh(), second.tanh()

    def forward(
        self, read: Tensor, halfway: Tensor, change: Tensor, importance: Tensor | None = None
    ) -> Tensor:
        """What a block leaves of its tokens, (..., D).

        Args:
            read: its input x, as `halfway` and `change` (..., D).
            halfway: what attention has made of it.
            change: what its MLP adds to that: the output is y = halfway + change.
            importance: (...), which blends x and y; None: y alone.
        """
        weights = (*self.backbone.parameters(), *self.heads.parameters())
        if self._is_fused and is_half_inference(read, halfway, change, *weights, self.scale):
            share = importance
            if share is None:
                share = read.new_ones(read.shape[:-1], dtype=torch.float32)
            parts = (read, halfway, change, share.float())
            left: Tensor = gated(*parts, *weights, self.time().float(), self.scale)
            return left
        written = halfway + change
        gamma, first, second = self.gate(read, written)
        added = self.scale * (gamma * first + (1 - gamma) * second)
        return blended(read, written, importance) + added
