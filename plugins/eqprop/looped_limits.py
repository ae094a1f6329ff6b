"""Keeps the weights of a looped transformer from growing too steep for its loop to contract."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from .contraction import FIRST_POWERS, POWERS, largest_singular
from .looped_model import LoopedBlock, LoopedTransformer


class LoopedLimits:
    """Scales matrices of the blocks back to `max_norm`, where their spectral norm is larger.

    Norms come from power iteration, which is at most a little below the true norm and goes on, step
    after step, from where it was.
    """

    def __init__(self, model: LoopedTransformer) -> None:
        self.limit = model.config.max_norm
        blocks = [cast("LoopedBlock", block) for block in model.blocks]
        by_shape: dict[torch.Size, list[Tensor]] = {}
        for block in blocks:
            for linear in block.linears():
                by_shape.setdefault(linear.weight.shape, []).append(linear.weight)
        self.groups = list(by_shape.values())
        self._directions = [
            group[0].new_ones(len(group), group[0].shape[1]) for group in self.groups
        ]
        self._powers = FIRST_POWERS

    @torch.no_grad()
    def apply(self) -> None:
        """Scale down what is beyond the limit."""
        if self.limit is None:
            return
        for place, group in enumerate(self.groups):
            norms, direction = largest_singular(
                torch.stack(group), self._directions[place], self._powers
            )
            self._directions[place].copy_(direction)
            for weight, scale in zip(group, (self.limit / norms).clamp(max=1), strict=True):
                weight.mul_(scale)
        self._powers = POWERS

    def state_dict(self) -> dict[str, list[Tensor] | int]:
        return {"directions": list(self._directions), "powers": self._powers}

    def load_state_dict(self, state: dict[str, list[Tensor] | int]) -> None:
        directions, powers = state["directions"], state["powers"]
        assert isinstance(directions, list) and isinstance(powers, int)
        for saved, own in zip(directions, self._directions, strict=True):
            own.copy_(saved)
        self._powers = powers
