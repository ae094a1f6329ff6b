"""What augmentation does to each sample, drawn on the host before any pixel is touched."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from labctl.recipe.augment import Augment, Erase

from . import policies
from .draws import Draws
from .mixture import Mixture
from .operations import Program

ERASE_TRIES = 10


@dataclass(frozen=True, slots=True)
class Decisions:
    """Of B samples; None for what is not configured.

    They are drawn in an order that depends on the configuration and the number of samples alone, so
    that all devices do the same and none is waited for.
    """

    shift: Tensor | None
    """int64 (B, 2): pixels right and down by which the window of a crop is moved."""
    side: Tensor | None
    """int64 (B,): -1 for a flipped image, else 1."""
    program: Program | None
    """Of the policy."""
    boxes: Tensor | None
    """int64 (B, 4): top, bottom, left, right of what is erased, ends excluded; zeros for none."""
    mixture: Mixture | None
    """Of pairs of samples."""

    @classmethod
    def drawn(cls, draws: Draws, size: tuple[int, int], augment: Augment) -> Decisions:
        """For images of `size` (height, width)."""
        shift = side = boxes = mixture = None
        if augment.crop:
            shift = _shifts(draws, augment.crop)
        if augment.flip:
            side = 1 - 2 * draws.integers(2)
        program = policies.drawn(draws, size, augment)
        if augment.erase is not None:
            boxes = erase_boxes(draws, size, augment.erase)
        if augment.mix is not None:
            mixture = Mixture.drawn(draws, size, augment.mix)
        return cls(shift, side, program, boxes, mixture)


def _shifts(draws: Draws, most: int) -> Tensor:
    """int64 (B, 2) from -most to most."""

    def rows(count: int, generator: torch.Generator) -> Tensor:
        return torch.randint(-most, most + 1, (2, count), generator=generator)

    return draws.each(rows, dim=1).T


def erase_boxes(draws: Draws, size: tuple[int, int], erase: Erase) -> Tensor:
    """Rectangles int64 (B, 4): top, bottom, left, right, ends excluded; zeros for none.

    As torchvision's `RandomErasing` draws them: area and aspect up to ten times, until the
    rectangle is smaller than the image in both directions; a sample for which none of the ten is
    has none.
    """

    (area_min, area_max), (aspect_min, aspect_max) = erase.area, erase.aspect
    is_chosen = draws.uniform() < erase.probability
    area = size[0] * size[1] * (area_min + (area_max - area_min) * draws.uniform(ERASE_TRIES))
    aspect = aspect_min * (aspect_max / aspect_min) ** draws.uniform(ERASE_TRIES)
    sides = torch.stack([(area * aspect).sqrt(), (area / aspect).sqrt()], -1).round().long()
    fits = (sides < torch.tensor(size)).all(-1)
    # argmax of equals is the first of them.
    sides = sides[torch.arange(len(sides)), fits.int().argmax(1)]
    start = (draws.uniform(2) * (torch.tensor(size) - sides + 1)).long()
    box = torch.stack([start, start + sides], -1).flatten(1)
    return torch.where((is_chosen & fits.any(1))[:, None], box, 0)
