"""Image operations that move nothing: n images at a time, each at its own magnitude.

All take uint8 (n, C, H, W), C being 1 or 3, and float32 magnitudes (n, 1, 1, 1), and return uint8
(n, C, H, W). The blends weigh the image by 1 + magnitude and a degenerate one by -magnitude.
Roundings are those of torchvision's functions on tensors. Only integers are summed, so that devices
agree.
"""

from __future__ import annotations

import torch
from torch import Tensor


def brightness(images: Tensor, magnitude: Tensor) -> Tensor:
    """Blend with black."""
    return _to_uint8((1 + magnitude) * images)


def color(images: Tensor, magnitude: Tensor) -> Tensor:
    """Blend with the grey image; grey images stay as they are."""
    if images.shape[1] == 1:
        return images
    return _blend(images, _grey(images), magnitude)


def contrast(images: Tensor, magnitude: Tensor) -> Tensor:
    """Blend with the mean of the grey image."""
    grey = _grey(images)
    mean = grey.sum((1, 2, 3), keepdim=True) / (grey.shape[2] * grey.shape[3])
    return _blend(images, mean, magnitude)


def sharpness(images: Tensor, magnitude: Tensor) -> Tensor:
    """Blend with the image smoothed by [1 1 1; 1 5 1; 1 1 1] / 13, except at its border."""
    # Integers instead of a convolution: exact, never in TF32, nothing for cuDNN to tune for each n.
    # A thirteenth is never halfway between two integers, so a float sum rounds to the same.
    values = images.int()
    rows = values[:, :, :-2] + values[:, :, 1:-1] + values[:, :, 2:]
    box = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]
    smooth = values.clone()
    smooth[:, :, 1:-1, 1:-1] = ((box + 4 * values[:, :, 1:-1, 1:-1]) / 13).round().int()
    return _blend(images, smooth, magnitude)


def posterize(images: Tensor, magnitude: Tensor) -> Tensor:
    """Keep the highest `magnitude` bits, 1 to 8, of every value."""
    return images & (256 - 2 ** (8 - magnitude)).to(torch.uint8)


def solarize(images: Tensor, magnitude: Tensor) -> Tensor:
    """Invert values that are at least `magnitude`."""
    return torch.where(images >= magnitude, 255 - images, images)


def invert(images: Tensor, magnitude: Tensor) -> Tensor:
    """255 minus every value."""
    return 255 - images


def autocontrast(images: Tensor, magnitude: Tensor) -> Tensor:
    """Stretch each channel to 0 .. 255; a channel of one value stays as it is."""
    low, high = images.amin((2, 3), keepdim=True), images.amax((2, 3), keepdim=True)
    flat = low == high
    scale = 255 / torch.where(flat, 255, high - low).float()
    return _to_uint8((images - torch.where(flat, 0, low).float()) * scale)


def equalize(images: Tensor, magnitude: Tensor) -> Tensor:
    """Flatten each channel's histogram, by PIL's integer rule."""
    flat = images.flatten(2).long()
    histogram = flat.new_zeros(*flat.shape[:2], 256)
    histogram.scatter_add_(2, flat, torch.ones_like(flat))
    step = (flat.shape[2] - histogram.gather(2, flat.amax(2, keepdim=True))) // 255
    below = histogram.cumsum(2) - histogram
    table = ((below + step // 2) // step.clamp(min=1)).clamp(max=255).to(torch.uint8)
    return torch.where(step[..., None] == 0, images, table.gather(2, flat).view_as(images))


def _grey(images: Tensor) -> Tensor:
    """Luma of ITU-R BT.601, cut to uint8: (n, 1, H, W)."""
    if images.shape[1] == 1:
        return images
    red, green, blue = images.unbind(1)
    return (0.2989 * red + 0.587 * green + 0.114 * blue).to(torch.uint8)[:, None]


def _blend(images: Tensor, degenerate: Tensor, magnitude: Tensor) -> Tensor:
    return _to_uint8((1 + magnitude) * images - magnitude * degenerate)


def _to_uint8(values: Tensor) -> Tensor:
    return values.clamp(0, 255).to(torch.uint8)
