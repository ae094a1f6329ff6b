"""How many more seeds a recipe wants, by how well its mean is known."""

from __future__ import annotations

from dataclasses import dataclass

from labctl.project import Project
from labctl.recipe.recipe import Recipe
from labctl.registry.registry import Registry

from .means import mean
from .quantity import difference_unit
from .rows import Rows
from .statistics import Estimate


@dataclass(frozen=True, slots=True)
class Growth:
    """Seeds to train next, none if it ends here, and why."""

    seeds: tuple[int, ...]
    why: str


def growth(project: Project, registry: Registry, recipe: Recipe) -> Growth:
    """What a recipe that grows wants, by the runs of this project.

    Several seeds join at once, for a GPU trains them together; the spread of three is not trusted
    with more than three others.
    """
    rule = recipe.document.growing
    assert rule is not None, "asked of recipes that grow"
    row = Rows(project, registry, recipe.preset, ()).at(recipe)[0]
    name, metric, unit = recipe.label, rule.metric, difference_unit(rule.metric)
    if missing := sorted(set(row.absent) | set(rule.first) - set(row.results)):
        return Growth((), f"{name}: seed {missing[0]} has no result, so no more seeds are added")
    found = mean(row, metric)
    if found is None or found.n < len(row.results):
        return Growth((), f"{name}: not every seed has a finite {metric}, so no more are added")
    said = (
        f"{name}: {metric} is known to \u00b1 {found.half_width():.2g}{unit} (95 %, n={found.n}), "
        f"wanted {rule.most:g}"
    )
    free = [seed for seed in rule.further if seed not in row.results]
    added = tuple(free[: joining(found, rule.most, rule.max)])
    if added:
        return Growth(added, f"{said}: {len(added)} more")
    if found.half_width() <= rule.most:
        return Growth((), f"{said}: enough")
    return Growth((), f"{said}, and max {rule.max} is reached")


def joining(found: Estimate, most: float, limit: int) -> int:
    """How many seeds join those of `found`, of `limit` in all, for half the interval to be at most
    `most`: as many as the present spread asks for, and no more than there are."""
    if found.half_width() <= most or found.n >= limit:
        return 0
    numbers = range(found.n + 1, limit + 1)
    needed = next((n for n in numbers if found.half_width(n) <= most), limit)
    return min(needed - found.n, found.n)
