"""Verbs that train: run, resume, rerun, stop; and measure, which opens what was trained."""

from __future__ import annotations

from typing import Annotated

import typer

from .carrying import FailFast, Jobs, NoTrack, Together, Yes, conclude, interruptible
from .session import (
    AsJson,
    Preset,
    RunName,
    RunNames,
    TableName,
    _recipe_names,
    _run_names,
    every_run,
    open_project,
)


def register(app: typer.Typer) -> None:
    """Add the verbs to `app`."""
    for verb in (run, resume, stop, rerun, measure):
        app.command(rich_help_panel="Train")(verb)


def run(
    recipes: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="RECIPE... [FIELD=VALUE...]",
            help="Recipes by name or path, and overrides.",
            autocompletion=_recipe_names,
        ),
    ] = None,
    table: TableName = None,
    preset: Preset = None,
    jobs: Jobs = None,
    together: Together = "auto",
    fail_fast: FailFast = False,
    yes: Yes = False,
    no_track: NoTrack = False,
    inline: Annotated[
        bool, typer.Option("--inline", help="Train in this process, for a debugger.")
    ] = False,
    restart: Annotated[
        bool, typer.Option("--restart", help="Set unfinished runs aside and begin them again.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Train what is missing of RECIPE..., one run per seed.

    Runs that are done are skipped; interrupted ones go on where they were. The same recipe with
    other values is other work: `labctl run ctd_baseline model.depth=4 --preset smoke`.
    """
    from rich.console import Console

    from labctl.verbs.carrying import How
    from labctl.verbs.training import trained

    project, registry = open_project()
    console = Console(stderr=as_json, emoji=False, markup=False)
    how = How(jobs, together, fail_fast, yes, not no_track, inline, console)
    with interruptible(console):
        outcomes = trained(
            project, registry, recipes or [], how, table=table, preset=preset, restart=restart
        )
    conclude(console, outcomes, as_json=as_json)


def resume(
    runs: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RUN...]", help="All unfinished runs if none is named."),
    ] = None,
    jobs: Jobs = None,
    together: Together = "auto",
    fail_fast: FailFast = False,
    yes: Yes = False,
    no_track: NoTrack = False,
    as_json: AsJson = False,
) -> None:
    """Go on with runs that were stopped, lost or failed."""
    from pathlib import Path

    from rich.console import Console

    from labctl.execute.job import Job
    from labctl.store.run import find_runs
    from labctl.store.status import Status
    from labctl.verbs.carrying import How, carry_out
    from labctl.verbs.outcomes import Outcomes

    project, registry = open_project()
    found = [r for name in runs for r in find_runs(project, name)] if runs else every_run(project)
    todo = [
        r for r in found if r.status in (Status.STOPPED, Status.LOST, Status.FAILED, Status.PENDING)
    ]
    if not todo:
        typer.echo("nothing to resume: every run has its answer or is being trained")
        return
    work = [Job(r.plan, Path(r.provenance.get("recipe", "."))) for r in todo]
    console = Console(stderr=as_json, emoji=False, markup=False)
    how = How(jobs, together, fail_fast, yes, not no_track, console=console)
    with interruptible(console):
        outcomes = Outcomes(tuple(carry_out(project, registry, work, how)))
    conclude(console, outcomes, as_json=as_json)


def stop(runs: RunNames) -> None:
    """Ask runs to write a checkpoint and end, or not to begin; they can be resumed."""
    from labctl.store.run import find_runs
    from labctl.store.status import Status

    project, _ = open_project()
    for found in [r for name in runs for r in find_runs(project, name)]:
        status = found.status
        if not status.is_final:
            found.request_stop()
        if status is Status.RUNNING:
            typer.echo(f"{found.plan.name}  asked to stop")
        else:
            waits = "" if status.is_final else "; if a labctl has it waiting, it will not begin"
            typer.echo(f"{found.plan.name}  is not running: {status}{waits}")


def rerun(name: RunName, yes: Yes = False) -> None:
    """Train a run again from its stored plan and code, and compare bit for bit.

    Exit code 0 if all is the same, 4 if something differs, 3 if the repetition has another end.
    """
    from rich.console import Console

    from labctl.execute.again import compare, prepare
    from labctl.execute.crew import threads_of
    from labctl.execute.display import display_for
    from labctl.execute.options import Options
    from labctl.execute.supervisor import Supervisor
    from labctl.registry.registry import Registry
    from labctl.store.run import find_run

    project, _ = open_project()
    found = find_run(project, name)
    again, job = prepare(project, found)
    console = Console(emoji=False, markup=False)
    stored = Registry(found.source_path, is_quiet=True)
    options = Options(yes=yes, track=False, threads=threads_of(found))
    with interruptible(console, again=f"labctl rerun {name}"):
        Supervisor(again, stored, display_for(console), options).carry_out([job])
    repetition = compare(again, found, job.plan)
    console.print(repetition.text, highlight=False)
    if repetition.exit_code:
        raise typer.Exit(repetition.exit_code)


def measure(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN... MEASUREMENT[.FIELD=VALUE]...",
            help="Finished runs, and what is to be measured: `labctl ls measurements`.",
            autocompletion=_run_names,
        ),
    ],
    jobs: Jobs = None,
    no_track: NoTrack = False,
    as_json: AsJson = False,
) -> None:
    """Take measurements of finished runs without training them again.

    `labctl measure ctd_baseline attention_maps.images=64`. A measurement that was taken with the
    same fields, by the same code, is not taken again.
    """
    from rich.console import Console

    from labctl.execute.later import jobs as jobs_of
    from labctl.execute.later import replaced, told_apart
    from labctl.store.run import find_runs, run_of
    from labctl.verbs.carrying import How, carry_out
    from labctl.verbs.outcomes import Outcomes

    project, registry = open_project()
    names, asked = told_apart(registry, words)
    found = [run for name in names for run in find_runs(project, name)]
    work = jobs_of(project, registry, found, asked)
    console = Console(stderr=as_json, emoji=False, markup=False)
    for line in replaced(work, found):
        console.print(line, highlight=False, soft_wrap=True)
    how = How(jobs, "off", yes=True, track=not no_track, console=console)
    with interruptible(console):
        outcomes = Outcomes(tuple(carry_out(project, registry, work, how)))
    if not as_json:
        for job in work:
            run = run_of(project, job.plan)
            for name in asked:
                for metric, value in sorted(run.measured(name).items()):
                    typer.echo(f"{job.plan.name}  {name}/{metric}  {value:.6g}")
    conclude(console, outcomes, as_json=as_json)
