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
    scale, unit = flops_unit(count)
    return f"{count / scale:.4g} {unit}"


def flops_unit(count: float) -> tuple[float, str]:
    """The unit in which so many are shown, as floating-point operations, and its name."""
    power = next((p for p in range(6) if count < 1000.0 ** (p + 1)), 6)
    return 1000.0**power, f"{('', 'k', 'M', 'G', 'T', 'P', 'E')[power]}FLOP"
