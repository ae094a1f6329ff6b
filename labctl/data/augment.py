"""Augmentation of image batches, each sample as was decided for it, on the device that holds them.

The host never waits for the device. What becomes of a sample does not depend on its neighbours, so
batches may be augmented one by one or many at once.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .affine import centred, normalised, resampled
from .decisions import Decisions
from .mixture import within
from .operations import operated
from .transfer import sent


def augmented(pixels: Tensor, decisions: Decisions) -> tuple[Tensor, Tensor | None]:
    """Crop, flip, then the policy, on uint8 (B, C, H, W); `pixels` itself stays as it is.

    Returns:
        The images, uint8 (B, C, H, W), and their geometry, float32 (B, 2, 3) on the same device, or
        None if nothing that is configured moves pixels. Geometry takes output positions (x, y) to
        input positions, the outer edges of an image being at -1 and 1, as
        `torch.nn.functional.affine_grid(geometry, size, align_corners=False)` reads it. It is the
        product of up to three moves, each of which leaves zeros where it looks outside: a position
        that the product takes inside the input may still be zero in the output.

    Raises:
        RecipeError: if the policy does not fit the number of channels.
    """
    height, width = pixels.shape[2:]
    geometry = _crop_and_flip(decisions)
    if geometry is not None:
        pixels = resampled(pixels, normalised(geometry, height, width, pixels.device))
    if decisions.program is not None:
        pixels, motion = operated(pixels, decisions.program)
        geometry = motion if geometry is None else geometry @ motion
    if geometry is None:
        return pixels, None
    return pixels, normalised(geometry, height, width, pixels.device)


def erased(inputs: Tensor, boxes: Tensor) -> Tensor:
    """Set a rectangle of each sample of float (B, C, H, W) to zero, in a copy.

    Random erasing (Zhong et al. 2017, arXiv:1708.04896).

    Args:
        boxes: int64 (B, 4) on the host: top, bottom, left, right, ends excluded.
    """
    return torch.where(within(sent(boxes, inputs.device), inputs)[:, None], 0, inputs)


def _crop_and_flip(decisions: Decisions) -> Tensor | None:
    """Maps float64 (B, 3, 3) in centred pixels of a crop and then a flip; None for neither."""
    shift, side = decisions.shift, decisions.side
    if side is None and shift is not None:
        side = torch.ones_like(shift[:, 0])
    if side is None:
        return None
    zero, one = torch.zeros_like(side), torch.ones_like(side)
    right, down = (zero, zero) if shift is None else shift.unbind(1)
    return centred([[side, zero, right], [zero, one, down]])
