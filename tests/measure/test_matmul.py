"""The roof: a rate that a product timed by hand confirms."""

from __future__ import annotations

import time

import pytest
import torch

from labctl.measure.matmul import matmul_rate

CPU = torch.device("cpu")


@pytest.mark.slow
def test_a_rate_is_that_of_the_products_themselves() -> None:
    """Within a factor that even a crowded machine keeps; the count is exact."""
    size = 512
    found = matmul_rate(CPU, torch.float32, size)
    left = torch.randn(size, size)
    times = []
    for _ in range(50):
        began = time.perf_counter()
        left @ left
        times.append(time.perf_counter() - began)
    assert found.flops_per_second <= 4 * 2 * size**3 / min(times)
    assert found.flops_per_second >= 2 * size**3 / max(times) / 4
    assert (found.size, found.dtype) == (size, "float32")


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_the_product_is_of_the_precision_asked_for(dtype: torch.dtype) -> None:
    assert matmul_rate(CPU, dtype, 64).dtype == str(dtype).removeprefix("torch.")
