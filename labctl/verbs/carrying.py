"""What training verbs have in common: data that must be there, runs set aside, the supervisor."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from labctl.errors import EnvironmentProblem, LabctlError, UsageError
from labctl.execute.job import Job, Outcome, Together, outcome_of
from labctl.project import Project
from labctl.recipe.recipe import Recipe, load
from labctl.registry.card import Places
from labctl.registry.registry import Registry
from labctl.store.run import ASIDE, Run, run_of
from labctl.store.status import Status

if TYPE_CHECKING:
    from labctl.execute.steering import Steering

ASIDE_PLAN = "plan.set-aside.json"
"""What the plan of a folder that is set aside is called, so that nobody takes it for a run's."""
STAMP = "%Y%m%d-%H%M%S"
"""Of what is set aside."""


def _console() -> Console:
    """Where the caller reads; a notebook gets plain lines, for bars would fill it."""
    is_terminal = False if Console().is_jupyter else None
    return Console(emoji=False, markup=False, force_jupyter=False, force_terminal=is_terminal)


@dataclass(frozen=True, slots=True)
class How:
    """How work is carried out, whatever it is."""

    jobs: int | None = None
    """Workers at once; one per GPU or core if not given."""
    together: str | int = "auto"
    """Runs that one worker trains at once on its GPU: auto, a number, or off."""
    fail_fast: bool = False
    """Stop the others when one fails."""
    yes: bool = False
    """Begin work of many hours on a CPU."""
    track: bool = True
    """Feed MLflow."""
    inline: bool = False
    """Train in this process, for a debugger."""
    console: Console = field(default_factory=_console)
    """Where progress is shown."""

    @property
    def width(self) -> Together:
        """What `together` means.

        Raises:
            UsageError: nothing that can be understood.
        """
        text = str(self.together)
        if text == "auto":
            return "auto"
        if text == "off":
            return 1
        if text.isdecimal() and int(text) > 0:
            return int(text)
        raise UsageError(
            f"--together {text} is no number of runs", hint="--together auto, 3 or off"
        )


def carry_out(
    project: Project,
    registry: Registry,
    work: Sequence[Job],
    how: How,
    steering: Steering | None = None,
) -> list[Outcome]:
    """Train `work`, with a display on the console; the outcome of each piece.

    Raises:
        Interrupted: a signal asked for the end; every run has a checkpoint.
    """
    # Whoever only asks, or asks wrongly, does not wait for them.
    from labctl.execute.display import display_for
    from labctl.execute.options import Options
    from labctl.execute.supervisor import Supervisor

    if how.inline:
        from labctl.execute.inline import carry_out_inline  # it needs torch

        return carry_out_inline(project, registry, work, how.width)
    options = Options(how.jobs, how.fail_fast, how.yes, how.track, how.width)
    display = display_for(how.console)
    return Supervisor(project, registry, display, options, steering).carry_out(work)


def require_data(project: Project, registry: Registry, recipes: Iterable[Recipe]) -> None:
    """Missing data is said before anything starts, with a preset that runs without it.

    Raises:
        EnvironmentProblem: a data set is not here.
    """
    for recipe in recipes:
        if hint := _missing(project, recipe):
            if way := _preset_without(project, registry, recipe):
                hint += f"\n  without it: labctl run {recipe.name} --preset {way}"
            raise EnvironmentProblem(
                f"{recipe.label}: data set {recipe.spec.name} is not on this machine", hint=hint
            )


def _missing(project: Project, recipe: Recipe) -> str | None:
    missing: str | None = recipe.data.ask("missing", Places(project.data_roots))
    return missing


def _preset_without(project: Project, registry: Registry, recipe: Recipe) -> str | None:
    """A preset of the recipe whose data are here."""
    for preset in recipe.presets:
        try:
            if not _missing(project, load(project, registry, str(recipe.path), preset)):
                return str(preset)
        except LabctlError:
            continue
    return None


def carry_out_anew(
    project: Project, registry: Registry, work: Sequence[Job], how: How, anew: Iterable[Job]
) -> list[Outcome]:
    """As `carry_out`; those of `anew` that ended without being done begin at the beginning.

    Their folders are put out of the way, and back if they are not begun after all.
    """
    moved = _set_aside(project, anew)
    try:
        outcomes = carry_out(project, registry, work, how)
    finally:
        kept = {run.folder for run, aside in moved.items() if _is_put_back(run, aside)}
    return [
        outcome_of(one.run, one.run.plan, was_skipped=True) if one.run.folder in kept else one
        for one in outcomes
    ]


def _set_aside(project: Project, work: Iterable[Job]) -> dict[Run, Path]:
    """Runs, and where their folders are now."""
    moved = {}
    for job in work:
        found = run_of(project, job.plan)
        if found.folder.exists() and found.status not in (Status.DONE, Status.RUNNING):
            stamp = time.strftime(STAMP)
            aside = found.folder.with_name(f"{found.folder.name}{ASIDE}{stamp}")
            found.folder.rename(aside)
            (aside / "plan.json").rename(aside / ASIDE_PLAN)
            moved[found] = aside
    return moved


def _is_put_back(run: Run, aside: Path) -> bool:
    """Whether nobody has begun the run anew, so that it is again what it was."""
    if run.is_begun:
        return False
    if run.folder.exists():
        run.discard()
    (aside / ASIDE_PLAN).rename(aside / "plan.json")
    aside.rename(run.folder)
    return True
