"""What hardware can do at most: a training that is faster has been measured wrongly."""

from __future__ import annotations

_PEAKS = {
    "NVIDIA A100": 312e12,
    "NVIDIA B200": 2250e12,
    "NVIDIA GH200": 989.5e12,
    "NVIDIA H100": 989.5e12,
    "NVIDIA H200": 989.5e12,
}
"""FLOP/s in dense 16-bit matrix multiplication, of the fastest variant in its maker's data sheet.

No arithmetic that labctl trains with is faster, so that this bounds every precision.
"""


def peak_flops(device_name: str) -> float | None:
    """FLOP/s that one device of that name can do at most, at any precision; None if not known."""
    return next((peak for name, peak in _PEAKS.items() if device_name.startswith(name)), None)
