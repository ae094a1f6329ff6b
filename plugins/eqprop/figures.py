"""Figures of the measurements: one look, one way to keep them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
"""Okabe and Ito (2008): told apart with any colour vision."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")


def panels(columns: int, rows: int = 1) -> tuple[Figure, Any]:
    """A figure with (rows, columns) axes."""
    from matplotlib.figure import Figure  # not pyplot: nothing global, no display

    figure = Figure(figsize=(4.2 * columns, 3.2 * rows), layout="compressed")
    return figure, figure.subplots(rows, columns, squeeze=False)


def style(number: int) -> dict[str, Any]:
    """Colour and marker of the curve of that number, from 0."""
    return {
        "color": COLOURS[number % len(COLOURS)],
        "marker": MARKERS[number % len(MARKERS)],
        "markersize": 4,
    }


def save(figure: Figure, folder: Path, name: str) -> None:
    """Write `name.png` and `name.svg`, the same bytes for the same figure."""
    figure.savefig(folder / f"{name}.png", dpi=150)
    figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
