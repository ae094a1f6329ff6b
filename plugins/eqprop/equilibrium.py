"""What a model must offer to be treated as the fixed point of a field."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

from torch import Tensor, nn


class Equilibrium(Protocol):
    """A model whose state x* = T(x*, u) is driven by u = drive(inputs) and read out.

    States and drives are (B, tokens, width); every operation treats each example alone.
    """

    def drive(self, inputs: Tensor, /) -> Tensor:
        """What the inputs add to the field, constant while the state relaxes."""
        ...

    def start(self, drive: Tensor, /) -> Tensor:
        """The state that relaxation begins at."""
        ...

    def field(self, state: Tensor, drive: Tensor, mask: Tensor | None = None, /) -> Tensor:
        """T(x, u): one undamped step from x, in a way that can be differentiated.

        `mask` is what `Masked.masks` drew.
        """
        ...

    def readout(self, state: Tensor, /) -> Tensor:
        """Logits (B, classes) of a state."""
        ...

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]: ...


@runtime_checkable
class Masked(Protocol):
    """A model whose field may be given a mask, the same one for all of a relaxation."""

    def masks(self, inputs: Tensor, /) -> Tensor | None:
        """Drawn anew for each batch; None where there is none to draw."""
        ...
