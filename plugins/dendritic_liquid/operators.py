"""Operators of a GPU's own kernels, what each costs, and what each takes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from labctl.api import register_formula

LONGEST = 128
"""Tokens of a row that `short_attention` holds at once."""
MOST_UNITS = 256
"""Hidden units of all dendrites together that `importance` holds at once."""
CHANNELS = 64
"""That `importance` and `gated` read at once: they take tokens of a multiple of it."""
WIDEST_GATE = 64
"""Hidden units that `gated` holds at once."""
_HAS_TRITON = find_spec("triton") is not None
_NAMESPACE = __name__.replace(".", "_")


def fits_attention(qkv: Tensor, num_heads: int) -> bool:
    """Whether queries, keys and values (B, N, 3D) are for `short_attention` and
    `short_masked_attention`."""
    size = qkv.shape[-1] // 3 // num_heads
    return _is_half_on_gpu(qkv) and qkv.shape[1] <= LONGEST and size in (16, 32, 64)


def fits_importance(width: int, branches: int, hidden: int) -> bool:
    """Whether tokens of this width and so many branches of so many units are for `importance`."""
    units = branches * hidden
    fits = 16 <= units <= MOST_UNITS and units.bit_count() == branches.bit_count() == 1
    return fits and width % CHANNELS == 0


def fits_gate(width: int, hidden: int) -> bool:
    """Whether tokens of this width and so many hidden units are for `gated`."""
    return width % CHANNELS == 0 and hidden <= WIDEST_GATE


def is_half_inference(*tensors: Tensor) -> bool:
    """Whether tokens and weights are all of one half precision, on a GPU, and no gradient is kept:
    `importance` and `gated` have none."""
    alike = all(tensor.dtype == tensors[0].dtype for tensor in tensors)
    return alike and not torch.is_grad_enabled() and _is_half_on_gpu(tensors[0])


def _is_half_on_gpu(tensor: Tensor) -> bool:
    return _HAS_TRITON and tensor.is_cuda and tensor.dtype in (torch.bfloat16, torch.float16)


@torch.library.custom_op(f"{_NAMESPACE}::short_attention", mutates_args=())
def short_attention(qkv: Tensor, num_heads: int) -> Tensor:
    """What tokens attend to, (B, N, D) of queries, keys and values (B, N, 3D)."""
    from .kernels.attention import forward

    return forward(qkv.contiguous(), num_heads)


@torch.library.custom_op(f"{_NAMESPACE}::short_attention_backward", mutates_args=())
def short_attention_backward(qkv: Tensor, gradient: Tensor, num_heads: int) -> Tensor:
    """Gradient (B, N, 3D) of `qkv`, of that of what `short_attention` makes of it, (B, N, D)."""
    from .kernels.attention import backward

    return backward(qkv.contiguous(), gradient.contiguous(), num_heads)[0]


@torch.library.custom_op(f"{_NAMESPACE}::short_masked_attention", mutates_args=())
def short_masked_attention(qkv: Tensor, weights: Tensor, num_heads: int) -> Tensor:
    """As `masked_attention`, (B, N, D) of queries, keys and values (B, N, 3D) and of what keys
    count, float32 (B, N)."""
    from .kernels.attention import forward

    return forward(qkv.contiguous(), num_heads, weights.contiguous())


@torch.library.custom_op(f"{_NAMESPACE}::short_masked_attention_backward", mutates_args=())
def short_masked_attention_backward(
    qkv: Tensor, weights: Tensor, gradient: Tensor, num_heads: int
) -> tuple[Tensor, Tensor]:
    """Gradients (B, N, 3D) and float32 (B, N) of `qkv` and `weights`, of that of what
    `short_masked_attention` makes of them, (B, N, D)."""
    from .kernels.attention import backward

    given = (qkv.contiguous(), gradient.contiguous(), num_heads, weights.contiguous())
    of_qkv, of_weights = backward(*given)
    return of_qkv, of_weights.sum(1)


@torch.library.custom_op(f"{_NAMESPACE}::importance", mutates_args=())
def importance(
    tokens: Tensor, branches: Tensor, branches_bias: Tensor, weight: Tensor, bias: Tensor
) -> Tensor:
    """Of tokens (..., D) by the strongest branch, float32 (...).

    Args:
        tokens: (..., D).
        branches: (b h, D), with bias (b h,).
        weight: (b, h), with bias (b,).
    """
    from .kernels.importance import importance as run

    matrices = (branches.contiguous(), branches_bias, weight.contiguous(), bias)
    return run(tokens.contiguous(), *matrices)


@torch.library.custom_op(f"{_NAMESPACE}::gated", mutates_args=())
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
    """What a block with a liquid gate leaves of tokens, (..., D).

    Args:
        read: (..., D), what the block reads, as `halfway` and `change`, whose sum it writes.
        share: float32 (...), of what it writes.
        backbone: (c, 2D), with bias (c,).
        heads: (3D, c), with bias (3D,).
        time: float32 (D,).
        scale: (D,).
    """
    from .kernels.gate import gated as run

    tokens = (read.contiguous(), halfway.contiguous(), change.contiguous())
    weights = (backbone.contiguous(), backbone_bias, heads.contiguous(), heads_bias)
    return run(*tokens, share.contiguous(), *weights, time, scale)


@short_attention.register_fake
def _like_mixed(qkv: Tensor, num_heads: int) -> Tensor:
    return qkv.new_empty(*qkv.shape[:2], qkv.shape[2] // 3)


@short_attention_backward.register_fake
def _like_qkv(qkv: Tensor, gradient: Tensor, num_heads: int) -> Tensor:
    return torch.empty_like(qkv, memory_format=torch.contiguous_format)


@short_masked_attention.register_fake
def _like_masked(qkv: Tensor, weights: Tensor, num_heads: int) -> Tensor:
    return qkv.new_empty(*qkv.shape[:2], qkv.shape[2] // 3)


@short_masked_attention_backward.register_fake
def _like_both(
    qkv: Tensor, weights: Tensor, gradient: Tensor, num_heads: int
) -> tuple[Tensor, Tensor]:
    of_qkv = torch.empty_like(qkv, memory_format=torch.contiguous_format)
    return of_qkv, weights.new_empty(weights.shape)


@importance.register_fake
def _like_tokens(tokens: Tensor, *_: Tensor) -> Tensor:
    return tokens.new_empty(tokens.shape[:-1], dtype=torch.float32)


@gated.register_fake
def _like_read(read: Tensor, *_: Tensor) -> Tensor:
    return torch.empty_like(read, memory_format=torch.contiguous_format)


def _keep(ctx: Any, inputs: tuple[Tensor, int], output: Tensor) -> None:
    qkv, ctx.num_heads = inputs
    ctx.save_for_backward(qkv)


def _gradient(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
    (qkv,) = ctx.saved_tensors
    return short_attention_backward(qkv, gradient, ctx.num_heads), None


def _keep_masked(ctx: Any, inputs: tuple[Tensor, Tensor, int], output: Tensor) -> None:
    qkv, weights, ctx.num_heads = inputs
    ctx.save_for_backward(qkv, weights)


def _gradients(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
    qkv, weights = ctx.saved_tensors
    return *short_masked_attention_backward(qkv, weights, gradient, ctx.num_heads), None


short_attention.register_autograd(_gradient, setup_context=_keep)
short_masked_attention.register_autograd(_gradients, setup_context=_keep_masked)


def attention_flops(qkv: Sequence[int], num_heads: int, **_: object) -> int:
    """q k^T and a v of (B, N, 3D)."""
    images, tokens, width = qkv
    return 4 * images * tokens**2 * (width // 3)


def attention_backward_flops(
    qkv: Sequence[int], gradient: Sequence[int], num_heads: int, **_: object
) -> int:
    """Gradients of q, k, v and of the weights; scores computed anew are not counted."""
    return 2 * attention_flops(qkv, num_heads)


def masked_attention_flops(
    qkv: Sequence[int], weights: Sequence[int], num_heads: int, **_: object
) -> int:
    """As without a mask."""
    return attention_flops(qkv, num_heads)


def masked_attention_backward_flops(
    qkv: Sequence[int], weights: Sequence[int], gradient: Sequence[int], num_heads: int, **_: object
) -> int:
    """As without a mask."""
    return attention_backward_flops(qkv, gradient, num_heads)


def importance_flops(
    tokens: Sequence[int], branches: Sequence[int], *_: object, **__: object
) -> int:
    """D b h, a token of (..., D)."""
    return 2 * math.prod(tokens) * branches[0]


def gated_flops(
    read: Sequence[int],
    halfway: Sequence[int],
    change: Sequence[int],
    share: Sequence[int],
    backbone: Sequence[int],
    *_: object,
    **__: object,
) -> int:
    """2 D c of the backbone and 3 c D of the heads, a token of (..., D)."""
    return 2 * math.prod(read) * 5 * backbone[0]


_operators = getattr(torch.ops, _NAMESPACE)
register_formula(_operators.short_attention, attention_flops)
register_formula(_operators.short_attention_backward, attention_backward_flops)
register_formula(_operators.short_masked_attention, masked_attention_flops)
register_formula(_operators.short_masked_attention_backward, masked_attention_backward_flops)
register_formula(_operators.importance, importance_flops)
register_formula(_operators.gated, gated_flops)
