"""Back-propagation through the relaxation, and implicit differentiation, as learning rules."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from labctl.api import Backprop, Batch, Knobs, LabctlError, LearnerParts, Metrics, Objective

from .config import ContractionConfig, RelaxConfig
from .contraction import Contraction
from .looped_limits import LoopedLimits
from .looped_model import LoopedTransformer
from .model import EnergyTransformer
from .reference import Implicit, Unrolled, segment_length
from .reference_config import BpttConfig, ImplicitConfig


@dataclass(frozen=True)
class Solved(Objective):
    """The objective of the logits that a solver, not the model's own forward pass, comes to."""

    solver: nn.Module

    def __call__(self, model: nn.Module, batch: Batch, knobs: Knobs) -> tuple[Tensor, Metrics]:
        return super().__call__(self.solver, batch, knobs)


class Differentiated:
    """Back-propagation of the objective through a solver.

    Weights are kept within the same limits as under equilibrium propagation, so that the rules
    differ by nothing but their gradient. Metrics beside those of the objective: `residual` and, of
    `Implicit`, `adjoint_residual`, each of the batch's worst sample, and `free_steps`.
    """

    capture: Literal["whole", "never"]

    def __init__(
        self, parts: LearnerParts, solver: Unrolled | Implicit, contraction: ContractionConfig
    ) -> None:
        self.solver = solver
        self.capture = "whole" if isinstance(solver, Unrolled) else "never"
        self.inner = Backprop(replace(parts, objective=Solved(parts.objective.terms, solver)))
        self.limits = _limits(parts.model, contraction)

    def step(self, batch: Batch, knobs: Knobs) -> Metrics:
        metrics = self.inner.step(batch, knobs)
        if self.limits is not None:
            self.limits.apply()
        solver = self.solver
        found = {"residual": solver.residual}
        if isinstance(solver, Implicit):
            found["adjoint_residual"] = solver.adjoint_residual
        for name, value in found.items():
            assert value is not None, "a step runs forward and backward"
            metrics[name] = (value.float(), torch.ones_like(value))
        one = torch.ones_like(metrics["residual"][1])
        metrics["free_steps"] = (one * solver.steps, one)
        return metrics

    def state_dict(self) -> dict[str, Any]:
        return {} if self.limits is None else {"limits": self.limits.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if self.limits is not None:
            self.limits.load_state_dict(state["limits"])


def bptt_learner(config: BpttConfig, parts: LearnerParts) -> Differentiated:
    """Learner `bptt`.

    Raises:
        LabctlError: the model does not relax.
    """
    relax = _relaxation(parts.model, "bptt")
    segment = segment_length(relax.max_steps) if config.checkpoint else None
    solver = Unrolled(parts.model, relax.max_steps, step_size=relax.step_size, segment=segment)
    return Differentiated(parts, solver, config.contraction)


def implicit_learner(config: ImplicitConfig, parts: LearnerParts) -> Differentiated:
    """Learner `implicit`.

    Raises:
        LabctlError: the model does not relax.
    """
    relax = _relaxation(parts.model, "implicit")
    solver = Implicit(
        parts.model,
        tol=config.tol,
        max_steps=config.max_steps,
        step_size=relax.step_size,
        gmres=config.gmres,
    )
    return Differentiated(parts, solver, config.contraction)


def _limits(model: nn.Module, config: ContractionConfig) -> Contraction | LoopedLimits | None:
    if isinstance(model, EnergyTransformer):
        return Contraction(model, config)
    return LoopedLimits(model) if isinstance(model, LoopedTransformer) else None


def _relaxation(model: nn.Module, learner: str) -> RelaxConfig:
    relax = getattr(getattr(model, "config", None), "relax", None)
    if not isinstance(relax, RelaxConfig):
        raise LabctlError(
            f"learner {learner} is for models that relax to a fixed point; this is "
            f"{type(model).__name__}",
            hint="model: {architecture: energy_transformer}, or learner: {kind: backprop}",
        )
    return relax
