"""How long work may take on a CPU before it must be asked for twice."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from .active import Active
from .duration import lasting
from .job import Job

PATIENCE_HOURS = 6.0
"""Longest work on a CPU that is begun without being asked twice."""
PROBE_SECONDS = 4.0


def too_long(active: Sequence[Active], waiting: Iterable[Job], workers: int) -> str:
    """What is wrong with the time that the rest would take; empty if nothing is, or nobody knows
    yet."""
    rates = [
        a.watched
        for a in active
        if a.watched.seconds_per_step
        and a.crew is not None
        and time.monotonic() - a.crew.began > PROBE_SECONDS
    ]
    if not rates:
        return ""
    pace = sum(w.seconds_per_step or 0.0 for w in rates) / len(rates)
    steps = sum(a.watched.plan.work.steps - a.watched.step for a in active)
    steps += sum(job.plan.work.steps for job in waiting)
    hours = pace * steps / workers / 3600
    if hours <= PATIENCE_HOURS:
        return ""
    return f"this would take about {lasting(hours * 3600)} on this CPU ({pace:.2g} s per step)"
