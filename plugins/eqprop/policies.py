"""Rules of when an example stops to relax, applied to a trace of all steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Self, get_args

import torch
from torch import Tensor

from .measure_config import AdaptiveComputeConfig
from .trace import Trace

Kind = Literal["fixed", "tolerance", "early"]
"""As many steps for all; until a step is short; until the decision stands."""
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True, slots=True)
class Policy:
    """A rule of when to stop, and what it comes to."""

    kind: Kind
    name: str
    work: float
    """Mean steps of an example."""
    accuracy: float

    @classmethod
    def of(cls, trace: Trace, kind: Kind, name: str, steps: Tensor) -> Self:
        """Each example read out after its number of steps, int64 (B,)."""
        right = trace.right(steps).double().mean()
        return cls(kind, name, float(steps.double().mean()), float(right))


def policies(config: AdaptiveComputeConfig, trace: Trace) -> list[Policy]:
    """Every budget, every tolerance, and early exit."""
    fixed = [
        Policy.of(trace, "fixed", f"t{steps}", torch.full_like(trace.targets, steps))
        for steps in config.budgets
    ]
    tolerance = [
        Policy.of(trace, "tolerance", f"tol{tol:g}", trace.steps_to(tol))
        for tol in config.tolerances
    ]
    exits = early_exit(trace, config.patience, config.margin_growth)
    return [*fixed, *tolerance, Policy.of(trace, "early", "early", exits)]


def early_exit(trace: Trace, patience: int, growth: float) -> Tensor:
    """int64 (B,): the first step at which the decision has stood for `patience` steps and the
    margin of probabilities grew by less than `growth` in the last; T where none is."""
    decided = trace.logits.argmax(-1)
    margins = margin(trace.logits.double().softmax(-1))
    last = trace.residuals.shape[1]
    stands = torch.zeros(len(decided), last + 1, dtype=torch.bool)
    for step in range(patience, last + 1):
        window = decided[:, step - patience : step + 1]
        is_calm = margins[:, step] - margins[:, step - 1] < growth
        stands[:, step] = (window == window[:, :1]).all(1) & is_calm
    return torch.where(stands.any(1), stands.int().argmax(1), last)


def margin(shares: Tensor) -> Tensor:
    """Difference of the two largest of the last axis."""
    largest = shares.topk(2, -1).values
    return largest[..., 0] - largest[..., 1]
