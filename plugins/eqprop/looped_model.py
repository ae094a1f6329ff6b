"""An ordinary looped transformer: the fixed point of a field that descends no energy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from labctl.api import DataSpec, Knobs

from .looped_config import LoopedTransformerConfig, looped_tokens
from .relaxation import relax, unroll


class LoopedBlock(nn.Module):
    """x + Attn(LN(x)), then + MLP(LN(.)): softmax attention and GELU, tokens (B, N, d)."""

    def __init__(self, config: LoopedTransformerConfig) -> None:
        super().__init__()
        width = config.embed_dim
        self.num_heads = config.num_heads
        self.norm1 = nn.LayerNorm(width, eps=config.norm_eps)
        self.norm2 = nn.LayerNorm(width, eps=config.norm_eps)
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)
        self.up = nn.Linear(width, config.hidden)
        self.down = nn.Linear(config.hidden, width)
        for linear in self.linears():
            nn.init.normal_(linear.weight, std=config.init_scale * linear.in_features**-0.5)
            nn.init.zeros_(linear.bias)

    def linears(self) -> Iterator[nn.Linear]:
        """The block's linear maps."""
        yield from (self.query, self.key, self.value, self.out, self.up, self.down)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self._attended(self.norm1(x))
        fed: Tensor = x + self.down(F.gelu(self.up(self.norm2(x))))
        return fed

    def _attended(self, x: Tensor) -> Tensor:
        queries, keys, values = (
            linear(x).unflatten(2, (self.num_heads, -1)).transpose(1, 2)
            for linear in (self.query, self.key, self.value)
        )
        # Written out: fused attention cannot be differentiated twice.
        weights = (queries @ keys.mT * queries.shape[-1] ** -0.5).softmax(-1)
        attended: Tensor = self.out((weights @ values).transpose(1, 2).flatten(2))
        return attended


class LoopedTransformer(nn.Module):
    """Tokens x at the fixed point of T(x) = u + (body(x) - x), u the drive by the image.

    The body is blocks in a row, so T is the input plus what their branches add; x itself leaks, as
    in the energy transformer. The Jacobian of T is not symmetric.
    """

    def __init__(self, config: LoopedTransformerConfig, spec: DataSpec) -> None:
        super().__init__()
        self.config = config
        self.num_tokens = looped_tokens(config, spec)
        width, patch = config.embed_dim, config.patch_size
        self.embed = nn.Conv2d(spec.shape[0], width, patch, stride=patch)
        self.positions = nn.Parameter(torch.empty(self.num_tokens, width))
        self.blocks = nn.ModuleList(LoopedBlock(config) for _ in range(config.depth))
        self.norm = nn.LayerNorm(width, eps=config.norm_eps)
        features = width * (self.num_tokens if config.readout == "flatten" else 1)
        self.head = nn.Linear(features, spec.num_classes)
        pixels = spec.shape[0] * patch**2
        nn.init.normal_(self.embed.weight, std=pixels**-0.5)
        nn.init.zeros_(cast("Tensor", self.embed.bias))
        nn.init.normal_(self.positions, std=0.5)

    def drive(self, inputs: Tensor) -> Tensor:
        """What images (B, C, H, W) push tokens towards: u (B, N, d); the extra token is driven by
        its position alone."""
        tokens = self.embed(inputs).flatten(2).transpose(1, 2)
        if self.config.readout == "cls":
            tokens = torch.cat([torch.zeros_like(tokens[:, :1]), tokens], dim=1)
        driven: Tensor = tokens + self.positions
        return driven

    def start(self, drive: Tensor) -> Tensor:
        """Where relaxation begins: at the drive."""
        return drive

    def field(self, state: Tensor, drive: Tensor) -> Tensor:
        """T(x) (B, N, d) of x and u (B, N, d)."""
        through = state
        for block in self.blocks:
            through = block(through)
        return drive + (through - state)

    def readout(self, state: Tensor) -> Tensor:
        """Logits (B, classes) of states (B, N, d)."""
        tokens = self.norm(state)
        match self.config.readout:
            case "cls":
                pooled = tokens[:, 0]
            case "mean":
                pooled = tokens.mean(1)
            case "flatten":
                pooled = tokens.flatten(1)
        logits: Tensor = self.head(pooled)
        return logits

    def forward(self, inputs: Tensor, knobs: Knobs | None = None) -> Tensor:
        """Logits (B, classes) of float images (B, C, H, W) at the fixed point.

        With gradients every example takes all steps, and all of them are in the graph.
        """
        drive = self.drive(inputs)
        start, given = self.start(drive), (drive,)
        if not torch.is_grad_enabled():
            return self.readout(relax(self.field, start, given, self.config.relax).x)
        return self.readout(unroll(self.field, start, given, self.config.relax))
