"""What the verbs that train have in common: their options, the supervisor, the end of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from labctl.errors import EnvironmentProblem, PartialError, RunError, UsageError
from labctl.project import Project

from .session import print_json

if TYPE_CHECKING:
    from rich.console import Console

    from labctl.execute.job import Outcome
    from labctl.execute.supervisor import Steering
    from labctl.registry.registry import Registry
    from labctl.store.status import Status

Jobs = Annotated[
    int | None,
    typer.Option(
        "--jobs", "-j", min=1, help="Workers at once.", show_default="one per GPU or core"
    ),
]
Together = Annotated[
    str,
    typer.Option(
        "--together",
        metavar="auto|N|off",
        help="Runs that one worker trains at once on its GPU; auto measures how many seeds of a "
        "recipe are fastest.",
    ),
]
FailFast = Annotated[bool, typer.Option("--fail-fast", help="Stop the others when one fails.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Begin work of many hours on a CPU.")]
NoTrack = Annotated[
    bool, typer.Option("--no-track", help="Do not feed MLflow now; `labctl sync` can later.")
]


def require_data(project: Project, registry: Registry, loaded: list[Any]) -> None:
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


def set_aside(project: Project, work: list[Any]) -> None:
    """Put the folders of work that ended without being done out of the way: it begins anew."""
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


def carry_out(
    project: Project,
    registry: Registry,
    work: Sequence[Any],
    console: Console,
    *,
    jobs: int | None = None,
    together: str = "auto",
    fail_fast: bool = False,
    yes: bool = False,
    track: bool = True,
    inline: bool = False,
    steering: Steering | None = None,
    again: str = "labctl resume",
) -> list[Outcome]:
    """Train `work`, with a display on the console; the outcome of each piece.

    `again` is what goes on after Ctrl-C.
    """
    from labctl.execute.display import display_for
    from labctl.execute.signals import Interrupted
    from labctl.execute.supervisor import Options, Supervisor

    if inline:
        from labctl.execute.inline import carry_out_inline

        return carry_out_inline(project, registry, work, _together(together))
    options = Options(jobs, fail_fast, yes, track, _together(together))
    supervisor = Supervisor(project, registry, display_for(console), options, steering)
    try:
        return supervisor.carry_out(work)
    except Interrupted as interrupted:
        console.print(f"stopped; nothing is lost. Go on with: {again}", highlight=False)
        raise typer.Exit(128 + interrupted.number) from None


def _together(text: str) -> int | Literal["auto"]:
    """What `--together` says.

    Raises:
        UsageError: nothing that can be understood.
    """
    if text == "auto":
        return "auto"
    if text == "off":
        return 1
    if text.isdecimal() and int(text) > 0:
        return int(text)
    raise UsageError(f"--together {text} is no number of runs", hint="--together auto, 3 or off")


def print_outcomes(outcomes: Sequence[Outcome]) -> None:
    """As JSON."""
    print_json(
        [{"run": o.run.plan.name, "key": o.run.plan.key, "status": o.status,
          "skipped": o.was_skipped,
          "folder": o.run.folder, "message": o.message} for o in outcomes]
    )  # fmt: skip


def conclude(
    console: Console,
    outcomes: Sequence[Outcome],
    answers: Sequence[Status],
    hint: str = "labctl status; labctl logs RUN; `labctl run` again goes on where they were",
) -> None:
    """One line of summary, and the exit code that scripts read: statuses other than `answers` mean
    that something is not done.

    Raises:
        PartialError, RunError, EnvironmentProblem: part of it, all of it, or all of it for want of
            something on this machine.
    """
    counts: dict[str, int] = {}
    for outcome in outcomes:
        word = f"{outcome.status} before" if outcome.was_skipped else str(outcome.status)
        counts[word] = counts.get(word, 0) + 1
    console.print(
        f"{len(outcomes)} run{'s' if len(outcomes) != 1 else ''}: "
        + ", ".join(f"{n} {word}" for word, n in counts.items()),
        highlight=False,
    )
    bad = [outcome for outcome in outcomes if outcome.status not in answers]
    if not bad:
        return
    names = ", ".join(f"{outcome.run.plan.name} ({outcome.status})" for outcome in bad)
    codes = {int((outcome.run.end or {}).get("code", 0)) for outcome in bad}
    if codes == {EnvironmentProblem.exit_code} and len(bad) == len(outcomes):
        raise EnvironmentProblem(f"not done: {names}", hint=hint)
    if len(bad) < len(outcomes):
        raise PartialError(f"{len(bad)} of {len(outcomes)} runs are not done: {names}", hint=hint)
    raise RunError(f"not done: {names}", hint=hint)
