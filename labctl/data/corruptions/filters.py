"""Blurs and interpolations, separable or by gathering, of images of any size."""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Border = Literal["nearest", "reflect", "mirror"]
"""As scipy names them: a a | a b c | c c, b a | a b c | c b, c b | a b c | b a."""


def at_border(index: Tensor, size: int, border: Border) -> Tensor:
    """int64 positions on a line of `size` pixels, brought back onto it."""
    if border == "nearest":
        return index.clamp(0, size - 1)
    period = 2 * size if border == "reflect" else max(2 * size - 2, 1)
    index = index % period
    last = period - 1 if border == "reflect" else period
    return torch.minimum(index, last - index)


def blurred(images: Tensor, kernel: Tensor, border: Border, dim: int) -> Tensor:
    """Correlation of (B, C, H, W) with an odd number of weights (k,) along a dimension."""
    size, radius = images.shape[dim], len(kernel) // 2
    place = torch.arange(size, device=images.device)
    out = torch.zeros_like(images)
    for offset, weight in enumerate(kernel.tolist(), start=-radius):
        out += weight * images.index_select(dim, at_border(place + offset, size, border))
    return out


def gaussian_kernel(sigma: float, radius: int) -> Tensor:
    """float64 (2 radius + 1,), of sum 1."""
    x = torch.arange(-radius, radius + 1, dtype=torch.float64)
    weights = torch.exp(-0.5 * (x / sigma) ** 2) if sigma else (x == 0).double()
    return weights / weights.sum()


def gaussian(
    images: Tensor, sigma: float, border: Border = "nearest", truncate: float = 4.0
) -> Tensor:
    """Gaussian blur of (B, C, H, W) in pixels, cut off at `truncate` deviations, as scipy's."""
    kernel = gaussian_kernel(sigma, int(truncate * sigma + 0.5))
    return blurred(blurred(images, kernel, border, 2), kernel, border, 3)


def clipped_zoom(images: Tensor, factor: float) -> Tensor:
    """The middle of square (B, C, S, S), enlarged by `factor` >= 1, bilinearly, corners aligned."""
    size = images.shape[-1]
    crop = math.ceil(size / factor)
    start = (size - crop) // 2
    images = images[..., start : start + crop, start : start + crop]
    zoomed = F.interpolate(images, (round(crop * factor),) * 2, mode="bilinear", align_corners=True)
    trim = (zoomed.shape[-1] - size) // 2
    return zoomed[..., trim : trim + size, trim : trim + size]


def motion_blurred(images: Tensor, radius: int, sigma: float, degrees: Tensor) -> Tensor:
    """Mean of (B, C, H, W) along a ray from each pixel, under an angle (B,) of each image.

    As ImageMagick's motion blur: 2 radius + 1 pixels in steps of one, with weights exp(-i^2 / 2
    sigma^2), i from 0; each rounded to the nearest pixel, outside the nearest of the border.
    """
    height, width = images.shape[-2:]
    steps = 2 * radius + 1
    weights = gaussian_kernel(sigma, steps - 1)[steps - 1 :]
    weights = (weights / weights.sum()).to(images)
    # On the CPU in float64, so that all devices round alike.
    radians, along = degrees.cpu().double() * math.pi / 180, torch.arange(steps)
    down = torch.ceil(along * radians.sin()[:, None] - 0.5).long().to(images.device)
    right = torch.ceil(along * radians.cos()[:, None] - 0.5).long().to(images.device)
    rows, columns = (torch.arange(size, device=images.device) for size in (height, width))
    every = torch.arange(len(images), device=images.device)[:, None, None]
    out = torch.zeros_like(images)
    for i, weight in enumerate(weights):
        row = at_border(rows + down[:, i, None], height, "nearest")[:, :, None]
        column = at_border(columns + right[:, i, None], width, "nearest")[:, None, :]
        out += weight * images[every, :, row, column].permute(0, 3, 1, 2)
    return out


def sampled(images: Tensor, rows: Tensor, columns: Tensor, border: Border) -> Tensor:
    """Bilinear (B, C, H, W) of images of that shape at positions (B, H, W) in pixels."""
    height, width = images.shape[-2:]
    every = torch.arange(len(images), device=images.device)[:, None, None]
    above, left = rows.floor(), columns.floor()
    out = torch.zeros_like(images)
    for down, share_of_row in ((0, 1 - (rows - above)), (1, rows - above)):
        for right, share_of_column in ((0, 1 - (columns - left)), (1, columns - left)):
            row = at_border(above.long() + down, height, border)
            column = at_border(left.long() + right, width, border)
            share = (share_of_row * share_of_column)[:, None]
            out += share * images[every, :, row, column].permute(0, 3, 1, 2)
    return out
