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
from .relaxation import holds


class EqProp:
    """Equilibrium propagation of an `EnergyTransformer`; `beta` is a knob.

    A step relaxes the batch freely, then nudged, and hands the optimizer the contrast of local
    gradients at these equilibria. Nothing is differentiated, and no graph is kept, but by the probe
    in the first step of each epoch.
    """

    capture: Literal["whole", "chunks", "never"] = "chunks"

    def __init__(self, config: EqPropConfig, parts: LearnerParts) -> None:
        """
        Raises:
            LabctlError: a model, loss or precision that equilibrium propagation cannot train with.
        """
        self.config, self.parts = config, parts
        self.model = _energy_transformer(parts)
        self.cost = cost_of(parts.objective, self.model.num_classes)
        self.contraction = Contraction(self.model, config.contraction, parts.replay)
        self.steps = 0

    def step(self, batch: Batch, knobs: Knobs) -> Metrics:
        config, parts = self.config, self.parts
        parts.set_lr(knobs["lr"])
        beta = knobs["beta"].to(batch.inputs)
        metrics = self._look(batch, beta)
        with torch.no_grad():
            mask = self.model.masks(batch.inputs)
        found = estimate(
            self.model, self.cost, batch.inputs, batch.targets, beta, config,
            sign=self._sign(), mask=mask, replay=parts.replay,
        )  # fmt: skip
        metrics |= self._metrics(found, batch.targets)
        norm = self._assign(found)
        failed = 1 - found.kept.to(norm.dtype).mean()
        is_bad = holds((failed > config.failure.skip_above) | ~norm.isfinite())
        if not is_bad:
            parts.optimizer.step()
            self.contraction.apply()
            metrics["grad_norm"] = single(norm)
        parts.optimizer.zero_grad(set_to_none=True)
        metrics["skipped"] = single(torch.full_like(norm, float(is_bad)))
        metrics["slow"] = single(self._decay(metrics, knobs["lr"]))
        self.steps += 1
        return metrics

    def _decay(self, metrics: Metrics, lr: Tensor) -> Tensor:
        """Let the energy's weights decay if relaxation was slow; 1 if so, else 0, 0-d."""
        total, count = metrics["free_steps"]
        share = total / count / self.model.config.relax.max_steps
        is_slow = (share > self.config.contraction.max_busy).to(total.dtype)
        self.contraction.decay(is_slow, lr.to(total))
        return is_slow

    def _sign(self) -> float:
        """Of this batch's nudge; drawn from the step's own stream."""
        if self.config.estimator != "random_sign":
            return 1.0
        return 1.0 if float(torch.rand(())) < 0.5 else -1.0

    def _look(self, batch: Batch, beta: Tensor) -> Metrics:
        """What the probe finds, at the first step of an epoch, once relaxation contracts.

        Where work is only counted it is left out, as it is of nearly every step.
        """
        samples = self.config.probe.samples
        is_due = self.steps % self.parts.steps_per_epoch == 0
        if not samples or not is_due or batch.inputs.device.type == "meta":
            return {}
        inputs, targets = batch.inputs[:samples], batch.targets[:samples]
        steps = self.config.probe.radius_steps
        calmed = self.contraction.calm(lambda: largest_radius(self.model, inputs, steps))
        found = look(self.model, self.cost, inputs, targets, beta, self.config)
        return found | {"calmed": single(calmed.to(inputs))}

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
        return {"steps": self.steps, "contraction": self.contraction.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.steps = int(state["steps"])
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
