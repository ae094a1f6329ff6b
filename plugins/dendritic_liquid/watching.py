"""Looking at a model while it computes: tokens that are left, gates, branches that win."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, cast

import torch
from torch import Tensor

from .block import Block
from .dendrites import DendriticGating
from .liquid import LiquidGate
from .model import DendriticLiquidViT, Seen


class Look:
    """What each block did with one batch."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.gates: list[Tensor] = []
        """Of each block with a gate: float32 (B, 1 + m), 1 - gamma, mean over channels."""
        self.spreads: list[Tensor] = []
        """Likewise, of the distance between gamma and 1/2."""
        self.wins: list[Tensor] = []
        """Of each block with dendrites: int64 (B, n), the branch that is strongest."""

    def of_gate(self, module: LiquidGate, given: tuple[Tensor, ...]) -> None:
        read, halfway, change = given[:3]
        gamma = module.gate(read, halfway + change)[0].float()
        self.gates.append(1 - gamma.mean(-1))
        self.spreads.append((gamma - 0.5).abs().mean(-1))

    def of_dendrites(self, module: DendriticGating, given: tuple[Tensor]) -> None:
        self.wins.append(module.drive(given[0])[:, 1:].argmax(-1))


@torch.no_grad()
def look(model: DendriticLiquidViT, inputs: Tensor, knobs: Any) -> Look:
    """What the model does with images (B, C, H, W), all patches computed in their places."""
    found = Look()
    with _hooked(model, found):
        model.run(inputs, knobs, found.seen.append)
    return found


def openness(seen: Seen, gate: Tensor) -> tuple[Tensor, Tensor]:
    """Of what is known of one block's gate (B, 1 + m): its sum over the tokens that are left, and
    how many these are, both 0-d; with soft masks a token counts by its weight."""
    weights = torch.ones_like(gate) if seen.weights is None else seen.weights.float()
    return (gate * weights).sum(), weights.sum()


@contextmanager
def _hooked(model: DendriticLiquidViT, found: Look) -> Iterator[None]:
    with ExitStack() as stack:
        for block in cast("list[Block]", list(model.blocks)):
            for module, note in (
                (block.liquid, found.of_gate),
                (block.dendrites, found.of_dendrites),
            ):
                if module is not None:
                    hook = cast("Any", module).register_forward_pre_hook(note)
                    stack.callback(hook.remove)
        yield
