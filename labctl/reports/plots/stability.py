"""A sweep: a metric with its band, and the share of stable runs, over the values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from labctl.reports.comparison import values
from labctl.reports.quantity import axis_label
from labctl.reports.rows import UNSTABLE, Row
from labctl.reports.statistics import summary
from labctl.reports.sweeps import position

from .plot import PALETTE, Plot, drawn

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

METRIC, COLLAPSED, STABLE = PALETTE[:3]
DECADES = 20.0
"""Values that span more than this factor stand on a logarithmic axis."""


@dataclass(frozen=True, slots=True)
class Mark:
    """What is drawn at one value."""

    x: float
    label: str
    mean: float | None
    sd: float | None
    seeds: tuple[float, ...]
    stable: float | None
    """Share of stable runs among those that have an answer."""


def marks(points: Sequence[tuple[str, Row]], metric: str) -> list[Mark]:
    """One mark per point that has an answer; `points` are values, as text, with their rows.

    Values that are no numbers stand side by side.
    """
    numbers = [position(text) for text, _ in points]
    made = []
    for place, (text, row) in enumerate(points):
        x = numbers[place] if None not in numbers else float(place)
        assert x is not None
        found = tuple(values(row, metric).values())
        of_seeds = summary(found) if found else None
        answered = len(row.results) + len(row.seeds(*UNSTABLE))
        if answered:
            stable = len(row.results) / answered
            mean, sd = (of_seeds.mean, of_seeds.sd) if of_seeds else (None, None)
            made.append(Mark(x, text, mean, sd, found, stable))
    return made


def stability(title: str, field: str, metric: str, found: Sequence[Mark], name: str) -> Plot:
    """Metric and stability over the values of `field`."""

    def paint(figure: Figure) -> None:
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        good = [mark for mark in found if mark.mean is not None]
        above.plot(
            [m.x for m in good], [m.mean for m in good], color=METRIC, marker="o", markersize=4,
            label="mean",
        )  # fmt: skip
        if any(mark.sd for mark in good):
            low = [(m.mean or 0.0) - (m.sd or 0.0) for m in good]
            high = [(m.mean or 0.0) + (m.sd or 0.0) for m in good]
            above.fill_between(
                [m.x for m in good], low, high, color=METRIC, alpha=0.2, linewidth=0,
                label="mean \u00b1 sd over seeds",
            )  # fmt: skip
        for mark in good:
            above.plot([mark.x] * len(mark.seeds), mark.seeds, ".", color=METRIC, alpha=0.45)
        fallen = [mark.x for mark in found if mark.stable is not None and mark.stable < 1]
        for number, x in enumerate(fallen):
            label = "collapsed or diverged" if number == 0 else None
            for axes in (above, below):
                axes.axvline(x, color=COLLAPSED, alpha=0.35, linestyle=":", label=label)
        above.set_ylabel(axis_label(metric))
        above.set_title(title)
        if good or fallen:
            above.legend()
        below.plot(
            [m.x for m in found], [m.stable for m in found], color=STABLE, marker="s", markersize=4
        )
        below.set_ylim(-0.08, 1.08)
        below.set_ylabel("P(stable)")
        below.set_xlabel(field)
        _set_axis(below, found)

    caption = (
        f"{metric} over {field}: a dot for each seed, mean \u00b1 sd; below, the share of runs "
        "that came to their end, of those that have an answer"
    )
    numbers = [(m.label, m.mean, m.sd, len(m.seeds), m.stable) for m in found]
    columns = (field, "mean", "sd", "n", "stable")
    return drawn(name, caption, paint, columns, numbers, size=(6.4, 4.8))


def _set_axis(axes: Axes, found: Sequence[Mark]) -> None:
    """A logarithmic axis for values over decades; names for values that are no numbers."""
    from matplotlib.ticker import NullFormatter, StrMethodFormatter

    places = [mark.x for mark in found]
    if any(position(mark.label) is None for mark in found):
        axes.set_xticks(places, [mark.label for mark in found])
    elif places and min(places) > 0 and max(places) / min(places) > DECADES:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    elif 0 < len(places) <= 12:
        axes.set_xticks(places, [mark.label for mark in found])
