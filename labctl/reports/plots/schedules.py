"""Knobs over training, as they were realised, and what they came to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from labctl.reports.result import Result
from labctl.reports.rows import Row

from .curves import epoch_of
from .plot import Plot, color, dash, drawn

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST = 5
"""Panels that a plot has room for."""
REALISED = "mac_ratio"
"""What structural knobs come to that says most: multiply-accumulates, of those without them."""

Course = tuple[tuple[float, float], ...]
"""Epochs and values."""


def courses(result: Result) -> Mapping[str, Course]:
    """What moves during training, by name: knobs, and `mac_ratio` of an architecture that has it.

    Knobs are the same for every seed.
    """
    length = epoch_of(result)
    found = {
        name.removeprefix("knob/"): tuple(
            (step / length, value) for step, value in zip(curve.steps, curve.values, strict=True)
        )
        for name, curve in result.training.items()
        if name.startswith("knob/")
    }
    found[REALISED] = tuple(
        (step / length, phase.realised[REALISED])
        for phase in result.phases
        if REALISED in phase.realised
        for step in (phase.start, phase.end)
    )
    return {name: course for name, course in found.items() if len({v for _, v in course}) > 1}


def schedules(rows: Sequence[tuple[str, Row]], name: str) -> Plot | None:
    """A panel for each of the first five that moves in any row; None if nothing does."""
    by_row = {
        (place, label): courses(next(iter(row.results.values())))
        for place, (label, row) in enumerate(rows)
        if row.results
    }
    moving = list(dict.fromkeys(knob for found in by_row.values() for knob in found))[:MOST]
    if not moving:
        return None

    results = [result for _, row in rows for result in row.results.values()]
    # A window of training that a curve has a point for lies before it.
    structural = {knob for result in results for knob in result.work.get("ladders", {})}

    def paint(figure: Figure) -> None:
        panels = figure.subplots(len(moving), 1, sharex=True, squeeze=False)[:, 0]
        for axes, knob in zip(panels, moving, strict=True):
            for (place, label), found in by_row.items():
                if course := found.get(knob):
                    axes.plot(
                        *zip(*course, strict=True), dash(place), color=color(place),
                        linewidth=1.4, label=label,
                        drawstyle="steps-pre" if knob in structural else "default",
                    )  # fmt: skip
            axes.set_ylabel(knob)
        panels[-1].set_xlabel("epochs")
        handles = {
            label: handle
            for axes in panels
            for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
        }
        figure.legend(handles.values(), handles.keys(), loc="outside upper left", ncols=2)

    numbers = (
        (label, knob, epoch, value)
        for (_, label), found in by_row.items()
        for knob in moving
        for epoch, value in found.get(knob, ())
    )
    caption = "Knobs over training, as realised"
    if REALISED in moving:
        caption += f"; {REALISED}: multiply-accumulates of a forward pass, of those without a drop"
    size = (6.4, 1.0 + 1.4 * len(moving))
    return drawn(name, caption, paint, ("row", "knob", "epoch", "value"), numbers, size)
