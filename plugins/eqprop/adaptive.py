"""Measurement: how long examples relax, each by itself, and whether hard ones relax longer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from labctl.api import MeasureContext

from .config import RelaxConfig
from .figures import COLOURS, panels, save, style
from .intervals import Found, Values, difference_of_means, spearman
from .measure_config import AdaptiveComputeConfig
from .policies import KINDS, Policy, margin, policies
from .relaxation import relax
from .trace import Trace, batches_of, opened, relaxation_of, trace_of

EQUAL = 1e-3
"""Accuracies no further apart than this, a tenth of a point, count as equal."""
DIFFICULTY = ("margin", "entropy", "loss", "rate")
"""Facts of an example that its steps are correlated with."""


def adaptive_compute(config: AdaptiveComputeConfig, context: MeasureContext) -> dict[str, float]:
    """Let each example relax until it rests, and relate that time to how hard it is.

    Writes `adaptive_compute.npz` (per example: `steps`, `settled`, `rate`, `margin`, `entropy`,
    `loss`, `right`, `targets`), `adaptive_compute.json` (the numbers, means per class, histogram,
    accuracy against work) and `.png`, `.svg`.

    Returns:
        `steps_mean`, `steps_std`, `steps_min`, `steps_max`, and `unsettled`, the share that
        `max_steps` did not suffice for. `work_share`: mean over largest, what lockstep with the
        slowest would waste. `compacted_share`: sample-steps that compaction did compute, over those
        of batches in lockstep; `compaction_error`: largest difference of a state from lockstep's,
        over its length; `compaction_moved`: examples that took another number of steps.
        `spearman_<of>`, with `_low` and `_high`, of steps with `margin` (of the two likeliest
        classes), `entropy` (of the classes, nats), `loss` and `rate` (of convergence per step);
        left out if all examples take the same steps. `wrong_minus_right`: difference of mean steps,
        with `_low` and `_high`. `acc`: at rest; `t<T>/acc`: after T steps; `tol<x>/acc` and
        `tol<x>/steps`: at rest by another tolerance; `early/acc` and `early/steps`: by early exit.
        `best_fixed`: the fewest steps for all that lose no more than 0.1 points to `acc`;
        `saving`: 1 - steps_mean / best_fixed, negative if adaptive relaxation costs more.

    Raises:
        LabctlError: there is no such split.
    """
    trace = trace_of(context, config.split, config.samples, config.batch, config.max_steps)
    steps = trace.steps_to(config.tol)
    facts = _facts(trace, steps, trace.settled(config.tol))
    rules = policies(config, trace)
    adaptive = Policy.of(trace, "tolerance", f"tol{config.tol:g}", steps)
    values = _spread(trace, config.tol) | _compaction(config, context, trace)
    correlations = {of: spearman(facts["steps"], facts[of]) for of in DIFFICULTY}
    for of, found in correlations.items():
        values |= _named(f"spearman_{of}", found)
    is_right = facts["right"]
    apart = difference_of_means(
        facts["steps"][~is_right], facts["steps"][is_right], seed=context.seed
    )
    values |= _named("wrong_minus_right", apart)
    values["acc"] = adaptive.accuracy
    for policy in rules:
        values[f"{policy.name}/acc"] = policy.accuracy
        if policy.kind != "fixed":
            values[f"{policy.name}/steps"] = policy.work
    values |= _saving(trace, adaptive)
    np.savez_compressed(context.folder / "adaptive_compute.npz", allow_pickle=False, **facts)
    _write(config, context, values, facts, [*rules, adaptive])
    _draw(config, context, facts, [*rules, adaptive])
    return values


def _facts(trace: Trace, steps: Tensor, settled: Tensor) -> dict[str, Values]:
    """What is known of each example, at rest."""
    logits = trace.read(steps).double()
    shares = logits.softmax(-1)
    losses = torch.nn.functional.cross_entropy(logits, trace.targets, reduction="none")
    return {
        "steps": steps.numpy(),
        "settled": settled.numpy(),
        "rate": trace.rates().numpy(),
        "margin": margin(shares).numpy(),
        "entropy": torch.special.entr(shares).sum(-1).numpy(),
        "loss": losses.numpy(),
        "right": trace.right(steps).numpy(),
        "targets": trace.targets.numpy(),
    }


def _spread(trace: Trace, tol: float) -> dict[str, float]:
    steps = trace.steps_to(tol).double()
    return {
        "steps_mean": float(steps.mean()),
        "steps_std": float(steps.std()),
        "steps_min": float(steps.min()),
        "steps_max": float(steps.max()),
        "unsettled": float((~trace.settled(tol)).double().mean()),
        "work_share": float(steps.mean() / steps.max()),
    }


def _compaction(
    config: AdaptiveComputeConfig, context: MeasureContext, trace: Trace
) -> dict[str, float]:
    """What the relaxation that gathers moving examples computes, beside the trace of all steps."""
    model = opened(context)
    rule = RelaxConfig(
        max_steps=config.max_steps, tol=config.tol, step_size=relaxation_of(context).step_size
    )
    expected = trace.steps_to(config.tol).split(config.batch)
    work = lockstep = moved = 0
    error = 0.0
    batches = batches_of(context, config.split, config.samples, config.batch)
    for batch, steps in zip(batches, expected, strict=True):
        with torch.no_grad():
            drive = model.drive(batch.inputs)
        start = model.start(drive)
        gathered = relax(model.field, start, (drive,), rule)
        together = relax(model.field, start, (drive,), rule, compact=False)
        moved += int((gathered.steps.cpu() != steps).sum())
        work, lockstep = work + gathered.work, lockstep + together.work
        apart = (gathered.x - together.x).flatten(1).norm(dim=1)
        error = max(error, float((apart / together.x.flatten(1).norm(dim=1)).max()))
    return {
        "compacted_share": work / lockstep,
        "compaction_error": error,
        "compaction_moved": float(moved),
    }


def _saving(trace: Trace, adaptive: Policy) -> dict[str, float]:
    right = (trace.logits.argmax(-1) == trace.targets[:, None]).double().mean(0)
    good = (right >= adaptive.accuracy - EQUAL).nonzero()[:, 0].tolist()
    if not good:
        return {}
    values = {"best_fixed": float(good[0])}
    return values | ({"saving": 1 - adaptive.work / good[0]} if good[0] else {})


def _named(name: str, found: Found | None) -> dict[str, float]:
    if found is None or not np.isfinite(found.value):
        return {}
    return {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}


def _write(
    config: AdaptiveComputeConfig,
    context: MeasureContext,
    values: Mapping[str, float],
    facts: Mapping[str, Values],
    rules: list[Policy],
) -> None:
    steps, targets = facts["steps"], facts["targets"]
    counts = np.bincount(steps)
    record: dict[str, Any] = {
        "config": config.model_dump(mode="json"),
        "examples": len(steps),
        "numbers": dict(values),
        "histogram": {str(taken): int(count) for taken, count in enumerate(counts) if count},
        "steps_by_class": {
            str(kind): float(steps[targets == kind].mean()) for kind in np.unique(targets)
        },
        "policies": [
            {"name": policy.name, "steps": policy.work, "accuracy": policy.accuracy}
            for policy in rules
        ],
    }
    path = context.folder / "adaptive_compute.json"
    path.write_text(json.dumps(record, indent=1), encoding="utf-8")


def _draw(
    config: AdaptiveComputeConfig,
    context: MeasureContext,
    facts: Mapping[str, Values],
    rules: list[Policy],
) -> None:
    """Histogram of steps, steps against margin, and accuracy against work."""
    figure, axes = panels(3)
    histogram, scatter, pareto = axes[0]
    steps, right = facts["steps"], facts["right"]
    bins = np.arange(steps.min(), steps.max() + 2) - 0.5
    parts = [steps[right], steps[~right]]
    histogram.hist(parts, bins=bins, stacked=True, color=COLOURS[:2], label=["right", "wrong"])
    histogram.set(xlabel=f"steps to tolerance {config.tol:g}", ylabel="examples")
    histogram.legend(fontsize=8)
    for place, (label, chosen) in enumerate((("right", right), ("wrong", ~right))):
        scatter.plot(facts["margin"][chosen], steps[chosen], ".", color=COLOURS[place], label=label)
    scatter.set(xlabel="margin of probabilities", ylabel="steps")
    for place, kind in enumerate(KINDS):
        ordered = sorted((p for p in rules if p.kind == kind), key=lambda policy: policy.work)
        work = [policy.work for policy in ordered]
        accuracy = [100 * policy.accuracy for policy in ordered]
        pareto.plot(work, accuracy, label=kind, **style(place))
    pareto.set_xscale("symlog", linthresh=1)
    pareto.set(xlabel="mean steps", ylabel="accuracy (%)")
    pareto.legend(fontsize=8)
    save(figure, context.folder, "adaptive_compute")
