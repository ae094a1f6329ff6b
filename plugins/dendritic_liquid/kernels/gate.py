"""What a block with a liquid gate leaves of a token, on a GPU and without gradients: one pass.

As products and element-wise kernels, a gate writes three heads as wide as a token and reads them
again. Here the hidden units and the heads of some tokens stay in registers. Units are held in two
tiles, of powers of two: 40 as 32 and 16, where a single one would have 64.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .activations import sigmoid, tanh

TOKENS = 128
"""Tokens of a program."""
READ = 64
"""Channels at once that hidden units read; must divide the width."""
WRITTEN = 32
"""Channels at once of each head; must divide the width."""
WARPS = 8
LEAST = 16
"""Units of the smallest tile."""


@triton.jit
def _driven(x, y, backbone, units, columns, drive, WIDTH: tl.constexpr, HIDDEN: tl.constexpr):
    """Drive of hidden units (tokens, units), and what some channels of x and y add to it."""
    places = backbone + units[None, :] * 2 * WIDTH + columns[:, None]
    there = units[None, :] < HIDDEN
    drive = tl.dot(x, tl.load(places, mask=there, other=0.0), drive)
    return tl.dot(y, tl.load(places + WIDTH, mask=there, other=0.0), drive)


@triton.jit
def _hidden(drive, bias, units, HIDDEN: tl.constexpr):
    drive += tl.load(bias + units, mask=units < HIDDEN, other=0.0)[None, :].to(tl.float32)
    return (drive * sigmoid(drive)).to(bias.dtype.element_ty)


@triton.jit
def _head(
    number,
    hidden,
    hidden_rest,
    heads,
    bias,
    columns,
    WIDTH: tl.constexpr,
    HIDDEN: tl.constexpr,
    MAIN: tl.constexpr,
    REST: tl.constexpr,
):
    """Some channels of a head (tokens, channels), float32."""
    columns += number * WIDTH
    units = tl.arange(0, MAIN)
    places = heads + columns[None, :] * HIDDEN
    of_units = tl.load(places + units[:, None], mask=units[:, None] < HIDDEN, other=0.0)
    drive = tl.dot(hidden, of_units)
    if REST > 0:
        units = MAIN + tl.arange(0, REST)
        of_units = tl.load(places + units[:, None], mask=units[:, None] < HIDDEN, other=0.0)
        drive = tl.dot(hidden_rest, of_units, drive)
    return drive + tl.load(bias + columns)[None, :].to(tl.float32)


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
    MAIN: tl.constexpr,
    REST: tl.constexpr,
    TOKENS: tl.constexpr,
    READ: tl.constexpr,
    WRITTEN: tl.constexpr,
):
    first = tl.program_id(0).to(tl.int64) * TOKENS
    read += first * WIDTH
    halfway += first * WIDTH
    change += first * WIDTH
    result += first * WIDTH
    rows = tl.arange(0, TOKENS)
    inside = rows < count - first
    units = tl.arange(0, MAIN)
    drive = tl.zeros((TOKENS, MAIN), tl.float32)
    rest, drive_rest = units, drive
    if REST > 0:
        rest = MAIN + tl.arange(0, REST)
        drive_rest = tl.zeros((TOKENS, REST), tl.float32)
    for start in tl.range(0, WIDTH, READ, num_stages=2):
        columns = start + tl.arange(0, READ)
        places = rows[:, None] * WIDTH + columns[None, :]
        x = tl.load(read + places, mask=inside[:, None], other=0.0)
        y = tl.load(halfway + places, mask=inside[:, None], other=0.0)
        y += tl.load(change + places, mask=inside[:, None], other=0.0)
        drive = _driven(x, y, backbone, units, columns, drive, WIDTH, HIDDEN)
        if REST > 0:
            drive_rest = _driven(x, y, backbone, rest, columns, drive_rest, WIDTH, HIDDEN)
    hidden = _hidden(drive, backbone_bias, units, HIDDEN)
    hidden_rest = hidden
    if REST > 0:
        hidden_rest = _hidden(drive_rest, backbone_bias, rest, HIDDEN)
    weight = tl.load(share + first + rows, mask=inside, other=1.0)[:, None]
    for start in tl.range(0, WIDTH, WRITTEN, num_stages=3):
        columns = start + tl.arange(0, WRITTEN)
        places = rows[:, None] * WIDTH + columns[None, :]
        flow = _head(0, hidden, hidden_rest, heads, heads_bias, columns, WIDTH, HIDDEN, MAIN, REST)
        g = _head(1, hidden, hidden_rest, heads, heads_bias, columns, WIDTH, HIDDEN, MAIN, REST)
        h = _head(2, hidden, hidden_rest, heads, heads_bias, columns, WIDTH, HIDDEN, MAIN, REST)
        g, h = tanh(g), tanh(h)
        gamma = sigmoid(-flow * tl.load(time + columns)[None, :])
        added = tl.load(scale + columns)[None, :].to(tl.float32)
        x = tl.load(read + places, mask=inside[:, None], other=0.0).to(tl.float32)
        y = tl.load(halfway + places, mask=inside[:, None], other=0.0)
        y = (y + tl.load(change + places, mask=inside[:, None], other=0.0)).to(tl.float32)
        left = x + weight * (y - x) + added * (h + gamma * (g - h))
        tl.store(result + places, left.to(result.dtype.element_ty), mask=inside[:, None])


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
    main, rest = tiles(hidden)
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
            MAIN=main,
            REST=rest,
            TOKENS=TOKENS,
            READ=READ,
            WRITTEN=WRITTEN,
            num_warps=WARPS,
        )
    return result


def tiles(hidden: int) -> tuple[int, int]:
    """Units of the two tiles that hold so many, 0 for none."""
    main = max(LEAST, 1 << (hidden.bit_length() - 1))
    beyond = hidden - main
    return main, max(LEAST, triton.next_power_of_2(beyond)) if beyond > 0 else 0
