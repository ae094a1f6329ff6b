"""A table as one HTML page that needs nothing but itself: plots, claims, the runs behind it."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from labctl import __version__
from labctl.errors import EnvironmentProblem

from .bundle import FORMAT, MARKER, without_paths
from .columns import PLUS_MINUS
from .grid import Cell, Grid, GridRow
from .plots.plot import Plot
from .quantity import in_order
from .result import Result
from .template import filled

_MARKED_WORDS = ("REPRODUCED", "REFUTED", "UNRESOLVED", "SUSPECT")


@dataclass(frozen=True, slots=True)
class Shown:
    """A run as the page shows it."""

    result: Result
    values: tuple[str, ...]
    """What it gave to each column, as text."""
    plan: str
    """YAML."""
    file: str
    """A data URI: all that is published of it, curves included, as a bundle."""
    pictures: tuple[tuple[str, str], ...]
    """Names and data URIs of what measurements drew."""

    @property
    def name(self) -> str:
        return f"{self.result.label} seed={self.result.seed}"

    @property
    def hardware(self) -> str:
        return "; ".join(map(str, self.result.conditions)) or "unknown"

    @property
    def code(self) -> str:
        """Commit, and whether it was all of the code."""
        known = self.result.provenance
        dirty = " with uncommitted changes" if known.is_dirty else ""
        return f"{known.commit[:10] or 'unknown commit'}{dirty}"

    @property
    def metrics(self) -> Mapping[str, str]:
        metrics = self.result.metrics
        return {name: f"{metrics[name]:.6g}" for name in sorted(metrics, key=in_order)}


def page(grid: Grid, command: str) -> str:
    """The page of a table.

    Args:
        command: what prints the table again.

    Raises:
        EnvironmentProblem: a picture cannot be read.
    """
    grid = _with_claims_apart(grid)
    return filled(
        "page.html",
        grid=grid,
        command=command,
        version=__version__,
        rows=[(row, list(_runs(row))) for row in grid.rows],
        columns=[heading.text for heading in grid.headings[1:]],
        claims=list(_claims(grid)),
        sort_value=sort_value,
        whole=_whole,
        verdict=_verdict,
        plot_files=_plot_files,
    )


def fragment(grid: Grid) -> str:
    """The table as an HTML element, with its footnotes and plots, for a notebook."""
    return filled("fragment.html", grid=grid, whole=_whole)


def sort_value(cell: Cell) -> str:
    """What a column is sorted by: the mean, else the text."""
    value = cell.numbers.get("mean", next(iter(cell.numbers.values()), None))
    return cell.text if value is None else repr(value)


def _claims(grid: Grid) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Every claim, with its place and the label of its row; those on whole sweeps last."""
    for number, row in enumerate(grid.rows, 1):
        for cell in row.cells:
            for place, claim in enumerate(cell.claims, 1):
                yield f"{number}-{place}", row.cells[0].text, claim
    for place, claim in enumerate(grid.claims, 1):
        yield f"sweep-{place}", "all values", claim


def _with_claims_apart(grid: Grid) -> Grid:
    """Without the footnotes on claims, which are in the table of claims."""

    def bare(cell: Cell) -> Cell:
        return replace(cell, notes=()) if cell.claims else cell

    rows = (replace(row, cells=tuple(map(bare, row.cells))) for row in grid.rows)
    return replace(grid, rows=tuple(rows))


def _whole(text: str) -> str:
    """The text with what must not be parted in a line: a mean and its sd."""
    return text.replace(f" {PLUS_MINUS} ", f"\u00a0{PLUS_MINUS}\u00a0")


def _runs(row: GridRow) -> Iterator[Shown]:
    for seed, result in sorted(row.results.items()):
        content = {MARKER: FORMAT, "runs": [without_paths(result.model_dump(mode="json"))]}
        yield Shown(
            result,
            tuple(_of_seed(cell, seed) for cell in row.cells[1:]),
            yaml.safe_dump(without_paths(dict(result.work)), sort_keys=False, width=100),
            _uri("application/json", json.dumps(content, allow_nan=False).encode()),
            tuple(_pictures(row, seed)),
        )


def _of_seed(cell: Cell, seed: int) -> str:
    return f"{cell.seeds[seed]:.6g}{cell.unit}" if seed in cell.seeds else ""


def _pictures(row: GridRow, seed: int) -> Iterator[tuple[str, str]]:
    run = row.runs.get(seed)
    if run is None or seed != min(row.runs):
        return
    for path in sorted(run.folder.glob("measurements/*/*.png")):
        yield path.stem, _uri("image/png", _read(path))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise EnvironmentProblem(f"cannot be read: {error.strerror}", where=str(path)) from None


def _uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _plot_files(plot: Plot) -> Iterator[tuple[str, str]]:
    for suffix, kind, content in (
        ("png", "image/png", plot.png),
        ("svg", "image/svg+xml", plot.svg.encode()),
        ("csv", "text/csv", plot.csv.encode()),
    ):
        yield f"{plot.name}.{suffix}", _uri(kind, content)


def _verdict(claim: Mapping[str, Any]) -> str:
    """A verdict's word as a class of the style sheet; empty for what is not judged."""
    word = str(claim["verdict"])
    return word.lower() if word in _MARKED_WORDS else ""
