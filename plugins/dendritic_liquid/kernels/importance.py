"""Importance of tokens by the strongest of their dendrites, on a GPU and without gradients: one
pass, whose hidden units stay in registers."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .activations import gelu, sigmoid

TOKENS = 128
"""Tokens of a program."""
CHANNELS = 64
"""Channels at once; must divide the width."""
WARPS = 8


@triton.jit
def _importance(
    tokens,
    branches,
    branches_bias,
    weight,
    bias,
    result,
    count,
    WIDTH: tl.constexpr,
    BRANCHES: tl.constexpr,
    HIDDEN: tl.constexpr,
    TOKENS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    rows = tl.program_id(0).to(tl.int64) * TOKENS + tl.arange(0, TOKENS)
    inside = rows < count
    units = tl.arange(0, BRANCHES * HIDDEN)
    drive = tl.zeros((TOKENS, BRANCHES * HIDDEN), tl.float32)
    for start in range(0, WIDTH, CHANNELS):
        columns = start + tl.arange(0, CHANNELS)
        places = tokens + rows[:, None] * WIDTH + columns[None, :]
        x = tl.load(places, mask=inside[:, None], other=0.0)
        drive = tl.dot(x, tl.load(branches + units[None, :] * WIDTH + columns[:, None]), drive)
    drive += tl.load(branches_bias + units)[None, :].to(tl.float32)
    hidden = gelu(drive) * tl.load(weight + units)[None, :].to(tl.float32)
    summed = tl.sum(tl.reshape(hidden, (TOKENS, BRANCHES, HIDDEN)), 2)
    summed += tl.load(bias + tl.arange(0, BRANCHES))[None, :].to(tl.float32)
    tl.store(result + rows, sigmoid(tl.max(summed, 1)), mask=inside)


def importance(
    tokens: Tensor, branches: Tensor, branches_bias: Tensor, weight: Tensor, bias: Tensor
) -> Tensor:
    """float32 (...) of contiguous tokens (..., D), as the operator of this name."""
    width = tokens.shape[-1]
    count = tokens.numel() // width
    result = torch.empty(tokens.shape[:-1], dtype=torch.float32, device=tokens.device)
    with torch.cuda.device_of(tokens):
        _importance[(triton.cdiv(count, TOKENS),)](
            tokens,
            branches,
            branches_bias,
            weight,
            bias,
            result,
            count,
            WIDTH=width,
            BRANCHES=weight.shape[0],
            HIDDEN=weight.shape[1],
            TOKENS=TOKENS,
            CHANNELS=CHANNELS,
            num_warps=WARPS,
        )
    return result
