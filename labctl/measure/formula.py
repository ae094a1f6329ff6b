"""FLOPs of single operators: 2 per multiply-accumulate, from shapes alone, alike on every device.

These stand beside torch's own formulas and win over them:

- Fused attention is counted as the products it replaces: 2 forward (q k^T, a v) and 4 backward. The
  scores that a fused kernel computes anew in its backward pass are left out, because explicit
  attention, and torch itself on the meta device, does not compute them: with them the figure would
  depend on the kernel. Masks save nothing: the product is counted whole.
- The weight gradient of a grouped convolution costs what its forward pass costs; torch counts it
  as often as there are groups.
- Matrix-vector and dot products, which torch leaves out.

A complex multiply-accumulate counts as one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from types import MappingProxyType

import torch
from torch._ops import OpOverloadPacket

from labctl.errors import PluginError

Formula = Callable[..., int]
"""The operator's arguments with tensors replaced by their shapes, and `out_shape=`, to FLOPs."""

Shape = Sequence[int]

_ATTENTION_KERNELS = (
    "flash_attention",
    "flash_attention_for_cpu",
    "efficient_attention",
    "cudnn_attention",
    "fused_attention_overrideable",
)


def attention(query: Shape, key: Shape, value: Shape, *_: object, **__: object) -> int:
    """q k^T and a v of (B, H, N, K) queries over (B, G, M, K) keys and (B, G, M, V) values."""
    return 2 * prod(query[:-1]) * key[-2] * (key[-1] + value[-1])


def attention_backward(
    grad: Shape, query: Shape, key: Shape, value: Shape, *_: object, **__: object
) -> int:
    """Gradients of q, k, v and of the attention weights: twice the forward products."""
    return 2 * attention(query, key, value)


def convolution_backward(
    grad: Shape,
    inputs: Shape,
    weight: Shape,
    bias: object,
    stride: object,
    padding: object,
    dilation: object,
    transposed: bool,
    output_padding: object,
    groups: int,
    output_mask: Sequence[bool],
    **_: object,
) -> int:
    """Gradients of input and weight, if asked for: each costs what the forward pass costs."""
    positions = prod((inputs if transposed else grad)[2:])
    forward = 2 * inputs[0] * prod(weight) * positions
    return forward * (output_mask[0] + output_mask[1])


def matrix_vector(matrix: Shape, vector: Shape, **_: object) -> int:
    """(N, M) @ (M,)."""
    return 2 * prod(matrix)


def added_matrix_vector(bias: Shape, matrix: Shape, vector: Shape, **_: object) -> int:
    """(N, M) @ (M,), added to (N,)."""
    return 2 * prod(matrix)


def dot(left: Shape, right: Shape, **_: object) -> int:
    """(N,) . (N,)."""
    return 2 * prod(left)


def added_batch_products(bias: Shape, left: Shape, right: Shape, **_: object) -> int:
    """The sum over B of (B, N, K) @ (B, K, M), added to (N, M)."""
    return 2 * prod(left) * right[-1]


def _bundled() -> dict[OpOverloadPacket, Formula]:
    aten = torch.ops.aten
    attentions: dict[OpOverloadPacket, Formula] = {}
    for kernel in _ATTENTION_KERNELS:
        attentions[getattr(aten, f"_scaled_dot_product_{kernel}")] = attention
        attentions[getattr(aten, f"_scaled_dot_product_{kernel}_backward")] = attention_backward
    return attentions | {
        aten.convolution_backward: convolution_backward,
        aten.mv: matrix_vector,
        aten.addmv: added_matrix_vector,
        aten.dot: dot,
        aten.vdot: dot,
        aten.addbmm: added_batch_products,
    }


_formulas = _bundled()


def formulas() -> Mapping[OpOverloadPacket, Formula]:
    """Every formula of ours and of plugins, by operator."""
    return MappingProxyType(_formulas)


def register_formula(operator: OpOverloadPacket, formula: Formula) -> None:
    """Say what an operator of one's own costs: `register_formula(torch.ops.mine.scan, scan_flops)`.

    `formula` is called with the operator's arguments, tensors replaced by their shapes, and the
    keyword `out_shape`; it returns FLOPs, 2 per multiply-accumulate, and 0 for an operator whose
    work is negligible. Its gradient needs a formula only if that, too, is an operator of one's own.

    Registering a function again is allowed; `PluginError` if the operator has another one.
    """
    known = _formulas.get(operator, formula)
    if _name(known) != _name(formula):
        raise PluginError(
            f"operator {operator} already has a FLOP formula: {_name(known)}",
            hint=f"keep that one or {_name(formula)}, beside the operator's definition",
        )
    _formulas[operator] = formula


def _name(formula: Formula) -> str:
    # By name: a plugin that is imported anew brings a new function that says the same.
    return f"{formula.__module__}.{formula.__qualname__}"
