"""Training in this very process: for a debugger, or where processes are dear."""

from __future__ import annotations

import signal
from collections.abc import Sequence

from labctl.project import Project
from labctl.registry.registry import Registry
from labctl.store.run import run_of

from .device import require_device
from .job import Job, Outcome, Together, outcome_of
from .provenance import Provenance
from .rounds import work
from .signals import Heard, Interrupted
from .stop import Stop
from .width import width_of


def carry_out_inline(
    project: Project, registry: Registry, jobs: Sequence[Job], together: Together = 1
) -> list[Outcome]:
    """Train what is missing here; breakpoints in plugins work, for their live code is used.

    Raises:
        Interrupted: a signal asked for the end; every run has a checkpoint.
    """
    provenance = Provenance(registry)
    runs = [run_of(project, job.plan) for job in jobs]
    missing = [
        (job, run)
        for job, run in zip(jobs, runs, strict=True)
        if not run.status.is_final or run.needs(job.plan)
    ]
    require_device([job for job, _ in missing])
    for job, run in missing:
        provenance.store(run, job.plan, job.recipe)
        run.withdraw_stop()
    stop = Stop()
    with Heard(stop.note):
        attempts = work(
            [run for _, run in missing],
            project.data_roots,
            stop,
            registry=registry,
            width=width_of(together),
        )
    if stop.reason:
        raise Interrupted(signal.Signals[stop.reason])
    begun = {attempt.run.folder for attempt in attempts}
    return [
        outcome_of(run, job.plan, was_skipped=run.folder not in begun)
        for job, run in zip(jobs, runs, strict=True)
    ]
