"""Batches of one split: index, augment, scale. What is random was decided before."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from labctl.registry.card import DataSpec

from .augment import augmented, erased
from .decisions import Decisions
from .examples import Batch, Examples
from .mixture import mixed


@dataclass(frozen=True)
class Batches:
    """The batches of one split, on one device."""

    examples: Examples
    spec: DataSpec
    device: torch.device

    def __len__(self) -> int:
        return len(self.examples)

    def at(self, index: Tensor, decisions: Decisions | None = None) -> Batch:
        """The batch at int64 (B,) positions, augmented as was decided for each, if anything was."""
        inputs, targets = self.examples.take(index)
        geometry = None
        if self.spec.inputs == "image":
            if decisions is not None:
                inputs, geometry = augmented(inputs, decisions)
            inputs = self._scaled(inputs)
            if decisions is not None and decisions.boxes is not None:
                inputs = erased(inputs, decisions.boxes)
        batch = Batch(inputs, targets, index.to(inputs.device), geometry)
        if decisions is None or decisions.mixture is None:
            return batch
        mixture = decisions.mixture.to(inputs.device)
        return replace(
            batch,
            inputs=mixed(inputs, mixture),
            other_targets=targets[mixture.partner],
            share=mixture.share,
        )

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
