"""Softmax attention of short rows, on a GPU: a program holds a whole head of an image.

A fused kernel for long rows walks over tiles of 64 or 128 tokens and takes as long for 27 tokens as
for 65. Here all scores of a head stay in registers: rows of 16, 32 or 64, and where there are more
tokens a second part for those beyond 64. Queries, keys and values are read where one product left
them, and gradients are written there.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

MOST = 64
"""Rows of a tile; two of them hold a row."""
LEAST = 16
"""As many a product of tiles needs."""
EPSILON: tl.constexpr = tl.constexpr(1e-6)
"""As in `masked_attention`."""


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
def _exponentials(logits, top, marks, queries, keys, MASKED: tl.constexpr):
    """Of some queries and keys: e = 2^(l - max), and e times what the key counts; a token's own
    counts fully."""
    if MASKED:
        counts = tl.where(queries[:, None] == keys[None, :], 1.0, marks[None, :])
        # A key that does not count may be stronger than all that do.
        below = logits - top[:, None]
        exponentials = tl.exp2(tl.where(counts == 0, tl.minimum(below, 0.0), below))
        return exponentials, exponentials * counts
    else:
        exponentials = tl.exp2(logits - top[:, None])
        return exponentials, exponentials


@triton.jit
def _logits(q, k, marks, queries, keys, count, SCALE: tl.constexpr, MASKED: tl.constexpr):
    """Of base 2, and the highest of each query, among keys that count."""
    logits = tl.where(keys[None, :] < count, tl.dot(q, tl.trans(k)) * SCALE, float("-inf"))
    if MASKED:
        there = (marks[None, :] > 0) | (queries[:, None] == keys[None, :])
        return logits, tl.max(tl.where(there, logits, -1e30), 1)  # finite, for rows beyond count
    else:
        return logits, tl.max(logits, 1)


@triton.jit
def _weights(
    q,
    k,
    k_rest,
    marks,
    marks_rest,
    queries,
    main,
    rest,
    count,
    SCALE: tl.constexpr,
    REST: tl.constexpr,
    MASKED: tl.constexpr,
):
    """What queries attend to of the first keys and of the rest, and what they would if each counted
    fully: without marks the same, and rows sum to 1 over both."""
    logits, top = _logits(q, k, marks, queries, main, count, SCALE, MASKED)
    if REST > 0:
        beyond, top_rest = _logits(q, k_rest, marks_rest, queries, rest, count, SCALE, MASKED)
        top = tl.maximum(top, top_rest)
    full, weights = _exponentials(logits, top, marks, queries, main, MASKED)
    total = tl.sum(weights, 1)
    full_rest, weights_rest = full, weights
    if REST > 0:
        full_rest, weights_rest = _exponentials(beyond, top, marks_rest, queries, rest, MASKED)
        total += tl.sum(weights_rest, 1)
    if MASKED:
        total += EPSILON
    total = total[:, None]
    return weights / total, weights_rest / total, full / total, full_rest / total


@triton.jit
def _mixed(
    q,
    k,
    v,
    k_rest,
    v_rest,
    marks,
    marks_rest,
    queries,
    main,
    rest,
    count,
    SCALE: tl.constexpr,
    REST: tl.constexpr,
    MASKED: tl.constexpr,
):
    weights, weights_rest, _, _ = _weights(
        q, k, k_rest, marks, marks_rest, queries, main, rest, count, SCALE, REST, MASKED
    )
    mixed = tl.dot(weights.to(v.dtype), v)
    if REST > 0:
        mixed += tl.dot(weights_rest.to(v.dtype), v_rest)
    return mixed


@triton.jit
def _marks(key_weights, image, keys, count, MASKED: tl.constexpr):
    """What keys count, float32 (keys,)."""
    if MASKED:
        return tl.load(key_weights + image * count + keys, mask=keys < count, other=0.0)
    else:
        return keys


@triton.jit
def _forward(
    heads,
    key_weights,
    mixed,
    count,
    HEADS: tl.constexpr,
    SIZE: tl.constexpr,
    SCALE: tl.constexpr,
    ROWS: tl.constexpr,
    REST: tl.constexpr,
    MASKED: tl.constexpr,
):
    WIDTH: tl.constexpr = HEADS * SIZE
    image, head = (tl.program_id(0) // HEADS).to(tl.int64), tl.program_id(0) % HEADS
    main, columns = tl.arange(0, ROWS), tl.arange(0, SIZE)
    heads += image * count * 3 * WIDTH + head * SIZE
    mixed += image * count * WIDTH + head * SIZE
    q = _tile(heads, main, columns, 3 * WIDTH, count)
    k = _tile(heads + WIDTH, main, columns, 3 * WIDTH, count)
    v = _tile(heads + 2 * WIDTH, main, columns, 3 * WIDTH, count)
    marks = _marks(key_weights, image, main, count, MASKED)
    rest, k_rest, v_rest, marks_rest = main, k, v, marks
    if REST > 0:
        rest = ROWS + tl.arange(0, REST)
        k_rest = _tile(heads + WIDTH, rest, columns, 3 * WIDTH, count)
        v_rest = _tile(heads + 2 * WIDTH, rest, columns, 3 * WIDTH, count)
        marks_rest = _marks(key_weights, image, rest, count, MASKED)
        q_rest = _tile(heads, rest, columns, 3 * WIDTH, count)
        of_rest = _mixed(
            q_rest, k, v, k_rest, v_rest, marks, marks_rest,
            rest, main, rest, count, SCALE, REST, MASKED,
        )  # fmt: skip
        _put(mixed, rest, columns, WIDTH, count, of_rest)
    of_main = _mixed(
        q, k, v, k_rest, v_rest, marks, marks_rest, main, main, rest, count, SCALE, REST, MASKED
    )
    _put(mixed, main, columns, WIDTH, count, of_main)


@triton.jit
def _slopes(
    q,
    g,
    k,
    v,
    k_rest,
    v_rest,
    marks,
    marks_rest,
    queries,
    main,
    rest,
    count,
    SCALE: tl.constexpr,
    REST: tl.constexpr,
    MASKED: tl.constexpr,
):
    """Of some queries, with gradients g of what they mixed, for the first keys and for the rest:
    weights, gradients of the logits, both in the precision of the inputs, and gradients of what
    keys count, summed over these queries."""
    weights, weights_rest, full, full_rest = _weights(
        q, k, k_rest, marks, marks_rest, queries, main, rest, count, SCALE, REST, MASKED
    )
    slopes = tl.dot(g, tl.trans(v))
    mean = tl.sum(weights * slopes, 1)
    slopes_rest = slopes
    if REST > 0:
        slopes_rest = tl.dot(g, tl.trans(v_rest))
        mean += tl.sum(weights_rest * slopes_rest, 1)
        slopes_rest -= mean[:, None]
    slopes -= mean[:, None]
    of_marks, of_marks_rest = mean, mean
    if MASKED:
        of_marks = _of_others(full * slopes, queries, main)
        if REST > 0:
            of_marks_rest = _of_others(full_rest * slopes_rest, queries, rest)
    kind = q.dtype
    slopes, slopes_rest = weights * slopes, weights_rest * slopes_rest
    return (
        weights.to(kind), slopes.to(kind), weights_rest.to(kind), slopes_rest.to(kind),
        of_marks, of_marks_rest,
    )  # fmt: skip


@triton.jit
def _of_others(values, queries, keys):
    """Sum over queries, of each key, but for its own."""
    return tl.sum(tl.where(queries[:, None] == keys[None, :], 0.0, values), 0)


@triton.jit
def _backward(
    heads,
    key_weights,
    gradient,
    result,
    of_weights,
    count,
    HEADS: tl.constexpr,
    SIZE: tl.constexpr,
    SCALE: tl.constexpr,
    UNIT: tl.constexpr,
    ROWS: tl.constexpr,
    REST: tl.constexpr,
    MASKED: tl.constexpr,
):
    WIDTH: tl.constexpr = HEADS * SIZE
    image, head = (tl.program_id(0) // HEADS).to(tl.int64), tl.program_id(0) % HEADS
    main, columns = tl.arange(0, ROWS), tl.arange(0, SIZE)
    heads += image * count * 3 * WIDTH + head * SIZE
    result += image * count * 3 * WIDTH + head * SIZE
    gradient += image * count * WIDTH + head * SIZE
    of_weights += (image * HEADS + head) * count
    q = _tile(heads, main, columns, 3 * WIDTH, count)
    k = _tile(heads + WIDTH, main, columns, 3 * WIDTH, count)
    v = _tile(heads + 2 * WIDTH, main, columns, 3 * WIDTH, count)
    g = _tile(gradient, main, columns, WIDTH, count)
    marks = _marks(key_weights, image, main, count, MASKED)
    rest, k_rest, v_rest, marks_rest = main, k, v, marks
    if REST > 0:
        rest = ROWS + tl.arange(0, REST)
        k_rest = _tile(heads + WIDTH, rest, columns, 3 * WIDTH, count)
        v_rest = _tile(heads + 2 * WIDTH, rest, columns, 3 * WIDTH, count)
        marks_rest = _marks(key_weights, image, rest, count, MASKED)
    a, s, a_rest, s_rest, m, m_rest = _slopes(
        q, g, k, v, k_rest, v_rest, marks, marks_rest, main, main, rest, count, SCALE, REST, MASKED
    )
    of_q = tl.dot(s, k)
    of_k = tl.dot(tl.trans(s), q)
    of_v = tl.dot(tl.trans(a), g)
    if REST > 0:
        of_q += tl.dot(s_rest, k_rest)
        of_k_rest = tl.dot(tl.trans(s_rest), q)
        of_v_rest = tl.dot(tl.trans(a_rest), g)
        q = _tile(heads, rest, columns, 3 * WIDTH, count)
        g = _tile(gradient, rest, columns, WIDTH, count)
        a, s, a_rest, s_rest, m_more, m_more_rest = _slopes(
            q, g, k, v, k_rest, v_rest, marks, marks_rest,
            rest, main, rest, count, SCALE, REST, MASKED,
        )  # fmt: skip
        of_q_rest = tl.dot(s, k) + tl.dot(s_rest, k_rest)
        of_k += tl.dot(tl.trans(s), q)
        of_v += tl.dot(tl.trans(a), g)
        of_k_rest += tl.dot(tl.trans(s_rest), q)
        of_v_rest += tl.dot(tl.trans(a_rest), g)
        _put(result, rest, columns, 3 * WIDTH, count, of_q_rest * UNIT)
        _put(result + WIDTH, rest, columns, 3 * WIDTH, count, of_k_rest * UNIT)
        _put(result + 2 * WIDTH, rest, columns, 3 * WIDTH, count, of_v_rest)
        if MASKED:
            m += m_more
            tl.store(of_weights + rest, m_rest + m_more_rest, mask=rest < count)
    _put(result, main, columns, 3 * WIDTH, count, of_q * UNIT)
    _put(result + WIDTH, main, columns, 3 * WIDTH, count, of_k * UNIT)
    _put(result + 2 * WIDTH, main, columns, 3 * WIDTH, count, of_v)
    if MASKED:
        tl.store(of_weights + main, m, mask=main < count)


def forward(heads: Tensor, num_heads: int, key_weights: Tensor | None = None) -> Tensor:
    """(B, N, D) of queries, keys and values (B, N, 3D), contiguous, N at most 128.

    Args:
        key_weights: float32 (B, N), contiguous: what keys count, as in `masked_attention`; None for
            all alike.
    """
    images, count, width = heads.shape
    mixed = heads.new_empty(images, count, width // 3)
    with torch.cuda.device_of(heads):
        _forward[(images * num_heads,)](
            heads,
            heads if key_weights is None else key_weights,
            mixed,
            count,
            MASKED=key_weights is not None,
            **_shapes(heads, num_heads),
        )
    return mixed


def backward(
    heads: Tensor, gradient: Tensor, num_heads: int, key_weights: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Gradients (B, N, 3D) of `heads`, and float32 of `key_weights`, of each head by itself,
    (B, H, N), or without (B, 0, N), of that of what `forward` makes of them, (B, N, D)."""
    images, count, _ = heads.shape
    masked = key_weights is not None
    result = torch.empty_like(heads)
    parts = num_heads if masked else 0
    of_weights = heads.new_empty(images, parts, count, dtype=torch.float32)
    with torch.cuda.device_of(heads):
        _backward[(images * num_heads,)](
            heads,
            key_weights if masked else heads,
            gradient,
            result,
            of_weights if masked else result,
            count,
            UNIT=1 / math.sqrt(gradient.shape[2] // num_heads),
            MASKED=masked,
            **_shapes(heads, num_heads),
        )
    return result, of_weights


def _shapes(heads: Tensor, num_heads: int) -> dict[str, Any]:
    size = heads.shape[2] // 3 // num_heads
    rows, rest = _tiles(heads.shape[1])
    return {
        "HEADS": num_heads,
        "SIZE": size,
        "SCALE": math.log2(math.e) / math.sqrt(size),
        "ROWS": rows,
        "REST": rest,
        "num_warps": _warps(rows),
    }


def _tiles(count: int) -> tuple[int, int]:
    """Rows of the two tiles that hold so many tokens, 0 for none."""
    main = min(max(LEAST, triton.next_power_of_2(count)), MOST)
    beyond = count - main
    return main, max(LEAST, triton.next_power_of_2(beyond)) if beyond > 0 else 0


def _warps(rows: int) -> int:
    return max(1, rows // 16)
