"""The objective as a function of a model's state, for rules that nudge states."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from labctl.api import Batch, Knobs, LearnerParts, Metrics, Objective, Output


@dataclass(frozen=True, slots=True)
class StateCost:
    """The recipe's objective, the mean over the batch, at a state instead of at the inputs."""

    objective: Objective
    readout: Callable[[Tensor], Tensor]
    """State (B, N, D) -> logits (B, classes)."""

    def __call__(self, state: Tensor, batch: Batch, knobs: Knobs) -> tuple[Tensor, Metrics]:
        """The cost (0-d) of a state (B, N, D), and the batch's metrics there."""
        return self.objective.of(Output(self.readout(state)), batch, knobs)

    def gradient(self, state: Tensor, batch: Batch, knobs: Knobs) -> Tensor:
        """The derivative (B, N, D) of the cost by the state."""
        with torch.enable_grad():
            leaf = state.detach().requires_grad_()
            # Tracers of modules, FlopCounterMode for one, cannot follow autograd.grad into a leaf.
            output = Output(self.readout(leaf.view_as(leaf)))
            cost = self.objective.loss(output, batch, knobs)
            (gradient,) = torch.autograd.grad(cost, leaf)
        return gradient


def descend(parts: LearnerParts, parameters: list[nn.Parameter], loss: Tensor) -> Metrics:
    """Back-propagate a 0-d `loss` that stands for an update, clip, and let the optimizer step."""
    metrics: Metrics = {}
    torch.autograd.backward(loss)
    if parts.clip_norm is not None:
        norm = nn.utils.clip_grad_norm_(parameters, parts.clip_norm)
        metrics["grad_norm"] = (norm.detach(), torch.ones_like(norm))
    parts.optimizer.step()
    parts.optimizer.zero_grad(set_to_none=True)
    return metrics
