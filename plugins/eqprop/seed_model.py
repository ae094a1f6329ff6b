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

Field = Callable[[Tensor], Tensor]
"""A map of states (B, S, D) to themselves."""

ATTENTION_EPS = 1e-6
"""Keeps the normaliser of linear attention from zero."""


@dataclass(frozen=True, slots=True)
class Settled:
    """Where a phase ended."""

    state: Tensor
    """(B, S, D)."""
    steps: Tensor
    """0-d: applications of the field until then."""
    residual: Tensor
    """0-d: the largest entry of |f(h) - h| when it was last looked at."""


def settled(field: Field, state: Tensor, config: SeedConfig, *, breaks_off: bool = True) -> Settled:
    """Damped iteration in lockstep: the whole batch goes on until its worst entry is within tol.

    To break off waits for the device. Otherwise the field is applied `max_steps` times, and what is
    within tol stays where it is: the same result, and work that can be recorded.
    """
    residual, done = state.new_full((), torch.inf), state.new_zeros((), dtype=torch.bool)
    steps, seen = state.new_zeros(()), 0
    damping = state.new_full((), config.damping)
    for step in range(1, config.max_steps + 1):
        image = field(state)
        state, before = torch.lerp(state, image, damping), state
        if step % config.check_every == 0 or step == config.max_steps:
            steps, seen = steps + (step - seen) * ~done, step
            residual = torch.where(done, residual, (image - before).abs().max())
            done = residual <= config.tol
            if breaks_off and holds(done):
                break
            damping = damping * ~done
    return Settled(state, steps, residual)


def gathered(keys: Tensor, values: Tensor) -> Tensor:
    """What linear attention keeps of keys and values (B, H, S, K), with the feature map elu + 1
    (Katharopoulos et al. 2020): sums over tokens (B, H, K, K + 1), of the keys last."""
    keys = F.elu(keys) + 1
    return torch.cat([keys.mT @ values, keys.sum(2).unsqueeze(-1)], -1)


def linear_attention(queries: Tensor, source: Tensor) -> Tensor:
    """Attention (B, H, S, K) of queries (B, H, S, K) to what was gathered (B, H, K, K + 1)."""
    summed = (F.elu(queries) + 1) @ source
    attended: Tensor = summed[..., :-1] / (summed[..., -1:] + ATTENTION_EPS)
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

    def source(self, drive: Tensor) -> Tensor:
        """What is gathered of `drive` (B, S, D)."""
        return gathered(self._split(self.key(drive)), self._split(self.value(drive)))

    def forward(self, state: Tensor, source: Tensor) -> Tensor:
        """(B, S, D), of queries from `state` (B, S, D)."""
        heads = linear_attention(self._split(self.query(state)), source)
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

    def drive(self, inputs: Tensor) -> Tensor:
        """The embedded images (B, 1, D) of float images (B, C, H, W)."""
        drive: Tensor = self.embed(inputs.flatten(1)).unsqueeze(1)
        return drive

    def start(self, drive: Tensor) -> Tensor:
        """Zero, (B, S, D)."""
        return torch.zeros_like(drive)

    def field(self, drive: Tensor) -> Field:
        """f(., x) of x (B, S, D).

        In training with `dropout_mode: frozen` this draws the masks of all its applications.
        """
        mask = None
        if self._drops and self.config.dropout_mode == "frozen":
            ones = drive.new_ones(drive.shape[0], 1, self.config.hidden_dim)
            mask = F.dropout(ones, self.config.dropout)
        return partial(self._apply_block, self.attention.source(drive), mask)

    def _apply_block(self, source: Tensor, mask: Tensor | None, state: Tensor) -> Tensor:
        attended = state + self.attention(self.norm1(state), source)
        hidden = F.gelu(self.up(self.norm2(attended)))
        if mask is not None:
            hidden = hidden * mask
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
        field, state = self.field(drive), self.start(drive)
        if not torch.is_grad_enabled():
            return self.readout(settled(field, state, self.config).state)
        for _ in range(self.config.max_steps):
            state = torch.lerp(state, field(state), self.config.damping)
        return self.readout(state)

    @property
    def _drops(self) -> bool:
        return self.training and self.config.dropout > 0 and self.config.dropout_mode != "off"
