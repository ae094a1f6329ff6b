"""What is to be carried out, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from labctl.plans.plan import Plan
from labctl.store.run import Run
from labctl.store.status import Status

Together = int | Literal["auto"]
"""How many runs of one worker are trained together; `auto` is as long as that makes all faster."""


@dataclass(frozen=True, slots=True)
class Job:
    """A plan and the recipe file it came from."""

    plan: Plan
    recipe: Path


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a plan's run stands when nothing more is done for it."""

    run: Run
    status: Status
    was_skipped: bool = False
    message: str = ""


def outcome_of(run: Run, plan: Plan, *, was_skipped: bool = False) -> Outcome:
    """How `run` stands now, as far as `plan` is concerned: without a measurement that it asks for,
    a trained run has not answered it."""
    status = run.status
    message = str((run.end or {}).get("message", ""))
    if status is Status.DONE and run.needs(plan):
        status = Status.FAILED
        message = message or "trained, but not measured as it is to be now: run it again"
    return Outcome(run, status, was_skipped, message)
