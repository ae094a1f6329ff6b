"""Measurement: estimates by contrast beside the gradient at equilibrium, in double precision."""

from __future__ import annotations

import json
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass
from math import log10
from statistics import linear_regression
from typing import Any

import torch
from torch import Tensor

from labctl.api import DataSpec, LabctlError, MeasureContext

from .agreement import Agreement, agreement, nines
from .config import (
    EnergyTransformerConfig,
    EqPropConfig,
    Estimator,
    FailureConfig,
    NudgeConfig,
    RelaxConfig,
)
from .contraction import spectral_radius
from .cost import Cost
from .estimator import estimate
from .figures import panels, save, style
from .measure_config import GradientEquivalenceConfig
from .model import EnergyTransformer
from .reference import Reference, bptt, implicit

TOLERANT = FailureConfig(growth=1e6, residual=1e6, energy_rise=None)
"""Leaves out no sample but one that is no number, as the reference is of all of them."""
SLOPE_UP_TO = 0.2
"""Largest beta that the order of the error is fitted over: beyond, higher orders show."""
ROUNDING = 1e-9
"""Relative error from which on it is not rounding alone."""
RADIUS_STEPS = 200


@dataclass(frozen=True, slots=True)
class Compared:
    """One set of weights."""

    estimates: Mapping[Estimator, Mapping[float, Agreement]]
    """Agreement with the implicit gradient, by estimator and beta."""
    failed: Mapping[Estimator, Mapping[float, float]]
    """Share of samples whose nudged states are no numbers."""
    unrolled: Agreement
    """Of back-propagation through time with the implicit gradient: what it is short of 1 is not
    converged, whoever estimates."""
    reference: Reference
    radius: Tensor
    """(B,): spectral radius of the Jacobian at the fixed points."""


def gradient_equivalence(
    config: GradientEquivalenceConfig, context: MeasureContext
) -> dict[str, float]:
    """Compare equilibrium propagation with implicit differentiation, before and after training.

    `init` are weights drawn anew from the run's seed, `trained` those of the run. Writes
    `gradient_equivalence.json` (every number, by parameter too), `.png` and `.svg` (relative error
    against beta).

    Returns:
        `<phase>/<estimator>/b<beta>/...`: `one_minus_cos` and `nines`, its negative decimal
        logarithm, of all parameters as one vector; `one_minus_cos_body`, without the head;
        `relative_error`, and `worst_parameter`, the 1 - cosine of the one that agrees least.
        `<phase>/<estimator>/order`: slope of the relative error over beta, in logarithms.
        `<phase>/bptt/one_minus_cos`: back-propagation through time with the implicit gradient.
        `<phase>/residual`, `<phase>/adjoint_residual`: how exactly the reference was solved.
        `<phase>/spectral_radius`, `..._max`: mean and largest. `<phase>/skipped`: parameters whose
        reference vanishes, which the file lists.

    Raises:
        LabctlError: there is no such split.
    """
    assert isinstance(context.model, EnergyTransformer), "the card says only_for energy_transformer"
    inputs, targets = _examples(config, context)
    fresh = _fresh(context.model_config, context.spec, context.seed).to(inputs)
    models = {"init": fresh, "trained": deepcopy(context.model).to(inputs)}
    found = {
        phase: _compared(config, model.eval(), inputs, targets) for phase, model in models.items()
    }
    _write(config, context, found)
    values: dict[str, float] = {}
    for phase, compared in found.items():
        values |= {f"{phase}/{name}": value for name, value in _numbers(compared).items()}
    return values


def _examples(config: GradientEquivalenceConfig, context: MeasureContext) -> tuple[Tensor, Tensor]:
    """Inputs float64 (B, C, H, W), on a device that has such, and targets (B,)."""
    if config.split not in context.splits:
        known = ", ".join(sorted(context.splits))
        raise LabctlError(f"there is no split {config.split!r}", hint=f"there are: {known}")
    batch = next(iter(context.splits[config.split].in_order(config.samples)))
    device = torch.device("cpu") if context.device.type == "mps" else context.device
    return batch.inputs.to(device).double(), batch.targets.to(device)


def _fresh(config: EnergyTransformerConfig, spec: DataSpec, seed: int) -> EnergyTransformer:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return EnergyTransformer(config, spec)


