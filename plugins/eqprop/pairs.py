"""Metrics as the pairs (sum, count) in which a learner reports them."""

from __future__ import annotations

import torch
from torch import Tensor


def single(value: Tensor) -> tuple[Tensor, Tensor]:
    """One value, 0-d."""
    return value.detach(), torch.ones_like(value)


def mean(values: Tensor) -> tuple[Tensor, Tensor]:
    """The mean of all entries."""
    total = values.to(torch.get_default_dtype()).sum()
    return total, torch.full_like(total, float(values.numel()))
