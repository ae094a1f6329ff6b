"""A finished plot, and the style that all plots have. matplotlib is loaded when one is drawn."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labctl.store.atomic import storage

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PALETTE = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F7F7F", "#F0E442",
)  # fmt: skip
"""Okabe and Ito's colours with grey for black, told apart by people who confuse red and green; the
lightest last."""
DASHES = ("-", "--", "-.", ":")
"""Of lines beyond the colours."""
INK = "#000000"
"""Of text, axes and what belongs to no row."""
STYLE: dict[Any, Any] = {
    "axes.edgecolor": INK,
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": "medium",
    "font.family": "sans-serif",
    "font.size": 9.0,
    "grid.alpha": 0.25,
    "grid.color": "#7F7F7F",
    "legend.frameon": False,
    "legend.fontsize": "small",
    "savefig.dpi": 160,
    "svg.fonttype": "none",
    "text.color": INK,
    "text.parse_math": False,
    "xtick.color": INK,
    "ytick.color": INK,
}


@dataclass(frozen=True, slots=True)
class Plot:
    """What is drawn, in every form that it is kept in."""

    name: str
    """The stem of its files."""
    caption: str
    """What it shows, and what its marks and bands are."""
    png: bytes
    svg: str
    csv: str
    """The numbers, a line for each mark."""

    def _repr_png_(self) -> bytes:
        """For a notebook."""
        return self.png


def color(place: int) -> str:
    """Of the row at this place."""
    return PALETTE[place % len(PALETTE)]


def dash(place: int) -> str:
    """Of the line of the row at this place."""
    return DASHES[place // len(PALETTE) % len(DASHES)]


def drawn(
    name: str,
    caption: str,
    paint: Callable[[Figure], None],
    columns: Sequence[str],
    numbers: Iterable[Sequence[object]],
    size: tuple[float, float] = (6.4, 4.0),
) -> Plot:
    """A plot of what `paint` puts on a figure of `size` inches; the same gives the same bytes.

    Args:
        columns: heads of the CSV.
        numbers: its lines.
    """
    import matplotlib
    from matplotlib.figure import Figure

    png, svg, table = io.BytesIO(), io.StringIO(), io.StringIO()
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=size, layout="constrained")
        paint(figure)
        figure.savefig(png, format="png")
        figure.savefig(svg, format="svg", metadata={"Date": None}, transparent=True)
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(numbers)
    return Plot(name, caption, png.getvalue(), svg.getvalue(), table.getvalue())


def write_plot(plot: Plot, folder: Path) -> list[Path]:
    """Write NAME.png, NAME.svg and NAME.csv into `folder`.

    Raises:
        EnvironmentProblem: they cannot be written.
    """
    paths = [folder / f"{plot.name}.{suffix}" for suffix in ("png", "svg", "csv")]
    with storage(folder):
        folder.mkdir(parents=True, exist_ok=True)
        paths[0].write_bytes(plot.png)
        paths[1].write_text(plot.svg, encoding="utf-8")
        paths[2].write_text(plot.csv, encoding="utf-8")
    return paths
