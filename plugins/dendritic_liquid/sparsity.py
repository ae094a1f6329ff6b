"""Masks of important tokens, and attention that heeds them."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .config import Mask, SparseConfig

EPSILON = 1e-6


def soft(scores: Tensor, threshold: float, temperature: Tensor) -> Tensor:
    """sigmoid((s - threshold) / T), of scores of any shape."""
    return torch.sigmoid((scores - threshold) / temperature)


def straight_through(scores: Tensor, threshold: float, temperature: Tensor) -> Tensor:
    """1 above the threshold and 0 elsewhere, with the slope of the soft mask on the way back
    (Bengio et al. 2013, arXiv:1308.3432)."""
    slope = soft(scores, threshold, temperature)
    hard = (scores > threshold).to(scores.dtype)
    return hard + (slope - slope.detach())


def hard_of(scores: Tensor, config: SparseConfig, temperature: Tensor) -> Tensor:
    """1 above the threshold and 0 elsewhere, with the slope of a mask that is no colder than
    `least_temperature` on the way back."""
    slope = temperature.clamp(min=config.least_temperature)
    return straight_through(scores, config.threshold, slope)


def mask_of(
    scores: Tensor,
    alive: Tensor,
    config: SparseConfig,
    mask: Mask,
    temperature: Tensor,
    hardness: Tensor,
) -> Tensor:
    """What each patch weighs as a key, from 0 to 1, (B, n).

    Args:
        scores: (B, n).
        alive: (B, n), 1 for a patch that this block and all before it leave, by the threshold or by
            rank, else 0; with a slope on the way back.
    """
    if mask == "hard":
        return alive
    warm = soft(scores, config.threshold, temperature)
    return warm if mask == "soft" else (1 - hardness) * warm + hardness * alive


def masked_attention(queries: Tensor, keys: Tensor, values: Tensor, weights: Tensor) -> Tensor:
    """Softmax attention to keys that count as `weights` (B, N) says, a token's own key fully.

    A_ij = e_ij m_j / (sum_k e_ik m_k + 1e-6) with e_ij = exp(min(l_ij - max, 0)), where max is over
    keys that count at all: what is masked cannot push the others below the 1e-6. Unlike a logarithm
    of m in the logits, its gradient stays finite where m is 0.

    Args:
        queries: as keys and values (B, H, N, d).

    Returns:
        (B, H, N, d).
    """
    logits = (queries @ keys.transpose(-2, -1)).float() / math.sqrt(queries.shape[-1])
    own = torch.eye(keys.shape[-2], dtype=torch.bool, device=keys.device)
    counts = weights[:, None, None, :].masked_fill(own, 1.0)
    weighed = _exponentials(logits, counts) * counts
    attention = weighed / (weighed.sum(-1, keepdim=True) + EPSILON)
    return attention.to(values.dtype) @ values


def cls_share(queries: Tensor, keys: Tensor, weights: Tensor | None = None) -> Tensor:
    """Importance, float32 (B, n), of patches by what CLS, the first token, attends to.

    r / (1 + r), where r is what CLS would attend to a patch that counts fully, mean over heads,
    over its attention to such a patch if it attended to all alike: 1/2 for a patch that has its
    even share.

    Args:
        queries: as keys (B, H, 1 + n, d).
        weights: (B, 1 + n) of keys, 1 for CLS; None for all alike.
    """
    logits = _of_cls(queries, keys) / math.sqrt(keys.shape[-1])
    counts = torch.ones_like(logits[:, 0]) if weights is None else weights
    counts = counts[:, None, :]
    exponentials = _exponentials(logits, counts)
    even = counts.sum(-1, keepdim=True) / (exponentials * counts).sum(-1, keepdim=True)
    ratio: Tensor = (exponentials * even).mean(1)[:, 1:]
    return ratio / (1 + ratio)


def _of_cls(queries: Tensor, keys: Tensor) -> Tensor:
    """float32 (B, H, 1 + n): q k of CLS and every token."""
    if torch.compiler.is_compiling():
        # A single row keeps no tensor core busy; so it is fused with what reads it.
        return (queries[:, :, :1].float() * keys.float()).sum(-1)
    return (queries[:, :, :1] @ keys.transpose(-2, -1)).float()[:, :, 0]


def _exponentials(logits: Tensor, counts: Tensor) -> Tensor:
    """e_ij = exp(l_ij - max), of the shape of `logits`, max over keys that count; 1 at most for
    those that do not.

    The strongest key that counts stands at the bound, to a rounding: a product fused with the
    difference may lie above it. Were it bounded, it would lose its gradient there.
    """
    top = logits.detach().masked_fill(counts == 0, -torch.inf).amax(-1, keepdim=True)
    below = logits - top
    return torch.where(counts == 0, below.clamp(max=0), below).exp()
