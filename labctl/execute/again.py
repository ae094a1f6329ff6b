"""Training a stored run once more, and holding the two against each other."""

from __future__ import annotations

import shutil
from pathlib import Path

from labctl.errors import RunError
from labctl.plan.key import NUMERICS
from labctl.plan.plan import Plan
from labctl.project import Project
from labctl.store.journal import Journal
from labctl.store.run import Run, run_of
from labctl.store.status import Status

from .job import Job


def prepare(project: Project, run: Run) -> tuple[Project, Job]:
    """A project of its own below the run, and the job that repeats it with the plugins' stored
    code.

    Raises:
        RunError: the run was never finished, or this labctl computes differently.
    """
    plan = run.plan
    if run.status is not Status.DONE:
        raise RunError(
            f"{plan.name} is {run.status}; only a finished run can be compared",
            hint="labctl resume",
        )
    if plan.work.labctl_numerics != NUMERICS:
        raise RunError(
            f"{plan.name} was trained with labctl's numerics "
            f"{plan.work.labctl_numerics}; this one has {NUMERICS}",
            hint=f"install labctl {run.provenance.get('labctl', 'of that time')}",
        )
    root = run.folder / "rerun"
    shutil.rmtree(root, ignore_errors=True)
    again = Project(root)
    return again, Job(plan, Path(run.provenance.get("recipe", ".")))


def compare(again: Project, run: Run, plan: Plan) -> str:
    """Whether the repetition gave the same numbers, and where they first differ."""
    repeated = run_of(again, plan)
    if repeated.status is not Status.DONE:
        return f"the repetition is {repeated.status}: {(repeated.end or {}).get('message', '')}"
    before, after = run.journal, repeated.journal
    first, second = _first_losses(before), _first_losses(after)
    for step, (old, new) in enumerate(zip(first, second, strict=False), 1):
        if old != new:
            return f"differs: the loss of step {step} was {old}, now {new}"
    differing = _first_difference(before, after)
    if differing:
        return differing
    curves = f"every value of {len(before.curves)} curves"
    return f"identical: {len(first)} first losses and {curves}, bit for bit"


def _first_losses(journal: Journal) -> list[str]:
    return [loss for record in journal.of("first_losses") for loss in record.fields["losses"]]


def _first_difference(before: Journal, after: Journal) -> str:
    differences = [
        (step, name, value, after.curves.get(name, {}).get(step))
        for name, curve in before.curves.items()
        for step, value in curve.items()
        if after.curves.get(name, {}).get(step) != value
    ]
    if not differences:
        return ""
    step, name, old, new = min(differences)
    return f"differs first at step {step}: {name} was {old}, now {new}"
