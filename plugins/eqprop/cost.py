"""The cost that nudges: the cross-entropy of each sample, its gradient in closed form."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from labctl.api import Batch, LabctlError, Objective, Output


@dataclass(frozen=True, slots=True)
class Cost:
    """weight times the cross-entropy of softmax(logits) with the aims, which are smoothed."""

    weight: float = 1.0
    smoothing: float = 0.0
    """Share of an aim that is spread over all classes."""

    def aim(self, targets: Tensor, classes: int, dtype: torch.dtype) -> Tensor:
        """What softmax(logits) should be, (B, classes), for classes (B,)."""
        sharp = (targets.unsqueeze(1) == torch.arange(classes, device=targets.device)).to(dtype)
        return sharp.mul_(1 - self.smoothing).add_(self.smoothing / classes)

    def value(self, logits: Tensor, aim: Tensor) -> Tensor:
        """C of each sample, (B,)."""
        return -self.weight * (aim * logits.log_softmax(-1)).sum(-1)

    def slope(self, logits: Tensor, aim: Tensor) -> Tensor:
        """dC/dlogits of each sample, (B, classes)."""
        return self.weight * (logits.softmax(-1) - aim)


def cost_of(objective: Objective, classes: int) -> Cost:
    """The cost whose mean over a batch is the recipe's loss.

    A loss term is a function; its weight and smoothing are read off at logits of zero, where the
    loss is weight log(classes) and its gradient weight (1 / classes - aim).

    Raises:
        LabctlError: the loss has other terms, whose nudge has no closed form here.
    """
    if set(objective.terms) != {"cross_entropy"}:
        terms = ", ".join(sorted(objective.terms)) or "nothing"
        raise LabctlError(
            f"equilibrium propagation nudges by cross_entropy alone; the loss has {terms}",
            hint="loss: {cross_entropy: {}}, or learner: {kind: backprop}",
        )
    logits = torch.zeros(1, classes, requires_grad=True)
    target = torch.zeros(1, dtype=torch.int64)
    with torch.enable_grad():
        loss = objective.terms["cross_entropy"](
            Output(logits), Batch(torch.zeros(1), target, target), {}
        )
        (slope,) = torch.autograd.grad(loss, logits)
    weight = loss.item() / math.log(classes)
    smoothing = 1 - (slope[0, 1] - slope[0, 0]).item() / weight
    # Recipes write a few decimals; the rest is rounding of the term's float32.
    return Cost(round(weight, 6), abs(round(smoothing, 6)))
