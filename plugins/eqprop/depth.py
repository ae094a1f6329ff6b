"""Measurement: accuracy after how many steps of relaxation."""

from __future__ import annotations

import json

import torch

from labctl.api import MeasureContext

from .figures import panels, save, style
from .measure_config import RelaxationDepthConfig
from .trace import trace_of


def relaxation_depth(config: RelaxationDepthConfig, context: MeasureContext) -> dict[str, float]:
    """Read the state out after each of a number of steps, every example taking as many.

    What is right before any step needs no equilibrium: it is a classifier of the embedded image.
    Writes `relaxation_depth.json`, `.png` and `.svg`.

    Returns:
        For each number T: `t<T>/acc`; `t<T>/final`, the share of decisions that are those after the
        largest T; `t<T>/loss`, mean cross-entropy; and, for T > 0, `t<T>/residual`, the median
        length of the last step over that of the state.

    Raises:
        LabctlError: there is no such split.
    """
    numbers = sorted(set(config.steps))
    trace = trace_of(context, config.split, config.samples, config.batch, numbers[-1])
    decided = trace.logits.argmax(-1)
    values: dict[str, float] = {}
    for steps in numbers:
        logits = trace.logits[:, steps]
        loss = torch.nn.functional.cross_entropy(logits, trace.targets)
        values |= {
            f"t{steps}/acc": _share(decided[:, steps] == trace.targets),
            f"t{steps}/final": _share(decided[:, steps] == decided[:, -1]),
            f"t{steps}/loss": float(loss),
        }
        if steps:
            values[f"t{steps}/residual"] = float(trace.residuals[:, steps - 1].median())
    record = {"split": config.split, "samples": len(decided), "steps": numbers, **values}
    path = context.folder / "relaxation_depth.json"
    path.write_text(json.dumps(record, indent=1), encoding="utf-8")
    _draw(context, numbers, values)
    return values


def _share(flags: torch.Tensor) -> float:
    return float(flags.double().mean())


def _draw(context: MeasureContext, numbers: list[int], values: dict[str, float]) -> None:
    figure, axes = panels(2)
    left, right = axes[0]
    for place, (name, label) in enumerate((("acc", "accuracy"), ("final", "decisions final"))):
        shares = [100 * values[f"t{steps}/{name}"] for steps in numbers]
        left.plot(numbers, shares, label=label, **style(place))
    left.set_xscale("symlog", linthresh=1)
    left.set(xlabel="steps T", ylabel="%")
    left.legend(fontsize=8)
    moved = [steps for steps in numbers if steps]
    right.loglog(moved, [values[f"t{steps}/residual"] for steps in moved], **style(0))
    right.set(xlabel="steps T", ylabel="median relative step")
    save(figure, context.folder, "relaxation_depth")
