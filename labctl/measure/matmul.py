"""What a device can do at most: the rate of one large matrix product."""

from __future__ import annotations

import time

import torch

from .device import wait
from .speed import Matmul

SIZES = {"cuda": 8192, "mps": 4096, "cpu": 2048}
"""Rows and columns, by device: large enough that launching costs nothing beside it."""
REPEATS = 5
SECONDS = 0.2
"""At least, of each repeat."""


def matmul_rate(device: torch.device, dtype: torch.dtype, size: int | None = None) -> Matmul:
    """FLOPs per second of square products of random numbers, of the fastest of several repeats.

    Whether float32 may be rounded to TF32 is as the caller has set it.

    Args:
        size: rows and columns; by device if not given.
    """
    size = size or SIZES[device.type]
    left, right, out = (torch.randn(size, size, device=device).to(dtype) for _ in range(3))

    def seconds(products: int) -> float:
        wait(device)
        began = time.perf_counter()
        for _ in range(products):
            torch.mm(left, right, out=out)
        wait(device)
        return time.perf_counter() - began

    seconds(1)
    products = max(1, round(SECONDS / seconds(1)))
    pace = min(seconds(products) / products for _ in range(REPEATS))
    name = str(dtype).removeprefix("torch.")
    return Matmul(flops_per_second=2 * size**3 / pace, size=size, dtype=name)
