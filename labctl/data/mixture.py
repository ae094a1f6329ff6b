"""Pairs of images of a batch mixed into one, with the shares that their targets have of it."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from labctl.recipe.augment import Mix

from .draws import Draws
from .transfer import sent


@dataclass(frozen=True, slots=True)
class Mixture:
    """What each of B samples becomes a mixture of, decided on the host."""

    partner: Tensor
    """int64 (B,): position in the batch of the other sample."""
    share: Tensor
    """float32 (B,): what is left of the sample's own target; the partner's has the rest."""
    blend: Tensor
    """float32 (B,): weight of the sample's own pixels outside the window."""
    window: Tensor
    """int64 (B, 4): top, bottom, left, right of what is the partner's, ends excluded; zeros for
    nothing."""

    @classmethod
    def drawn(cls, draws: Draws, size: tuple[int, int], mix: Mix) -> Mixture:
        """For images of `size` (height, width).

        A sample's partner is the one before it in its batch. As torchvision's `MixUp` and `CutMix`,
        but that each sample has a share of its own.
        """

        is_mixed = draws.uniform() < mix.probability
        is_cut = draws.uniform() < mix.share_of_cutmix
        blend = _beta(draws, mix.mixup)
        window = _windows(_beta(draws, mix.cutmix), _points(draws), size)
        top, bottom, left, right = window.unbind(1)
        kept = 1 - (bottom - top) * (right - left) / (size[0] * size[1])
        ones = torch.ones_like(blend)
        return cls(
            partner=draws.starts + draws.each(lambda count, _: (torch.arange(count) - 1) % count),
            share=torch.where(is_mixed, torch.where(is_cut, kept, blend), ones).float(),
            blend=torch.where(is_mixed & ~is_cut, blend, ones).float(),
            window=torch.where((is_mixed & is_cut)[:, None], window, 0),
        )

    def to(self, device: torch.device) -> Mixture:
        """On a device, which is not waited for."""
        return Mixture(*(sent(getattr(self, field.name), device) for field in fields(self)))


def mixed(inputs: Tensor, mixture: Mixture) -> Tensor:
    """Images (B, C, H, W), each blended with its partner, whose pixels alone fill the window.

    mixup (Zhang et al. 2018, arXiv:1710.09412) and CutMix (Yun et al. 2019, arXiv:1905.04899).

    Args:
        mixture: on the images' device.
    """
    others = inputs[mixture.partner]
    blended = torch.lerp(others, inputs, mixture.blend.to(inputs.dtype)[:, None, None, None])
    return torch.where(within(mixture.window, inputs)[:, None], others, blended)


def within(windows: Tensor, images: Tensor) -> Tensor:
    """bool (B, H, W): which pixels of images (B, C, H, W) lie in int64 (B, 4) windows: top, bottom,
    left, right, ends excluded."""
    height, width = images.shape[2:]
    top, bottom, left, right = windows[..., None, None].unbind(1)
    row = torch.arange(height, device=images.device)[:, None]
    column = torch.arange(width, device=images.device)
    return (row >= top) & (row < bottom) & (column >= left) & (column < right)


def _beta(draws: Draws, alpha: float) -> Tensor:
    """float64 (B,) from Beta(alpha, alpha); ones for an alpha of 0."""
    if not alpha:
        return torch.ones(draws.count, dtype=torch.float64)

    def gamma(count: int, generator: torch.Generator) -> Tensor:
        shape = torch.full((2, count), alpha, dtype=torch.float64)
        return torch._standard_gamma(shape, generator=generator)

    first, second = draws.each(gamma, dim=1).unbind()
    share: Tensor = first / (first + second)
    return share


def _points(draws: Draws) -> Tensor:
    """float64 (2, B), uniform in [0, 1): shares of height and width."""

    def rows(count: int, generator: torch.Generator) -> Tensor:
        return torch.rand(2, count, dtype=torch.float64, generator=generator)

    return draws.each(rows, dim=1)


def _windows(kept: Tensor, middle: Tensor, size: tuple[int, int]) -> Tensor:
    """int64 (B, 4): rectangles of the image's shape that leave a share `kept` (B,) of it, around
    points (2, B) given as shares of height and width; cut at the edges."""
    sides = []
    for place, length in zip(middle, size, strict=True):
        centre, half = (place * length).long(), (0.5 * (1 - kept).sqrt() * length).long()
        sides += [(centre - half).clamp(min=0), (centre + half).clamp(max=length)]
    return torch.stack(sides, 1)
