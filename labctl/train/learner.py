"""The learning rule is a parameter of training; back-propagation of an objective is one of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from labctl.data.examples import Batch

Knobs = Mapping[str, Any]
"""Knobs by name: continuous ones as 0-d float32 tensors on the device, structural ones as Python
values."""

Metrics = dict[str, tuple[Tensor, Tensor]]
"""Metrics by name, each a pair of 0-d device tensors (sum, count); the metric is sum / count."""


@dataclass(frozen=True, slots=True)
class Output:
    """What a model may return instead of bare logits."""

    logits: Tensor
    aux: dict[str, Tensor] = field(default_factory=dict)
    """Named tensors that auxiliary loss terms read."""


class Term(Protocol):
    """One term of a loss: a 0-d tensor, the mean over the batch."""

    def __call__(self, output: Output, batch: Batch, knobs: Knobs) -> Tensor: ...


@dataclass(frozen=True, slots=True)
class Objective:
    """The sum of the recipe's loss terms, with the metrics that any labelled batch has."""

    terms: Mapping[str, Term]

    def __call__(self, model: nn.Module, batch: Batch, knobs: Knobs) -> tuple[Tensor, Metrics]:
        """The loss to minimise (0-d), and the batch's metrics."""
        return self.of(forward(model, batch.inputs, knobs), batch, knobs)

    def of(self, output: Output, batch: Batch, knobs: Knobs) -> tuple[Tensor, Metrics]:
        """The same of what the model has put out."""
        parts = self._parts(output, batch, knobs)
        loss = _sum(parts)
        metrics = accuracy(output.logits.detach(), batch)
        count = metrics["acc"][1]
        metrics["loss"] = (loss.detach() * count, count)
        if len(parts) > 1:
            metrics |= {
                f"loss_{name}": (part.detach().float() * count, count)
                for name, part in parts.items()
            }
        return loss, metrics

    def loss(self, output: Output, batch: Batch, knobs: Knobs) -> Tensor:
        """The loss alone."""
        return _sum(self._parts(output, batch, knobs))

    def _parts(self, output: Output, batch: Batch, knobs: Knobs) -> dict[str, Tensor]:
        return {name: term(output, batch, knobs) for name, term in self.terms.items()}


def _sum(parts: Mapping[str, Tensor]) -> Tensor:
    return torch.stack([part.float() for part in parts.values()]).sum()


def forward(model: nn.Module, inputs: Tensor, knobs: Knobs) -> Output:
    """Run the model; bare logits are wrapped."""
    output = model(inputs, knobs)
    return output if isinstance(output, Output) else Output(output)


def accuracy(logits: Tensor, batch: Batch) -> Metrics:
    """Share of targets that have the largest logit, over targets that are not -100. Of mixed ones
    each counts by its share."""
    found, counted = logits.argmax(-1), batch.targets != -100
    right = batch.blended(lambda targets: ((found == targets) & counted).float())
    return {"acc": (right.sum(), counted.sum().float())}


@dataclass(frozen=True, slots=True)
class LearnerParts:
    """What a learner is built from."""

    model: nn.Module
    objective: Objective
    """To be called with the model; where numerics are `compiled`, this very one is."""
    optimizer: torch.optim.Optimizer
    set_lr: Any
    """`set_lr(lr)` puts a 0-d tensor into every parameter group, times the group's scale."""
    clip_norm: float | None
    autocast: Any
    """`with autocast():` around the forward pass, as the recipe's precision asks."""
    steps_per_epoch: int


class Learner(Protocol):
    """Changes the parameters once. The trainer asks nothing else of it."""

    capture: Literal["whole", "never"]
    """Whether a step may be captured in a CUDA graph, `whole`, or `never`: it waits for the device,
    or does something that a recording of it would not repeat."""

    def step(self, batch: Batch, knobs: Knobs) -> Metrics:
        """One update. Must not wait for the device. The metrics hold `loss`."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """What the learner must remember beside model and optimizer."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


@runtime_checkable
class Looking(Protocol):
    """A learner that takes a look at itself before the first step of every epoch."""

    def look(self, batch: Batch, knobs: Knobs) -> Metrics:
        """What is found, beside the metrics of the step that follows on the same batch. May wait
        for the device, and may change parameters."""
        ...


class Backprop:
    """Back-propagation of the objective, with the gradient's global norm clipped."""

    capture: Literal["whole", "never"] = "whole"

    def __init__(self, parts: LearnerParts) -> None:
        self.parts = parts
        self.parameters = [p for p in parts.model.parameters() if p.requires_grad]

    def step(self, batch: Batch, knobs: Knobs) -> Metrics:
        parts = self.parts
        parts.set_lr(knobs["lr"])
        with parts.autocast():
            loss, metrics = parts.objective(parts.model, batch, knobs)
        torch.autograd.backward(loss)
        if parts.clip_norm is not None:
            norm = nn.utils.clip_grad_norm_(self.parameters, parts.clip_norm)
            metrics["grad_norm"] = (norm.detach(), torch.ones_like(norm))
        parts.optimizer.step()
        parts.optimizer.zero_grad(set_to_none=True)
        return metrics

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        return None
