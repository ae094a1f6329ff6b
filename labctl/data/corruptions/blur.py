"""Defocus, glass, motion and zoom blur."""

from __future__ import annotations

import numpy as np
import torch
from torch import Generator, Tensor

from .corruption import to_uint8
from .filters import at_border, blurred, clipped_zoom, gaussian, gaussian_kernel, motion_blurred


def defocus_blur(images: Tensor, level: tuple[float, float]) -> Tensor:
    """Correlation with a disk of a radius in pixels, itself blurred by 3x3 Gaussian weights; in
    float64."""
    radius, sigma = level
    images = _exact(images)
    reach = int(radius) + 1  # of the disk and the weights around it
    line = torch.arange(-reach, reach + 1, dtype=torch.float64)
    disk = ((line[:, None] ** 2 + line**2) <= radius**2).double()
    around = gaussian_kernel(sigma, 1)
    disk = (disk / disk.sum())[None, None]
    kernel = _blurred_within(_blurred_within(disk, around, 2), around, 3)[0, 0]
    out = torch.zeros_like(images)
    place = torch.arange(images.shape[-2], device=images.device)
    for offset, weights in enumerate(kernel, start=-reach):
        rows = images.index_select(2, at_border(place + offset, images.shape[-2], "mirror"))
        out += blurred(rows, weights, "mirror", 3)
    return out


def _exact(images: Tensor) -> Tensor:
    """The multiples of 1/255 that are meant, in float64: a blur of a quarter of a pixel moves many
    by less than float32 tells from nothing, and what is rounded down then shows it."""
    return (images.double() * 255).round() / 255


def _blurred_within(images: Tensor, kernel: Tensor, dim: int) -> Tensor:
    """The disk lies far from the border of the array in which its authors blur it."""
    return blurred(images, kernel, "nearest", dim)


def draw_shifts(
    images: Tensor, level: tuple[float, int], generator: Generator
) -> tuple[Tensor, ...]:
    """int64 (B, iterations, 2, H, W), -1 or 0: how far above and left of a pixel its colour comes
    from."""
    shape = (len(images), level[1], 2, *images.shape[-2:])
    return (torch.randint(-1, 1, shape, generator=generator),)


def glass_blur(images: Tensor, level: tuple[float, int], shifts: Tensor) -> Tensor:
    """Gaussian blur, pixels displaced, Gaussian blur.

    The published loop means to swap pixels, but copies: it assigns views of one array to each
    other. It works from the last pixel to the first and copies from pixels that it has not reached,
    so an iteration is one gather. The first two rows and columns stay.

    Returns:
        float64.
    """
    sigma, iterations = level
    pixels = to_uint8(gaussian(_exact(images), sigma)).double() / 255
    height, width = images.shape[-2:]
    rows, columns = (torch.arange(size, device=images.device) for size in (height, width))
    moves = (rows >= 2)[:, None] & (columns >= 2)
    every = torch.arange(len(images), device=images.device)[:, None, None]
    for iteration in range(iterations):
        down, right = (shifts[:, iteration, axis] * moves for axis in (0, 1))
        row, column = rows[:, None] + down, columns + right
        pixels = pixels[every, :, row, column].permute(0, 3, 1, 2)
    return gaussian(pixels, sigma)


def draw_angle(images: Tensor, level: object, generator: Generator) -> tuple[Tensor, ...]:
    """Degrees (B,), from -45 to 45."""
    return (torch.rand(len(images), generator=generator) * 90 - 45,)


def motion_blur(images: Tensor, level: tuple[int, float], degrees: Tensor) -> Tensor:
    """Along a ray under an angle of each image's own; rounded to 8 bits, as ImageMagick does."""
    return (motion_blurred(images, *level, degrees) * 255).round() / 255


def zoom_blur(images: Tensor, end: float) -> Tensor:
    """Mean of the image and of all that it is when enlarged by 1, 1.01, 1.02, ...

    The published range is numpy's, whose rounding decides whether `end` is in it (1.06 and 1.11
    are) and how many pixels half a pixel makes.
    """
    factors = np.arange(1, end, 0.01).tolist()
    total = images.clone()
    for factor in factors:
        total += clipped_zoom(images, factor)
    return total / (len(factors) + 1)
