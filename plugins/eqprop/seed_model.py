"""The one-token system: a transformer block without an energy, iterated to a fixed point.

With a single token to attend to, attention is a linear map of the image whatever the state is.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from labctl.api import DataSpec, Knobs

from .relaxation import holds
from .seed_config import SeedConfig

ATTENTION_EPS = 1e-6
"""Keeps the normaliser of linear attention from zero."""


@dataclass(frozen=True, slots=True)
class Settled:
    """Where a phase ended."""

    state: Tensor
    """(B, S, D)."""
    steps: int
    """Applications of the field."""
    residual: Tensor
    """0-d: the largest entry of |f(h) - h| when it was last looked at."""


def settled(field: Callable[[Tensor], Tensor], state: Tensor, config: SeedConfig) -> Settled:
    """Damped iteration in lockstep: the whole batch goes on until its worst entry is within tol."""
    residual = state.new_full((), torch.inf)
    steps = 0
    while steps < config.max_steps:
        image = field(state)
        steps += 1
        is_checked = steps % config.check_every == 0 or steps == config.max_steps
        if is_checked:
            residual = (image - state).abs().max()
        state = torch.lerp(state, image, config.damping)
        if is_checked and holds(residual <= config.tol):
            break
    return Settled(state, steps, residual)


def linear_attention(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Attention with the feature map elu + 1 (Katharopoulos et al. 2020), all (B, H, S, K)."""
    queries, keys = F.elu(queries) + 1, F.elu(keys) + 1
    normaliser = queries @ keys.sum(2).unsqueeze(-1) + ATTENTION_EPS
    attended: Tensor = (queries @ (keys.mT @ values)) / normaliser
    return attended


class CrossAttention(nn.Module):
    """Linear attention of a state to the input."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def forward(self, state: Tensor, drive: Tensor) -> Tensor:
        """(B, S, D), of queries from `state` to keys and values from `drive`, both (B, S, D)."""
        heads = linear_attention(
            self._split(self.query(state)),
            self._split(self.key(drive)),
            self._split(self.value(drive)),
        )
        attended: Tensor = self.out(heads.transpose(1, 2).flatten(2))
        return attended

    def _split(self, tokens: Tensor) -> Tensor:
        heads: Tensor = tokens.unflatten(2, (self.num_heads, -1)).transpose(1, 2)
        return heads


class EqPropSeed(nn.Module):
    """f(h, x) = LN3(h2), h2 = h1 + W2 drop(GELU(W1 LN2(h1))), h1 = h + Attn(LN1(h), x, x).

    x is the flattened image times one matrix, a single token. f is no gradient of anything: its
    Jacobian in h is not symmetric.
    """

    def __init__(self, config: SeedConfig, spec: DataSpec) -> None:
        super().__init__()
        self.config = config
        width = config.embed_dim
        self.embed = nn.Linear(math.prod(spec.shape), width)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.norm3 = nn.LayerNorm(width)
        self.attention = CrossAttention(width, config.num_heads)
        self.up = nn.Linear(width, config.hidden_dim)
        self.down = nn.Linear(config.hidden_dim, width)
        self.head = nn.Linear(width, spec.num_classes)
        self._frozen: Tensor | None = None

    def drive(self, inputs: Tensor) -> Tensor:
        """The embedded images (B, 1, D) of float images (B, C, H, W).

        In training with `dropout_mode: frozen` this draws the masks that `field` uses from then on.
        """
        drive: Tensor = self.embed(inputs.flatten(1)).unsqueeze(1)
        self._frozen = None
        if self._drops and self.config.dropout_mode == "frozen":
            ones = drive.new_ones(drive.shape[0], 1, self.config.hidden_dim)
            self._frozen = F.dropout(ones, self.config.dropout)
        return drive

    def start(self, drive: Tensor) -> Tensor:
        """Zero, (B, S, D)."""
        return torch.zeros_like(drive)

    def field(self, state: Tensor, drive: Tensor) -> Tensor:
        """f(h, x) (B, S, D) of h and x (B, S, D)."""
        attended = state + self.attention(self.norm1(state), drive)
        hidden = F.gelu(self.up(self.norm2(attended)))
        if self._frozen is not None:
            hidden = hidden * self._frozen
        elif self._drops:
            hidden = F.dropout(hidden, self.config.dropout)
        image: Tensor = self.norm3(attended + self.down(hidden))
        return image

    def readout(self, state: Tensor) -> Tensor:
        """Logits (B, classes) of a state (B, S, D), the mean of its tokens."""
        logits: Tensor = self.head(state.mean(1))
        return logits

    def forward(self, inputs: Tensor, knobs: Knobs | None = None) -> Tensor:
        """Logits (B, classes) at the end of a free phase, through which autograd sees."""
        drive = self.drive(inputs)
        field, state = partial(self.field, drive=drive), self.start(drive)
        if not torch.is_grad_enabled():
            return self.readout(settled(field, state, self.config).state)
        for _ in range(self.config.max_steps):
            state = torch.lerp(state, field(state), self.config.damping)
        return self.readout(state)

    @property
    def _drops(self) -> bool:
        return self.training and self.config.dropout > 0 and self.config.dropout_mode != "off"
