"""Signum (Bernstein et al. 2018): p <- p - lr sign(m), m the moving average of the gradients."""

from __future__ import annotations

from typing import Any, Literal

import torch

from labctl.api import Batch, Knobs, LearnerParts, Metrics

from . import SignumConfig


class Signum:
    """A learner that asks nothing of the optimizer and keeps its momentum itself."""

    capture: Literal["whole", "never"] = "whole"

    def __init__(self, config: SignumConfig, parts: LearnerParts) -> None:
        self.config, self.parts = config, parts
        self.parameters = [p for p in parts.model.parameters() if p.requires_grad]
        self.momentum = [torch.zeros_like(p) for p in self.parameters]

    def step(self, batch: Batch, knobs: Knobs) -> Metrics:
        with self.parts.autocast():
            loss, metrics = self.parts.objective(self.parts.model, batch, knobs)
        gradients = torch.autograd.grad(loss, self.parameters)
        with torch.no_grad():
            for parameter, momentum, gradient in zip(
                self.parameters, self.momentum, gradients, strict=True
            ):
                fresh = (1 - knobs["inertia"]) * gradient
                momentum.mul_(knobs["inertia"]).add_(fresh)
                direction = momentum + fresh if self.config.nesterov else momentum
                parameter.sub_(knobs["lr"] * direction.sign())
        return metrics

    def state_dict(self) -> dict[str, Any]:
        return {"momentum": self.momentum}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for momentum, saved in zip(self.momentum, state["momentum"], strict=True):
            momentum.copy_(saved)
