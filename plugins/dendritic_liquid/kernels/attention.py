"""Softmax attention of short rows, on a GPU: a program holds a whole head of an image.

A fused kernel for long rows walks over tiles of 64 or 128 tokens and takes as long for 27 tokens as
for 65. Here all scores of a head stay in registers: rows of 16, 32 or 64, and where there are more
tokens a second part for those beyond 64. Queries, keys and values are read where one product left
them, and gradients are written there.
"""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

MOST = 64
"""Rows of a tile; two of them hold a row."""
LEAST = 16
"""As many a product of tiles needs."""


@triton.jit
def _tile(pointer, rows, columns, stride, count):
    """(rows, columns) of a matrix of so many rows, 0 beyond."""
    places = pointer + rows[:, None] * stride + columns[None, :]
    return tl.load(places, mask=rows[:, None] < count, other=0.0)


@triton.jit
def _put(pointer, rows, columns, stride, count, values):
    places = pointer + rows[:, None] * stride + columns[None, :]
    tl.store(places, values.to(pointer.dtype.element_ty), mask=rows[:, None] < count)


@triton.jit
def _weights(q, k, k_rest, main, rest, count, SCALE: tl.constexpr, REST: tl.constexpr):
    """What queries attend to of the first keys and of the rest; rows sum to 1 over both."""
    logits = tl.where(main[None, :] < count, tl.dot(q, tl.trans(k)) * SCALE, float("-inf"))
    top = tl.max(logits, 1)
    if REST > 0:
        beyond = tl.dot(q, tl.trans(k_rest)) * SCALE
        beyond = tl.where(rest[None, :] < count, beyond, float("-inf"))
        top = tl.maximum(top, tl.max(beyond, 1))
    weights = tl.exp2(logits - top[:, None])
    total = tl.sum(weights, 1)
    weights_rest = weights
    if REST > 0:
        weights_rest = tl.exp2(beyond - top[:, None])
        total += tl.sum(weights_rest, 1)
        weights_rest = weights_rest / total[:, None]
    return weights / total[:, None], weights_rest


@triton.jit
def _mixed(q, k, v, k_rest, v_rest, main, rest, count, SCALE: tl.constexpr, REST: tl.constexpr):
    weights, weights_rest = _weights(q, k, k_rest, main, rest, count, SCALE, REST)
    mixed = tl.dot(weights.to(v.dtype), v)
    if REST > 0:
        mixed += tl.dot(weights_rest.to(v.dtype), v_rest)
    return mixed


