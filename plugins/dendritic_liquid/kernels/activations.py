"""Activations in few instructions: GPUs have tanh, 2^x and 1/x as single ones."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

NATIVE: tl.constexpr = tl.constexpr(
    torch.version.cuda is not None and not triton.knobs.runtime.interpret
)
"""Whether programs are compiled to PTX, which names these instructions."""


@triton.jit
def tanh(x):
    """Of float32, to 11 bits (PTX ISA, tanh.approx): bfloat16 keeps 8."""
    if NATIVE:
        return tl.inline_asm_elementwise(
            "tanh.approx.f32 $0, $1;", "=f,f", [x], dtype=tl.float32, is_pure=True, pack=1
        )
    else:
        return 2 * tl.sigmoid(2 * x) - 1


@triton.jit
def sigmoid(x):
    """Of float32, as precise as `tanh`."""
    return 0.5 + 0.5 * tanh(0.5 * x)


@triton.jit
def gelu(x):
    """x times the normal distribution's share below x, of float32, to 2e-7 |x| (erf as Abramowitz &
    Stegun 1964, 7.1.26)."""
    size = tl.abs(x)
    t = _inverse(1 + 0.3275911 * 0.7071067811865476 * size)
    series = 0.254829592 + t * (
        -0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))
    )
    beyond = t * series * _power_of_two(-0.7213475204444817 * x * x)
    return tl.maximum(x, 0.0) - 0.5 * size * beyond


@triton.jit
def _inverse(x):
    if NATIVE:
        return tl.inline_asm_elementwise(
            "rcp.approx.ftz.f32 $0, $1;", "=f,f", [x], dtype=tl.float32, is_pure=True, pack=1
        )
    else:
        return 1 / x


@triton.jit
def _power_of_two(x):
    if NATIVE:
        return tl.inline_asm_elementwise(
            "ex2.approx.ftz.f32 $0, $1;", "=f,f", [x], dtype=tl.float32, is_pure=True, pack=1
        )
    else:
        return tl.exp2(x)
