"""Numbers as people read them."""

from __future__ import annotations

from typing import Any


def text_of(value: Any) -> str:
    """A value in four digits."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return "" if value is None else str(value)


def rate_of(flops_per_second: float) -> str:
    """`1.25 TFLOP/s`."""
    return f"{flops_of(flops_per_second)}/s"


def flops_of(count: float) -> str:
    """`763.8 GFLOP`."""
    for unit in ("FLOP", "kFLOP", "MFLOP", "GFLOP", "TFLOP", "PFLOP"):
        if count < 1000:
            return f"{count:.4g} {unit}"
        count /= 1000
    return f"{count:.4g} EFLOP"
