"""Gradients from the contrast of equilibria that are nudged by different strengths."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from .config import EqPropConfig, Estimator
from .cost import Cost
from .local import Held, local_gradients
from .model import EnergyTransformer
from .relaxation import Relaxed, relax


class Branch(NamedTuple):
    """One equilibrium of a contrast."""

    strength: float
    """Of its nudge, in units of beta; 0 is the free equilibrium."""
    weight: float
    """Of its dF/dtheta, in units of 1/beta."""


BRANCHES: dict[Estimator, tuple[Branch, ...]] = {
    "centered": (Branch(1, 1 / 2), Branch(-1, -1 / 2)),
    "one_sided": (Branch(1, 1), Branch(0, -1)),
    "random_sign": (Branch(1, 1), Branch(0, -1)),
    "richardson": (Branch(0.5, 4 / 3), Branch(-0.5, -4 / 3), Branch(1, -1 / 6), Branch(-1, 1 / 6)),
}
"""Contrasts that differ from the gradient by O(beta^2), O(beta), O(beta) (whose sign alternates)
and O(beta^4): Laborieux et al. 2021; Richardson extrapolation of the centered one."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A gradient and how it was found."""

    gradients: dict[str, Tensor]
    """By parameter: the estimated gradient of the mean cost of the samples that were kept."""
    free: Relaxed
    nudged: tuple[Relaxed, ...]
    """Of each nudged branch, B samples."""
    kept: Tensor
    """bool (B,): samples all of whose relaxations came to rest."""
    logits: Tensor
    """(B, classes) at the free equilibrium."""
    aim: Tensor
    """(B, classes): what their softmax should be."""


@dataclass(frozen=True, slots=True)
class NudgedField:
    """The field of F = E + beta C, of states and `Held.given`."""

    model: EnergyTransformer
    cost: Cost

    def __call__(
        self, x: Tensor, u: Tensor, aim: Tensor, beta: Tensor, mask: Tensor | None = None
    ) -> Tensor:
        model = self.model
        g = model.norm(x)
        errors = self.cost.slope(model.head(model.pool(g)), aim)
        return model.driven(u - model.pull(beta * errors), g, mask)


@dataclass(frozen=True, slots=True)
class NudgedEnergy:
    """F = E + beta C of states and `Held.given`, (B,)."""

    model: EnergyTransformer
    cost: Cost

    def __call__(
        self, x: Tensor, u: Tensor, aim: Tensor, beta: Tensor, mask: Tensor | None = None
    ) -> Tensor:
        cost = self.cost.value(self.model.readout(x), aim)
        return self.model.energy(x, u, mask) + beta.squeeze(1) * cost


@torch.no_grad()
def estimate(
    model: EnergyTransformer,
    cost: Cost,
    inputs: Tensor,
    targets: Tensor,
    beta: Tensor,
    config: EqPropConfig,
    *,
    mask: Tensor | None = None,
    watched: bool = True,
) -> Estimate:
    """The gradient that equilibrium propagation estimates from images (B, C, H, W), classes (B,).

    beta is 0-d; each sample is nudged by its own cost and so strongly, however large the batch. A
    negative beta turns the contrast around. `watched` as `relax` has it.
    """
    patches = model.patches(inputs)
    aim = cost.aim(targets, model.num_classes, inputs.dtype)
    held = Held(patches, model.drive_of(patches), aim, mask)
    free = model.settle(held.drive, mask, failure=config.failure, watched=watched)
    branches = BRANCHES[config.estimator]
    strengths = [branch.strength * beta for branch in branches if branch.strength]
    nudged = _nudge(model, cost, free, held, strengths, config, watched)
    kept = ~free.failed
    for relaxed in nudged:
        kept = kept & ~relaxed.failed
    ends = iter(nudged)
    states = [free.x if branch.strength == 0 else next(ends).x for branch in branches]
    gradients = _contrast(model, cost, states, branches, kept, beta, held, config.sequential)
    return Estimate(gradients, free, nudged, kept, model.readout(free.x), aim)


def _nudge(
    model: EnergyTransformer,
    cost: Cost,
    free: Relaxed,
    held: Held,
    strengths: list[Tensor],
    config: EqPropConfig,
    watched: bool,
) -> tuple[Relaxed, ...]:
    """From the free equilibrium to each nudged one; as one batch unless they are to take turns."""
    field, energy = NudgedField(model, cost), NudgedEnergy(model, cost)
    samples, rule = len(held.aim), config.nudge.after(model.config.relax)
    together = 1 if config.sequential else len(strengths)
    found: list[Relaxed] = []
    for first in range(0, len(strengths), together):
        group = strengths[first : first + together]
        start, many = free.x.repeat(len(group), 1, 1), held.repeat(len(group))
        given = many.given(torch.stack(group).repeat_interleave(samples, output_size=len(start)))
        relaxed = relax(
            field, start, given, rule, config.failure, energy=energy, origin=start, watched=watched
        )
        work = relaxed.work // len(group)
        for place in range(len(group)):
            rows = slice(place * samples, (place + 1) * samples)
            found.append(
                Relaxed(
                    relaxed.x[rows],
                    relaxed.steps[rows],
                    relaxed.residual[rows],
                    relaxed.failed[rows],
                    work,
                )
            )
    return tuple(found)


def _contrast(
    model: EnergyTransformer,
    cost: Cost,
    states: list[Tensor],
    branches: tuple[Branch, ...],
    kept: Tensor,
    beta: Tensor,
    held: Held,
    one_by_one: bool,
) -> dict[str, Tensor]:
    """The weighted sum of dF/dtheta over the branches' equilibria, by parameter.

    Samples that are not kept count nothing, whatever they hold.
    """
    mean = kept / (kept.sum().clamp(min=1) * beta)
    states = [torch.where(kept.view(-1, 1, 1), x, 0) for x in states]
    strengths = [branch.strength * beta.expand(len(kept)) for branch in branches]
    weights = [branch.weight * mean for branch in branches]
    if not one_by_one:
        held = held.repeat(len(states))
        states, strengths, weights = ([torch.cat(t)] for t in (states, strengths, weights))
    total: dict[str, Tensor] = {}
    for x, strength, weight in zip(states, strengths, weights, strict=True):
        found = local_gradients(model, cost, x, held, strength, weight)
        for name, part in found.items():
            total[name] = total[name] + part if name in total else part
    return {name: total[name] for name, _ in model.named_parameters()}
