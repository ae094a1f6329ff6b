"""Evaluating a model on a split."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from labctl.data.batches import Batches

from .learner import Objective, forward
from .numerics import Arithmetic
from .window import Window


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Means over a split, and what was predicted for each example."""

    metrics: dict[str, float]
    predictions: Tensor | None
    """int64 (N,) on the CPU: the class with the largest logit; None for token data or when not
    asked for."""
    targets: Tensor | None
    """Likewise: the class that it is."""


@torch.no_grad()
def evaluate(
    model: nn.Module,
    batches: Batches,
    objective: Objective,
    knobs: Mapping[str, Any],
    arithmetic: Arithmetic,
    batch_size: int,
    *,
    keep_predictions: bool = False,
) -> Evaluation:
    """Loss and accuracy over every example of a split, in evaluation mode, without augmentation.

    The loss is the recipe's objective, label smoothing included.
    """
    was_training = model.training
    model.eval()
    window = Window()
    predicted: list[Tensor] = []
    targets: list[Tensor] = []
    for batch in batches.in_order(batch_size):
        batch = replace(batch, inputs=_cast(batch.inputs, arithmetic.dtype))
        with arithmetic.autocast():
            output = forward(model, batch.inputs, knobs)
            _, metrics = objective.of(output, batch, knobs)
        if keep_predictions and batch.targets.ndim == 1:
            predicted.append(output.logits.argmax(-1))
            targets.append(batch.targets)
        window.add({name: _of_targets(*metric) for name, metric in metrics.items()})
    model.train(was_training)
    return Evaluation(window.means(), _joined(predicted), _joined(targets))


def _of_targets(total: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
    """A batch all of whose targets are left out has no mean, and adds nothing to that of a
    split."""
    return torch.where(count > 0, total, torch.zeros_like(total)), count


def _joined(parts: list[Tensor]) -> Tensor | None:
    return torch.cat(parts).cpu() if parts else None


def _cast(inputs: Tensor, dtype: torch.dtype) -> Tensor:
    return inputs.to(dtype) if inputs.is_floating_point() else inputs