def _compared(
    config: GradientEquivalenceConfig, model: EnergyTransformer, inputs: Tensor, targets: Tensor
) -> Compared:
    own = model.config.relax
    exact = RelaxConfig(max_steps=config.max_steps, tol=config.tol, step_size=own.step_size)
    model.config = model.config.model_copy(update={"relax": exact})
    reference = implicit(
        model, inputs, targets,
        tol=config.tol, max_steps=config.max_steps, step_size=own.step_size,
    )  # fmt: skip
    unrolled = bptt(
        model, inputs, targets,
        steps=config.bptt_steps or own.max_steps, step_size=own.step_size, checkpointed=True,
    )  # fmt: skip
    estimates: dict[Estimator, dict[float, Agreement]] = {}
    failed: dict[Estimator, dict[float, float]] = {}
    for estimator in config.estimators:
        rule = EqPropConfig(
            estimator=estimator,
            nudge=NudgeConfig(max_steps=config.nudge_steps, tol=config.nudge_tol),
            failure=TOLERANT,
        )
        estimates[estimator], failed[estimator] = {}, {}
        for beta in config.betas:
            strength = torch.tensor(beta, dtype=inputs.dtype, device=inputs.device)
            ours = estimate(model, Cost(), inputs, targets, strength, rule)
            estimates[estimator][beta] = agreement(ours.gradients, reference.gradients)
            failed[estimator][beta] = 1 - float(ours.kept.double().mean())
    with torch.no_grad():
        drive = model.drive(inputs)
        radius = spectral_radius(model.field, model.settle(drive).x, (drive,), RADIUS_STEPS)
    return Compared(
        estimates, failed, agreement(unrolled.gradients, reference.gradients), reference, radius
    )


def order(errors: Mapping[float, float]) -> float | None:
    """Slope of log error over log beta, where neither rounding nor higher orders rule; None if
    fewer than two betas are there."""
    points = [
        (log10(beta), log10(error))
        for beta, error in errors.items()
        if beta <= SLOPE_UP_TO and error > ROUNDING
    ]
    return linear_regression(*zip(*points, strict=True)).slope if len(points) > 1 else None


def _numbers(compared: Compared) -> dict[str, float]:
    values: dict[str, float] = {}
    for estimator, by_beta in compared.estimates.items():
        for beta, found in by_beta.items():
            values |= {
                f"{estimator}/b{beta:g}/one_minus_cos": found.one_minus_cos,
                f"{estimator}/b{beta:g}/nines": nines(found.one_minus_cos),
                f"{estimator}/b{beta:g}/one_minus_cos_body": found.one_minus_cos_body,
                f"{estimator}/b{beta:g}/relative_error": found.relative_error,
                f"{estimator}/b{beta:g}/worst_parameter": found.worst[1],
            }
        slope = order({beta: found.relative_error for beta, found in by_beta.items()})
        if slope is not None:
            values[f"{estimator}/order"] = slope
    reference = compared.reference
    assert reference.adjoint_residual is not None
    return values | {
        "bptt/one_minus_cos": compared.unrolled.one_minus_cos,
        "bptt/nines": nines(compared.unrolled.one_minus_cos),
        "residual": float(reference.residual),
        "adjoint_residual": float(reference.adjoint_residual),
        "spectral_radius": float(compared.radius.mean()),
        "spectral_radius_max": float(compared.radius.max()),
        "skipped": float(len(compared.unrolled.skipped)),
    }


def _write(
    config: GradientEquivalenceConfig, context: MeasureContext, found: Mapping[str, Compared]
) -> None:
    figure, axes = panels(len(found))
    record: dict[str, Any] = {}
    for axis, (phase, compared) in zip(axes[0], found.items(), strict=True):
        for place, (estimator, by_beta) in enumerate(compared.estimates.items()):
            errors = [agreed.relative_error for agreed in by_beta.values()]
            axis.loglog(list(by_beta), errors, label=estimator, **style(place))
        axis.axhline(compared.unrolled.relative_error, color="grey", linestyle=":", label="BPTT")
        axis.set(xlabel="nudge strength beta", title=phase)
        record[phase] = _numbers(compared) | {
            "loss": float(compared.reference.loss),
            "spectral_radius_by_sample": compared.radius.tolist(),
            "bptt": asdict(compared.unrolled),
            "estimates": {
                estimator: {f"{beta:g}": asdict(agreed) for beta, agreed in by_beta.items()}
                for estimator, by_beta in compared.estimates.items()
            },
            "failed": {
                estimator: {f"{beta:g}": share for beta, share in by_beta.items()}
                for estimator, by_beta in compared.failed.items()
            },
        }
    axes[0, 0].set_ylabel("relative error of the gradient")
    axes[0, 0].legend(fontsize=8)
    save(figure, context.folder, "gradient_equivalence")
    record["samples"], record["split"] = config.samples, config.split
    text = json.dumps(record, indent=1)
    (context.folder / "gradient_equivalence.json").write_text(text, encoding="utf-8")
