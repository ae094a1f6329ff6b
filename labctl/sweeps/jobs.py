"""From a sweep to the work that it means: a set of keys, of which what is missing is trained."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from labctl.execute.job import Job
from labctl.plans.derive import plans
from labctl.project import Project
from labctl.registry.registry import Registry
from labctl.store.run import Run, run_of
from labctl.store.status import Status

from .sweep import Point, Sweep


@dataclass(frozen=True, slots=True)
class Cell:
    """One point with one seed."""

    point: Point
    job: Job

    def run(self, project: Project) -> Run:
        return run_of(project, self.job.plan)


def cells(
    project: Project,
    registry: Registry,
    sweep: Sweep,
    points: Iterable[Point],
    seeds: Sequence[int] | None = None,
) -> list[Cell]:
    """Every point with every seed, seed by seed: the whole curve is there early, and sharpens.

    Raises:
        RecipeError: a point gives a field a value that it cannot have.
    """
    made = [
        (place, point, recipe, plan)
        for point in points
        for recipe in [sweep.at(project, registry, point, seeds)]
        for place, plan in enumerate(plans(recipe, seeds or ()))
    ]
    made.sort(key=lambda one: one[0])
    return [Cell(point, Job(plan, recipe.path)) for _, point, recipe, plan in made]


def due(project: Project, found: Sequence[Cell], retry: frozenset[Status]) -> list[Cell]:
    """The cells to bring to their end now: all but those that failed before and are not to be
    tried again.

    What is done is skipped by the supervisor; what was stopped or lost goes on where it was.
    """
    return [
        cell
        for cell in found
        if (status := cell.run(project).status) is not Status.FAILED or status in retry
    ]
