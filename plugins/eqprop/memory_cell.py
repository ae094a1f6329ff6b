"""What one training step takes: memory and time of one learning rule, width and number of steps."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, fields, replace
from math import isqrt
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from labctl.api import Batch, DataSpec, Knobs, LabctlError, Learner, LearnerParts, Objective, Output

from .config import (
    EnergyTransformerConfig,
    EqPropConfig,
    FailureConfig,
    NudgeConfig,
    ProbeConfig,
    RelaxConfig,
)
from .learner import EqProp
from .live_bytes import LiveBytes, saved_bytes
from .measure_config import Method
from .model import EnergyTransformer
from .reference_config import BpttConfig, ImplicitConfig
from .reference_learner import bptt_learner, implicit_learner

NEVER = FailureConfig(growth=1e6, residual=1e6, energy_rise=1e6)
"""Looks for failures as training does, and finds none: every cell takes exactly its steps."""
AHEAD = 6
"""Processes that are there at once; one measures."""
TINY_TOL = 1e-30
"""Never reached: the implicit solver takes all its steps as well."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One training step to be measured."""

    method: Method
    width: int
    """Of a token; the memory has four times as many hidden units."""
    steps: int
    """Of the free relaxation, and of each nudged one or of the adjoint's."""
    batch: int
    tokens: int | None
    """Patches of an image; None leaves the data's."""
    repeats: int
    """Steps that are timed; 0 times the one whose bytes are counted."""

    @property
    def name(self) -> str:
        return f"{self.method}/d{self.width}/t{self.steps}"


@dataclass(frozen=True, slots=True)
class Footprint:
    """What a step of a cell took; bytes of tensors."""

    base: int
    """Between steps: parameters, optimizer and batch."""
    peak: int
    """At most, the base included."""
    saved: int
    """At most held by autograd for the way back, but for what checkpoints hold by themselves."""
    seconds: float
    """Of a step, the fastest of the repeats."""


def measured(
    cell: Cell, config: EnergyTransformerConfig, spec: DataSpec, device: torch.device
) -> Footprint | None:
    """Take a first step, which counts what autograd saves, one more to count bytes, and some to
    time them.

    None if the device's memory does not suffice.
    """
    try:
        model, optimizer, step = _prepared(cell, config, spec, device)
        with saved_bytes(*model.parameters()) as saved:
            step()
        count = _counted_by_allocator if device.type == "cuda" else _counted_by_tensor
        base, peak, seconds = count(step, _lasting(model, optimizer), device)
        seconds = min((_timed(step, device) for _ in range(cell.repeats)), default=seconds)
    except torch.OutOfMemoryError:
        return None
    return Footprint(base, peak, saved.peak, seconds)


