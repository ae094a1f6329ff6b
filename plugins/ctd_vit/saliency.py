"""Ranking patches and keeping some of them.

Shapes: B images, H heads, N = 1 + n tokens of which the first is CLS, d channels per head, D = H d.
Scores are float32, higher is more salient, and carry no gradient.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from math import sqrt
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor


def no_autocast(device: torch.device) -> AbstractContextManager[Any]:
    """The precision of the operands, whatever is set around; a device such as meta sets nothing."""
    if torch.amp.is_autocast_available(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()


def _rows(queries: Tensor, keys: Tensor) -> Tensor:
    """log softmax(q k^T / sqrt d) over all keys, in float32 whatever the precision around."""
    with no_autocast(queries.device):
        logits = queries.float() @ keys.float().mT / sqrt(queries.shape[-1])
        return logits.log_softmax(-1)


@torch.no_grad()
def cls_attention(queries: Tensor, keys: Tensor) -> Tensor:
    """The attention of CLS to every token in every head: (B, H, N, d) twice -> (B, H, N).

    One row of the attention matrix, N D multiply-accumulates, without the other N - 1.
    """
    return _rows(queries[:, :, :1], keys).exp().squeeze(2)


def cls_attn(queries: Tensor, keys: Tensor) -> Tensor:
    """(B, n): s_i = mean over heads of A_0i."""
    return cls_attention(queries, keys)[:, :, 1:].mean(1)


@torch.no_grad()
def value_norm(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """(B, n): s_i = mean over heads of A_0i |v_i|."""
    lengths: Tensor = torch.linalg.vector_norm(values.float(), dim=-1)
    return (cls_attention(queries, keys) * lengths)[:, :, 1:].mean(1)


@torch.no_grad()
def entropy(queries: Tensor, keys: Tensor) -> Tensor:
    """(B, n): s_i = mean over heads of sum_j A_ij log A_ij, minus the entropy of row i in nats."""
    rows = _rows(queries[:, :, 1:], keys)
    return (rows.exp() * rows).sum(-1).mean(1)


@torch.no_grad()
def stem_norm(patches: Tensor) -> Tensor:
    """(B, n): s_i = |x_i|, the Euclidean norm of the stem's feature (B, n, D)."""
    norms: Tensor = torch.linalg.vector_norm(patches.float(), dim=-1)
    return norms


@torch.no_grad()
def taylor(tokens: Tensor, gradient: Tensor) -> Tensor:
    """(B, n): s_i = |<x_i, dL/dx_i>|, to first order the change of the loss when x_i goes to zero.

    Both arguments (B, N, D); Molchanov et al. 2017 for channels, here for tokens.
    """
    return (tokens.float() * gradient.float()).sum(-1).abs()[:, 1:]


def ranked(scores: Tensor, keep: int, select: Literal["top", "bottom"]) -> Tensor:
    """int64 (B, keep), ascending: the patches to keep; of equal scores the first wins."""
    order = scores.argsort(dim=1, descending=select == "top", stable=True)
    return order[:, :keep].sort(dim=1).values


def _places(index: Tensor, width: int) -> Tensor:
    """Where CLS and the patches `index` stand among the tokens, for each channel: (B, 1 + k, D)."""
    return F.pad(index + 1, (1, 0)).unsqueeze(-1).expand(-1, -1, width)


def keep_patches(tokens: Tensor, index: Tensor) -> Tensor:
    """CLS and the patches at int64 (B, k) of (B, 1 + n, D): (B, 1 + k, D)."""
    return tokens.gather(1, _places(index, tokens.shape[-1]))


def put_back(tokens: Tensor, part: Tensor, index: Tensor) -> Tensor:
    """`tokens` (B, 1 + n, D) with CLS and the patches `index` taken from `part` (B, 1 + k, D)."""
    return tokens.scatter(1, _places(index, tokens.shape[-1]), part.to(tokens.dtype))
