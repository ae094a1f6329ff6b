"""Measurement: how gates, importance and the share of patches kept moved as the model trained."""

from __future__ import annotations

from typing import Any

import numpy as np

from labctl.api import MeasureContext

from .config import TokenCourseConfig

KINDS = {
    "gate": "1 - gamma",
    "importance": "importance",
    "kept": "patches kept, of 1",
}
"""What an observed run journals of a block, and how an axis calls it."""


def token_course(config: TokenCourseConfig, context: MeasureContext) -> dict[str, float]:
    """Over training and blocks, what `observed_backprop` noted at the beginning of every epoch.

    Writes `token_course.png` and `token_course.npz`: of each part that the model has, `gate`,
    `importance` or `kept`, (T, L), and `<part>_step` (T,), the step at which the stretch of
    training ended that a look fell into.

    Returns:
        `looks`, how many there are, 0 if nothing was noted, and then nothing is written; and of
        each part `<part>_rise_block<l>`, of block l, from 1, the last look less the first.
    """
    arrays = _arrays(context)
    if not arrays:
        return {"looks": 0.0}
    np.savez_compressed(context.folder / "token_course.npz", allow_pickle=False, **arrays)
    _draw(arrays, context)
    numbers = {"looks": float(max(len(values) for values in arrays.values()))}
    for kind in KINDS.keys() & arrays:
        for place, rise in enumerate(arrays[kind][-1] - arrays[kind][0], start=1):
            numbers[f"{kind}_rise_block{place}"] = float(rise)
    return numbers


def _arrays(context: MeasureContext) -> dict[str, Any]:
    arrays: dict[str, Any] = {}
    for kind in KINDS:
        names = [f"train/{kind}_block{n}" for n in range(1, context.model_config.depth + 1)]
        curves = [context.curves.get(name, {}) for name in names]
        if steps := sorted(set(curves[0]).intersection(*curves[1:])):
            arrays[kind] = np.array([[curve[step] for curve in curves] for step in steps])
            arrays[f"{kind}_step"] = np.array(steps)
    return arrays


def _draw(arrays: dict[str, Any], context: MeasureContext) -> None:
    """For each part a line per block over steps, dark for the first and light for the last."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    kinds = [kind for kind in KINDS if kind in arrays]
    figure = Figure(figsize=(4.2 * len(kinds), 3.0), layout="compressed")
    for axis, kind in zip(figure.subplots(1, len(kinds), squeeze=False)[0], kinds, strict=True):
        blocks = arrays[kind].shape[1]
        shades = mpl.colormaps["viridis"](np.linspace(0, 0.9, blocks))
        for place, shade in enumerate(shades):
            axis.plot(
                arrays[f"{kind}_step"],
                arrays[kind][:, place],
                color=shade,
                marker="." if len(arrays[kind]) < 60 else None,
                label=f"block {place + 1}",
            )
        axis.set_xlabel("step")
        axis.set_ylabel(KINDS[kind])
    axis.legend(fontsize=7)
    figure.savefig(context.folder / "token_course.png", dpi=120)
