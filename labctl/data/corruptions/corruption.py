"""What a corruption is: what it draws for each image, and what it makes of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

SEVERITIES = 5

Draw = Callable[[Tensor, Any, torch.Generator], tuple[Tensor, ...]]
"""From images on the CPU, float (B, C, H, W) in [0, 1], a level and a CPU generator: tensors whose
first dimension is B. Devices draw differently, so the CPU draws for all."""
Apply = Callable[..., Tensor]
"""From images, float (B, C, H, W) in [0, 1], a level and what was drawn, on one device: images of
that shape, float or double, which may leave [0, 1]."""


@dataclass(frozen=True, slots=True)
class Corruption:
    """One of the fifteen; its parameters are those of Hendrycks & Dietterich 2019 for 32x32 pixels
    (make_cifar_c.py), which are milder than their parameters for ImageNet."""

    name: str
    """As the published files call it."""
    levels: tuple[Any, Any, Any, Any, Any]
    """Parameters of severities 1 to 5."""
    apply: Apply
    draw: Draw = lambda images, level, generator: ()

    def __call__(self, images: Tensor, severity: int, generator: torch.Generator) -> Tensor:
        """uint8 (B, C, H, W) of such images, on their device; C is 1 or 3.

        Raises:
            ValueError: there is no such severity.
        """
        return self.made(images, severity, self.drawn(images.cpu(), severity, generator))

    def drawn(
        self, images: Tensor, severity: int, generator: torch.Generator
    ) -> tuple[Tensor, ...]:
        """What is random, on the CPU, for uint8 images there."""
        return self.draw(images.float() / 255, self._level(severity), generator)

    def made(self, images: Tensor, severity: int, drawn: Sequence[Tensor]) -> Tensor:
        """uint8 images of such ones, and of what was drawn for them."""
        on_device = (tensor.to(images.device) for tensor in drawn)
        return to_uint8(self.apply(images.float() / 255, self._level(severity), *on_device))

    def _level(self, severity: int) -> Any:
        if not 1 <= severity <= SEVERITIES:
            raise ValueError(f"severity {severity} is not one of 1 to {SEVERITIES}")
        return self.levels[severity - 1]


def to_uint8(images: Tensor) -> Tensor:
    """[0, 1] to 0, ..., 255, rounded down as the published files are; what is a whole number but
    for rounding stays one."""
    rounding = 1e-9 if images.dtype == torch.float64 else 1e-3
    return (images.clamp(0, 1) * 255 + rounding).to(torch.uint8)
