"""Equilibrium propagation for any vector field: the nudged phase runs through the transpose.

Scurria et al. (2026), arXiv:2602.03670. With J the Jacobian of the field T at its fixed point x_0,
x <- T(x) - beta dC/dx - (J - J^T)(x - x_0) has a fixed point that lies, to first order in beta, at
x_0 - beta (I - J^T)^{-1} dC/dx: the adjoint of implicit differentiation, found by relaxation.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from labctl.api import Batch, Knobs, LabctlError, LearnerParts, Metrics

from .config import FailureConfig
from .looped_config import AepConfig
from .looped_limits import LoopedLimits
from .looped_model import LoopedTransformer
from .relaxation import Relaxed, relax
from .state_cost import StateCost, descend

FAILURE = FailureConfig(energy_rise=None)
"""When a relaxation has failed; there is no energy whose rise could tell."""


class Linearised:
    """Products with the Jacobian of a field at a state, of one evaluation that is kept."""

    def __init__(self, model: LoopedTransformer, state: Tensor, drive: Tensor) -> None:
        with torch.enable_grad():
            self._leaf = state.detach().requires_grad_()
            # Tracers of modules, FlopCounterMode for one, cannot follow autograd.grad into a leaf.
            self._image = model.field(self._leaf.view_as(self._leaf), drive.detach())
            self._covector = torch.zeros_like(self._image).requires_grad_()
            (self._pulled,) = torch.autograd.grad(
                self._image, self._leaf, self._covector, create_graph=True
            )

    def pull(self, vector: Tensor) -> Tensor:
        """J^T v, (B, N, d)."""
        return torch.autograd.grad(self._image, self._leaf, vector, retain_graph=True)[0]

    def push(self, vector: Tensor) -> Tensor:
        """J v, (B, N, d): J^T w is linear in w, and its derivative there, transposed, is J."""
        return torch.autograd.grad(self._pulled, self._covector, vector, retain_graph=True)[0]


@dataclass(frozen=True, slots=True)
class Contrast:
    """Two nudged phases and the free one before them."""

    free: Relaxed
    nudged: tuple[Relaxed, Relaxed]
    """At +beta and -beta."""
    adjoint: Tensor
    """(B, N, d): of each example's own cost, (x_{-beta} - x_{+beta}) / (2 beta); 0 where a phase
    failed."""
    failed: Tensor
    """bool (B,): a phase did not come to rest."""


class Aep:
    """Centred equilibrium propagation with the correction that transposes the Jacobian.

    Metrics beside those of the objective at the free state, as means over the batch: `free_steps`
    and `nudge_steps`, `residual` (the last free step over the state), `displacement` (|x_{+beta} -
    x_0| / |x_0|), `failed` (share of examples that took no part in the blocks' update because a
    phase did not come to rest).
    """

    capture: Literal["whole", "never"] = "never"

    def __init__(self, config: AepConfig, parts: LearnerParts) -> None:
        """Raises:
        LabctlError: the model is no looped transformer.
        """
        if not isinstance(parts.model, LoopedTransformer):
            raise LabctlError(
                "learner aep is for architecture looped_transformer",
                hint="model: {architecture: looped_transformer}, or another learner",
            )
        self.config, self.parts = config, parts
        self.model = parts.model
        self.cost = StateCost(parts.objective, self.model.readout)
        self.limits = LoopedLimits(self.model)
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]

    def step(self, batch: Batch, knobs: Knobs) -> Metrics:
        self.parts.set_lr(knobs["lr"])
        with self.parts.autocast():
            loss, metrics = self.surrogate(batch, knobs)
        metrics |= descend(self.parts, self.parameters, loss)
        self.limits.apply()
        return metrics

    def surrogate(self, batch: Batch, knobs: Knobs) -> tuple[Tensor, Metrics]:
        """A 0-d scalar whose gradient is the estimate, and the metrics of the step."""
        model = self.model
        drive = model.drive(batch.inputs)
        found = self.contrast(drive.detach(), batch, knobs)
        state = found.free.x
        along = (found.adjoint * model.field(state, drive)).sum() / len(state)
        cost, metrics = self.cost(state, batch, knobs)
        above, below = found.nudged
        ones = torch.ones_like(found.free.residual)
        way = (above.x - state).flatten(1).norm(dim=1) / state.flatten(1).norm(dim=1)
        figures = {
            "free_steps": found.free.steps * ones,
            "nudge_steps": (above.steps + below.steps) * ones / 2,
            "residual": found.free.residual,
            "displacement": way,
            "failed": found.failed * ones,
        }
        metrics |= {name: (each.sum(), ones.sum()) for name, each in figures.items()}
        return along + cost, metrics

    @torch.no_grad()
    def contrast(self, drive: Tensor, batch: Batch, knobs: Knobs) -> Contrast:
        """The three phases of a drive (B, N, d) without gradient."""
        model, beta = self.model, knobs["beta"]
        free = relax(model.field, model.start(drive), (drive,), model.config.relax, FAILURE)
        linear = Linearised(model, free.x, drive) if self.config.correction else None
        rule = self.config.nudge.after(model.config.relax)

        def nudged(strength: Tensor, state: Tensor) -> Tensor:
            # The objective is a mean; each example feels its own cost.
            pull = strength * len(state) * self.cost.gradient(state, batch, knobs)
            image = model.field(state, drive) - pull
            if linear is None:
                return image
            way = state - free.x
            return image - (linear.push(way) - linear.pull(way))

        above, below = (
            relax(
                partial(nudged, sign * beta), free.x, (), rule, FAILURE,
                origin=free.x, compact=False,
            )
            for sign in (1, -1)
        )  # fmt: skip
        failed = free.failed | above.failed | below.failed
        adjoint = ((below.x - above.x) / (2 * beta)).masked_fill(failed.view(-1, 1, 1), 0)
        return Contrast(free, (above, below), adjoint, failed)

    def state_dict(self) -> dict[str, Any]:
        return {"limits": self.limits.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.limits.load_state_dict(state["limits"])
