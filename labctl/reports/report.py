"""The table of a project: its rows read, its cells set, and everything said that qualifies them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from labctl.errors import Problem, RecipeError, UsageError
from labctl.plans.fields import codes_of
from labctl.project import Project
from labctl.registry.registry import Registry
from labctl.store.status import Status

from .bundle import published
from .columns import PLUS_MINUS, Columns
from .evidence import of_row
from .grid import Cell, Grid, GridRow, Heading
from .number import flops_of
from .plots.curves import learning_curves
from .plots.frontier import frontier
from .plots.plane import plane
from .plots.plot import Plot
from .plots.schedules import schedules
from .plots.stability import marks, stability
from .result import Result
from .rows import Row, Rows
from .sweeps import Swept, boundary_of, swept
from .table import (
    ColumnConfig,
    FlopsColumn,
    MetricColumn,
    RowConfig,
    TableFile,
    VerdictColumn,
    load_table,
)
from .threshold import of_sweep
from .verdicts import Verdict, judge

SPREAD = (
    f"mean {PLUS_MINUS} sd over seeds; the sd has n - 1 in its denominator and is left out for "
    "n=1; n of N: seeds with a result, of those the recipe names"
)
MOST_ROWS = 12
"""More rows than this are no longer told apart in a plot."""


def report(
    project: Project,
    registry: Registry,
    table: str,
    preset: str | None = None,
    bundles: Sequence[Path] = (),
    *,
    plots: bool | None = None,
) -> Grid:
    """Make a table of `recipes/tables/` from the project's runs and from published bundles.

    Plots are made if asked for, or if nothing is said and the table shows a sweep.

    Bundles are those named and those in `docs/results/`; a run of the project's own goes before the
    published one of the same key.

    Raises:
        UsageError: no such table.
        RecipeError: a fault of the table or of a recipe, with file and line.
        RunError: a bundle that cannot be read.
    """
    file = load_table(project, table, preset)
    rows = Rows(project, registry, preset, published(project, bundles))
    sweeps = {config.sweep: swept(rows, config.sweep) for config in file.table.rows if config.sweep}
    labels, shown = _shown(file, rows, sweeps)
    baseline = file.table.baseline
    verdicts, of_sweeps = _verdicts(file, rows, shown, sweeps)
    columns = Columns(shown, baseline, rows.counterpart, verdicts)
    by_column = [columns.cells(column) for column in file.table.columns]
    grid_rows = [
        GridRow((Cell(label, notes=tuple(row.notes())), *cells), _facts(row), row.results, row.runs)
        for label, row, *cells in zip(labels, shown, *by_column, strict=True)
    ]
    compared = [*shown, *(rows.counterpart(row, baseline) for row in shown if baseline)]
    remarks = (columns.remark(column) for column in file.table.columns)
    named = list(zip(labels, shown, strict=True))
    label = f"{file.name}@{preset}" if preset else file.name
    wanted = bool(sweeps) if plots is None else plots
    return Grid(
        name=file.name,
        title=_title(file, shown, preset),
        headings=(Heading("", False), *(columns.heading(column) for column in file.table.columns)),
        rows=tuple(grid_rows),
        remarks=(
            SPREAD,
            *dict.fromkeys(filter(None, remarks)),
            *(f"{verdict.text}. {verdict.detail}" for verdict in of_sweeps),
            *_boundaries(sweeps.values()),
            *_mixtures(compared, file.table.columns),
        ),
        plots=tuple(_plots(file, named, sweeps, label)) if wanted else (),
        claims=tuple(verdict.plain() for verdict in of_sweeps),
    )


def _plots(
    file: TableFile, named: Sequence[tuple[str, Row]], sweeps: Mapping[str, Swept], label: str
) -> Iterator[Plot]:
    """Of each sweep over one field, and of all rows: of the table's first metric."""
    metrics = [c.metric for c in file.table.columns if isinstance(c, MetricColumn)]
    if not metrics:
        return
    metric, suffix = metrics[0], label.removeprefix(file.name)
    for name, found in sweeps.items():
        fields, title = found.sweep.fields, found.sweep.config.title or f"{name}{suffix}"
        if len(fields) == 1 and (made := marks(found.along, metric)):
            yield stability(title, fields[0], metric, made, f"{name}{suffix}")
        elif len(fields) == 2:
            over = (fields[0], fields[1])
            yield from filter(None, (plane(title, over, metric, found.pairs, f"{name}{suffix}"),))
    if sum(bool(row.results) for _, row in named) > MOST_ROWS:
        return
    yield from filter(
        None,
        (
            learning_curves(named, metric, f"{label}-curves"),
            schedules(named, f"{label}-schedules"),
            frontier(named, metric, f"{label}-frontier"),
        ),
    )


def _verdicts(
    file: TableFile, rows: Rows, shown: Sequence[Row], sweeps: Mapping[str, Swept]
) -> tuple[list[list[Verdict]], list[Verdict]]:
    """Verdicts on the claims of each row, if a column shows them, and on those of whole sweeps: all
    that the table says is judged together."""
    is_shown = any(isinstance(column, VerdictColumn) for column in file.table.columns)
    by_row = [of_row(row, rows.counterpart) if is_shown else [] for row in shown]
    of_sweeps = [e for found in sweeps.values() for one in found.editions for e in of_sweep(one)]
    verdicts = iter(judge([*(one for found in by_row for one in found), *of_sweeps]))
    return [list(islice(verdicts, len(found))) for found in by_row], list(verdicts)


