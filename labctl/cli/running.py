"""Verbs that train: run, resume, rerun, stop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from labctl.errors import EnvironmentProblem, PartialError, RunError, UsageError
from labctl.project import Project

from .session import (
    AsJson,
    Preset,
    RunName,
    RunNames,
    TableName,
    _recipe_names,
    open_project,
    print_json,
)

if TYPE_CHECKING:
    from labctl.execute.supervisor import Job
    from labctl.registry.registry import Registry

Jobs = Annotated[
    int | None,
    typer.Option(
        "--jobs", "-j", min=1, help="Workers at once.", show_default="one per GPU or core"
    ),
]
FailFast = Annotated[bool, typer.Option("--fail-fast", help="Stop the others when one fails.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Begin work of many hours on a CPU.")]
NoTrack = Annotated[
    bool, typer.Option("--no-track", help="Do not feed MLflow now; `labctl sync` can later.")
]


def register(app: typer.Typer) -> None:
    """Add the verbs to `app`."""
    for verb in (run, resume, stop, rerun):
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
    from labctl.execute.supervisor import Job
    from labctl.plan.derive import plans
    from labctl.recipe.recipe import load

    project, registry = open_project()
    names = [text for text in recipes or [] if "=" not in text]
    overrides = tuple(text for text in recipes or [] if "=" in text)
    if table is not None:
        from labctl.report.table import recipes_of

        names += [name for name in recipes_of(project, table) if name not in names]
    if not names:
        raise UsageError(
            "no recipe named",
            hint="labctl run RECIPE, or labctl run --table main; labctl ls lists recipes",
        )
    loaded = [load(project, registry, name, preset, overrides) for name in names]
    _require_data(project, registry, loaded)
    work = _distinct([Job(plan, recipe.path) for recipe in loaded for plan in plans(recipe)])
    if restart:
        _set_aside(project, work)
    _carry_out(project, registry, work, jobs, fail_fast, yes, not no_track, inline, as_json)


def _distinct(work: list[Job]) -> list[Job]:
    """Each key once; which name a piece of work goes by is said if there are several."""
    first: dict[str, Job] = {}
    for job in work:
        kept = first.setdefault(job.plan.key, job)
        if kept.plan.name != job.plan.name:
            typer.echo(f"{job.plan.name}  is the same work as {kept.plan.name}", err=True)
    return list(first.values())


def _require_data(project: Project, registry: Registry, loaded: list[Any]) -> None:
    """Missing data is said before anything starts, with a preset that runs without it."""
    for recipe in loaded:
        if hint := _missing(project, recipe):
            if way := _preset_without(project, registry, recipe):
                hint += f"\n  without it: labctl run {recipe.name} --preset {way}"
            raise EnvironmentProblem(
                f"{recipe.label}: data set {recipe.spec.name} is not on this machine", hint=hint
            )


def _missing(project: Project, recipe: Any) -> str | None:
    from labctl.registry.card import Places

    hint: str | None = recipe.data.card.missing(recipe.data.config, Places(project.data_roots))
    return hint


def _preset_without(project: Project, registry: Registry, recipe: Any) -> str | None:
    """A preset of the recipe whose data are here."""
    from labctl.errors import LabctlError
    from labctl.recipe.recipe import load

    for preset in recipe.presets:
        try:
            if not _missing(project, load(project, registry, str(recipe.path), preset)):
                return str(preset)
        except LabctlError:
            continue
    return None


def _set_aside(project: Project, work: list[Any]) -> None:
    import time

    from labctl.store.run import run_of
    from labctl.store.status import Status

    for job in work:
        found = run_of(project, job.plan)
        if found.folder.exists() and found.status not in (Status.DONE, Status.RUNNING):
            aside = found.folder.with_name(
                f"{found.folder.name}.aside-{time.strftime('%Y%m%d-%H%M%S')}"
            )
            found.folder.rename(aside)
            (aside / "plan.json").rename(aside / "plan.set-aside.json")


def _carry_out(
    project: Project,
    registry: Registry,
    work: list[Any],
    jobs: int | None,
    fail_fast: bool,
    yes: bool,
    track: bool,
    inline: bool,
    as_json: bool,
) -> None:
    from rich.console import Console

    from labctl.execute.display import display_for
    from labctl.execute.supervisor import Interrupted, Options, Supervisor

    console = Console(stderr=as_json)
    if inline:
        from labctl.execute.inline import carry_out_inline

        outcomes = carry_out_inline(project, registry, work)
    else:
        supervisor = Supervisor(
            project, registry, display_for(console), Options(jobs, fail_fast, yes, track)
        )
        try:
            outcomes = supervisor.carry_out(work)
        except Interrupted as interrupted:
            console.print("stopped; nothing is lost. Go on with: labctl resume", highlight=False)
            raise typer.Exit(128 + interrupted.number) from None
    if as_json:
        print_json(
            [{"run": o.run.plan.name, "key": o.run.plan.key, "status": o.status,
              "skipped": o.was_skipped,
              "folder": o.run.folder, "message": o.message} for o in outcomes]
        )  # fmt: skip
    _conclude(console, outcomes)


def _conclude(console: Any, outcomes: list[Any]) -> None:
    """One line of summary, and the exit code that scripts read."""
    from labctl.store.status import Status

    counts: dict[str, int] = {}
    for outcome in outcomes:
        word = f"{outcome.status} before" if outcome.was_skipped else str(outcome.status)
        counts[word] = counts.get(word, 0) + 1
    console.print(
        f"{len(outcomes)} run{'s' if len(outcomes) != 1 else ''}: "
        + ", ".join(f"{n} {word}" for word, n in counts.items()),
        highlight=False,
    )
    bad = [outcome for outcome in outcomes if outcome.status is not Status.DONE]
    if not bad:
        return
    hint = "labctl status; labctl logs RUN; `labctl run` again goes on where they were"
    names = ", ".join(f"{outcome.run.plan.name} ({outcome.status})" for outcome in bad)
    codes = {int((outcome.run.end or {}).get("code", 0)) for outcome in bad}
    if codes == {EnvironmentProblem.exit_code} and len(bad) == len(outcomes):
        raise EnvironmentProblem(f"not done: {names}", hint=hint)
    if len(bad) < len(outcomes):
        raise PartialError(f"{len(bad)} of {len(outcomes)} runs are not done: {names}", hint=hint)
    raise RunError(f"not done: {names}", hint=hint)


def resume(
    runs: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RUN...]", help="All unfinished runs if none is named."),
    ] = None,
    jobs: Jobs = None,
    fail_fast: FailFast = False,
    yes: Yes = False,
    no_track: NoTrack = False,
    as_json: AsJson = False,
) -> None:
    """Go on with runs that were stopped, lost or failed."""
    from pathlib import Path

    from labctl.execute.supervisor import Job
    from labctl.store.run import all_runs, find_runs
    from labctl.store.status import Status

    project, registry = open_project()
    found = (
        [r for name in runs for r in find_runs(project, name)] if runs else list(all_runs(project))
    )
    todo = [
        r for r in found if r.status in (Status.STOPPED, Status.LOST, Status.FAILED, Status.PENDING)
    ]
    if not todo:
        typer.echo("nothing to resume: every run is done or being trained")
        return
    work = [Job(r.plan, Path(r.provenance.get("recipe", "."))) for r in todo]
    _carry_out(project, registry, work, jobs, fail_fast, yes, not no_track, False, as_json)


def stop(runs: RunNames) -> None:
    """Ask runs to write a checkpoint and end; they can be resumed."""
    from labctl.store.run import find_runs
    from labctl.store.status import Status

    project, _ = open_project()
    for found in [r for name in runs for r in find_runs(project, name)]:
        if found.status is Status.RUNNING:
            found.request_stop()
            typer.echo(f"{found.plan.name}  asked to stop")
        else:
            typer.echo(f"{found.plan.name}  is not running: {found.status}")


def rerun(name: RunName, yes: Yes = False) -> None:
    """Train a run again from its stored plan and code, and compare bit for bit."""
    from rich.console import Console

    from labctl.execute.again import compare, prepare
    from labctl.execute.display import display_for
    from labctl.execute.supervisor import Options, Supervisor, threads_of
    from labctl.registry.registry import Registry
    from labctl.store.run import find_runs

    project, _ = open_project()
    found = find_runs(project, name)
    if len(found) != 1:
        names = ", ".join(f"{r.plan.label}/seed={r.plan.work.seed}" for r in found)
        raise UsageError(f"{name!r} means {len(found)} runs", hint=f"name one: {names}")
    again, job = prepare(project, found[0])
    console = Console()
    stored = Registry(found[0].source_path, is_quiet=True)
    options = Options(yes=yes, track=False, threads=threads_of(found[0]))
    Supervisor(again, stored, display_for(console), options).carry_out([job])
    console.print(compare(again, found[0], job.plan), highlight=False)
