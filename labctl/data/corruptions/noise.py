"""Gaussian, shot and impulse noise."""

from __future__ import annotations

import torch
from torch import Generator, Tensor


def draw_normal(images: Tensor, sigma: float, generator: Generator) -> tuple[Tensor, ...]:
    """Standard normal numbers, of the images' shape."""
    return (torch.randn(images.shape, generator=generator),)


def gaussian_noise(images: Tensor, sigma: float, normal: Tensor) -> Tensor:
    """x + sigma n."""
    return images + sigma * normal


def draw_poisson(images: Tensor, photons: float, generator: Generator) -> tuple[Tensor, ...]:
    """Photons counted in each value, when white sends `photons`."""
    return (torch.poisson(images * photons, generator=generator),)


def shot_noise(images: Tensor, photons: float, counted: Tensor) -> Tensor:
    """Poisson(x c) / c."""
    return counted / photons


def draw_impulses(images: Tensor, share: float, generator: Generator) -> tuple[Tensor, ...]:
    """Uniform numbers that say which values are hit, and which of these become 1."""
    hit = torch.rand(images.shape, generator=generator)
    return hit, torch.rand(images.shape, generator=generator)


def impulse_noise(images: Tensor, share: float, hit: Tensor, salt: Tensor) -> Tensor:
    """Each value of each channel is replaced with probability `share`, by 0 or 1 alike."""
    return torch.where(hit <= share, (salt <= 0.5).to(images), images)
