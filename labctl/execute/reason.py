"""Why a run will or will not be trained again: what changed between its plan and the recipe now."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from labctl.errors import LabctlError
from labctl.plans.derive import plans
from labctl.plans.fields import fields_of
from labctl.plans.plan import MeasurementPart, Plan, differences, settings_of
from labctl.project import Project
from labctl.recipe.recipe import load
from labctl.registry.digest import edited
from labctl.registry.registry import Registry
from labctl.store.run import Run, run_of
from labctl.store.status import Status

from .provenance import version_of

_ANSWERS = {
    Status.PENDING: "was planned and never begun: it will be trained",
    Status.RUNNING: "is being trained",
    Status.STOPPED: "was stopped: it will go on from its checkpoint",
    Status.LOST: "lost its worker: it will go on from its checkpoint",
    Status.FAILED: "failed: labctl run tries it again, labctl sweep with --retry failed",
    Status.DIVERGED: "diverged, which is an answer: it will not run again",
    Status.HALTED: "was halted by a rule of its recipe, which is an answer: it will not run again",
    Status.DONE: "is done: it will not run again",
}


def reasons(project: Project, registry: Registry, run: Run) -> Iterator[str]:
    """Sentences, the answer first."""
    try:
        now = plan_now(project, registry, run.plan)
    except LabctlError as error:
        yield f"its recipe cannot be planned any more: {error.message}; the run stays as it is"
        return
    if now.key == run.plan.key:
        yield from _same(run, now)
    else:
        yield from _changed(project, registry, run, now)
    yield from _aside(run)


def plan_now(project: Project, registry: Registry, plan: Plan) -> Plan:
    """What the plan's recipe, with the same preset, point and seed, means today.

    Raises:
        UsageError, RecipeError: the recipe is gone, or faulty.
    """
    overrides = (*settings_of(plan.point), f"seeds=[{plan.work.seed}]")
    (now,) = plans(load(project, registry, plan.recipe, plan.preset, overrides))
    return now


def _same(run: Run, now: Plan) -> Iterator[str]:
    status = run.status
    if status is Status.DONE and run.needs(now):
        yield "is trained, and will be opened again to measure what it lacks"
        for part in run.unmeasured(now):
            yield f"{part.name} {_lacks(run, part)}"
        yield "nothing that its training depends on has changed"
    else:
        yield _ANSWERS[status]
        yield "nothing that its result depends on has changed"
    message = str((run.end or {}).get("message", ""))
    if message:
        yield f"it ended with: {message.splitlines()[0]}"


def _lacks(run: Run, part: MeasurementPart) -> str:
    """Why a measurement is to be taken, again or for the first time."""
    before = run.asked(part.name)
    if before is None or not run.measured(part.name):
        return "was not taken"
    found = differences(before.config, part.config, absent="nothing")
    settings = ", ".join(f"{name}={old}, not {new}" for name, (old, new) in found.items())
    return f"was taken with {settings}" if settings else "was taken by other code than today's"


def _changed(project: Project, registry: Registry, run: Run, now: Plan) -> Iterator[str]:
    other = run_of(project, now)
    state = other.status if other.folder.exists() else "not begun"
    yield f"stays as it is: its recipe means other work now, {now.key} ({state})"
    then, today = (
        fields_of(plan.work.model_dump(mode="json", by_alias=True)) for plan in (run.plan, now)
    )
    for path, (old, new) in differences(then, today, absent="nothing").items():
        if not path.startswith("digests."):
            yield f"{path} was {old}, is {new}"
    for plugin, digest in run.plan.work.digests.items():
        if now.work.digests.get(plugin) != digest:
            folder = registry.load(plugin).plugin.folder if plugin in now.work.digests else None
            files = ", ".join(edited(run.source_path / plugin, folder)) or "its files"
            yield f"code of {plugin} changed: {files}"


def _aside(run: Run) -> Iterator[str]:
    """What changed and does not count."""
    packages: Mapping[str, str] = run.provenance.get("packages", {})
    for name in ("torch", "torchvision", "numpy"):
        then, now = packages.get(name), version_of(name)
        if then and now and then != now:
            yield f"{name} was {then}, is {now}: that is no part of the key"
