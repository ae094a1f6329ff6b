"""Learning curves: a metric over training, the mean of each row's seeds with its spread."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from labctl.reports.quantity import axis_label, scaled
from labctl.reports.result import Curve, Result
from labctl.reports.statistics import Summary, summary

from .plot import Plot, color, dash, drawn

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Trained(Protocol):
    """Something with results."""

    @property
    def results(self) -> Mapping[int, Result]:
        """By seed."""
        ...


@dataclass(frozen=True, slots=True)
class Line:
    """The curve of one row."""

    label: str
    place: int
    """Of the row in the table."""
    epochs: tuple[float, ...]
    summaries: tuple[Summary, ...]
    """Over seeds, at each of them."""


def lines(rows: Sequence[tuple[str, Trained]], metric: str) -> Iterator[Line]:
    """One line per row that has such a curve of two points or more; where seeds were evaluated at
    other steps, at those that all of them have."""
    for place, (label, row) in enumerate(rows):
        results = list(row.results.values())
        curves = [curve for result in results if (curve := curve_of(result, metric)) is not None]
        if not curves:
            continue
        steps = sorted(set.intersection(*(set(curve.steps) for curve in curves)))
        if len(steps) > 1:
            length = epoch_of(results[0])
            values = [[scaled(metric, curve.at(step) or 0.0) for curve in curves] for step in steps]
            yield Line(
                label, place, tuple(step / length for step in steps), tuple(map(summary, values))
            )


def curve_of(result: Result, metric: str) -> Curve | None:
    """Of an evaluation, or of training."""
    return result.evaluations.get(metric) or result.training.get(metric)


def epoch_of(result: Result) -> int:
    """Steps of an epoch."""
    return int(result.work.get("steps_per_epoch", 1))


def learning_curves(rows: Sequence[tuple[str, Trained]], metric: str, name: str) -> Plot | None:
    """None if no row has a curve of the metric."""
    found = list(lines(rows, metric))
    if not found:
        return None

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        for line in found:
            means = [one.mean for one in line.summaries]
            spread = [one.sd or 0.0 for one in line.summaries]
            axes.plot(
                line.epochs, means, dash(line.place), color=color(line.place), linewidth=1.4,
                label=line.label,
            )  # fmt: skip
            axes.fill_between(
                line.epochs,
                [mean - sd for mean, sd in zip(means, spread, strict=True)],
                [mean + sd for mean, sd in zip(means, spread, strict=True)],
                color=color(line.place), alpha=0.2, linewidth=0,
            )  # fmt: skip
        axes.set_xlabel("epochs")
        axes.set_ylabel(axis_label(metric))
        axes.legend()

    numbers = (
        (line.label, epoch, one.mean, one.sd, one.n)
        for line in found
        for epoch, one in zip(line.epochs, line.summaries, strict=True)
    )
    caption = f"{metric} over training, mean over seeds; bands: \u00b1 sd"
    return drawn(name, caption, paint, ("row", "epoch", "mean", "sd", "n"), numbers)
