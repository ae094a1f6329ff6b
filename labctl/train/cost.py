"""What a plan costs: parameters, and FLOPs of every phase of its curriculum."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from labctl.data.examples import Batch
from labctl.errors import EnvironmentProblem
from labctl.measure.compatibility import fvcore_macs
from labctl.measure.flops import StepCount, step_flops
from labctl.measure.forward import forward_pass
from labctl.plans.plan import Phase
from labctl.recipe.document import Numerics
from labctl.registry.card import DataSpec, KnobValue
from labctl.store.atomic import write_json
from labctl.store.run import Run

from .assembly import Assembly
from .numerics import Arithmetic

CPU = torch.device("cpu")
FP32 = torch.float32


def ledger(assembly: Assembly) -> dict[str, Any]:
    """FLOPs that the plan will execute, phase by phase, and the figures that papers quote.

    `step_flops` are those of one learner step of `batch_size` examples, forward, backward and
    whatever else the learner does, at 2 per multiply-accumulate; `train_flops` is their sum over
    the run.
    """
    work = assembly.plan.work
    counted: dict[str, StepCount] = {}
    phases = []
    for phase in work.phases():
        if phase.form not in counted:
            counted[phase.form] = count_of(assembly, phase)
        step = counted[phase.form]
        phases.append(
            {**phase.model_dump(), "step_flops": step.flops, "counted_on": step.device,
             "reason": step.reason, "uncounted": step.uncounted}
        )  # fmt: skip
    model = assembly.model(torch.device("meta"), FP32)
    forward = step_flops(_forward(assembly))
    return {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "batch_size": work.batch_size,
        "forward_flops": forward.flops,
        "fvcore": _fvcore(assembly),
        "phases": phases,
        "train_flops": sum(p["step_flops"] * (p["end"] - p["start"]) for p in phases),
        "uncounted": sorted({name for p in phases for name in p["uncounted"]}),
    }


def count_of(assembly: Assembly, phase: Phase) -> StepCount:
    """FLOPs of one learner step of a phase."""
    return step_flops(_step(assembly, phase))


def write_ledger(run: Run, assembly: Assembly) -> None:
    """Keep the ledger in the run's folder; replicates of other seeds share one count."""
    path = run.folder / "ledger.json"
    if path.exists():
        return
    for sibling in sorted(run.folder.parent.glob("seed=*")):
        if found := Run(sibling).ledger:
            return write_json(path, found)
    write_json(path, ledger(assembly))


def forgo_ledger(run: Run) -> None:
    """Have nothing counted for a run of a few steps, of which nobody asks what they cost."""
    write_json(run.folder / "ledger.json", {})


def _step(assembly: Assembly, phase: Phase) -> Callable[[torch.device], Callable[[], object]]:
    """One learner step of a phase, for any device."""

    def build(device: torch.device) -> Callable[[], object]:
        arithmetic = Arithmetic(Numerics(), CPU)
        model = assembly.model(device, FP32)
        model.train()
        optimizer = assembly.optimizer(model, CPU)
        learner = assembly.learner(model, assembly.objective(), optimizer, arithmetic)
        batch = placeholder(assembly.spec, assembly.plan.work.batch_size, device)
        knobs = assembly.board(CPU, FP32).at(phase.start)
        return lambda: learner.step(batch, knobs)

    return build


def _forward(assembly: Assembly) -> Callable[[torch.device], Callable[[], object]]:
    def build(device: torch.device) -> Callable[[], object]:
        model = assembly.model(device, FP32)
        inputs = placeholder(assembly.spec, 1, device).inputs
        return forward_pass(model, inputs, _evaluation_knobs(assembly))

    return build


def _evaluation_knobs(assembly: Assembly) -> Mapping[str, Tensor | KnobValue]:
    return assembly.board(CPU, FP32).for_evaluation(assembly.plan.work.steps - 1)


def _fvcore(assembly: Assembly) -> dict[str, Any]:
    """fvcore's count for one example, or why there is none."""
    model = assembly.model(CPU, FP32)
    inputs = placeholder(assembly.spec, 1, CPU).inputs
    try:
        figure = fvcore_macs(model, inputs, _evaluation_knobs(assembly))
    except (EnvironmentProblem, RuntimeError) as error:
        return {"missing": str(error).splitlines()[0]}
    return {
        "total": figure.total,
        "by_operator": figure.by_operator,
        "convention": figure.convention,
    }


def placeholder(spec: DataSpec, size: int, device: torch.device) -> Batch:
    """A batch of the right shapes that means nothing."""
    shape = (size, *spec.shape)
    if spec.inputs == "tokens":
        inputs = torch.zeros(shape, dtype=torch.int64, device=device)
        targets = torch.zeros(shape, dtype=torch.int64, device=device)
    else:
        inputs = torch.zeros(shape, device=device)
        targets = torch.zeros(size, dtype=torch.int64, device=device)
    return Batch(inputs, targets, torch.arange(size, device=device))
