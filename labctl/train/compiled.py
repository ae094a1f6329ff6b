"""Objectives whose forward pass, losses and gradients are fused into few kernels."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from traceback import FrameSummary

import torch
from torch import Tensor, nn
from torch._dynamo.exc import FailOnRecompileLimitHit, TorchDynamoException

from labctl.data.examples import Batch
from labctl.errors import EnvironmentProblem

from .learner import Knobs, Metrics, Objective

FORMS = 256
"""Forms of all objectives and models in a process that are compiled before labctl gives up."""

EXPLANATION = "Explanation:"
TORCH = str(Path(torch.__file__).parent)

Whole = Callable[[nn.Module, Batch, Knobs], tuple[Tensor, Metrics]]


@dataclass(frozen=True, slots=True)
class CompiledObjective(Objective):
    """An objective that `torch.compile` (Ansel et al. 2024) makes one graph of, with its model.

    It is compiled when it is first called with shapes and structural knobs that are new, which
    takes from seconds to minutes; models of one architecture share what was compiled. Sums are
    taken in another order than by the kernels of single operators, and random numbers are drawn
    differently: the same mathematics, other last bits and other dropout masks.
    """

    whole: Whole
    models: set[type[nn.Module]] = field(default_factory=set)
    """What it was called with so far."""

    @classmethod
    def wrapping(cls, objective: Objective) -> CompiledObjective:
        torch._dynamo.config.recompile_limit = FORMS
        torch._dynamo.config.accumulated_recompile_limit = FORMS
        # A constant that the compiler of torch 2.11 cannot read, in plain and common use.
        torch.compiler.assume_constant_result(torch.amp.is_autocast_available)
        whole: Whole = torch.compile(objective.__call__, fullgraph=True, dynamic=False)
        return cls(objective.terms, whole)

    def __call__(self, model: nn.Module, batch: Batch, knobs: Knobs) -> tuple[Tensor, Metrics]:
        """Raises:
        EnvironmentProblem: the model does something that cannot be compiled, or this machine lacks
            a compiler.
        """
        self.models.add(type(model))
        try:
            return self.whole(model, batch, knobs)
        except FailOnRecompileLimitHit as error:
            raise EnvironmentProblem(
                f"more than {FORMS} forms of steps to compile in one process",
                hint="let structural knobs take fewer values, or --together off",
            ) from error
        except TorchDynamoException as error:
            raise EnvironmentProblem(
                f"{type(model).__name__} cannot be compiled: {_reason(error)}",
                hint="numerics.compiled=false shows whether it runs as it is written; the log has "
                "all that the compiler said",
            ) from error


def _reason(error: BaseException) -> str:
    """What the compiler found, where, and the error beneath it, if there was one."""
    causes = [error]
    while (cause := causes[-1].__cause__) is not None:
        causes.append(cause)
    first, last = _said(causes[0]), _said(causes[-1])
    place = _place(getattr(error, "real_stack", None) or ())
    beneath = "" if last == first else f" ({type(causes[-1]).__name__}: {last})"
    return f"{first}{place}{beneath}"


def _said(error: BaseException) -> str:
    """A message's first line, or what stands after `Explanation:`, which says more."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    explained = (line.removeprefix(EXPLANATION) for line in lines if line.startswith(EXPLANATION))
    return next(explained, lines[0] if lines else "").strip(" .")


def _place(stack: Iterable[FrameSummary]) -> str:
    """The innermost line of the stack that is not torch's own."""
    own = [frame for frame in stack if not frame.filename.startswith(TORCH)]
    return f", at {Path(own[-1].filename).name}:{own[-1].lineno}" if own else ""
