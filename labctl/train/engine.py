"""How a learner's step is carried out: kernel by kernel, or recorded once as a CUDA graph, and in
either case with an objective that is compiled or not.

A recording changes no result: it runs the very kernels that it saw, in their order.
"""

from __future__ import annotations

import time
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import fields, replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from labctl.data.examples import Batch
from labctl.errors import EnvironmentProblem
from labctl.recipe.document import EngineName

from .compiled import CompiledObjective
from .learner import Knobs, Learner, Metrics, Objective
from .recording import Recording

EAGER, GRAPHED, COMPILED = "eager", "graphed", "compiled"


class Engine(Protocol):
    """Carries out steps of one learner."""

    @property
    def name(self) -> str: ...

    @property
    def why(self) -> str:
        """Why it is this one and not a faster one; empty if it was asked for, or is the fastest."""
        ...

    @property
    def is_recorded(self) -> bool:
        """Whether whole steps are recorded: only such ones overlap with those of other runs."""
        ...

    def compiles(self, batch: Batch, knobs: Knobs) -> bool:
        """Whether this step will take time that none like it takes again."""
        ...

    def is_due(self, batch: Batch, knobs: Knobs) -> bool:
        """Whether `prepare` has something to do before this step."""
        ...

    def prepare(self, batch: Batch, knobs: Knobs) -> Mapping[str, Any]:
        """Do what takes time before steps like this one and is none of them. What became of it, for
        the journal."""
        ...

    def step(self, batch: Batch, knobs: Knobs) -> Metrics: ...


class Eager:
    """The learner's step as it is written."""

    name, is_recorded = EAGER, False

    def __init__(self, learner: Learner, why: str = "") -> None:
        self.learner, self.why = learner, why

    def compiles(self, batch: Batch, knobs: Knobs) -> bool:
        return False

    def is_due(self, batch: Batch, knobs: Knobs) -> bool:
        return False

    def prepare(self, batch: Batch, knobs: Knobs) -> Mapping[str, Any]:
        return {"engine": self.name}

    def step(self, batch: Batch, knobs: Knobs) -> Metrics:
        return self.learner.step(batch, knobs)


class Graphed:
    """The learner's whole step, recorded for each form that batch and structural knobs take.

    The first step of a form runs as it is written: it makes what a recording must find, such as the
    optimizer's moments, and wakes the libraries. Before the second the step is recorded, which
    computes nothing, so that there is nothing to put back. A step that cannot be recorded goes on
    as it is written.
    """

    def __init__(self, learner: Learner, parameters: Iterable[nn.Parameter]) -> None:
        self.name, self.why = GRAPHED, ""
        self.learner, self.parameters = learner, list(parameters)
        self._seen: set[Hashable] = set()
        self._recordings: dict[Hashable, _Step] = {}
        self._pool = torch.cuda.graph_pool_handle()

    @property
    def is_recorded(self) -> bool:
        return not self.why

    def compiles(self, batch: Batch, knobs: Knobs) -> bool:
        return False

    def is_due(self, batch: Batch, knobs: Knobs) -> bool:
        form = _form(batch, knobs)
        return not self.why and form in self._seen and form not in self._recordings

    def prepare(self, batch: Batch, knobs: Knobs) -> Mapping[str, Any]:
        began = time.perf_counter()
        generator = torch.cuda.default_generators[torch.cuda.current_device()]
        spare, drawn = generator.clone_state(), torch.default_generator.get_state()
        try:
            recording = _Step(self.learner, batch, knobs, self._pool)
        except (RuntimeError, Unrecordable) as error:
            # A recording that broke off still holds the generator, and gradients without numbers.
            generator.graphsafe_set_state(spare)
            for parameter in self.parameters:
                parameter.grad = None
            torch.default_generator.set_state(drawn)
            if isinstance(error, torch.OutOfMemoryError):
                raise
            self.why = f"the step cannot be recorded: {str(error).strip().splitlines()[0]}"
            self.name = EAGER
            return {"engine": self.name, "why": self.why}
        self._recordings[_form(batch, knobs)] = recording
        return {"engine": self.name, "seconds": time.perf_counter() - began}

    def step(self, batch: Batch, knobs: Knobs) -> Metrics:
        form = _form(batch, knobs)
        recording = self._recordings.get(form)
        if recording is not None:
            return recording(batch, knobs)
        self._seen.add(form)
        return self.learner.step(batch, knobs)


