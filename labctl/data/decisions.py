"""What augmentation does to each sample, drawn on the host before any pixel is touched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from labctl.recipe.augment import Augment, Erase

from . import policies
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
    def drawn(
        cls, count: int, size: tuple[int, int], augment: Augment, draws: torch.Generator
    ) -> Decisions:
        """For `count` images of `size` (height, width), from a CPU generator."""
        shift = side = boxes = mixture = None
        if augment.crop:
            most = augment.crop
            shift = torch.randint(-most, most + 1, (2, count), generator=draws).T
        if augment.flip:
            side = 1 - 2 * torch.randint(2, (count,), generator=draws)
        program = policies.drawn(augment, count, size, draws)
        if augment.erase is not None:
            boxes = erase_boxes(count, size, augment.erase, draws)
        if augment.mix is not None:
            mixture = Mixture.drawn(count, size, augment.mix, draws)
        return cls(shift, side, program, boxes, mixture)

    @classmethod
    def joined(cls, parts: Sequence[Decisions]) -> Decisions:
        """Those of all samples of several, which were drawn for one configuration."""
        programs = [part.program for part in parts if part.program is not None]
        mixtures = [part.mixture for part in parts if part.mixture is not None]
        return cls(
            _joined([part.shift for part in parts]),
            _joined([part.side for part in parts]),
            Program.joined(programs) if programs else None,
            _joined([part.boxes for part in parts]),
            Mixture.joined(mixtures) if mixtures else None,
        )


def _joined(parts: Sequence[Tensor | None]) -> Tensor | None:
    found = [part for part in parts if part is not None]
    return torch.cat(found) if found else None


def erase_boxes(count: int, size: tuple[int, int], erase: Erase, draws: torch.Generator) -> Tensor:
    """Rectangles int64 (count, 4): top, bottom, left, right, ends excluded; zeros for none.

    As torchvision's `RandomErasing` draws them: area and aspect up to ten times, until the
    rectangle is smaller than the image in both directions; a sample for which none of the ten is
    has none.
    """

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, dtype=torch.float64, generator=draws)

    (area_min, area_max), (aspect_min, aspect_max) = erase.area, erase.aspect
    is_chosen = uniform(count) < erase.probability
    area = size[0] * size[1] * (area_min + (area_max - area_min) * uniform(count, ERASE_TRIES))
    aspect = aspect_min * (aspect_max / aspect_min) ** uniform(count, ERASE_TRIES)
    sides = torch.stack([(area * aspect).sqrt(), (area / aspect).sqrt()], -1).round().long()
    fits = (sides < torch.tensor(size)).all(-1)
    # argmax of equals is the first of them.
    sides = sides[torch.arange(count), fits.int().argmax(1)]
    start = (uniform(count, 2) * (torch.tensor(size) - sides + 1)).long()
    box = torch.stack([start, start + sides], -1).flatten(1)
    return torch.where((is_chosen & fits.any(1))[:, None], box, 0)
