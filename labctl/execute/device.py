"""Whether this machine has the device that work asks for."""

from __future__ import annotations

from collections.abc import Sequence

from labctl.errors import EnvironmentProblem

from .job import Job


def require_device(jobs: Sequence[Job]) -> None:
    """Refuse, before anything starts, work of which this machine can compute nothing.

    Raises:
        EnvironmentProblem: every plan names a device, a precision or an engine that it does not
            have. If only some do, the others are worth beginning; those fail one by one, with the
            same words.
    """
    problems = []
    for job in jobs:
        runtime, numerics = job.plan.runtime, job.plan.work.numerics
        is_plain = numerics.precision != "tf32" and runtime.engine != "graphed"
        if runtime.device in ("auto", "cpu") and is_plain:
            return
        # Plans that any machine can carry out do not wait for torch.
        from labctl.train.engine import require_engine
        from labctl.train.numerics import Arithmetic, device_of

        try:
            device = device_of(runtime.device)
            Arithmetic(numerics, device)
            require_engine(runtime.engine, device)
        except EnvironmentProblem as error:
            problems.append(error)
        else:
            return
    if problems:
        raise problems[0]
