"""Augmentation of image batches, each sample by its own draw, on the device that holds them.

Every decision is drawn from a CPU generator, in an order that depends on the configuration and the
batch size alone, and then sent to the device: the host never waits, and all devices do the same.
"""

from __future__ import annotations

import torch
from torch import Tensor

from labctl.recipe.augment import Augment, Erase

from .affine import centred, normalised, resampled
from .autoaugment import Choices, autoaugmented
from .transfer import sent

ERASE_TRIES = 10


def augmented(
    pixels: Tensor, augment: Augment, draws: torch.Generator
) -> tuple[Tensor, Tensor | None]:
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
    if not (augment.crop or augment.flip or augment.policy != "none"):
        return pixels, None
    height, width = pixels.shape[2:]
    geometry = torch.eye(3, dtype=torch.float64).repeat(len(pixels), 1, 1)
    if augment.crop or augment.flip:
        geometry = _crop_and_flip(len(pixels), augment, draws)
        pixels = resampled(pixels, normalised(geometry, height, width, pixels.device))
    if augment.policy == "autoaugment_cifar10":
        pixels, motion = autoaugmented(pixels, Choices.drawn(len(pixels), draws))
        geometry = geometry @ motion
    return pixels, normalised(geometry, height, width, pixels.device)


def erased(inputs: Tensor, erase: Erase, draws: torch.Generator) -> Tensor:
    """Set a random rectangle of some samples of float (B, C, H, W) to zero, in a copy.

    Random erasing (Zhong et al. 2017, arXiv:1708.04896), as torchvision's `RandomErasing` does it:
    area and aspect are drawn up to ten times until the rectangle is smaller than the image in both
    directions; a sample for which none of the ten is stays whole.
    """
    count, _, height, width = inputs.shape
    box = sent(erase_boxes(count, height, width, erase, draws), inputs.device)
    top, bottom, left, right = box[..., None, None].unbind(1)
    row = torch.arange(height, device=inputs.device)[:, None]
    column = torch.arange(width, device=inputs.device)
    is_erased = (row >= top) & (row < bottom) & (column >= left) & (column < right)
    return torch.where(is_erased[:, None], 0, inputs)


def erase_boxes(
    count: int, height: int, width: int, erase: Erase, draws: torch.Generator
) -> Tensor:
    """Rectangles int64 (count, 4): top, bottom, left, right, ends excluded; zeros for none."""

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, dtype=torch.float64, generator=draws)

    (area_min, area_max), (aspect_min, aspect_max) = erase.area, erase.aspect
    is_chosen = uniform(count) < erase.probability
    area = height * width * (area_min + (area_max - area_min) * uniform(count, ERASE_TRIES))
    aspect = aspect_min * (aspect_max / aspect_min) ** uniform(count, ERASE_TRIES)
    size = torch.stack([(area * aspect).sqrt(), (area / aspect).sqrt()], -1).round().long()
    fits = (size < torch.tensor([height, width])).all(-1)
    # argmax of equals is the first of them.
    size = size[torch.arange(count), fits.int().argmax(1)]
    start = (uniform(count, 2) * (torch.tensor([height, width]) - size + 1)).long()
    box = torch.stack([start, start + size], -1).flatten(1)
    return torch.where((is_chosen & fits.any(1))[:, None], box, 0)


def _crop_and_flip(count: int, augment: Augment, draws: torch.Generator) -> Tensor:
    """Maps float64 (count, 3, 3) in centred pixels of a random crop and then a random flip."""
    offset = torch.zeros(2, count, dtype=torch.int64)
    if augment.crop:
        offset = torch.randint(-augment.crop, augment.crop + 1, (2, count), generator=draws)
    side = torch.ones(count, dtype=torch.int64)
    if augment.flip:
        side = 1 - 2 * torch.randint(2, (count,), generator=draws)
    zero, one = torch.zeros_like(side), torch.ones_like(side)
    return centred([[side, zero, offset[0]], [zero, one, offset[1]]])
