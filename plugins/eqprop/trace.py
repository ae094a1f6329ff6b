"""A relaxation looked at after every step: how it settles, and what would be read out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from labctl.api import Batch, Batches, LabctlError, MeasureContext

from .config import RelaxConfig
from .equilibrium import Equilibrium

RATE_FROM = 1e-5
"""Residuals down to here tell the rate of convergence; below, rounding of float32 shows."""


@dataclass(frozen=True, slots=True)
class Trace:
    """B examples that all take the same T steps."""

    residuals: Tensor
    """(B, T): length of step t, from 1, over that of the state it leads to."""
    logits: Tensor
    """(B, 1 + T, classes): before any step, and after each."""
    targets: Tensor
    """int64 (B,)."""

    def steps_to(self, tol: float) -> Tensor:
        """int64 (B,): the step at which each comes to rest; T for one that does not.

        The rule of `relaxation.relax`: the first step that is shorter than `tol` times the state.
        """
        short = self.residuals < tol
        last = self.residuals.shape[1]
        return torch.where(short.any(1), short.int().argmax(1) + 1, last)

    def settled(self, tol: float) -> Tensor:
        """bool (B,): came to rest at all."""
        return (self.residuals < tol).any(1)

    def rates(self) -> Tensor:
        """(B,): factor per step by which residuals shrink, from the slope of their logarithms.

        About the spectral radius of the Jacobian at rest; NaN for an example with fewer than two
        residuals to tell from.
        """
        used = self.residuals > RATE_FROM
        used[:, :1] = False  # the first step is from an arbitrary state
        logs = torch.where(used, self.residuals.double().clamp_min(RATE_FROM).log(), 0)
        steps = torch.arange(used.shape[1], dtype=torch.float64)
        count = used.sum(1, keepdim=True)
        away = torch.where(used, steps - (used * steps).sum(1, keepdim=True) / count, 0)
        slopes = (away * logs).sum(1) / away.square().sum(1)
        return torch.where(count[:, 0] > 1, slopes.exp(), torch.nan)

    def right(self, steps: Tensor) -> Tensor:
        """bool (B,): whether each is classified rightly after its number of steps, int64 (B,)."""
        return self.read(steps).argmax(-1) == self.targets

    def read(self, steps: Tensor) -> Tensor:
        """Logits (B, classes) of each after its number of steps, int64 (B,)."""
        return self.logits[torch.arange(len(steps)), steps]


@torch.no_grad()
def traced(model: Equilibrium, batch: Batch, steps: int, step_size: float) -> Trace:
    """Let a batch take `steps` steps; the trace lies on the CPU."""
    drive = model.drive(batch.inputs)
    state = model.start(drive)
    logits, residuals = [model.readout(state)], []
    for _ in range(steps):
        move = step_size * (model.field(state, drive) - state)
        state = state + move
        residuals.append(_lengths(move) / _lengths(state))
        logits.append(model.readout(state))
    empty = state.new_zeros(len(state), 0)
    settled = torch.stack(residuals, 1) if residuals else empty
    return Trace(settled.cpu(), torch.stack(logits, 1).cpu(), batch.targets.cpu())


def trace_of(
    context: MeasureContext, split: str, samples: int | None, batch: int, steps: int
) -> Trace:
    """The trace of a split's first examples, `batch` at a time.

    Raises:
        LabctlError: there is no such split.
    """
    step_size = relaxation_of(context).step_size
    parts = [
        traced(opened(context), part, steps, step_size)
        for part in batches_of(context, split, samples, batch)
    ]
    return Trace(
        torch.cat([part.residuals for part in parts]),
        torch.cat([part.logits for part in parts]),
        torch.cat([part.targets for part in parts]),
    )


def batches_of(
    context: MeasureContext, split: str, samples: int | None, size: int
) -> Iterator[Batch]:
    """A split's first examples in order, in the model's precision.

    Raises:
        LabctlError: there is no such split.
    """
    if split not in context.splits:
        known = ", ".join(sorted(context.splits))
        raise LabctlError(f"there is no split {split!r}", hint=f"there are: {known}")
    batches: Batches = context.splits[split]
    dtype = next(context.model.parameters()).dtype
    count = min(samples or len(batches), len(batches))
    for start in range(0, count, size):
        index = torch.arange(start, min(start + size, count), device=batches.device)
        batch = batches.at(index)
        yield Batch(batch.inputs.to(dtype), batch.targets, batch.index)


def relaxation_of(context: MeasureContext) -> RelaxConfig:
    """The relaxation that the model's config asks for."""
    relax = context.model_config.relax
    assert isinstance(relax, RelaxConfig), "the cards say only_for models that relax"
    return relax


def opened(context: MeasureContext) -> Equilibrium:
    """The model as what the cards' `only_for` says that it is."""
    model: Any = context.model
    equilibrium: Equilibrium = model
    return equilibrium


def _lengths(states: Tensor) -> Tensor:
    lengths: Tensor = torch.linalg.vector_norm(states.flatten(1), dim=1)
    return lengths
