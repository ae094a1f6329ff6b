"""Examples: data that answer to indices, and the batches made of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

NOTHING = -100
"""The target where there is nothing to predict."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What a learner is given for one step.

    Image inputs are float (B, C, H, W), scaled and normalised; token inputs int64 (B, N). Targets
    are int64: (B,) classes or (B, N) next tokens, -100 where there is nothing to predict.
    """

    inputs: Tensor
    targets: Tensor
    index: Tensor
    """int64 (B,): the position of each example in its split."""
    geometry: Tensor | None = None
    """float (B, 2, 3): output -> input pixel coordinates in [-1, 1] of what augmentation did; None
    for nothing."""
    other_targets: Tensor | None = None
    """int64 (B,): classes of what images were mixed with; None where nothing is mixed."""
    share: Tensor | None = None
    """float32 (B,): weight of `targets`; `other_targets` have the rest. None where nothing is
    mixed."""

    def blended(self, of: Callable[[Tensor], Tensor]) -> Tensor:
        """What `of` gives for each of the targets, (B,); of mixed ones, by their shares."""
        own = of(self.targets)
        if self.other_targets is None or self.share is None:
            return own
        return torch.lerp(of(self.other_targets), own, self.share.to(own.dtype))


class Examples(Protocol):
    """A split of a data set."""

    def __len__(self) -> int: ...

    def take(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs and targets at int64 (B,) positions, on the device that `to` named."""
        ...

    def to(self, device: torch.device) -> Examples: ...

    def subset(self, index: Tensor) -> Examples:
        """The examples at these positions, in this order."""
        ...


@dataclass(frozen=True, slots=True)
class Images:
    """Images held whole: uint8 (N, C, H, W) and int64 (N,) classes."""

    pixels: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return self.labels.shape[0]

    def take(self, index: Tensor) -> tuple[Tensor, Tensor]:
        index = index.to(self.labels.device)
        return self.pixels[index], self.labels[index]

    def to(self, device: torch.device) -> Images:
        return Images(self.pixels.to(device), self.labels.to(device))

    def subset(self, index: Tensor) -> Images:
        return Images(*self.take(index))


@dataclass(frozen=True, slots=True)
class Windows:
    """Windows of a token stream: int64 (T,) cut into inputs (context,) and the tokens that follow
    each."""

    stream: Tensor
    context: int
    starts: Tensor
    """int64 (N,): where each window begins."""

    @classmethod
    def of(cls, stream: Tensor, context: int) -> Windows:
        """Windows that do not overlap; the rest of the stream, if shorter than a window, is left
        out."""
        count = (stream.shape[0] - 1) // context
        return cls(stream, context, torch.arange(count, device=stream.device) * context)

    def __len__(self) -> int:
        return self.starts.shape[0]

    def take(self, index: Tensor) -> tuple[Tensor, Tensor]:
        starts = self.starts[index.to(self.starts.device)]
        offsets = torch.arange(self.context + 1, device=self.stream.device)
        tokens = self.stream[starts[:, None] + offsets]
        # In memory of their own, as batches of training have it: a `view` of either works in both.
        return tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()

    def to(self, device: torch.device) -> Windows:
        return Windows(self.stream.to(device), self.context, self.starts.to(device))

    def subset(self, index: Tensor) -> Windows:
        return Windows(self.stream, self.context, self.starts[index.to(self.starts.device)])