@triton.jit
def _forward(
    heads,
    mixed,
    count,
    HEADS: tl.constexpr,
    SIZE: tl.constexpr,
    SCALE: tl.constexpr,
    ROWS: tl.constexpr,
    REST: tl.constexpr,
):
    WIDTH: tl.constexpr = HEADS * SIZE
    image, head = (tl.program_id(0) // HEADS).to(tl.int64), tl.program_id(0) % HEADS
    main, columns = tl.arange(0, ROWS), tl.arange(0, SIZE)
    heads += image * count * 3 * WIDTH + head * SIZE
    mixed += image * count * WIDTH + head * SIZE
    q = _tile(heads, main, columns, 3 * WIDTH, count)
    k = _tile(heads + WIDTH, main, columns, 3 * WIDTH, count)
    v = _tile(heads + 2 * WIDTH, main, columns, 3 * WIDTH, count)
    rest, k_rest, v_rest = main, k, v
    if REST > 0:
        rest = ROWS + tl.arange(0, REST)
        k_rest = _tile(heads + WIDTH, rest, columns, 3 * WIDTH, count)
        v_rest = _tile(heads + 2 * WIDTH, rest, columns, 3 * WIDTH, count)
        q_rest = _tile(heads, rest, columns, 3 * WIDTH, count)
        of_rest = _mixed(q_rest, k, v, k_rest, v_rest, main, rest, count, SCALE, REST)
        _put(mixed, rest, columns, WIDTH, count, of_rest)
    of_main = _mixed(q, k, v, k_rest, v_rest, main, rest, count, SCALE, REST)
    _put(mixed, main, columns, WIDTH, count, of_main)


@triton.jit
def _slopes(q, g, k, v, k_rest, v_rest, main, rest, count, SCALE: tl.constexpr, REST: tl.constexpr):
    """Of some queries, with gradients g of what they mixed: weights, and gradients of the logits,
    for the first keys and for the rest; in the precision of the inputs."""
    weights, weights_rest = _weights(q, k, k_rest, main, rest, count, SCALE, REST)
    slopes = tl.dot(g, tl.trans(v))
    mean = tl.sum(weights * slopes, 1)
    slopes_rest = slopes
    if REST > 0:
        slopes_rest = tl.dot(g, tl.trans(v_rest))
        mean += tl.sum(weights_rest * slopes_rest, 1)
        slopes_rest = weights_rest * (slopes_rest - mean[:, None])
    slopes = weights * (slopes - mean[:, None])
    kind = q.dtype
    return weights.to(kind), slopes.to(kind), weights_rest.to(kind), slopes_rest.to(kind)


@triton.jit
def _backward(
    heads,
    gradient,
    result,
    count,
    HEADS: tl.constexpr,
    SIZE: tl.constexpr,
    SCALE: tl.constexpr,
    UNIT: tl.constexpr,
    ROWS: tl.constexpr,
    REST: tl.constexpr,
):
    WIDTH: tl.constexpr = HEADS * SIZE
    image, head = (tl.program_id(0) // HEADS).to(tl.int64), tl.program_id(0) % HEADS
    main, columns = tl.arange(0, ROWS), tl.arange(0, SIZE)
    heads += image * count * 3 * WIDTH + head * SIZE
    result += image * count * 3 * WIDTH + head * SIZE
    gradient += image * count * WIDTH + head * SIZE
    q = _tile(heads, main, columns, 3 * WIDTH, count)
    k = _tile(heads + WIDTH, main, columns, 3 * WIDTH, count)
    v = _tile(heads + 2 * WIDTH, main, columns, 3 * WIDTH, count)
    g = _tile(gradient, main, columns, WIDTH, count)
    rest, k_rest, v_rest = main, k, v
    if REST > 0:
        rest = ROWS + tl.arange(0, REST)
        k_rest = _tile(heads + WIDTH, rest, columns, 3 * WIDTH, count)
        v_rest = _tile(heads + 2 * WIDTH, rest, columns, 3 * WIDTH, count)
    a, s, a_rest, s_rest = _slopes(q, g, k, v, k_rest, v_rest, main, rest, count, SCALE, REST)
    of_q = tl.dot(s, k)
    of_k = tl.dot(tl.trans(s), q)
    of_v = tl.dot(tl.trans(a), g)
    if REST > 0:
        of_q += tl.dot(s_rest, k_rest)
        of_k_rest = tl.dot(tl.trans(s_rest), q)
        of_v_rest = tl.dot(tl.trans(a_rest), g)
        q = _tile(heads, rest, columns, 3 * WIDTH, count)
        g = _tile(gradient, rest, columns, WIDTH, count)
        a, s, a_rest, s_rest = _slopes(q, g, k, v, k_rest, v_rest, main, rest, count, SCALE, REST)
        of_q_rest = tl.dot(s, k) + tl.dot(s_rest, k_rest)
        of_k += tl.dot(tl.trans(s), q)
        of_v += tl.dot(tl.trans(a), g)
        of_k_rest += tl.dot(tl.trans(s_rest), q)
        of_v_rest += tl.dot(tl.trans(a_rest), g)
        _put(result, rest, columns, 3 * WIDTH, count, of_q_rest * UNIT)
        _put(result + WIDTH, rest, columns, 3 * WIDTH, count, of_k_rest * UNIT)
        _put(result + 2 * WIDTH, rest, columns, 3 * WIDTH, count, of_v_rest)
    _put(result, main, columns, 3 * WIDTH, count, of_q * UNIT)
    _put(result + WIDTH, main, columns, 3 * WIDTH, count, of_k * UNIT)
    _put(result + 2 * WIDTH, main, columns, 3 * WIDTH, count, of_v)


def forward(heads: Tensor, num_heads: int) -> Tensor:
    """(B, N, D) of queries, keys and values (B, N, 3D), contiguous, N at most 128."""
    images, count, width = heads.shape
    size = width // 3 // num_heads
    mixed = heads.new_empty(images, count, num_heads * size)
    rows, rest = _tiles(count)
    with torch.cuda.device_of(heads):
        _forward[(images * num_heads,)](
            heads,
            mixed,
            count,
            HEADS=num_heads,
            SIZE=size,
            SCALE=math.log2(math.e) / math.sqrt(size),
            ROWS=rows,
            REST=rest,
            num_warps=_warps(rows),
        )
    return mixed


def backward(heads: Tensor, gradient: Tensor, num_heads: int) -> Tensor:
    """Gradient (B, N, 3D) of `heads`, of that of what `forward` makes of them, (B, N, D)."""
    images, count, width = heads.shape
    size = width // 3 // num_heads
    result = torch.empty_like(heads)
    rows, rest = _tiles(count)
    with torch.cuda.device_of(heads):
        _backward[(images * num_heads,)](
            heads,
            gradient,
            result,
            count,
            HEADS=num_heads,
            SIZE=size,
            SCALE=math.log2(math.e) / math.sqrt(size),
            UNIT=1 / math.sqrt(size),
            ROWS=rows,
            REST=rest,
            num_warps=_warps(rows),
        )
    return result


def _tiles(count: int) -> tuple[int, int]:
    """Rows of the two tiles that hold so many tokens, 0 for none."""
    main = min(max(LEAST, triton.next_power_of_2(count)), MOST)
    beyond = count - main
    return main, max(LEAST, triton.next_power_of_2(beyond)) if beyond > 0 else 0


def _warps(rows: int) -> int:
    return max(1, rows // 16)
