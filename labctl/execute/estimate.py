"""How long a plan will take, from steps that were measured."""

from __future__ import annotations

import time
from typing import Any

import torch

from labctl.plan.plan import Plan
from labctl.project import Project
from labctl.registry.card import Places
from labctl.registry.registry import Registry
from labctl.store.journal import Journal
from labctl.store.run import all_runs
from labctl.train.assembly import Assembly
from labctl.train.cost import FP32, ledger, placeholder
from labctl.train.numerics import Arithmetic, device_of

PROBE_STEPS = 3


def cost_of(project: Project, registry: Registry, plan: Plan) -> dict[str, Any]:
    """Ledger of a plan, and estimates of its training time.

    From past runs of the same model and batch, else from a short probe here.
    """
    assembly = Assembly(plan, registry, Places(project.data_roots))
    counted = ledger(assembly)
    estimates = _from_runs(project, plan) or [_probed(assembly, counted)]
    return {"ledger": counted, "estimates": estimates}


def _from_runs(project: Project, plan: Plan) -> list[dict[str, Any]]:
    """One estimate per device on which the same model has been trained with the same batch."""
    found: dict[str, tuple[float, str]] = {}
    for run in all_runs(project):
        other = run.plan.work
        same = (
            other.architecture == plan.work.architecture and other.data.name == plan.work.data.name
        )
        if (
            not same
            or other.batch_size != plan.work.batch_size
            or other.numerics != plan.work.numerics
        ):
            continue
        journal = run.journal
        pace = _pace(journal)
        if pace is not None:
            device = next(journal.of("begin")).fields.get("device_name", "?")
            found[device] = (pace, run.plan.name)
    return [
        {
            "device": device,
            "seconds": pace * plan.work.steps,
            "basis": f"{pace:.3g} s a step in {name}",
        }
        for device, (pace, name) in found.items()
    ]


def _pace(journal: Journal) -> float | None:
    """Mean step time over all windows but the first, which warms up."""
    windows = [r.fields for r in journal.of("metrics") if "seconds" in r.fields][1:]
    steps = sum(w["steps"] for w in windows)
    return sum(w["seconds"] for w in windows) / steps if steps else None


def _probed(assembly: Assembly, counted: dict[str, Any]) -> dict[str, Any]:
    """A few real steps on this machine, scaled by the FLOPs of each phase."""
    work = assembly.plan.work
    device = device_of(assembly.plan.runtime.device)
    arithmetic = Arithmetic(work.numerics, device)
    model = assembly.model(device, arithmetic.dtype)
    learner = assembly.learner(
        model, assembly.objective(), assembly.optimizer(model, device), arithmetic
    )
    batch = placeholder(assembly.spec, work.batch_size, device)
    knobs = assembly.board(device, FP32).at(0)
    learner.step(batch, knobs)
    _wait(device)
    began = time.perf_counter()
    for _ in range(PROBE_STEPS):
        learner.step(batch, knobs)
    _wait(device)
    pace = (time.perf_counter() - began) / PROBE_STEPS
    first = counted["phases"][0]["step_flops"]
    relative = counted["train_flops"] / (first * work.steps) if first else 1.0
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"this {device.type}"
    return {
        "device": name,
        "seconds": pace * work.steps * relative,
        "basis": f"a probe of {PROBE_STEPS} steps, {pace:.3g} s each, scaled by FLOPs",
    }


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
