"""Seeds that join those that a recipe begins with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from labctl.execute.job import Job
from labctl.plans.derive import plans
from labctl.plans.plan import Plan, settings_of
from labctl.project import Project
from labctl.recipe.recipe import Recipe
from labctl.registry.registry import Registry
from labctl.store.run import run_of

from .carrying import How


def joined(project: Project, recipe: Recipe) -> list[Plan]:
    """Further seeds of a recipe that grows which were begun before."""
    further = recipe.document.further_seeds
    found = plans(recipe, further) if further else ()
    return [plan for plan in found if run_of(project, plan).is_begun]


def grown(
    project: Project, registry: Registry, recipes: Iterable[Recipe], how: How
) -> Iterator[Job]:
    """Further seeds of recipes whose mean is not known well enough; why is said of each."""
    from labctl.reports.growing import growth  # `labctl plan`, which joins, reads no results

    for recipe in recipes:
        if not recipe.document.growing:
            continue
        found = growth(project, registry, recipe)
        said = " ".join([*settings_of(recipe.point), found.why])
        how.console.print(said, highlight=False, soft_wrap=True)
        if found.seeds:
            yield from (Job(plan, recipe.path) for plan in plans(recipe, found.seeds))
