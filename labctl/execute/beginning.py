"""A worker that goes no further than a run's first steps: `python -m labctl.execute.beginning
ORDER`."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from labctl.errors import EnvironmentProblem, LabctlError, PluginError
from labctl.plans.plan import Plan
from labctl.registry.card import Dataset, Places
from labctl.registry.registry import Registry
from labctl.store.atomic import write_json
from labctl.store.run import Run
from labctl.store.status import Status
from labctl.train.assembly import Assembly, chosen
from labctl.train.cost import forgo_ledger
from labctl.train.numerics import device_of

from .attempt import Attempt, Workbench
from .stop import Stop


def begin(run: Run, roots: tuple[Path, ...], steps: int, device: str) -> dict[str, Any]:
    """Train the first steps of a run with the code that is stored with it, as any worker does, and
    leave it; what the plan counts on and may be another here: `data_version`.

    Args:
        device: that the plan was first carried out on; taken if this machine has it.

    Raises:
        LabctlError: training cannot begin.
    """
    run.create(_placed(run.plan, device), run.provenance)
    forgo_ledger(run)
    registry = Registry(run.source_path, is_quiet=True)
    facts = {"data_version": _data_version(registry, run.plan, Places(roots))}
    bench = Workbench(roots, Stop(), registry, {}, takes_other_data=True)
    attempt = Attempt(run, bench)
    attempt.claim()
    bench.live.append(attempt)
    attempt.begin()
    while attempt.training is not None and attempt.training.step < steps:
        attempt.turn()
    if attempt.training is not None:
        attempt.training.record_first()
    attempt.let_go()
    return facts


def _placed(plan: Plan, device: str) -> Plan:
    try:
        found = device_of(device or plan.runtime.device).type
    except EnvironmentProblem:
        return plan
    runtime = plan.runtime.model_copy(update={"device": found})
    return plan.model_copy(update={"runtime": runtime})


def _data_version(registry: Registry, plan: Plan, places: Places) -> str:
    """Of the data here.

    Raises:
        EnvironmentProblem: they are not here, or the plan does not fit the code.
    """
    try:
        data = chosen(registry, Dataset, plan.work.data)
        if hint := data.card.missing(data.config, places):
            raise EnvironmentProblem(f"data set {plan.work.data.name} is not here", hint=hint)
        return Assembly(plan, registry, places).spec.version
    except PluginError as error:
        raise EnvironmentProblem(error.message, where=error.where, hint=error.hint) from None
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        raise EnvironmentProblem(
            f"the code here does not take the plan's {error.title}: {'; '.join(faults)}",
            hint="use the plugins' code of that time",
        ) from None


def main(arguments: Sequence[str]) -> int:
    """Carry out the order in a file; what went wrong becomes the end of the run."""
    order = json.loads(Path(arguments[0]).read_text(encoding="utf-8"))
    if order["threads"]:
        torch.set_num_threads(order["threads"])
    run = Run(Path(order["run"]))
    roots = tuple(Path(root) for root in order["data_roots"])
    try:
        facts = begin(run, roots, order["steps"], order["device"])
    except LabctlError as error:
        end = {"status": Status.FAILED, "step": 0, "message": str(error)}
        write_json(run.end_path, {**end, "code": error.exit_code, "time": time.time()})
        return error.exit_code
    write_json(Path(order["facts"]), facts)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
