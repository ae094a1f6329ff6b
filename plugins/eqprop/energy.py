"""Energies over tokens and their forces, as functions of tensors.

B samples, N tokens, d their width, H heads of width k, A = H k, M patterns. After Hoover et al.
2023 (Energy Transformer, arXiv 2302.07253).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class Potential(NamedTuple):
    """A convex function of a pattern's overlap, and its slope, which is the activation."""

    value: Callable[[Tensor], Tensor]
    slope: Callable[[Tensor], Tensor]


def _logcosh(z: Tensor) -> Tensor:
    return z.abs() + F.softplus(-2 * z.abs()) - math.log(2)


def _softplus2(z: Tensor) -> Tensor:
    return F.softplus(z).square() / 2


def _softplus2_slope(z: Tensor) -> Tensor:
    return F.softplus(z) * z.sigmoid()


POTENTIALS = {
    "logcosh": Potential(_logcosh, torch.tanh),
    "relu2": Potential(lambda z: z.relu().square() / 2, torch.relu),
    "softplus2": Potential(_softplus2, _softplus2_slope),
}
"""By the name that a config gives them. Their curvature is at most 1, 1 and 1.05."""


def soft_norm(x: Tensor, gain: Tensor, shift: Tensor, eps: float) -> Tensor:
    """g = gain (x - mean) / sqrt(var + eps) + shift, over the last axis; gain is 0-d, shift (d,).

    A gain for each component would make dg/dx asymmetric, and no energy would have this gradient.
    """
    return F.layer_norm(x, x.shape[-1:], gain.expand(x.shape[-1]), shift, eps)


def deviation(x: Tensor, eps: float) -> Tensor:
    """s = sqrt(var + eps) of each token, (B, N, 1)."""
    return (x.var(-1, correction=0, keepdim=True) + eps).sqrt()


def lagrangian(x: Tensor, gain: Tensor, shift: Tensor, eps: float) -> Tensor:
    """sum_n gain d s_n + shift . x_n, (B,); its gradient in x is `soft_norm`."""
    return x.shape[-1] * gain * deviation(x, eps).sum((1, 2)) + (x @ shift).sum(1)


class Attention(NamedTuple):
    """What queries, keys and each other's softmax come to; all heads."""

    scores: Tensor
    """(B H, N, N): b <q_c, k_k>, -inf on the diagonal: no token attends to itself."""
    queries: Tensor
    """(B H, N, k)"""
    keys: Tensor
    """(B H, N, k)"""


def attention(g: Tensor, query_key: Tensor, heads: int, b: float) -> Attention:
    """Scores of tokens (B, N, d) by weights (2, A, d): queries first, then keys."""
    samples, tokens, width = g.shape
    both = g @ query_key.view(-1, width).T
    both = both.view(samples, tokens, 2, heads, -1).permute(2, 0, 3, 1, 4)
    queries, keys = both.reshape(2, samples * heads, tokens, -1)
    hidden = torch.zeros(tokens, tokens, dtype=g.dtype, device=g.device)
    hidden.fill_diagonal_(-math.inf)
    scores = torch.baddbmm(hidden, queries, keys.mT, alpha=b)
    return Attention(scores, queries, keys)


def attention_energy(g: Tensor, query_key: Tensor, heads: int, b: float) -> Tensor:
    """-1/b sum_h sum_c logsumexp_{k != c}(b <q_c, k_k>), (B,)."""
    scores = attention(g, query_key, heads, b).scores
    return -scores.logsumexp(-1).view(len(g), -1).sum(1) / b


def attention_mix(g: Tensor, query_key: Tensor, heads: int, b: float) -> Tensor:
    """(B, N, 2 A): P K and P^T Q of all heads, P the softmax of the scores.

    Times the weights (2 A, d) they are minus the gradient of `attention_energy`. An ordinary
    transformer lacks the second.
    """
    scores, queries, keys = attention(g, query_key, heads, b)
    shares = scores.softmax(-1)
    mixed = torch.stack([shares @ keys, shares.mT @ queries])
    samples, tokens = g.shape[:2]
    mixed = mixed.view(2, samples, heads, tokens, -1).permute(1, 3, 0, 2, 4)
    return mixed.reshape(samples, tokens, -1)


def memory_energy(
    g: Tensor, patterns: Tensor, thresholds: Tensor, phi: Potential, mask: Tensor | None
) -> Tensor:
    """-sum_n sum_mu m_mu Phi(xi_mu . g_n + c_mu), (B,); mask (B, 1, M) or None for ones."""
    value = phi.value(F.linear(g, patterns, thresholds))
    return -(value if mask is None else value * mask).sum((1, 2))


def memory_slope(
    g: Tensor, patterns: Tensor, thresholds: Tensor, phi: Potential, mask: Tensor | None
) -> Tensor:
    """m Phi'(Xi g + c), (B, N, M): what the hidden units are at."""
    slope = phi.slope(F.linear(g, patterns, thresholds))
    return slope if mask is None else slope * mask
