"""Training a stored run once more, and holding the two against each other."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from labctl.errors import ClaimError, RunError
from labctl.plans.key import NUMERICS
from labctl.plans.plan import Plan
from labctl.project import Project
from labctl.store.run import Run, run_of
from labctl.store.status import Status

from .job import Job
from .trace import LOSS, told_apart, trace_of


@dataclass(frozen=True, slots=True)
class Repetition(Project):
    """A project below a run, with the data of the run's own project."""

    original: Project

    @property
    def runs(self) -> Path:
        """Its own wherever LABCTL_RUNS points: the run that is repeated lies there."""
        return self.root / "runs"

    @property
    def data_roots(self) -> tuple[Path, ...]:
        return self.original.data_roots


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
    again = Repetition(root, project)
    return again, Job(plan, Path(run.provenance.get("recipe", ".")))


@dataclass(frozen=True, slots=True)
class Comparison:
    """What came of a repetition."""

    status: Status
    """Of the repetition."""
    text: str
    """Whether it gave the same numbers, and where they first differ."""
    is_same: bool = False

    @property
    def exit_code(self) -> int:
        if self.status is not Status.DONE:
            return RunError.exit_code
        return 0 if self.is_same else ClaimError.exit_code


def compare(again: Project, run: Run, plan: Plan) -> Comparison:
    """The repetition held against the run."""
    repeated = run_of(again, plan)
    status = repeated.status
    if status is not Status.DONE:
        message = (repeated.end or {}).get("message", "")
        return Comparison(status, f"the repetition is {status}: {message}")
    before = run.journal
    then = trace_of(before)
    if first := next(told_apart(then, trace_of(repeated.journal)), None):
        return Comparison(status, f"differs: {first}")
    losses = sum(metric == LOSS for _, metric in then)
    curves = f"every value of {len(before.curves)} curves"
    text = f"identical: {losses} first losses and {curves}, bit for bit"
    return Comparison(status, text, is_same=True)
