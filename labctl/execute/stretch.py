"""A run without end all of whose steps are like one of a plan's: to be timed, or compiled for."""

from __future__ import annotations

from labctl.plans.plan import Plan, Rung

FAR = 10**9
"""Seconds or steps that nobody comes to."""


def stretch(plan: Plan, at_step: int) -> Plan:
    """Structural knobs stay where `plan` has them at `at_step`; nothing is evaluated, measured or
    checkpointed, and no rule ends it."""
    work = plan.work.model_copy(
        update={
            "ladders": {
                knob: (Rung(step=0, value=value),)
                for knob, value in plan.work.structural_at(at_step).items()
            },
            "steps": FAR,
            "stop": {},
            "evaluate": plan.work.evaluate.model_copy(update={"every": FAR, "tail": 0}),
        }
    )
    runtime = plan.runtime.model_copy(update={"checkpoint_seconds": float(FAR)})
    return plan.model_copy(update={"work": work, "runtime": runtime, "measures": ()})
