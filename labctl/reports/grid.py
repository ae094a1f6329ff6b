"""A finished table, before anyone decides how it looks: cells with their text and raw figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from labctl.store.run import Run

from .plots.plot import Plot
from .result import Result


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell: what a reader sees, and what a program reads."""

    text: str
    numbers: Mapping[str, float] = field(default_factory=dict)
    """Raw figures by name: mean, sd, n, ..."""
    seeds: Mapping[int, float] = field(default_factory=dict)
    """Raw value by seed."""
    notes: tuple[str, ...] = ()
    """Footnotes."""
    claims: tuple[Mapping[str, Any], ...] = ()
    """Verdicts, as JSON."""
    unit: str = ""
    """Of raw figures, with a space before it, where the heading does not say it."""


@dataclass(frozen=True, slots=True)
class Heading:
    """The head of a column."""

    text: str
    is_figure: bool = True
    """Whether the column holds figures, to be set flush right."""


@dataclass(frozen=True, slots=True)
class GridRow:
    """A row: its cells, the label first, and what it stands for."""

    cells: tuple[Cell, ...]
    facts: Mapping[str, Any]
    """As JSON: recipe, preset, data, seeds by state."""
    results: Mapping[int, Result] = field(default_factory=dict)
    """By seed: what its figures come from."""
    runs: Mapping[int, Run] = field(default_factory=dict)
    """By seed: where that lies, if in this project."""


@dataclass(frozen=True)
class Grid:
    """A table that only needs to be set."""

    name: str
    title: str
    headings: tuple[Heading, ...]
    rows: tuple[GridRow, ...]
    remarks: tuple[str, ...] = ()
    """What holds for the whole table."""
    plots: tuple[Plot, ...] = ()
    claims: tuple[Mapping[str, Any], ...] = ()
    """Verdicts on what is claimed of whole sweeps, as JSON."""

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """The cells' footnotes, each once, in reading order; number n is `notes[n - 1]`."""
        cells = (cell for row in self.rows for cell in row.cells)
        return tuple(dict.fromkeys(note for cell in cells for note in cell.notes))

    def numbers_of(self, cell: Cell) -> list[int]:
        """Numbers of the cell's footnotes."""
        return sorted({self.notes.index(note) + 1 for note in cell.notes})

    def __str__(self) -> str:
        """For a terminal."""
        from .render import terminal

        return terminal(self)

    def _repr_html_(self) -> str:
        """For a notebook."""
        from .page import fragment

        return fragment(self)
