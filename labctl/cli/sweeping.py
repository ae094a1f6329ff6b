"""Verbs about sets of runs: sweep, why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from labctl.errors import UsageError

from .carrying import FailFast, Jobs, NoTrack, Together, Yes, conclude, interruptible
from .session import AsJson, Preset, RunName, _recipe_names, open_project, print_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from labctl.project import Project
    from labctl.registry.registry import Registry
    from labctl.store.status import Status
    from labctl.sweeps.jobs import Cell
    from labctl.sweeps.probe import Probe
    from labctl.sweeps.sweep import Sweep
    from labctl.verbs.carrying import How
    from labctl.verbs.outcomes import Outcomes
    from labctl.verbs.seeking import Bounds, Sought
    from labctl.verbs.sweeping import Asked


def _sweep_names(incomplete: str) -> list[str]:
    from labctl.project import Project
    from labctl.sweeps.catalogue import sweeps

    return [name for name in sweeps(Project.at()) if name.startswith(incomplete)]


def register(app: typer.Typer) -> None:
    """Add the verbs to `app`."""
    app.command(rich_help_panel="Train")(sweep)
    app.command(rich_help_panel="Look")(why)


def sweep(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SWEEP|FIELD [FIELD=VALUE...]",
            help="A sweep of recipes/sweeps/, or with --recipe a field of it; and overrides.",
            autocompletion=_sweep_names,
        ),
    ] = None,
    values: Annotated[
        list[str] | None,
        typer.Option(
            "--values",
            help="lo:hi:step, lo:hi/n, log:lo:hi/n, or a list; FIELD=VALUES for several fields.",
        ),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            "--recipe", "-r", help="Sweep a field of this recipe.", autocompletion=_recipe_names
        ),
    ] = None,
    seeds: Annotated[
        str | None, typer.Option("--seeds", help="5 for 0 to 4, or a list: 3,4.")
    ] = None,
    zip_: Annotated[
        bool, typer.Option("--zip", help="Several fields together, not every combination.")
    ] = False,
    retry: Annotated[
        str, typer.Option("--retry", help="Try again also what ended so: failed,diverged,halted.")
    ] = "",
    boundary: Annotated[
        bool, typer.Option("--boundary", help="Search where runs stop being stable.")
    ] = False,
    search: Annotated[
        bool, typer.Option("--search", help="Search the best values, as the sweep's file says.")
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Say what would be trained, or a search has found, and train nothing."
        ),
    ] = False,
    preset: Preset = None,
    jobs: Jobs = None,
    together: Together = "auto",
    fail_fast: FailFast = False,
    yes: Yes = False,
    no_track: NoTrack = False,
    as_json: AsJson = False,
) -> None:
    """Train a recipe at every value of a field; what is done is not done again.

    `labctl sweep beta --values 0.20:0.25` runs recipes/sweeps/beta.yaml at these values; later
    `--values 0.20:0.30` trains the five that are new. `labctl sweep lr.peak --recipe ctd_baseline
    --values log:1e-4:1e-2/5` needs no file. Then: `labctl report --table beta`.
    """
    from rich.console import Console

    from labctl.verbs.carrying import How, require_data
    from labctl.verbs.sweeping import asked_for, statuses

    project, registry = open_project()
    plain = [text for text in names or [] if "=" not in text]
    fixed = [text for text in names or [] if "=" in text]
    asked = asked_for(project, registry, plain, fixed, values or (), recipe, preset)
    of_file = asked.sweep.fields
    if boundary or search:
        _refuse_options(boundary, search, retry=retry, values=values, zip_=zip_, together=together)
        asked = asked.with_seeds(seeds)
    else:
        asked = asked.at(values or (), is_zip=zip_, seeds=seeds)
    if (boundary or search) and not dry_run:
        require_data(project, registry, [asked.recipe])
    console = Console(stderr=as_json, emoji=False, markup=False)
    how = How(jobs, together, fail_fast, yes, not no_track, console=console)
    with interruptible(console, "the same command"):
        if boundary:
            from labctl.verbs.seeking import probe_of

            _boundary(probe_of(project, registry, asked, values or ()), how, dry_run, as_json)
        elif search:
            _search(project, registry, asked, statuses(retry), how, dry_run, as_json)
        else:
            _grid(project, registry, asked, statuses(retry), how, dry_run, as_json, of_file)


def _refuse_options(
    boundary: bool, search: bool, *, retry: str, values: object, zip_: bool, together: str
) -> None:
    """What would say nothing of a boundary or a search is no option of theirs."""
    if boundary and search:
        raise UsageError("--boundary and --search are different questions", hint="ask one of them")
    if together.isdecimal():
        raise UsageError(
            "runs that are decided about one by one are not trained together",
            hint="leave out --together; --jobs N trains several at once",
        )
    if zip_:
        raise UsageError("--zip joins lists of values", hint="leave it out, or --values A=.. B=..")
    if boundary and retry:
        raise UsageError("a boundary tries again what it needs by itself", hint="leave out --retry")
    if search and values:
        raise UsageError(
            "the values of a search stand in its file", hint="leave out --values, or --search"
        )


def _grid(
    project: Project,
    registry: Registry,
    asked: Asked,
    retry: frozenset[Status],
    how: How,
    dry_run: bool,
    as_json: bool,
    of_file: tuple[str, ...],
) -> None:
    from labctl.verbs.sweeping import cells_of, trained

    if dry_run:
        _print_cells(project, cells_of(project, registry, asked), how.console, as_json)
        return
    outcomes = trained(project, registry, asked, how, retry)
    if not as_json:
        _print_halts(how.console, outcomes)
        how.console.print(_then(asked.sweep, of_file), highlight=False)
    conclude(how.console, outcomes, as_json=as_json)


def _then(found: Sweep, of_file: tuple[str, ...]) -> str:
    """What shows the sweep's table, or what it takes to have one.

    Args:
        of_file: fields that the sweep's file varies.
    """
    preset = f" --preset {found.preset}" if found.preset else ""
    has_table = len(found.fields) == 1 if found.tree is None else found.fields == of_file
    if has_table and not found.fixed:
        return f"labctl report --table {found.name}{preset}"
    recipe = found.config.recipe
    if found.fixed:
        recipe = f"one that extends {recipe} and sets {', '.join(found.fixed)}"
    axes = ", ".join(f"{axis.field}: [..]" for axis in found.axes)
    combine = ", combine: zip" if found.config.combine == "zip" and len(found.axes) > 1 else ""
    return (
        f"for a table of these, write recipes/sweeps/NAME.yaml with recipe: {recipe}, "
        f"axes: {{{axes}}}{combine}; the runs are there already"
    )


def _boundary(probe: Probe, how: How, dry_run: bool, as_json: bool) -> None:
    """Where runs stop being stable."""
    from labctl.sweeps.bisection import most_trials
    from labctl.verbs.seeking import bounded, trials_before

    if not dry_run:
        _print_found(bounded(probe, how), how.console, as_json)
        return
    todo = probe.next(trials_before(probe))  # the others follow from what these find
    _print_cells(probe.project, todo, how.console, as_json)
    if not as_json:
        most = most_trials(probe.config, probe.sweep.seeds)
        how.console.print(f"{most} runs at most until both ends are found", highlight=False)


def _search(
    project: Project,
    registry: Registry,
    asked: Asked,
    retry: frozenset[Status],
    how: How,
    dry_run: bool,
    as_json: bool,
) -> None:
    """The best values."""
    from labctl.verbs.seeking import sought, sought_before

    if dry_run:  # what it would train follows from what it finds
        _print_found(sought_before(project, registry, asked), how.console, as_json)
        return
    found = sought(project, registry, asked, how, retry)
    _print_found(found, how.console, as_json)
    found.require()


def _print_found(found: Bounds | Sought, console: Console, as_json: bool) -> None:
    if as_json:
        print_json(found.plain())
        return
    console.print(found, highlight=False)


def _print_halts(console: Console, outcomes: Outcomes) -> None:
    """What ended early, which is an answer and no failure, is said once more in one place."""
    for outcome in outcomes:
        if outcome.status in ("DIVERGED", "HALTED"):
            message = (outcome.run.end or {}).get("message", "")
            console.print(f"{outcome.run.plan.name}  {outcome.status}: {message}", highlight=False)


def _print_cells(project: Project, table: Sequence[Cell], console: Console, as_json: bool) -> None:
    rows = [(cell, cell.run(project)) for cell in table]
    if as_json:
        print_json(
            [{"point": cell.point, "seed": cell.job.plan.work.seed, "key": cell.job.plan.key,
              "status": run.status, "folder": run.folder} for cell, run in rows]
        )  # fmt: skip
        return
    for cell, run in rows:
        console.print(f"{cell.job.plan.name}  {run.status}", highlight=False)
    missing = sum(not run.status.is_final for _, run in rows)
    console.print(f"{len(rows)} runs, {missing} of them to be trained", highlight=False)


def why(name: RunName, as_json: AsJson = False) -> None:
    """Say why a run will or will not be trained again, and what changed since it was planned."""
    from labctl.execute.reason import reasons
    from labctl.store.run import find_runs

    project, registry = open_project()
    found = find_runs(project, name)
    told = {run: list(reasons(project, registry, run)) for run in found}
    if as_json:
        print_json(
            [{"run": run.plan.name, "key": run.plan.key, "status": run.status, "why": lines}
             for run, lines in told.items()]
        )  # fmt: skip
        return
    for run, lines in told.items():
        typer.echo(f"{run.plan.name}  {run.plan.key}")
        for line in lines:
            typer.echo(f"  {line}")
