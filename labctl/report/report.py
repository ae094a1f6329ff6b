"""The table of a project: its rows read, its cells set, and everything said that qualifies them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from labctl.errors import Problem, RecipeError, UsageError
from labctl.project import Project
from labctl.registry.registry import Registry
from labctl.store.status import Status

from .bundle import published
from .columns import PLUS_MINUS, Columns
from .grid import Cell, Grid, GridRow, Heading
from .result import Result
from .rows import Row, Rows
from .table import TableFile, load_table

SPREAD = (
    f"mean {PLUS_MINUS} sd over seeds; the sd has n - 1 in its denominator and is left out for "
    "n=1; n of N: seeds with a result, of those the recipe names"
)


def report(
    project: Project,
    registry: Registry,
    table: str,
    preset: str | None = None,
    bundles: Sequence[Path] = (),
) -> Grid:
    """Make a table of `recipes/tables/` from the project's runs and from published bundles.

    Bundles are those named and those in `docs/results/`; a run of the project's own goes before the
    published one of the same key.

    Raises:
        UsageError: no such table.
        RecipeError: a fault of the table or of a recipe, with file and line.
        RunError: a bundle that cannot be read.
    """
    file = load_table(project, table)
    rows = Rows(project, registry, preset, published(project, bundles))
    labels, shown = _shown(file, rows)
    baseline = file.table.baseline
    columns = Columns(shown, baseline, rows.counterpart)
    by_column = [columns.cells(column) for column in file.table.columns]
    grid_rows = [
        GridRow((Cell(label, notes=tuple(row.notes())), *cells), _facts(row))
        for label, row, *cells in zip(labels, shown, *by_column, strict=True)
    ]
    compared = [*shown, *(rows.counterpart(row, baseline) for row in shown if baseline)]
    remarks = (columns.remark(column) for column in file.table.columns)
    return Grid(
        name=file.name,
        title=_title(file, shown, preset),
        headings=(Heading("", False), *(columns.heading(column) for column in file.table.columns)),
        rows=tuple(grid_rows),
        remarks=(SPREAD, *dict.fromkeys(filter(None, remarks)), *_mixtures(compared)),
    )


def _shown(file: TableFile, rows: Rows) -> tuple[list[str], list[Row]]:
    """Labels and rows, in the order of the table; also says where the table names no recipe."""
    labels: list[str] = []
    shown: list[Row] = []
    problems: list[Problem] = []
    named = [(("rows", place, "recipe"), row.recipe) for place, row in enumerate(file.table.rows)]
    baseline = file.table.baseline
    for path, recipe in [*named, *([(("baseline",), baseline)] if baseline else [])]:
        try:
            rows.of(recipe)
        except UsageError as error:
            problems.append(Problem(error.message, file.place(*path), error.hint))
        except RecipeError as error:
            problems += error.problems
    if problems:
        raise RecipeError(list(dict.fromkeys(problems)))
    for row in file.table.rows:
        for edition in rows.of(row.recipe):
            suffix = " (published)" if edition.edition else ""
            labels.append((row.label or row.recipe) + suffix)
            shown.append(edition)
    if len({row.data for row in shown}) > 1:
        labels = [f"{label} ({row.data})" for label, row in zip(labels, shown, strict=True)]
    return labels, shown


def _title(file: TableFile, rows: Sequence[Row], preset: str | None) -> str:
    data = ", ".join(dict.fromkeys(row.data for row in rows))
    suffix = f", preset {preset}" if preset else ""
    return f"{file.table.title or file.name}: {data}{suffix}"


def _facts(row: Row) -> dict[str, Any]:
    states: dict[str, list[int]] = {"done": sorted(row.results)}
    for seed, absent in sorted(row.absent.items()):
        word = "missing" if absent.status in (None, Status.PENDING) else absent.status.lower()
        states.setdefault(word, []).append(seed)
    return {
        "recipe": row.recipe.name,
        "preset": row.recipe.preset,
        "data": row.data,
        "groups": sorted({result.group for result in row.results.values()}),
        "seeds": states,
        "published": {str(seed): name for seed, name in sorted(row.bundles.items())},
    }


def _mixtures(rows: Sequence[Row]) -> Iterator[str]:
    """What the rows do not have in common, although their figures stand side by side."""
    for what, facets in _facets(rows).items():
        if len(facets) > 1:
            parts = (
                f"{value} ({', '.join(dict.fromkeys(rows_))})" for value, rows_ in facets.items()
            )
            yield f"mixed {what}: {'; '.join(parts)}"
    dirty = [
        row.recipe.label for row in rows if any(r.provenance.is_dirty for r in row.results.values())
    ]
    if dirty:
        yield f"trained from code with uncommitted changes: {', '.join(dict.fromkeys(dirty))}"


def _facets(rows: Sequence[Row]) -> Mapping[str, Mapping[str, list[str]]]:
    """Labels of the rows by hardware, versions and code."""
    found: dict[str, dict[str, list[str]]] = {}
    for row in rows:
        for result in row.results.values():
            for what, value in _facets_of(result):
                found.setdefault(what, {}).setdefault(value, []).append(row.recipe.label)
    return found


def _facets_of(result: Result) -> Iterator[tuple[str, str]]:
    for conditions in result.conditions:
        threads = f", {conditions.threads} threads" if conditions.device == "cpu" else ""
        yield "hardware", (conditions.device_name or conditions.device or "unknown") + threads
        yield "torch versions", conditions.torch or "unknown"
    yield "labctl versions", result.provenance.labctl or "unknown"
    yield "commits", result.provenance.commit[:10] or "unknown"
    for plugin, digest in sorted(result.work.get("digests", {}).items()):
        yield f"code of {plugin}", str(digest)[:10]
