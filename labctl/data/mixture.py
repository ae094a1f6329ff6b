"""Pairs of images of a batch mixed into one, with the shares that their targets have of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from labctl.recipe.augment import Mix

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
    def drawn(cls, count: int, size: tuple[int, int], mix: Mix, draws: torch.Generator) -> Mixture:
        """For `count` images of `size` (height, width), from a CPU generator.

        A sample's partner is the one before it. As torchvision's `MixUp` and `CutMix`, but that
        each sample has a share of its own.
        """

        def uniform(*shape: int) -> Tensor:
            return torch.rand(shape, dtype=torch.float64, generator=draws)

        is_mixed = uniform(count) < mix.probability
        is_cut = uniform(count) < mix.share_of_cutmix
        blend = _beta(mix.mixup, count, draws)
        window = _windows(_beta(mix.cutmix, count, draws), uniform(2, count), size)
        top, bottom, left, right = window.unbind(1)
        kept = 1 - (bottom - top) * (right - left) / (size[0] * size[1])
        ones = torch.ones_like(blend)
        return cls(
            partner=(torch.arange(count) - 1) % count,
            share=torch.where(is_mixed, torch.where(is_cut, kept, blend), ones).float(),
            blend=torch.where(is_mixed & ~is_cut, blend, ones).float(),
            window=torch.where((is_mixed & is_cut)[:, None], window, 0),
        )

    @classmethod
    def joined(cls, parts: Sequence[Mixture]) -> Mixture:
        """Those of all samples of several batches in a row; partners stay within theirs."""
        counts = torch.tensor([len(part.partner) for part in parts])
        starts = (counts.cumsum(0) - counts).repeat_interleave(counts)
        columns = {
            field.name: torch.cat([getattr(part, field.name) for part in parts])
            for field in fields(cls)
        }
        return cls(**{**columns, "partner": columns["partner"] + starts})

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


def _beta(alpha: float, count: int, draws: torch.Generator) -> Tensor:
    """float64 (count,) from Beta(alpha, alpha); ones for an alpha of 0."""
    if not alpha:
        return torch.ones(count, dtype=torch.float64)
    shape = torch.full((2, count), alpha, dtype=torch.float64)
    first, second = torch._standard_gamma(shape, generator=draws).unbind()
    share: Tensor = first / (first + second)
    return share


def _windows(kept: Tensor, middle: Tensor, size: tuple[int, int]) -> Tensor:
    """int64 (B, 4): rectangles of the image's shape that leave a share `kept` (B,) of it, around
    points (2, B) given as shares of height and width; cut at the edges."""
    sides = []
    for place, length in zip(middle, size, strict=True):
        centre, half = (place * length).long(), (0.5 * (1 - kept).sqrt() * length).long()
        sides += [(centre - half).clamp(min=0), (centre + half).clamp(max=length)]
    return torch.stack(sides, 1)
