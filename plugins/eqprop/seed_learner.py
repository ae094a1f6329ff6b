"""The rule of the one-token system: what two phases differ by, put through one block."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from labctl.api import Batch, Knobs, LabctlError, LearnerParts, Metrics

from .seed_config import SeedLearnerConfig
from .seed_model import EqPropSeed, settled
from .state_cost import StateCost, descend


class SeedEqProp:
    """A free and a nudged phase, then an update of one application of the block.

    Metrics beside those of the objective at the free state: `free_steps` and `nudge_steps`,
    `residual` (largest |f(h) - h| at the end of the free phase), `displacement` (|h_nudged -
    h_free| / |h_free|), and now and then `noise`: the same of a second phase without a nudge.
    """

    capture: Literal["whole", "chunks", "never"] = "never"

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
        self.noise_every = config.noise_every or parts.steps_per_epoch
        self._taken = 0

    def step(self, batch: Batch, knobs: Knobs) -> Metrics:
        self.parts.set_lr(knobs["lr"])
        self._taken += 1
        with self.parts.autocast():
            loss, metrics = self.surrogate(batch, knobs)
        return metrics | descend(self.parts, self.parameters, loss)

    def surrogate(self, batch: Batch, knobs: Knobs) -> tuple[Tensor, Metrics]:
        """A 0-d scalar whose gradient is the update, and the metrics of the step."""
        model, config = self.model, self.model.config
        drive = model.drive(batch.inputs)
        field = partial(model.field, drive=drive.detach())
        with torch.no_grad():
            free = settled(field, model.start(drive), config)
            nudged = settled(
                lambda state: self._nudged(field(state), batch, knobs), free.state, config
            )
            metrics = {
                "free_steps": _figure(drive, free.steps),
                "nudge_steps": _figure(drive, nudged.steps),
                "residual": _figure(drive, free.residual),
                "displacement": _figure(drive, _moved(nudged.state, free.state)),
            }
            if self._taken % self.noise_every == 0:
                again = settled(field, free.state, config)
                metrics["noise"] = _figure(drive, _moved(again.state, free.state))
        cost, at_free = self.cost(free.state, batch, knobs)
        image = model.field(free.state, drive)
        return cost + self._contrast(image, free.state, nudged.state, knobs["beta"]), (
            at_free | metrics
        )

    def _nudged(self, image: Tensor, batch: Batch, knobs: Knobs) -> Tensor:
        nudged: Tensor = image - knobs["beta"] * self.cost.gradient(image, batch, knobs)
        return nudged

    def _contrast(self, image: Tensor, free: Tensor, nudged: Tensor, beta: Tensor) -> Tensor:
        if self.config.update == "mse_proxy":
            return F.mse_loss(image, nudged) / beta
        along = (image * ((nudged - free) / beta)).sum()
        return along if self.config.update == "vector_field" else -along

    def state_dict(self) -> dict[str, Any]:
        return {"taken": self._taken}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._taken = int(state["taken"])


def _moved(state: Tensor, start: Tensor) -> Tensor:
    """0-d: |state - start| / |start| of the whole batch."""
    share: Tensor = (state - start).norm() / start.norm()
    return share


def _figure(like: Tensor, value: Tensor | int) -> tuple[Tensor, Tensor]:
    """A metric of one step."""
    return torch.as_tensor(value, dtype=torch.float32, device=like.device), like.new_ones(())
