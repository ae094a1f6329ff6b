"""Measurement: the memory that training takes against the number of steps, by learning rule."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

from labctl.api import MeasureContext

from .figures import panels, save, style
from .measure_config import Method, TrainingMemoryConfig
from .memory_cell import Cell, Footprint, as_row, footprint_of, measured, measured_apart

MIB = 2**20
UNROLLED: Method = "bptt"
"""What ratios are over."""
SETTLED_FROM = 10
"""Steps from which growth with T is told."""

Cells = Mapping[Cell, Footprint | None]
"""None: out of memory."""


def training_memory(config: TrainingMemoryConfig, context: MeasureContext) -> dict[str, float]:
    """Memory and time of a training step over methods, widths and steps T.

    Models are built anew from the run's config, of other width and T, and take steps on noise; the
    run's weights do not matter. On CUDA each cell has a process of its own and peaks are the
    allocator's; elsewhere bytes are counted tensor by tensor, which nothing before can disturb.
    Writes `training_memory.json` (a row per cell), `.png` and `.svg`, and `cells.jsonl` as it goes,
    from which an attempt that broke off goes on.

    Returns:
        `<method>/d<width>/t<T>/...`: `peak_mib` of the step; `activations_mib`, without parameters
        and optimizer; `saved_mib`, what autograd holds (not with checkpoints, which hold by
        themselves); `seconds`. `<method>/d<width>/growth`: the peak's relative growth from
        T = 10, or the smallest above, to the largest. `<method>/d<width>/t<T>/peak_ratio`,
        `activations_ratio`, `seconds_ratio`: over those of `bptt`. `out_of_memory`: number of
        cells that did not fit; `<cell>/out_of_memory`: 1 for each of them. Cells of `impossible`
        are `impossible/<cell>/...`.
    """
    cells = [
        Cell(method, width, steps, config.batch, config.tokens, config.repeats)
        for width, steps, method in product(config.widths, config.steps, config.methods)
    ]
    found = _measured(cells, context)
    values = _numbers(found)
    beyond: Cells = {}
    if config.impossible is not None and context.device.type == "cuda":
        far = config.impossible
        cells = [
            Cell(method, far.width, far.steps, far.batch, config.tokens, far.repeats)
            for method in far.methods or config.methods
        ]
        beyond = _measured(cells, context)
        values |= {f"impossible/{name}": value for name, value in _numbers(beyond).items()}
    missed = [taken for taken in (*found.values(), *beyond.values()) if taken is None]
    values["out_of_memory"] = float(len(missed))
    rows = [as_row(cell, taken) for cell, taken in (*found.items(), *beyond.items())]
    record = {"device": str(context.device), "cells": rows}
    path = context.folder / "training_memory.json"
    path.write_text(json.dumps(record, indent=1), encoding="utf-8")
    _draw(context.folder, config, found)
    return values


def _measured(cells: Sequence[Cell], context: MeasureContext) -> Cells:
    """Cells that an earlier attempt has measured are taken from what it wrote."""
    path = context.folder / "cells.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    found = dict(map(footprint_of, map(json.loads, lines)))
    missing = [cell for cell in cells if cell not in found]
    given = context.model_config, context.spec, context.device
    if context.device.type == "cuda":
        taken: Iterator[Footprint | None] = measured_apart(missing, *given)
    else:
        taken = (measured(cell, *given) for cell in missing)
    for cell, footprint in zip(missing, taken, strict=True):
        found[cell] = footprint
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(as_row(cell, footprint)) + "\n")
    return {cell: found[cell] for cell in cells}


def _numbers(cells: Cells) -> dict[str, float]:
    values: dict[str, float] = {}
    for cell, taken in cells.items():
        if taken is None:
            values[f"{cell.name}/out_of_memory"] = 1.0
            continue
        values[f"{cell.name}/peak_mib"] = taken.peak / MIB
        values[f"{cell.name}/activations_mib"] = (taken.peak - taken.base) / MIB
        if cell.method != "bptt_checkpointed":
            values[f"{cell.name}/saved_mib"] = taken.saved / MIB
        values[f"{cell.name}/seconds"] = taken.seconds
        if other := cells.get(replace(cell, method=UNROLLED)):
            values[f"{cell.name}/peak_ratio"] = taken.peak / other.peak
            ours, theirs = taken.peak - taken.base, other.peak - other.base
            values[f"{cell.name}/activations_ratio"] = ours / theirs
            values[f"{cell.name}/seconds_ratio"] = taken.seconds / other.seconds
    return values | _growth(cells)


def _growth(cells: Cells) -> dict[str, float]:
    """Of each method and width, the peak at the largest T over that at the first from 10 on."""
    curves: dict[str, dict[int, int]] = {}
    for cell, taken in cells.items():
        if taken is not None and cell.steps >= SETTLED_FROM:
            curves.setdefault(f"{cell.method}/d{cell.width}", {})[cell.steps] = taken.peak
    return {
        f"{name}/growth": peaks[max(peaks)] / peaks[min(peaks)] - 1
        for name, peaks in curves.items()
        if len(peaks) > 1
    }


def _draw(folder: Path, config: TrainingMemoryConfig, cells: Cells) -> None:
    """Peak over T, a panel for each width; a cross at the top is a cell that did not fit."""
    figure, axes = panels(len(config.widths))
    for axis, width in zip(axes[0], config.widths, strict=True):
        for place, method in enumerate(config.methods):
            row = {
                cell.steps: taken
                for cell, taken in cells.items()
                if (cell.width, cell.method) == (width, method)
            }
            fitting = {steps: taken.peak / MIB for steps, taken in row.items() if taken}
            axis.loglog(list(fitting), list(fitting.values()), label=method, **style(place))
            missed = [steps for steps, taken in row.items() if taken is None]
            colour = style(place)["color"]
            axis.plot(
                missed,
                [0.97] * len(missed),
                "x",
                color=colour,
                transform=axis.get_xaxis_transform(),
            )
        axis.set(xlabel="steps T", title=f"d = {width}")
    axes[0, 0].set_ylabel("peak memory of a step (MiB)")
    axes[0, 0].legend(fontsize=7)
    save(figure, folder, "training_memory")
