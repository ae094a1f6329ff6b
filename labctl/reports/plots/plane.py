"""A sweep over two fields: a metric at each pair of values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from labctl.reports.quantity import axis_label
from labctl.reports.rows import Row

from .plot import INK, Plot, drawn
from .stability import Mark, marks

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLORS = "cividis"
"""As bright as it is large, and alike to all eyes."""
PAPER = "#FFFFFF"


def plane(
    title: str,
    fields: tuple[str, str],
    metric: str,
    points: Sequence[tuple[tuple[str, str], Row]],
    name: str,
) -> Plot | None:
    """The mean of `metric` over seeds where two fields have the values of `points`, as text; None
    if no point has an answer."""
    found: dict[tuple[str, str], Mark] = {}
    for pair, row in points:
        for mark in marks([(" ".join(pair), row)], metric):
            found[pair] = mark
    if not found:
        return None
    down = list(dict.fromkeys(first for (first, _), _ in points))
    along = list(dict.fromkeys(second for (_, second), _ in points))

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        means = [[_number(found.get((first, second))) for second in along] for first in down]
        drawn_means = [mark.mean for mark in found.values() if mark.mean is not None]
        middle = (min(drawn_means) + max(drawn_means)) / 2 if drawn_means else 0.0
        image = axes.imshow(means, cmap=COLORS, aspect="auto", origin="lower")
        axes.set_xticks(range(len(along)), along)
        axes.set_yticks(range(len(down)), down)
        axes.set_xlabel(fields[1])
        axes.set_ylabel(fields[0])
        axes.set_title(title)
        axes.grid(visible=False)
        figure.colorbar(image, ax=axes, label=axis_label(metric))
        for (first, second), mark in found.items():
            is_dark = mark.mean is not None and mark.mean < middle
            axes.text(
                along.index(second), down.index(first), _said(mark), ha="center", va="center",
                fontsize="small", color=PAPER if is_dark else INK,
            )  # fmt: skip

    caption = (
        f"{metric} over {fields[0]} and {fields[1]}: mean over seeds; below it, where not all came "
        "to their end, the share of runs that did, of those that have an answer"
    )
    numbers = [(*pair, m.mean, m.sd, len(m.seeds), m.stable) for pair, m in found.items()]
    columns = (*fields, "mean", "sd", "n", "stable")
    return drawn(name, caption, paint, columns, numbers, size=(6.4, 4.8))


def _number(mark: Mark | None) -> float:
    return float("nan") if mark is None or mark.mean is None else mark.mean


def _said(mark: Mark) -> str:
    mean = "" if mark.mean is None else f"{mark.mean:.4g}"
    share = "" if mark.stable in (None, 1.0) else f"P(stable) {mark.stable:.2f}"
    return "\n".join(filter(None, (mean, share)))
