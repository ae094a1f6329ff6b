"""Training what is missing of recipes."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from labctl.errors import UsageError
from labctl.execute.job import Job
from labctl.plans.derive import plans
from labctl.project import Project
from labctl.recipe.recipe import Recipe
from labctl.recipe.recipe import load as load_recipe
from labctl.registry.registry import Registry
from labctl.reports.table import recipes_of

from .carrying import How, carry_out, carry_out_anew, require_data
from .growing import grown, joined
from .opening import Where, opened
from .outcomes import Outcomes
from .planning import told_too_late


def run(
    *recipes: Recipe | str | Path,
    table: str | None = None,
    preset: str | None = None,
    jobs: int | None = None,
    together: str | int = "auto",
    fail_fast: bool = False,
    yes: bool = False,
    track: bool = True,
    inline: bool = False,
    restart: bool = False,
    project: Where = None,
) -> Outcomes:
    """Train what is missing, one run per seed; runs that are done are skipped.

    `labctl.run("ctd_baseline", "model.depth=4", preset="smoke")`.

    Args:
        recipes: names, paths or recipes that were loaded, and overrides FIELD=VALUE of all that
            are named.
        table: the recipes of this table as well.
        preset: of those that are named.
        jobs: workers at once; one per GPU or core if not given.
        together: runs that one worker trains at once on its GPU: auto, a number, or off.
        fail_fast: stop the others when one fails.
        yes: begin work of many hours on a CPU.
        track: feed MLflow.
        inline: train in this process, for a debugger.
        restart: set unfinished runs aside and begin them again.
        project: the project or its folder; the working folder if not given.

    Returns:
        How each run stands: `.require()` raises where one is not done.

    Raises:
        UsageError, RecipeError: something that is no recipe, or a faulty one; overrides or a preset
            beside a recipe that was loaded.
        EnvironmentProblem: data or a device are missing.
        Interrupted: a signal asked for the end; every run has a checkpoint.
    """
    found, registry = opened(project)
    how = How(jobs, together, fail_fast, yes, track, inline)
    return trained(found, registry, recipes, how, table=table, preset=preset, restart=restart)


def trained(
    project: Project,
    registry: Registry,
    recipes: Sequence[Recipe | str | Path],
    how: How,
    *,
    table: str | None = None,
    preset: str | None = None,
    restart: bool = False,
) -> Outcomes:
    """What `run` does."""
    loaded = list(_loaded(project, registry, recipes, table, preset))
    require_data(project, registry, loaded)
    work = _distinct(
        Job(plan, recipe.path)
        for recipe in loaded
        for plan in (*plans(recipe), *joined(project, recipe))
    )
    outcomes = carry_out_anew(project, registry, work, how, work if restart else ())
    while more := _distinct(grown(project, registry, loaded, how)):
        outcomes += carry_out(project, registry, more, how)
    return Outcomes(tuple(outcomes))


def _loaded(
    project: Project,
    registry: Registry,
    given: Sequence[Recipe | str | Path],
    table: str | None,
    preset: str | None,
) -> Iterator[Recipe]:
    overrides = tuple(one for one in given if isinstance(one, str) and "=" in one)
    asked = [one for one in given if one not in overrides]
    if table is not None:
        asked += [name for name in recipes_of(project, table, preset) if name not in asked]
    if not asked:
        raise UsageError(
            "no recipe named",
            hint="labctl run RECIPE, or labctl run --table main; labctl ls lists recipes",
        )
    for one in asked:
        if isinstance(one, Recipe):
            if overrides or preset:
                raise told_too_late(one)
            yield one
        else:
            yield load_recipe(project, registry, str(one), preset, overrides)


def _distinct(work: Iterable[Job]) -> list[Job]:
    """Each key once; which name a piece of work goes by is said if there are several."""
    first: dict[str, Job] = {}
    for job in work:
        kept = first.setdefault(job.plan.key, job)
        if kept.plan.name != job.plan.name:
            print(f"{job.plan.name}  is the same work as {kept.plan.name}", file=sys.stderr)
    return list(first.values())
