"""How good an estimate is: against the implicit gradient, and against what would happen anyway."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor
from torch.nn import functional as F

from labctl.api import Metrics

from .config import EqPropConfig
from .contraction import spectral_radius
from .cost import Cost
from .estimator import Estimate, estimate
from .model import EnergyTransformer
from .pairs import single
from .reference import Implicit
from .relaxation import relax

SOLVED = 1e-6
"""Residual to which the reference solves state and adjoint: what single precision reaches."""
SOLVER_STEPS = 300
"""Steps after which the reference gives up."""


def look(
    model: EnergyTransformer,
    cost: Cost,
    inputs: Tensor,
    targets: Tensor,
    beta: Tensor,
    config: EqPropConfig,
) -> Metrics:
    """Estimate the gradient of these samples without dropout, and compare.

    The metrics: `probe_cosine` and `probe_error` (relative) of all parameters together against the
    implicit gradient, `probe_cosine_body` without the head's, whose gradient needs no contrast;
    `spectral_radius`, the largest of a sample; `displacement`, how far the nudge moves a state,
    over its length; `snr`, that over how far as many steps without a nudge move it.
    """
    was_training = model.training
    model.eval()
    found = estimate(model, cost, inputs, targets, beta, config)
    reference = _implicit(model, cost, inputs, found.aim)
    model.train(was_training)
    drive = model.drive(inputs).detach()
    radius = _radius(model, found.free.x, drive, config.probe.radius_steps)
    body = [name for name in reference if not name.startswith("head.")]
    values = {
        "probe_cosine": _cosine(found.gradients, reference, list(reference)),
        "probe_cosine_body": _cosine(found.gradients, reference, body),
        "probe_error": _error(found.gradients, reference),
        "spectral_radius": radius,
        **_signal(model, found, drive, config),
    }
    return {name: single(value) for name, value in values.items()}


@torch.no_grad()
def largest_radius(model: EnergyTransformer, inputs: Tensor, steps: int) -> Tensor:
    """Of a step of the free relaxation at its end, 0-d, of the sample where it is largest."""
    was_training = model.training
    model.eval()
    drive = model.drive(inputs)
    at = model.settle(drive).x
    model.train(was_training)
    return _radius(model, at, drive, steps)


def _radius(model: EnergyTransformer, at: Tensor, drive: Tensor, steps: int) -> Tensor:
    step_size = model.config.relax.step_size
    return spectral_radius(model.field, at, (drive,), steps, step_size).max()


def _implicit(
    model: EnergyTransformer, cost: Cost, inputs: Tensor, aim: Tensor
) -> dict[str, Tensor]:
    solver = Implicit(
        model, tol=SOLVED, max_steps=SOLVER_STEPS, step_size=model.config.relax.step_size
    )
    named = dict(model.named_parameters())
    with torch.enable_grad():
        loss = cost.value(cast(Tensor, solver(inputs)), aim).mean()
        found = torch.autograd.grad(loss, list(named.values()), materialize_grads=True)
    return dict(zip(named, found, strict=True))


def _signal(
    model: EnergyTransformer, found: Estimate, drive: Tensor, config: EqPropConfig
) -> dict[str, Tensor]:
    """Distances of the nudged and of a second free relaxation from the free equilibrium."""
    at = found.free.x
    rule = config.nudge.after(model.config.relax).model_copy(update={"tol": 0.0})
    idle = relax(model.field, at, (drive,), rule).x
    signal, noise, size = (_length(x) for x in (found.nudged[0].x - at, idle - at, at))
    # Where the second relaxation does not move at all, rounding is the noise.
    floor = torch.finfo(at.dtype).eps * size
    return {"displacement": (signal / size).mean(), "snr": (signal / noise.maximum(floor)).mean()}


def _cosine(ours: dict[str, Tensor], theirs: dict[str, Tensor], names: list[str]) -> Tensor:
    return F.cosine_similarity(_flat(ours, names), _flat(theirs, names), dim=0)


def _error(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> Tensor:
    names = list(theirs)
    a, b = _flat(ours, names), _flat(theirs, names)
    error: Tensor = torch.linalg.vector_norm(a - b) / torch.linalg.vector_norm(b)
    return error


def _flat(gradients: dict[str, Tensor], names: list[str]) -> Tensor:
    return torch.cat([gradients[name].flatten() for name in names])


def _length(x: Tensor) -> Tensor:
    length: Tensor = torch.linalg.vector_norm(x.flatten(1), dim=1)
    return length
