"""FLOPs that a recipe's training executes, from counts that are kept between commands."""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path
from typing import Any

from labctl.errors import EnvironmentProblem
from labctl.plans.derive import plans
from labctl.plans.key import digest_of
from labctl.plans.plan import Phase, Plan, Work
from labctl.project import Project
from labctl.recipe.recipe import Recipe
from labctl.registry.card import Places
from labctl.registry.registry import Registry
from labctl.store.atomic import write_json

_IRRELEVANT = {"steps", "schedules", "ladders", "evaluate", "ema", "stop", "seed"}
"""What changes nothing about the cost of a step in which structural knobs stand where they do."""


def executed_flops(recipe: Recipe, project: Project, registry: Registry) -> float:
    """FLOPs of all steps of one run, forward, backward and whatever else the learner does, at 2 per
    multiply-accumulate, as its ledger has them.

    Raises:
        EnvironmentProblem: something that the step does has no formula, so that the count would
            lack it.
    """
    plan = plans(recipe)[0]
    path = project.cache / "flops" / f"{_step_digest(plan.work)}.json"
    known = _kept(path)
    missing = [phase for phase in plan.work.phases() if phase.form not in known]
    if missing:
        known |= _counted(plan, missing, project, registry)
        write_json(path, known)
    counts = [(known[phase.form], phase.end - phase.start) for phase in plan.work.phases()]
    if uncounted := sorted({name for count, _ in counts for name in count["uncounted"]}):
        raise EnvironmentProblem(
            f"the FLOPs of {recipe.label} cannot be counted whole: no formula for "
            f"{', '.join(uncounted)}",
            hint="give the budget in ep or step",
        )
    return float(sum(count["flops"] * steps for count, steps in counts))


def _kept(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # nothing was kept, or what was is broken
        return {}
    return found


def _counted(
    plan: Plan, phases: list[Phase], project: Project, registry: Registry
) -> dict[str, Any]:
    from .assembly import Assembly
    from .cost import count_of

    assembly = Assembly(plan, registry, Places(project.data_roots))
    found: dict[str, Any] = {}
    for phase in phases:
        if phase.form not in found:
            count = count_of(assembly, phase)
            found[phase.form] = {"flops": count.flops, "uncounted": sorted(count.uncounted)}
    return found


def _step_digest(work: Work) -> str:
    values = work.model_dump(mode="json", by_alias=True, exclude=_IRRELEVANT)
    return digest_of({**values, "torch": metadata.version("torch")})
