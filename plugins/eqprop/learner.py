"""Equilibrium propagation as a learner: relax, nudge, contrast, step, keep the contraction."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from labctl.api import Batch, Knobs, LabctlError, LearnerParts, Metrics

from .config import EqPropConfig
from .contraction import Contraction
from .cost import cost_of
from .estimator import Estimate, estimate
from .model import EnergyTransformer
from .pairs import mean, single
from .probe import largest_radius, look


class EqProp:
    """Equilibrium propagation of an `EnergyTransformer`; `beta` is a knob.

    A step relaxes the batch freely, then nudged, and hands the optimizer the contrast of local
    gradients at these equilibria. Nothing is differentiated, and no graph is kept, but by the look
    that is taken once an epoch.

    On a CPU relaxations are watched, and end when all samples are at rest; on a GPU they take all
    their steps, so that a step waits for nothing and can be recorded.
    """

    capture: Literal["whole", "never"]

    def __init__(self, config: EqPropConfig, parts: LearnerParts) -> None:
        """
        Raises:
            LabctlError: a model, loss or precision that equilibrium propagation cannot train with.
        """
        self.config, self.parts = config, parts
        self.model = _energy_transformer(parts)
        self.cost = cost_of(parts.objective, self.model.num_classes)
        self.contraction = Contraction(self.model, config.contraction)
        self.watched = not self.model.gain.is_cuda
        self.capture = "never" if self.watched else "whole"

    def step(self, batch: Batch, knobs: Knobs) -> Metrics:
        config, parts = self.config, self.parts
        parts.set_lr(knobs["lr"])
        beta = knobs["beta"].to(batch.inputs) * self._sign(batch.inputs)
        with torch.no_grad():
            mask = self.model.masks(batch.inputs)
        found = estimate(
            self.model, self.cost, batch.inputs, batch.targets, beta, config,
            mask=mask, watched=self.watched,
        )  # fmt: skip
        metrics = self._metrics(found, batch.targets)
        norm = self._assign(found)
        failed = 1 - found.kept.to(norm.dtype).mean()
        is_bad = (failed > config.failure.skip_above) | ~norm.isfinite()
        self._descend(list(found.gradients.values()), is_bad)
        good = (~is_bad).to(norm.dtype)
        metrics["grad_norm"] = (torch.where(is_bad, 0, norm), good)
        metrics["skipped"] = single(1 - good)
        metrics["slow"] = single(self._decay(metrics, knobs["lr"]))
        return metrics

    def look(self, batch: Batch, knobs: Knobs) -> Metrics:
        """Once relaxation contracts, what the probe finds."""
        samples = self.config.probe.samples
        if not samples:
            return {}
        inputs, targets = batch.inputs[:samples], batch.targets[:samples]
        beta, steps = knobs["beta"].to(inputs), self.config.probe.radius_steps
        calmed = self.contraction.calm(lambda: largest_radius(self.model, inputs, steps))
        found = look(self.model, self.cost, inputs, targets, beta, self.config)
        return found | {"calmed": single(calmed.to(inputs))}

    @torch.no_grad()
    def _descend(self, gradients: list[Tensor], is_bad: Tensor) -> None:
        """Let the optimizer step and keep the limits; where the 0-d bool is true, as if it had
        not."""
        optimizer = self.parts.optimizer
        moments = [
            tensor
            for state in optimizer.state.values()
            for tensor in state.values()
            if isinstance(tensor, Tensor)
        ]
        held = [*self.model.parameters(), *moments]
        before = [tensor.clone() for tensor in held]
        for gradient in gradients:
            # What an optimizer makes at its first step must not come of a bad gradient.
            gradient.masked_fill_(is_bad, 0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        self.contraction.apply()
        for now, then in zip(held, before, strict=True):
            now.copy_(torch.where(is_bad, then, now))

    def _decay(self, metrics: Metrics, lr: Tensor) -> Tensor:
        """Let the energy's weights decay if relaxation was slow; 1 if so, else 0, 0-d."""
        total, count = metrics["free_steps"]
        share = total / count / self.model.config.relax.max_steps
        is_slow = (share > self.config.contraction.max_busy).to(total.dtype)
        self.contraction.decay(is_slow, lr.to(total))
        return is_slow

    def _sign(self, inputs: Tensor) -> Tensor:
        """Of this batch's nudge, 0-d; drawn from the step's own stream."""
        one = inputs.new_ones(())
        if self.config.estimator != "random_sign":
            return one
        return torch.where(torch.rand_like(one) < 0.5, one, -one)

    def _assign(self, found: Estimate) -> Tensor:
        """Put the estimate where the optimizer looks for it, clipped; its norm (0-d) before."""
        parameters = dict(self.model.named_parameters())
        for name, gradient in found.gradients.items():
            parameters[name].grad = gradient
        limit = self.parts.clip_norm if self.parts.clip_norm is not None else float("inf")
        return nn.utils.clip_grad_norm_(list(parameters.values()), limit)

    def _metrics(self, found: Estimate, targets: Tensor) -> Metrics:
        """Loss and accuracy at the free equilibria that are finite, and how relaxation went."""
        losses = self.cost.value(found.logits, found.aim)
        sound = losses.isfinite()
        count = sound.sum().to(losses.dtype)
        right = (found.logits.argmax(-1) == targets) & sound
        # If no state is finite the loss is none either, and the run has diverged.
        total = torch.where(sound, losses, 0).sum() / (count > 0)
        nudged = torch.stack([relaxed.steps for relaxed in found.nudged])
        return {
            "loss": (total, count),
            "acc": (right.sum().to(losses.dtype), count),
            "failed": mean(~found.kept),
            "residual": mean(found.free.residual.nan_to_num(nan=1.0, posinf=1.0)),
            "free_steps": mean(found.free.steps),
            "nudge_steps": mean(nudged),
        }

    def state_dict(self) -> dict[str, Any]:
        return {"contraction": self.contraction.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.contraction.load_state_dict(state["contraction"])


def _energy_transformer(parts: LearnerParts) -> EnergyTransformer:
    """The model, if all that is asked can be had."""
    if not isinstance(parts.model, EnergyTransformer):
        raise LabctlError(
            f"learner eqprop needs an energy, and {type(parts.model).__name__} has none",
            hint="model: {architecture: energy_transformer}, or learner: {kind: backprop}",
        )
    if any(not parameter.requires_grad for parameter in parts.model.parameters()):
        raise LabctlError(
            "learner eqprop trains all parameters, and some are frozen",
            hint="learner: {kind: backprop}",
        )
    with parts.autocast():
        if torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda"):
            raise LabctlError(
                "learner eqprop contrasts states that are close together, and bf16 loses them",
                hint="numerics: {precision: fp32}",
            )
    return parts.model