def _boundaries(sweeps: Iterable[Swept]) -> Iterator[str]:
    """Where the runs of a sweep stop being stable, if that was searched to the end."""
    for found in sweeps:
        if found.sweep.config.boundary is not None and len(found.sweep.fields) == 1:
            result = boundary_of(found)
            yield from () if result.missing else result.sentences()


def _shown(file: TableFile, rows: Rows, sweeps: Mapping[str, Swept]) -> tuple[list[str], list[Row]]:
    """Labels and rows, in the order of the table; also says where the table names no recipe."""
    labels: list[str] = []
    shown: list[Row] = []
    problems: list[Problem] = []
    named = [
        (("rows", place, "recipe"), row.recipe)
        for place, row in zip(file.written, file.table.rows, strict=True)
        if row.recipe is not None
    ]
    baseline = file.table.baseline
    for path, recipe in [*named, *([(("baseline",), baseline)] if baseline else [])]:
        try:
            rows.of(recipe)
        except UsageError as error:
            hint = error.hint
            if lender := rows.lender(recipe):
                hint = f"{lender} holds runs of it; a row needs the recipe's file as well"
            problems.append(Problem(error.message, file.place(*path), hint))
        except RecipeError as error:
            problems += error.problems
    if problems:
        raise RecipeError(list(dict.fromkeys(problems)))
    found = [pair for config in file.table.rows for pair in _expanded(config, rows, sweeps)]
    today = [row for _, row in found if not row.edition]
    groups = {group for row in today for group in row.groups}
    names = {row.recipe.label for row in today}
    for label, row in found:
        if row.edition and row.groups <= groups and row.recipe.label in names:
            continue  # what this recipe was is what another one is now
        labels.append(label + (" (published)" if row.edition else ""))
        shown.append(row)
    if not shown:
        raise UsageError(
            f"table '{file.name}' has no rows: no run of it is there, as its recipe is now",
            hint="labctl sweep trains them; labctl status lists the runs of this project",
        )
    if len({row.data for row in shown}) > 1:
        labels = [f"{label} ({row.data})" for label, row in zip(labels, shown, strict=True)]
    return labels, shown


def _expanded(config: RowConfig, rows: Rows, sweeps: Mapping[str, Swept]) -> list[tuple[str, Row]]:
    if config.sweep is not None:
        found = sweeps[config.sweep].labelled
        return [(f"{config.label} {label}".strip(), row) for label, row in found]
    assert config.recipe is not None, "checked when the table was read"
    return [(config.label or config.recipe, row) for row in rows.of(config.recipe)]


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
        "groups": sorted(row.groups),
        "seeds": states,
        "published": {str(seed): name for seed, name in sorted(row.bundles.items())},
    }


def _mixtures(rows: Sequence[Row], columns: Sequence[ColumnConfig]) -> Iterator[str]:
    """What the rows do not have in common, although their figures stand side by side."""
    shown = {"training FLOPs"} if any(isinstance(c, FlopsColumn) for c in columns) else set()
    for what, facets in _facets(rows).items():
        if len(facets) > 1 and what not in shown:
            parts = (
                f"{value} ({', '.join(dict.fromkeys(rows_))})" for value, rows_ in facets.items()
            )
            yield f"mixed {what}: {'; '.join(parts)}"
    dirty = [row.name for row in rows if any(r.provenance.is_dirty for r in row.results.values())]
    if dirty:
        yield f"trained from code with uncommitted changes: {', '.join(dict.fromkeys(dirty))}"


def _facets(rows: Sequence[Row]) -> Mapping[str, Mapping[str, list[str]]]:
    """Labels of the rows by seeds, length of training, hardware, versions and code."""
    found: dict[str, dict[str, list[str]]] = {}
    for row in rows:
        seeds = [("seeds", ", ".join(map(str, sorted(row.results))))] if row.results else []
        flops = [("training FLOPs", flops_of(row.train_flops))] if row.train_flops else []
        of_results = (facet for result in row.results.values() for facet in _facets_of(result))
        for what, value in (*seeds, *flops, *of_results):
            found.setdefault(what, {}).setdefault(value, []).append(row.name)
    return found


def _facets_of(result: Result) -> Iterator[tuple[str, str]]:
    yield "epochs", f"{result.steps / result.work.get('steps_per_epoch', result.steps):.4g}"
    for part in result.plan.get("measures", ()):
        settings = ", ".join(f"{name}={value}" for name, value in sorted(part["config"].items()))
        yield f"settings of {part['name']}", settings or "none"
        for whose, code in codes_of(part).items():
            yield f"code of {part['name']}, {whose}", code
    data = result.work.get("data", {})
    yield f"versions of {result.data}", str(data.get("version", "unknown"))
    yield f"validation parts of {result.data}", str(data.get("val", "unknown"))
    for conditions in result.conditions:
        yield "hardware", conditions.hardware
        yield "torch versions", conditions.torch or "unknown"
    yield "labctl versions", result.provenance.labctl or "unknown"
    yield "commits", result.provenance.commit[:10] or "unknown"
    for plugin, digest in sorted(result.work.get("digests", {}).items()):
        yield f"code of {plugin}", str(digest)[:10]