def measured_apart(
    cells: Sequence[Cell], config: EnergyTransformerConfig, spec: DataSpec, device: torch.device
) -> Iterator[Footprint | None]:
    """Each as `measured`, in a process of its own, whose allocator no other cell has been at.

    One measures at a time; meanwhile the next ones import what they need and wake the device.

    Raises:
        LabctlError: a process ended otherwise than by running out of memory.
    """
    package, _, _ = __name__.rpartition(".")
    folder = str(Path(__file__).parent)
    command = [sys.executable, "-c", _CHILD, package, folder, __name__, str(device)]
    pipe, environment = subprocess.PIPE, {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    waiting: deque[subprocess.Popen[str]] = deque()
    try:
        for place, cell in enumerate(cells):
            while len(waiting) < min(AHEAD, len(cells) - place):
                waiting.append(
                    subprocess.Popen(
                        command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=environment
                    )
                )
            order = {
                "cell": asdict(cell), "config": config.model_dump_json(), "spec": asdict(spec)
            }  # fmt: skip
            process = waiting.popleft()
            answer, errors = process.communicate(json.dumps(order))
            if process.returncode:
                tail = "\n".join(errors.strip().splitlines()[-5:])
                raise LabctlError(f"the process that measured {cell.name} failed:\n{tail}")
            found = json.loads(answer.splitlines()[-1])
            yield None if found is None else Footprint(**found)
    finally:
        for process in waiting:
            process.kill()
            process.communicate()


_CHILD = """
import importlib, importlib.util, sys
package, folder, module, device = sys.argv[1:]
spec = importlib.util.spec_from_file_location(
    package, folder + "/__init__.py", submodule_search_locations=[folder]
)
sys.modules[package] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sys.modules[package])
importlib.import_module(module).answer(device)
"""
"""Imports the plugin from where it lies, whether or not it is installed, as labctl does."""


def answer(name: str) -> None:
    """Measure the cell that standard input describes on the device of this name, and print its
    footprint as JSON."""
    device = torch.device(name)
    torch.ones(2, 2, device=device).mm(torch.ones(2, 2, device=device))
    order = json.load(sys.stdin)
    config = EnergyTransformerConfig.model_validate_json(order["config"])
    shape = tuple(order["spec"].pop("shape"))
    spec = DataSpec(**order["spec"], shape=shape)
    found = measured(Cell(**order["cell"]), config, spec, device)
    sys.stdout.write("\n" + json.dumps(None if found is None else asdict(found)) + "\n")


def _prepared(
    cell: Cell, config: EnergyTransformerConfig, spec: DataSpec, device: torch.device
) -> tuple[nn.Module, torch.optim.Optimizer, Callable[[], object]]:
    """Model, optimizer, and a step of the cell's learning rule on a batch of noise."""
    if cell.tokens is not None:
        side = isqrt(cell.tokens) * config.patch_size
        spec = replace(spec, shape=(spec.shape[0], side, side))
    torch.manual_seed(0)
    with device:  # where wide weights are drawn in no time
        model = EnergyTransformer(_config(cell, config), spec).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    learner = _learner(cell, model, optimizer)
    inputs = torch.randn(cell.batch, *spec.shape).to(device)
    index = torch.arange(cell.batch, device=device)
    batch = Batch(inputs, index % spec.num_classes, index)
    knobs = {
        name: torch.tensor(value, device=device) for name, value in (("lr", 1e-3), ("beta", 0.05))
    }
    return model, optimizer, lambda: learner.step(batch, knobs)


def _config(cell: Cell, config: EnergyTransformerConfig) -> EnergyTransformerConfig:
    relax = RelaxConfig(max_steps=cell.steps, tol=0.0, step_size=config.relax.step_size)
    if cell.width % config.num_heads:
        raise LabctlError(
            f"training_memory: num_heads {config.num_heads} of the model does not divide width "
            f"{cell.width}",
            hint="measure: {training_memory: {widths: [...]}}, multiples of model.num_heads",
        )
    return config.model_copy(
        update={"embed_dim": cell.width, "hidden": 4 * cell.width, "relax": relax}
    )


def _learner(cell: Cell, model: nn.Module, optimizer: torch.optim.Optimizer) -> Learner:
    def cross_entropy(output: Output, batch: Batch, knobs: Knobs) -> Tensor:
        return nn.functional.cross_entropy(output.logits, batch.targets)

    def keep_rate(rate: Tensor) -> None:
        """The learning rate changes no footprint."""

    objective = Objective({"cross_entropy": cross_entropy})
    parts = LearnerParts(model, objective, optimizer, keep_rate, 1.0, nullcontext, 1)
    match cell.method:
        case "eqprop" | "eqprop_sequential":
            rule = EqPropConfig(
                nudge=NudgeConfig(max_steps=cell.steps, tol=0.0),
                sequential=cell.method == "eqprop_sequential",
                probe=ProbeConfig(samples=0),
                failure=NEVER,
            )
            return EqProp(rule, parts)
        case "bptt" | "bptt_checkpointed":
            return bptt_learner(BpttConfig(checkpoint=cell.method != "bptt"), parts)
        case "implicit":
            solver = ImplicitConfig(tol=TINY_TOL, max_steps=cell.steps, gmres=False)
            return implicit_learner(solver, parts)


def _counted_by_allocator(
    step: Callable[[], object], lasting: list[Tensor], device: torch.device
) -> tuple[int, int, float]:
    """Bytes between steps and at most, and seconds."""
    torch.cuda.synchronize(device)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    base = torch.cuda.memory_allocated(device)
    seconds = _timed(step, device)
    return base, torch.cuda.max_memory_allocated(device), seconds


def _counted_by_tensor(
    step: Callable[[], object], lasting: list[Tensor], device: torch.device
) -> tuple[int, int, float]:
    """The same where no allocator counts; the time is of a step that is watched."""
    base = sum(tensor.untyped_storage().nbytes() for tensor in lasting)
    with LiveBytes() as live:
        seconds = _timed(step, device)
    return base, base + live.tally.peak, seconds


def _lasting(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """Parameters and what the optimizer remembers of them."""
    state = [value for entry in optimizer.state.values() for value in entry.values()]
    return [*model.parameters(), *(value for value in state if isinstance(value, Tensor))]


def _timed(step: Callable[[], object], device: torch.device) -> float:
    began = time.perf_counter()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began


def as_row(cell: Cell, found: Footprint | None) -> Mapping[str, Any]:
    """A cell of the table as JSON; one that did not fit says so."""
    if found is None:
        return asdict(cell) | {"out_of_memory": True}
    return asdict(cell) | {"out_of_memory": False} | asdict(found)


def footprint_of(row: Mapping[str, Any]) -> tuple[Cell, Footprint | None]:
    """The cell and its footprint that `as_row` wrote."""
    cell = Cell(**{field.name: row[field.name] for field in fields(Cell)})
    if row["out_of_memory"]:
        return cell, None
    return cell, Footprint(**{field.name: row[field.name] for field in fields(Footprint)})
