"""Batches of one split: index, augment, scale. All randomness comes from the seeds handed in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from labctl.recipe.augment import Augment
from labctl.registry.card import DataSpec

from .augment import augmented, erased
from .examples import Batch, Examples


@dataclass(frozen=True)
class Batches:
    """The batches of one split, on one device."""

    examples: Examples
    spec: DataSpec
    device: torch.device

    def __len__(self) -> int:
        return len(self.examples)

    def at(
        self, index: Tensor, augment: Augment | None = None, draws: torch.Generator | None = None
    ) -> Batch:
        """The batch at int64 (B,) positions, augmented if asked; `draws` is a CPU generator."""
        inputs, targets = self.examples.take(index)
        geometry = None
        if self.spec.inputs == "image":
            if augment is not None and draws is not None:
                inputs, geometry = augmented(inputs, augment, draws)
            inputs = self._scaled(inputs)
            if augment is not None and draws is not None and augment.erase is not None:
                inputs = erased(inputs, augment.erase, draws)
        return Batch(inputs, targets, index.to(inputs.device), geometry)

    def in_order(self, size: int) -> Iterator[Batch]:
        """Every example once, in order, without augmentation; the last batch may be smaller."""
        for start in range(0, len(self), size):
            yield self.at(torch.arange(start, min(start + size, len(self)), device=self.device))

    def _scaled(self, pixels: Tensor) -> Tensor:
        mean, std = self._moments
        return (pixels.float() / 255 - mean) / std

    @cached_property
    def _moments(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation per channel, (C, 1, 1); copied to the device once."""
        mean, std = (
            torch.tensor(values, device=self.device).view(-1, 1, 1)
            for values in (self.spec.mean, self.spec.std)
        )
        return mean, std
