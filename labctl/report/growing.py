"""How many more seeds a recipe wants, by how well its mean is known."""

from __future__ import annotations

from dataclasses import dataclass

from labctl.project import Project
from labctl.recipe.recipe import Recipe
from labctl.registry.registry import Registry

from .comparison import values
from .quantity import difference_unit
from .rows import Rows
from .statistics import Estimate, estimate


@dataclass(frozen=True, slots=True)
class Growth:
    """Seeds to train next, none if it ends here, and why."""

    seeds: tuple[int, ...]
    why: str


def growth(project: Project, registry: Registry, recipe: Recipe) -> Growth:
    """What a recipe that grows wants, by the runs of this project.

    As many seeds at once as the present spread asks for, at most as many as there are: a spread of
    three seeds is not to be trusted with more.
    """
    rule = recipe.document.growing
    assert rule is not None, "asked of recipes that grow"
    row = Rows(project, registry, recipe.preset, ()).at(recipe)[0]
    name, metric, unit = recipe.label, rule.metric, difference_unit(rule.metric)
    if missing := sorted(set(row.absent) | set(rule.first) - set(row.results)):
        return Growth((), f"{name}: seed {missing[0]} has no result, so no more seeds are added")
    found = estimate(list(values(row, metric).values()))
    if found is None or found.n < len(row.results):
        return Growth((), f"{name}: not every seed has a finite {metric}, so no more are added")
    width = found.half_width()
    said = f"{name}: {metric} is known to {_shown(width)}{unit} (95 %, n={found.n})"
    if width <= rule.most:
        return Growth((), f"{said}, wanted {rule.most:g}: enough")
    free = [seed for seed in rule.further if seed not in row.results]
    if not free:
        return Growth((), f"{said}, wanted {rule.most:g}, and max {rule.max} is reached")
    wanted = _wanted(found, rule.most, rule.max) - found.n
    added = tuple(free[: max(1, min(wanted, found.n))])
    return Growth(added, f"{said}, wanted {rule.most:g}: {len(added)} more")


def _wanted(found: Estimate, most: float, limit: int) -> int:
    """The fewest seeds, more than there are, that the present spread would let suffice."""
    numbers = range(found.n + 1, limit + 1)
    return next((n for n in numbers if found.half_width(n) <= most), limit)


def _shown(width: float) -> str:
    return f"\u00b1 {width:.2g}"
