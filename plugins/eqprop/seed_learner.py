"""The rule of the one-token system: what two phases differ by, put through one block."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from labctl.api import Batch, Knobs, LabctlError, LearnerParts, Metrics

from .seed_config import SeedLearnerConfig
from .seed_model import EqPropSeed, Settled, settled
from .state_cost import StateCost, descend


class SeedEqProp:
    """A free and a nudged phase, then an update of one application of the block.

    Metrics beside those of the objective at the free state: `free_steps` and `nudge_steps`,
    `residual` (largest |f(h) - h| at the end of the free phase), `displacement` (|h_nudged -
    h_free| / |h_free|), and, if asked for, once an epoch `noise`: the same of a second phase
    without a nudge.
    """

    capture: Literal["whole", "never"] = "whole"

    def __init__(self, config: SeedLearnerConfig, parts: LearnerParts) -> None:
        """Raises:
        LabctlError: the model is not the one-token system.
        """
        if not isinstance(parts.model, EqPropSeed):
            raise LabctlError(
                "learner eqprop_seed is for architecture eqprop_seed",
                hint="model: {architecture: eqprop_seed}, or another learner",
            )
        self.config, self.parts = config, parts
        self.model = parts.model
        self.cost = StateCost(parts.objective, self.model.readout)
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]

    def step(self, batch: Batch, knobs: Knobs) -> Metrics:
        self.parts.set_lr(knobs["lr"])
        with self.parts.autocast():
            loss, metrics = self.surrogate(batch, knobs)
        return metrics | descend(self.parts, self.parameters, loss)

    @torch.no_grad()
    def look(self, batch: Batch, knobs: Knobs) -> Metrics:
        """Noise, if it is asked for."""
        if not self.config.noise:
            return {}
        drive = self.model.drive(batch.inputs)
        field = self.model.field(drive)
        free = self._settle(field, self.model.start(drive)).state
        return {"noise": _figure(_moved(self._settle(field, free).state, free))}

    def surrogate(self, batch: Batch, knobs: Knobs) -> tuple[Tensor, Metrics]:
        """A 0-d scalar whose gradient is the update, and the metrics of the step."""
        model, settle = self.model, self._settle
        drive = model.drive(batch.inputs)
        field = model.field(drive)
        with torch.no_grad():
            free = settle(field, model.start(drive))
            nudged = settle(lambda state: self._nudged(field(state), batch, knobs), free.state)
            metrics = {
                "free_steps": _figure(free.steps),
                "nudge_steps": _figure(nudged.steps),
                "residual": _figure(free.residual),
                "displacement": _figure(_moved(nudged.state, free.state)),
            }
        cost, at_free = self.cost(free.state, batch, knobs)
        image = field(free.state)
        return cost + self._contrast(image, free.state, nudged.state, knobs["beta"]), (
            at_free | metrics
        )

    def _settle(self, field: Callable[[Tensor], Tensor], start: Tensor) -> Settled:
        return settled(field, start, self.model.config, breaks_off=False)

    def _nudged(self, image: Tensor, batch: Batch, knobs: Knobs) -> Tensor:
        nudged: Tensor = image - knobs["beta"] * self.cost.gradient(image, batch, knobs)
        return nudged

    def _contrast(self, image: Tensor, free: Tensor, nudged: Tensor, beta: Tensor) -> Tensor:
        if self.config.update == "mse_proxy":
            return F.mse_loss(image, nudged) / beta
        along = (image * ((nudged - free) / beta)).sum()
        return along if self.config.update == "vector_field" else -along

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        return None


def _moved(state: Tensor, start: Tensor) -> Tensor:
    """0-d: |state - start| / |start| of the whole batch."""
    share: Tensor = (state - start).norm() / start.norm()
    return share


def _figure(value: Tensor) -> tuple[Tensor, Tensor]:
    """A metric of one step, from a 0-d tensor."""
    return value.float(), torch.ones_like(value, dtype=torch.float32)
