"""What is drawn for samples of several batches at once, each batch from a generator of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Draws:
    """Batches of samples, and the CPU generator that each draws from.

    The same is drawn for a batch whichever others are drawn with it.
    """

    counts: Sequence[int]
    """Samples of each batch."""
    generators: Sequence[torch.Generator]

    @classmethod
    def alone(cls, count: int, generator: torch.Generator) -> Draws:
        """Of one batch."""
        return cls((count,), (generator,))

    @property
    def count(self) -> int:
        """Samples of all batches, B."""
        return sum(self.counts)

    @property
    def starts(self) -> Tensor:
        """int64 (B,): where, among all samples, the batch of each begins."""
        counts = torch.tensor(self.counts)
        return (counts.cumsum(0) - counts).repeat_interleave(counts)

    def each(self, draw: Callable[[int, torch.Generator], Tensor], dim: int = 0) -> Tensor:
        """Draw for a number of samples from a generator, batch by batch, and join along `dim`."""
        parts = zip(self.counts, self.generators, strict=True)
        return torch.cat([draw(count, generator) for count, generator in parts], dim)

    def uniform(self, *shape: int) -> Tensor:
        """float64 (B, *shape) in [0, 1)."""
        return self.each(
            lambda count, draws: torch.rand(count, *shape, dtype=torch.float64, generator=draws)
        )

    def integers(self, below: int, *shape: int) -> Tensor:
        """int64 (B, *shape) from 0 on, `below` excluded."""
        return self.each(
            lambda count, draws: torch.randint(below, (count, *shape), generator=draws)
        )
