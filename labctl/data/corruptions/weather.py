"""Snow, frost, fog and brightness."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from .corruption import to_uint8
from .filters import clipped_zoom, motion_blurred
from .fractal import draw_wibbles, plasma

Snow = tuple[float, float, float, float, int, float, float]
"""Mean, deviation, zoom, threshold, radius and deviation of the blur, share of the image."""
GREY = (0.299, 0.587, 0.114)
ICE = (0.85, 0.94, 1.0)
"""Colour of frost, red to blue."""


def draw_snow(images: Tensor, level: Snow, generator: Generator) -> tuple[Tensor, ...]:
    """Normal numbers (B, 1, H, W), and degrees (B,) from -135 to -45."""
    flakes = torch.randn(len(images), 1, *images.shape[-2:], generator=generator)
    return flakes, torch.rand(len(images), generator=generator) * 90 - 135


def snow(images: Tensor, level: Snow, normal: Tensor, degrees: Tensor) -> Tensor:
    """A whiter image, and flakes that fall, twice: as drawn and turned by half a turn."""
    mean, deviation, zoom, threshold, radius, sigma, share = level
    flakes = clipped_zoom(mean + deviation * normal, zoom)
    flakes = to_uint8(torch.where(flakes < threshold, 0.0, flakes)).to(images) / 255
    flakes = motion_blurred(flakes, radius, sigma, degrees)
    flakes = (flakes * 255).round() / 255  # the published flakes are images of 8 bits
    whiter = torch.maximum(images, grey(images) * 1.5 + 0.5)
    return share * images + (1 - share) * whiter + flakes + flakes.flip((2, 3))


def grey(images: Tensor) -> Tensor:
    """(B, 1, H, W) of grey or RGB images."""
    if images.shape[1] == 1:
        return images
    return (images * images.new_tensor(GREY).view(3, 1, 1)).sum(1, keepdim=True)


def draw_cloud(images: Tensor, level: object, generator: Generator) -> tuple[Tensor, ...]:
    """What a cloud of each image is made of."""
    return (draw_wibbles(len(images), max(images.shape[-2:]), generator),)


def fog(images: Tensor, level: tuple[float, float], wibbles: Tensor) -> Tensor:
    """(x + strength cloud) max / (max + strength), max being the image's."""
    strength, decay = level
    height, width = images.shape[-2:]
    cloud = plasma(wibbles, decay)[:, None, :height, :width]
    brightest = images.amax((1, 2, 3), keepdim=True)
    return (images + strength * cloud) * brightest / (brightest + strength)


def frost(images: Tensor, level: tuple[float, float], wibbles: Tensor) -> Tensor:
    """The image and bright needles of ice, weighed.

    The published files use five photographs that may not be passed on; here the needles are the
    ridges of a cloud: figures and `labctl eval` have a star at its name.
    """
    share, ice = level
    height, width = images.shape[-2:]
    ridges = (1 - (2 * plasma(wibbles, 1.7) - 1).abs())[:, None, :height, :width]
    texture = 0.2 + 0.8 * ridges**2
    if images.shape[1] == 3:
        texture = texture * images.new_tensor(ICE).view(3, 1, 1)
    return share * images + ice * texture


def brightness(images: Tensor, more: float) -> Tensor:
    """The value of hue, saturation and value is raised: all channels by one factor."""
    value = images.amax(1, keepdim=True)
    raised = (value + more).clamp(max=1)
    return torch.where(value > 0, images * (raised / value.clamp(min=1e-12)), raised)
