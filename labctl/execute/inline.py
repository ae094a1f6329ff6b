"""Training in this very process, one run after the other: for a debugger."""

from __future__ import annotations

from collections.abc import Sequence

from labctl.project import Project
from labctl.registry.registry import Registry
from labctl.store.run import run_of

from .provenance import Provenance
from .supervisor import Job, Outcome, outcome_of, require_device
from .worker import Stop, work


def carry_out_inline(project: Project, registry: Registry, jobs: Sequence[Job]) -> list[Outcome]:
    """Train what is missing here; breakpoints in plugins work, for their live code is used."""
    provenance = Provenance(registry)
    outcomes = []
    waiting = [job for job in jobs if run_of(project, job.plan).needs(job.plan)]
    require_device(waiting)
    for job in jobs:
        run = run_of(project, job.plan)
        if run.status.is_final and not run.needs(job.plan):
            outcomes.append(Outcome(run, run.status, was_skipped=True))
            continue
        provenance.store(run, job.plan, job.recipe)
        attempts = work([run], project.data_roots, Stop(), registry=registry)
        outcomes.append(outcome_of(run, job.plan, was_skipped=not attempts))
    return outcomes
