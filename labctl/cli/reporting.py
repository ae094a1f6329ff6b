"""Verbs that print results: report, check, bundle."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from labctl.errors import ClaimError, UsageError, did_you_mean

from .session import (
    AsJson,
    Preset,
    RunNames,
    TableName,
    claimants,
    open_project,
    page_place,
    print_json,
)

FORMATS = ("terminal", "markdown", "latex", "macros", "csv", "json")
"""Those of `labctl.reports.render`, which `--help` does not import."""


def register(app: typer.Typer) -> None:
    """Add the verbs to `app`."""
    for verb in (report, check, bundle):
        app.command(rich_help_panel="Report")(verb)


def report(
    table: TableName = "main",
    preset: Preset = None,
    format: Annotated[
        str | None,
        typer.Option(
            "--format",
            "-f",
            help=", ".join(FORMATS),
            show_default="terminal; of a file by its ending",
        ),
    ] = None,
    bundles: Annotated[
        list[Path] | None, typer.Option("--bundle", help="Also read these published bundles.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Write to a file instead.")
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(
            "--html",
            metavar="FOLDER|FILE.html",
            help="Write one page instead that needs nothing but itself: plots, and the runs behind "
            "every number.",
        ),
    ] = None,
    mlflow: Annotated[
        bool, typer.Option("--mlflow", help="Also keep the table in MLflow, beside its runs.")
    ] = False,
    figures: Annotated[
        Path | None,
        typer.Option(
            "--figures",
            help="Draw learning curves, schedules, costs and sweeps into this folder.",
            show_default="runs/figures, of a table that shows a sweep",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Same as --format json.")] = False,
) -> None:
    """Print a table of recipes/tables/: means over seeds, and what qualifies them."""
    from labctl.reports.plots.plot import write_plot
    from labctl.reports.render import render
    from labctl.reports.report import report as make
    from labctl.store.atomic import write_text

    project, registry = open_project()
    if html is not None and (out is not None or as_json or format is not None):
        raise UsageError(
            "--html writes a page, and --out, --format and --json are about text",
            hint="one after the other",
        )
    chosen = "json" if as_json else format or _format_of(out)
    if chosen not in FORMATS:
        raise UsageError(f"no format {chosen!r}", hint=did_you_mean(chosen, FORMATS))
    wanted = None if figures is None and html is None else True
    grid = make(project, registry, table or "main", preset, tuple(bundles or ()), plots=wanted)
    if html is not None:
        from labctl.reports.page import page

        place = page_place(html, "index.html")
        words = ["labctl", "report", "--table", table or "main"]
        words += ["--preset", preset] if preset else []
        words += [word for path in bundles or () for word in ("--bundle", str(path))]
        write_text(place, page(grid, shlex.join(words)))
        typer.echo(f"wrote {place}")
    elif out is None:
        typer.echo(render(grid, chosen))
    else:
        write_text(out, render(grid, chosen) + "\n")
        typer.echo(f"wrote {out}")
    if figures and not grid.plots:
        typer.echo("nothing to draw yet", err=True)
    for plot in grid.plots if html is None or figures else ():
        for path in write_plot(plot, figures or project.runs / "figures"):
            typer.echo(f"drew {project.shown(path)}", err=True)
    if mlflow:
        from labctl.track.tables import keep_table

        groups = [group for row in grid.rows for group in row.facts["groups"]]
        name = f"{grid.name}@{preset}" if preset else grid.name
        texts = {f"{name}.md": render(grid, "markdown"), f"{name}.json": render(grid, "json")}
        kept = keep_table(project, groups, texts)
        typer.echo(f"kept in MLflow with {kept} groups of runs", err=True)


def _format_of(out: Path | None) -> str:
    """What a file is to hold, by its ending."""
    endings = {".md": "markdown", ".csv": "csv", ".json": "json", ".tex": "latex"}
    return "terminal" if out is None else endings.get(out.suffix.lower(), "terminal")


def check(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RECIPE|TABLE|SWEEP...]",
            help="Whose claims; all recipes and sweeps if none is named.",
            autocompletion=claimants,
        ),
    ] = None,
    preset: Preset = None,
    bundles: Annotated[
        list[Path] | None, typer.Option("--bundle", help="Also read these published bundles.")
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Claims without a verdict are failures too.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Judge claims by runs and published bundles; exit code 4 if a verdict is not the expected one.

    A claim is expected to be REPRODUCED, one that is marked `known: refuted` to be REFUTED.
    """
    from labctl.reports.checked import check as judged
    from labctl.reports.listing import listing

    project, registry = open_project()
    found = judged(project, registry, tuple(names or ()), preset, tuple(bundles or ()))
    if as_json:
        print_json(found.plain(strict))
    else:
        typer.echo(listing(found, strict))
    unexpected = found.unexpected(strict)
    if unexpected:
        lines = (f"{who.name}: {v.claim}: {v.word}; expected {v.expected}" for who, v in unexpected)
        raise ClaimError(
            "\n".join(lines),
            hint="mend the claim, say `known: refuted` where it is known to be false, or find out "
            "what has changed",
        )


def bundle(
    names: RunNames,
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            dir_okay=False,
            help="The bundle to write, such as docs/results/x.json.",
        ),
    ],
    finished: Annotated[
        bool, typer.Option("--finished", help="Leave out runs that have not come to their end.")
    ] = False,
) -> None:
    """Put finished runs into one small file, from which tables can be made."""
    from labctl.reports.bundle import write_bundle
    from labctl.store.run import find_runs

    project, _ = open_project()
    runs = {run.folder: run for name in names for run in find_runs(project, name)}
    chosen = [run for run in runs.values() if not finished or run.status.is_final]
    write_bundle(chosen, out)
    typer.echo(f"wrote {out}: {len(chosen)} run{'' if len(chosen) == 1 else 's'}")
