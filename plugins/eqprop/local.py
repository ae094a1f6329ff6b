"""The gradient of F = E + beta C in the parameters at a fixed state, in closed form.

Each is a product of what a weight has before and behind it: no graph, and nothing but this state,
is needed.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .cost import Cost
from .energy import deviation
from .model import EnergyTransformer


@dataclass(frozen=True, slots=True)
class Held:
    """What stays while samples relax."""

    patches: Tensor
    """(B, patches, C p p)"""
    drive: Tensor
    """(B, N, d)"""
    aim: Tensor
    """(B, classes)"""
    mask: Tensor | None = None
    """(B, 1, M), or None."""

    def repeat(self, times: int) -> Held:
        """All samples, several times in a row."""
        always = (self.patches, self.drive, self.aim)
        there = always if self.mask is None else (*always, self.mask)
        return Held(*(tensor.repeat(times, *[1] * (tensor.ndim - 1)) for tensor in there))

    def given(self, beta: Tensor) -> tuple[Tensor, ...]:
        """What a nudged relaxation is handed beside the states; beta (B,), a column there."""
        given = (self.drive, self.aim, beta.unsqueeze(1))
        return given if self.mask is None else (*given, self.mask)


@torch.no_grad()
def local_gradients(
    model: EnergyTransformer, cost: Cost, x: Tensor, held: Held, beta: Tensor, weight: Tensor
) -> dict[str, Tensor]:
    """By name, the derivative of sum_i weight_i (E + beta_i C)(x_i) with x (B, N, d) held fixed.

    beta and weight are (B,).
    """
    config = model.config
    g, share, strength = model.norm(x), weight.view(-1, 1, 1), beta.view(-1, 1, 1)
    weighed = share * g
    hidden = model.hidden(g, held.mask)
    force = hidden @ model.patterns
    hidden = hidden * share
    found = {
        "patterns": -_pairs(hidden, g),
        "thresholds": -hidden.sum((0, 1)),
        "positions": -weighed.sum(0),
    }
    if config.attention:
        mixed = model.mix(g)
        force = force + mixed @ model.query_key.view(-1, g.shape[-1])
        found["query_key"] = -_pairs(mixed * share, g).view_as(model.query_key)

    patches = weighed[:, config.extra_tokens :]
    found["embed.weight"] = -_pairs(patches, held.patches)
    found["embed.bias"] = -patches.sum((0, 1))

    read = model.pool(g)
    errors = cost.slope(model.head(read), held.aim)
    pulled = errors * (weight * beta).unsqueeze(1)
    found["head.weight"] = pulled.T @ read
    found["head.bias"] = pulled.sum(0)

    # dF/dg at fixed x, but for x itself: that part of the shift's is the Lagrangian's too.
    tension = strength * model.pull(errors) - held.drive - force
    found["shift"] = (share * tension).sum((0, 1))
    spread = deviation(x, config.norm_eps)
    flat = (x - x.mean(-1, keepdim=True)) / spread
    along = (flat * (x + tension)).sum(-1, keepdim=True) - x.shape[-1] * spread
    found["gain"] = (share * along).sum()
    return found


def _pairs(behind: Tensor, before: Tensor) -> Tensor:
    """sum over samples and tokens of behind x before: (B, N, a), (B, N, b) -> (a, b)."""
    return behind.flatten(0, 1).T @ before.flatten(0, 1)
