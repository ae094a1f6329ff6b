"""Images that look enough like photographs to exercise augmentation."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F


def draw_photos(count: int, channels: int, height: int, width: int, seed: int = 0) -> Tensor:
    """uint8 (count, channels, height, width): smooth and coloured, every fourth of plain noise."""
    draws = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, channels, 5, 5, generator=draws) * torch.rand(
        count, channels, 1, 1, generator=draws
    )
    smooth = (
        F.interpolate(coarse, (height, width), mode="bicubic")
        .mul(280)
        .clamp(0, 255)
        .to(torch.uint8)
    )
    smooth[::4] = torch.randint(256, smooth[::4].shape, dtype=torch.uint8, generator=draws)
    return smooth


@pytest.fixture(scope="session")
def photos() -> Callable[..., Tensor]:
    return draw_photos
