"""The picture of a sweep: a metric with its band, and the share of stable runs, over the values.

matplotlib is loaded when a figure is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from labctl.store.atomic import storage

from .comparison import values
from .quantity import is_percent
from .rows import UNSTABLE, Row
from .statistics import summary
from .sweeps import position

METRIC, STABLE, COLLAPSED = "#0072B2", "#009E73", "#D55E00"
"""Okabe and Ito's blue, green and vermilion: told apart by people who confuse red and green."""
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


def draw(
    title: str, field: str, metric: str, drawn: Sequence[Mark], folder: Path, name: str
) -> list[Path]:
    """Write NAME.png and NAME.svg into `folder`.

    Raises:
        EnvironmentProblem: they cannot be written.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.8), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    good = [mark for mark in drawn if mark.mean is not None]
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
    fallen = [mark.x for mark in drawn if mark.stable is not None and mark.stable < 1]
    for number, x in enumerate(fallen):
        label = "collapsed or diverged" if number == 0 else None
        for axes in (above, below):
            axes.axvline(x, color=COLLAPSED, alpha=0.35, linestyle=":", label=label)
    above.set_ylabel(f"{metric} (%)" if is_percent(metric) else metric)
    above.set_title(title)
    if good or fallen:
        above.legend(frameon=False, fontsize="small")
    below.plot(
        [m.x for m in drawn], [m.stable for m in drawn], color=STABLE, marker="s", markersize=4
    )
    below.set_ylim(-0.08, 1.08)
    below.set_ylabel("P(stable)")
    below.set_xlabel(field)
    _set_axis(below, drawn)
    written = [folder / f"{name}.{suffix}" for suffix in ("png", "svg")]
    with storage(folder), matplotlib.rc_context({"svg.hashsalt": name}):
        folder.mkdir(parents=True, exist_ok=True)
        figure.savefig(written[0], dpi=160)
        figure.savefig(written[1], metadata={"Date": None})
    return written


def _set_axis(axes: object, drawn: Sequence[Mark]) -> None:
    """A logarithmic axis for values over decades; names for values that are no numbers."""
    from matplotlib.axes import Axes

    assert isinstance(axes, Axes)
    places = [mark.x for mark in drawn]
    if any(position(mark.label) is None for mark in drawn):
        axes.set_xticks(places, [mark.label for mark in drawn])
    elif places and min(places) > 0 and max(places) / min(places) > DECADES:
        axes.set_xscale("log")
    elif 0 < len(places) <= 12:
        axes.set_xticks(places, [mark.label for mark in drawn])
