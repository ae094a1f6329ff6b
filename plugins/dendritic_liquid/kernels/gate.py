"""What a block with a liquid gate leaves of a token, on a GPU and without gradients: one pass.

As products and element-wise kernels, a gate writes three heads as wide as a token and reads them
again. Here the hidden units and the heads of some tokens stay in registers.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

TOKENS = 64
"""Tokens of a program."""
CHANNELS = 32
"""Channels at once."""
WARPS = 4


@triton.jit
def _tile(pointer, rows, columns, stride, count, width):
    inside = (rows[:, None] < count) & (columns[None, :] < width)
    return tl.load(pointer + rows[:, None] * stride + columns[None, :], mask=inside, other=0.0)


@triton.jit
def _head(hidden, weight, bias, units, channels, HIDDEN: tl.constexpr, WIDTH: tl.constexpr):
    """(tokens, channels) of one head, float32."""
    part = _tile(weight, channels, units, HIDDEN, WIDTH, HIDDEN)
    shift = tl.load(bias + channels, mask=channels < WIDTH, other=0.0)
    return tl.dot(hidden, tl.trans(part)) + shift[None, :].to(tl.float32)


@triton.jit
def _tanh(x):
    return 2 * tl.sigmoid(2 * x) - 1


@triton.jit
def _gated(
    read,
    halfway,
    change,
    share,
    backbone,
    backbone_bias,
    heads,
    heads_bias,
    time,
    scale,
    result,
    count,
    WIDTH: tl.constexpr,
    HIDDEN: tl.constexpr,
    UNITS: tl.constexpr,
    TOKENS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    rows = tl.program_id(0).to(tl.int64) * TOKENS + tl.arange(0, TOKENS)
    units, inner = tl.arange(0, UNITS), tl.arange(0, CHANNELS)
    drive = tl.zeros((TOKENS, UNITS), tl.float32)
    for start in range(0, WIDTH, CHANNELS):
        columns = start + inner
        x = _tile(read, rows, columns, WIDTH, count, WIDTH)
        y = _tile(halfway, rows, columns, WIDTH, count, WIDTH)
        y += _tile(change, rows, columns, WIDTH, count, WIDTH)
        of_x = _tile(backbone, units, columns, 2 * WIDTH, HIDDEN, WIDTH)
        of_y = _tile(backbone + WIDTH, units, columns, 2 * WIDTH, HIDDEN, WIDTH)
        drive += tl.dot(x, tl.trans(of_x)) + tl.dot(y, tl.trans(of_y))
    drive += tl.load(backbone_bias + units, mask=units < HIDDEN, other=0.0)[None, :].to(tl.float32)
    hidden = (drive * tl.sigmoid(drive)).to(read.dtype.element_ty)
    weight = tl.load(share + rows, mask=rows < count, other=1.0).to(tl.float32)[:, None]
    for start in range(0, WIDTH, CHANNELS):
        columns = start + inner
        inside = columns < WIDTH
        flow = _head(hidden, heads, heads_bias, units, columns, HIDDEN, WIDTH)
        first = heads + WIDTH * HIDDEN
        g = _tanh(_head(hidden, first, heads_bias + WIDTH, units, columns, HIDDEN, WIDTH))
        second = heads + 2 * WIDTH * HIDDEN
        h = _tanh(_head(hidden, second, heads_bias + 2 * WIDTH, units, columns, HIDDEN, WIDTH))
        gamma = tl.sigmoid(-flow * tl.load(time + columns, mask=inside, other=0.0)[None, :])
        added = tl.load(scale + columns, mask=inside, other=0.0)[None, :].to(tl.float32)
        x = _tile(read, rows, columns, WIDTH, count, WIDTH).to(tl.float32)
        y = _tile(halfway, rows, columns, WIDTH, count, WIDTH)
        y = (y + _tile(change, rows, columns, WIDTH, count, WIDTH)).to(tl.float32)
        left = x + weight * (y - x) + added * (h + gamma * (g - h))
        places = result + rows[:, None] * WIDTH + columns[None, :]
        valid = (rows[:, None] < count) & inside[None, :]
        tl.store(places, left.to(result.dtype.element_ty), mask=valid)


def gated(
    read: Tensor,
    halfway: Tensor,
    change: Tensor,
    share: Tensor,
    backbone: Tensor,
    backbone_bias: Tensor,
    heads: Tensor,
    heads_bias: Tensor,
    time: Tensor,
    scale: Tensor,
) -> Tensor:
    """x + s (y - x) + scale (h + gamma (g - h)), (..., D), with x `read`, y `halfway` + `change`, s
    `share`.

    As the operator of this name, everything contiguous, and `share` and `time`, which
    gamma = sigmoid(-f time) multiplies, float32.
    """
    width, hidden = read.shape[-1], backbone.shape[0]
    count = read.numel() // width
    result = torch.empty_like(read)
    with torch.cuda.device_of(read):
        _gated[(triton.cdiv(count, TOKENS),)](
            read,
            halfway,
            change,
            share,
            backbone,
            backbone_bias,
            heads,
            heads_bias,
            time,
            scale,
            result,
            count,
            WIDTH=width,
            HIDDEN=hidden,
            UNITS=max(16, triton.next_power_of_2(hidden)),
            TOKENS=TOKENS,
            CHANNELS=CHANNELS,
            num_warps=WARPS,
        )
    return result