class Compiled:
    """Another engine's steps, of a learner whose objective is compiled at the first of a form."""

    def __init__(self, inner: Engine, learner: Learner, objective: CompiledObjective) -> None:
        self.inner, self.learner, self.objective = inner, learner, objective
        self._seen: set[Hashable] = set()

    @property
    def name(self) -> str:
        return COMPILED if self.inner.name == EAGER else f"{COMPILED}, {self.inner.name}"

    @property
    def why(self) -> str:
        return self.inner.why

    @property
    def is_recorded(self) -> bool:
        return self.inner.is_recorded

    def compiles(self, batch: Batch, knobs: Knobs) -> bool:
        return _form(batch, knobs) not in self._seen

    def is_due(self, batch: Batch, knobs: Knobs) -> bool:
        return self.inner.is_due(batch, knobs)

    def prepare(self, batch: Batch, knobs: Knobs) -> Mapping[str, Any]:
        return {**self.inner.prepare(batch, knobs), "engine": self.name}

    def step(self, batch: Batch, knobs: Knobs) -> Metrics:
        """Raises:
        EnvironmentProblem: nothing was compiled, for the learner takes its loss another way.
        """
        self._seen.add(_form(batch, knobs))
        metrics = self.inner.step(batch, knobs)
        if not self.objective.models:
            raise EnvironmentProblem(
                f"nothing was compiled: {type(self.learner).__name__} does not call the objective "
                "that it was given",
                hint="numerics.compiled=false",
            )
        return metrics


class Unrecordable(Exception):
    """A step does something that its recording would not repeat."""


class _Step:
    """One form of a step, recorded."""

    def __init__(self, learner: Learner, batch: Batch, knobs: Knobs, pool: Any) -> None:
        self.learner = learner
        held = {name: tensor.clone() for name, tensor in _tensors(batch).items()}
        self.batch = replace(batch, **held)
        self.knobs = {
            name: value.clone() if isinstance(value, Tensor) else value
            for name, value in knobs.items()
        }
        drawn = torch.default_generator.get_state()
        inputs = [*held.values(), *_continuous(self.knobs)]
        self.recording = Recording(self._metrics, inputs, pool)
        if not torch.equal(drawn, torch.default_generator.get_state()):
            raise Unrecordable("it draws random numbers on the host")

    def _metrics(self) -> list[Tensor]:
        """Totals and counts, each packed into one tensor so that one copy takes them along."""
        metrics = self.learner.step(self.batch, self.knobs)
        columns = [list(column) for column in zip(*metrics.values(), strict=True)]
        self.names = list(metrics)
        self.dtypes = [[tensor.dtype for tensor in column] for column in columns]
        return [torch.stack(column) for column in columns]

    def __call__(self, batch: Batch, knobs: Knobs) -> Metrics:
        packed = self.recording([*_tensors(batch).values(), *_continuous(knobs)])
        totals, counts = (
            [value.to(dtype) for value, dtype in zip(one.clone().unbind(), dtypes, strict=True)]
            for one, dtypes in zip(packed, self.dtypes, strict=True)
        )
        return dict(zip(self.names, zip(totals, counts, strict=True), strict=True))


def engine_of(
    name: EngineName,
    learner: Learner,
    objective: Objective,
    parameters: Iterable[nn.Parameter],
    device: torch.device,
) -> Engine:
    """The engine that a recipe asks for.

    Args:
        objective: the learner's, compiled if the engine is to be.

    Raises:
        EnvironmentProblem: it needs another device or learner.
    """
    require_engine(name, device)
    launching = _launching(name, learner, parameters, device)
    if isinstance(objective, CompiledObjective):
        return Compiled(launching, learner, objective)
    return launching


def _launching(
    name: EngineName, learner: Learner, parameters: Iterable[nn.Parameter], device: torch.device
) -> Engine:
    if device.type != "cuda" or name == "eager":
        return Eager(learner)
    if learner.capture == "never":
        why = f"{type(learner).__name__} is not to be recorded (capture: {learner.capture})"
        if name == "graphed":
            raise EnvironmentProblem(why, hint="runtime.engine=auto")
        return Eager(learner, why)
    return Graphed(learner, parameters)


def require_engine(name: EngineName, device: torch.device) -> None:
    """Refuse an engine that the device cannot have.

    Raises:
        EnvironmentProblem: with what would work.
    """
    if name == "graphed" and device.type != "cuda":
        raise EnvironmentProblem(
            f"runtime.engine graphed needs CUDA; this is {device.type}", hint="runtime.engine=auto"
        )


def _form(batch: Batch, knobs: Knobs) -> Hashable:
    """What a recording is of: shapes, and all that Python knows of the knobs."""
    shapes = tuple((name, t.shape, t.dtype) for name, t in _tensors(batch).items())
    structural = tuple((n, v) for n, v in sorted(knobs.items()) if not isinstance(v, Tensor))
    return shapes, structural


def _tensors(batch: Batch) -> dict[str, Tensor]:
    """A batch's tensors, by field."""
    found = {field.name: getattr(batch, field.name) for field in fields(batch)}
    return {name: value for name, value in found.items() if value is not None}


def _continuous(knobs: Knobs) -> list[Tensor]:
    return [value for _, value in sorted(knobs.items()) if isinstance(value, Tensor)]
