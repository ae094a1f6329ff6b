"""What a metric costs: rows over executed FLOPs and over time, with those that none dominates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from labctl.recipe.claim import better
from labctl.reports.comparison import values
from labctl.reports.number import flops_unit
from labctl.reports.quantity import axis_label
from labctl.reports.rows import Row
from labctl.reports.statistics import Summary, summary

from .plot import INK, Plot, color, drawn

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COSTS = {"flops": "training", "time": "training time"}


@dataclass(frozen=True, slots=True)
class Offer:
    """What a row reaches, and for how much."""

    label: str
    place: int
    """Of the row in the table."""
    cost: Summary
    gain: Summary


def offers(rows: Sequence[tuple[str, Row]], metric: str, cost: str) -> list[Offer]:
    """One per row that has both."""
    found = []
    for place, (label, row) in enumerate(rows):
        costs, gains = (list(values(row, name).values()) for name in (cost, metric))
        if costs and gains:
            found.append(Offer(label, place, summary(costs), summary(gains)))
    return found


def front(found: Sequence[Offer], direction: str) -> list[Offer]:
    """Offers by rising cost, of which each reaches more than all that cost no more.

    Args:
        direction: `higher` or `lower`: which means of the metric are the better ones.
    """
    sign = 1 if direction == "higher" else -1
    kept: list[Offer] = []
    for offer in sorted(found, key=lambda one: (one.cost.mean, -sign * one.gain.mean)):
        if not kept or sign * offer.gain.mean > sign * kept[-1].gain.mean:
            kept.append(offer)
    return kept


def frontier(rows: Sequence[tuple[str, Row]], metric: str, name: str) -> Plot | None:
    """None if less than two rows have cost and metric, or no direction of the metric is better.

    Times have a panel only where all were measured under the same conditions.
    """
    direction = better(metric)
    alike = len({condition for _, row in rows for condition in row.conditions}) == 1
    panels = {
        cost: found
        for cost in COSTS
        if len(found := offers(rows, metric, cost)) > 1 and (alike or cost != "time")
    }
    if direction is None or not panels:
        return None

    def paint(figure: Figure) -> None:
        most = max((one.cost.mean for one in panels.get("flops", ())), default=0.0)
        units = {"flops": flops_unit(most), "time": (1.0, "s")}
        shown = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for axes, (cost, found) in zip(shown, panels.items(), strict=True):
            best, unit = front(found, direction), units[cost][0]
            axes.step(
                [one.cost.mean / unit for one in best], [one.gain.mean for one in best], ":",
                where="post", color=INK, linewidth=1.0, label="Pareto front",
            )  # fmt: skip
            for one in found:
                axes.errorbar(
                    one.cost.mean / unit, one.gain.mean, yerr=one.gain.sd, fmt="o",
                    xerr=None if one.cost.sd is None else one.cost.sd / unit,
                    color=color(one.place), markersize=5, capsize=2, label=one.label,
                )  # fmt: skip
            axes.set_xlabel(f"{COSTS[cost]} ({units[cost][1]})")
        shown[0].set_ylabel(axis_label(metric))
        handles, labels = shown[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper left", ncols=len(panels))

    numbers = (
        (one.label, cost, one.cost.mean, one.cost.sd, one.gain.mean, one.gain.sd, one.gain.n,
         one in front(found, direction))
        for cost, found in panels.items()
        for one in found
    )  # fmt: skip
    caption = f"{metric} over cost, mean \u00b1 sd over seeds; the Pareto front is of the means"
    if not alike:
        caption += "; times were measured under different conditions and are not compared"
    columns = ("row", "cost", "cost mean", "cost sd", "mean", "sd", "n", "on the front")
    return drawn(name, caption, paint, columns, numbers, (3.4 * len(panels) + 1, 4.2))
