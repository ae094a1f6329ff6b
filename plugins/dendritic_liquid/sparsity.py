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


def mask_of(
    scores: Tensor, config: SparseConfig, mask: Mask, temperature: Tensor, hardness: Tensor
) -> Tensor:
    """What each token weighs as a key, from 0 to 1, of scores (B, N)."""
    if mask == "soft":
        return soft(scores, config.threshold, temperature)
    slope = temperature.clamp(min=config.least_temperature)
    hard = straight_through(scores, config.threshold, slope)
    if mask == "hard":
        return hard
    return (1 - hardness) * soft(scores, config.threshold, temperature) + hardness * hard


def masked_attention(queries: Tensor, keys: Tensor, values: Tensor, weights: Tensor) -> Tensor:
    """Softmax attention to keys that count as `weights` (B, N) says, a token's own key fully.

    A_ij = exp(l_ij - max) m_j / (sum_k exp(l_ik - max) m_k + 1e-6): unlike a logarithm of m in the
    logits, its gradient stays finite where m is 0.

    Args:
        queries: as keys and values (B, H, N, d).

    Returns:
        (B, H, N, d).
    """
    logits = (queries @ keys.transpose(-2, -1)).float() / math.sqrt(queries.shape[-1])
    exponentials = (logits - logits.amax(-1, keepdim=True).detach()).exp()
    own = torch.eye(keys.shape[-2], dtype=torch.bool, device=keys.device)
    weighed = exponentials * torch.where(own, 1.0, weights[:, None, None, :])
    attention = weighed / (weighed.sum(-1, keepdim=True) + EPSILON)
    return attention.to(values.dtype) @ values


def cls_share(queries: Tensor, keys: Tensor) -> Tensor:
    """Importance, float32 (B, n), of patches by what CLS, the first token, attends to.

    r / (1 + r), where r is a patch's attention, mean over heads, over that of an even spread: 1/2
    for a patch that has its even share.

    Args:
        queries: as keys (B, H, 1 + n, d).
    """
    logits = (queries[:, :, :1] @ keys.transpose(-2, -1)).float() / math.sqrt(queries.shape[-1])
    attention = logits.softmax(-1)[:, :, 0].mean(1)
    ratio = attention[:, 1:] * attention.shape[-1]
    return ratio / (1 + ratio)
