"""How long a plan will take, from steps that were measured."""

from __future__ import annotations

import time
from typing import Any

import torch

from labctl.errors import EnvironmentProblem
from labctl.measure.device import wait
from labctl.plans.plan import Plan
from labctl.project import Project
from labctl.registry.card import Places
from labctl.registry.registry import Registry
from labctl.train.assembly import Assembly
from labctl.train.cost import FP32, ledger, placeholder
from labctl.train.numerics import Arithmetic, device_of

from .hardware import device_facts
from .measured import estimates, measured

LEAST = 2
"""Examples of the smallest batch: batch norm wants more than one."""
ENOUGH = 0.3
"""Seconds a step after which a larger batch would tell little more."""


def cost_of(project: Project, registry: Registry, plan: Plan) -> dict[str, Any]:
    """Ledger of a plan, and estimates of its training time.

    From steps of the same model and batch that were timed before, and from a step here if this
    device is not among those that timed them.

    Raises:
        EnvironmentProblem: the plan asks for what this machine does not have, and nobody timed it.
    """
    assembly = Assembly(plan, registry, Places(project.data_roots))
    counted = ledger(assembly)
    found = estimates(measured(project, plan), plan, counted["phases"])
    try:
        device = device_of(plan.runtime.device)
        here = device_facts(device)["device_name"]
        if all(estimate["device"] != here for estimate in found):
            found.append(_probed(assembly, counted, device, here))
    except EnvironmentProblem:
        if not found:
            raise
    return {"ledger": counted, "estimates": found}


def _probed(
    assembly: Assembly, counted: dict[str, Any], device: torch.device, here: str
) -> dict[str, Any]:
    """A real step on this machine, scaled by the FLOPs of each phase.

    Of a batch that is doubled until its step takes `ENOUGH` or the batch is whole, and by the
    number of examples scaled from there.
    """
    work = assembly.plan.work
    arithmetic = Arithmetic(work.numerics, device)
    model = assembly.model(device, arithmetic.dtype)
    learner = assembly.learner(
        model, assembly.objective(), assembly.optimizer(model, device), arithmetic
    )
    knobs = assembly.board(device, FP32).at(0)

    def pace(examples: int) -> float:
        """Seconds of the faster of two steps; the first of a size may wake up more than it does."""
        batch = placeholder(assembly.spec, examples, device)
        taken = []
        for _ in range(2):
            wait(device)
            began = time.perf_counter()
            with arithmetic.active():
                learner.step(batch, knobs)
            wait(device)
            taken.append(time.perf_counter() - began)
        return min(taken)

    size = min(LEAST, work.batch_size)
    seconds = pace(size)
    while size < work.batch_size and seconds < ENOUGH:
        size = min(2 * size, work.batch_size)
        seconds = pace(size)
    first = counted["phases"][0]["step_flops"]
    relative = counted["train_flops"] / (first * work.steps) if first else 1.0
    scaled = "FLOPs" if size == work.batch_size else "examples and FLOPs"
    return {
        "device": here,
        "together": 1,
        "seconds": seconds * work.batch_size / size * work.steps * relative,
        "basis": f"a step of {size} examples, {seconds:.3g} s, scaled by {scaled}",
    }
