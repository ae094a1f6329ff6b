"""How long a plan will take, from steps that were measured."""

from __future__ import annotations

import time
from typing import Any

import torch

from labctl.plan.plan import Plan
from labctl.project import Project
from labctl.registry.card import Places
from labctl.registry.registry import Registry
from labctl.train.assembly import Assembly
from labctl.train.cost import FP32, ledger, placeholder
from labctl.train.numerics import Arithmetic, device_of

from .measured import estimates, measured

PROBE_STEPS = 3


def cost_of(project: Project, registry: Registry, plan: Plan) -> dict[str, Any]:
    """Ledger of a plan, and estimates of its training time.

    From steps of the same model and batch that were timed before, else from a short probe here.
    """
    assembly = Assembly(plan, registry, Places(project.data_roots))
    counted = ledger(assembly)
    found = estimates(measured(project, plan), plan, counted["phases"])
    found = found or [_probed(assembly, counted)]
    return {"ledger": counted, "estimates": found}


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
        "together": 1,
        "seconds": pace * work.steps * relative,
        "basis": f"a probe of {PROBE_STEPS} steps, {pace:.3g} s each, scaled by FLOPs",
    }


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
