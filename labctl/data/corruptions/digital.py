"""Contrast, elastic deformation, pixelation and JPEG."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Generator, Tensor

from .corruption import to_uint8
from .filters import gaussian, sampled

Elastic = tuple[float, float, float]
"""Amplitude and smoothness of the displacement, amplitude of the affine map; all over the side."""


def contrast(images: Tensor, share: float) -> Tensor:
    """Each channel drawn towards its mean."""
    mean = images.mean((2, 3), keepdim=True)
    return (images - mean) * share + mean


def draw_deformation(images: Tensor, level: Elastic, generator: Generator) -> tuple[Tensor, ...]:
    """Uniform from -1 to 1: displacements (B, 2, H, W), and of three points (B, 3, 2)."""
    field = torch.rand(len(images), 2, *images.shape[-2:], generator=generator)
    points = torch.rand(len(images), 3, 2, generator=generator)
    return field * 2 - 1, points * 2 - 1


def elastic_transform(images: Tensor, level: Elastic, field: Tensor, points: Tensor) -> Tensor:
    """An affine map that moves three points, then a smooth displacement of every pixel."""
    height, width = images.shape[-2:]
    side = min(height, width)
    amplitude, smoothness, affine = (side * share for share in level)
    columns, rows = _undone(height, width, affine * points.cpu().double())
    warped = sampled(images, rows.to(images), columns.to(images), "mirror")
    right, down = gaussian(field, smoothness, "reflect", truncate=3).unbind(1)
    row = torch.arange(height, device=images.device)[:, None]
    column = torch.arange(width, device=images.device)
    return sampled(warped, row + amplitude * down, column + amplitude * right, "reflect")


def _undone(height: int, width: int, moved: Tensor) -> tuple[Tensor, Tensor]:
    """Where each pixel (B, H, W) comes from, column and row, under the affine maps that move three
    points around the middle by (B, 3, 2), columns first."""
    middle = moved.new_tensor([height // 2, width // 2])
    third = min(height, width) // 3
    corners = moved.new_tensor([[third, third], [third, -third], [-third, -third]])
    before = middle + corners
    after = before + moved
    homogeneous = torch.cat([after, torch.ones_like(after[..., :1])], -1)
    back = torch.linalg.solve(homogeneous, before.expand_as(after))  # (B, 3, 2)
    column, row = torch.meshgrid(
        torch.arange(width, device=moved.device, dtype=moved.dtype),
        torch.arange(height, device=moved.device, dtype=moved.dtype),
        indexing="xy",
    )
    source = torch.stack([column, row, torch.ones_like(row)], -1) @ back[:, None]
    return source[..., 0], source[..., 1]


def pixelate(images: Tensor, share: float) -> Tensor:
    """Fewer pixels and as many again, each the mean of those whose centre it covers."""
    height, width = images.shape[-2:]
    small = (int(height * share), int(width * share))
    return _boxed(_boxed(images, small), (height, width))


def _boxed(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Columns first, then rows, each rounded to 8 bits, as Pillow's BOX filter."""
    for dim in (3, 2):
        weights = _box(images.shape[dim], size[dim - 2]).to(images)
        images = (images.transpose(dim, 3) @ weights.T).transpose(dim, 3)
        images = (images * 255 + 0.5).floor() / 255
    return images


def _box(before: int, after: int) -> Tensor:
    """float64 (after, before): what each pixel is the mean of."""
    scale = before / after
    support = 0.5 * max(scale, 1.0)
    weights = torch.zeros(after, before, dtype=torch.float64)
    for place in range(after):
        centre = (place + 0.5) * scale
        first, last = max(int(centre - support + 0.5), 0), min(int(centre + support + 0.5), before)
        for other in range(first, last):
            apart = (other - centre + 0.5) / max(scale, 1.0)
            weights[place, other] = float(-0.5 < apart <= 0.5)
    return weights / weights.sum(1, keepdim=True)


def encode(images: Tensor, quality: int, generator: Generator) -> tuple[Tensor]:
    """What libjpeg makes of them, uint8 (B, C, H, W): not random, but at home on the CPU."""
    pictures = to_uint8(images).permute(0, 2, 3, 1).squeeze(-1).numpy()
    decoded = torch.from_numpy(np.stack([_recoded(picture, quality) for picture in pictures]))
    return (decoded.reshape(len(images), *images.shape[2:], -1).permute(0, 3, 1, 2),)


def _recoded(picture: NDArray[Any], quality: int) -> NDArray[Any]:
    file = BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


def jpeg_compression(images: Tensor, quality: int, decoded: Tensor) -> Tensor:
    """Encoded and decoded, colours at half the resolution."""
    return decoded.to(images) / 255
