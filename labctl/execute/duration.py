"""Lengths of time as people read them."""

from __future__ import annotations


def lasting(seconds: float) -> str:
    """`45s`, `3m 20s`, `5h 43m`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02d}s"
    return f"{whole // 3600}h {whole % 3600 // 60:02d}m"
