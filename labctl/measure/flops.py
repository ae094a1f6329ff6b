"""FLOPs that a piece of work executes, forward and backward, and by name what could not be counted.

The convention, throughout: 2 FLOPs per multiply-accumulate of a matrix product, convolution or
attention; 0 for everything whose work is a small multiple of the data it touches (`negligible`).
The count is of what runs: the backward pass is counted, not assumed to be twice the forward pass,
and what activation checkpointing computes anew is counted again. A product written as an
element-wise multiplication and a sum counts 0.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch._ops import HigherOrderOperator, OpOverload
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils.flop_counter import FlopCounterMode

from labctl.measure.formula import formulas
from labctl.measure.forward import without_fast_path
from labctl.measure.negligible import is_negligible


@dataclass(frozen=True, slots=True)
class Counted:
    """The FLOPs of a piece of work."""

    flops: int
    """2 per multiply-accumulate."""
    by_operator: dict[str, int]
    """FLOPs by operator, as `aten.mm`."""
    uncounted: dict[str, int]
    """How often operators ran that may hide work and have no formula: `flops` lacks theirs."""


@dataclass(frozen=True, slots=True)
class StepCount(Counted):
    """The FLOPs of a step, and how they were found."""

    device: Literal["meta", "cpu"]
    """`meta`: from shapes alone. `cpu`: the step was carried out."""
    reason: str
    """Why it could not run on the meta device; empty if it did."""


def count(work: Callable[[], object]) -> Counted:
    """Run `work` and count what it executes, on whatever device it does so.

    `work` must run eagerly: what runs inside a compiled function, a captured graph, or a kernel
    launched past torch's dispatcher is not seen, hence not reported as uncounted either.
    """
    counter = FlopCounterMode(display=False, custom_mapping=dict(formulas()))
    witness = _Witness(counter.flop_registry)
    with without_fast_path(), counter, witness:
        work()
    by_operator = {
        str(operator): flops
        for operator, flops in counter.get_flop_counts().get("Global", {}).items()
    }
    return Counted(sum(by_operator.values()), by_operator, dict(witness.uncounted))


def step_flops(build_step: Callable[[torch.device], Callable[[], object]]) -> StepCount:
    """Count one step on the meta device, without memory or arithmetic, else on the CPU.

    `build_step(device)` returns the step, with its model, optimizer and batch on `device`. If it or
    the step fails on the meta device, for instance because it reads a value, the step is built
    again on the CPU and carried out there; an error there is raised. The state of the CPU's random
    numbers stays as it was.

    What a step needs to run on the meta device: scalars that the optimizer or Python reads, such as
    the learning rate and the knobs, are 0-d tensors on the CPU, which torch allows beside tensors
    elsewhere; the optimizer is neither fused nor capturable, which torch refuses there and which
    changes no count; there is no autocast.
    """
    with torch.random.fork_rng(devices=[]):
        try:
            return _step_count(build_step, "meta", reason="")
        except Exception as error:
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
        return _step_count(build_step, "cpu", reason)


def _step_count(
    build_step: Callable[[torch.device], Callable[[], object]],
    device: Literal["meta", "cpu"],
    reason: str,
) -> StepCount:
    counted = count(build_step(torch.device(device)))
    return StepCount(counted.flops, counted.by_operator, counted.uncounted, device, reason)


class _Witness(TorchDispatchMode):
    """Sees every operator before the counter does, and notes those that it will not count."""

    supports_higher_order_operators = True

    def __init__(self, counted: Collection[object]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch annotates no mode
        self.counted = counted
        self.uncounted: Counter[str] = Counter()

    def __torch_dispatch__(
        self,
        operator: OpOverload | HigherOrderOperator,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> object:
        kwargs = kwargs or {}
        if isinstance(operator, HigherOrderOperator):
            self.uncounted[str(operator)] += 1
            # The counter would not run it: for most it has no rule, and it skips Triton kernels.
            with _disable_current_modes():
                return operator(*args, **kwargs)
        if operator.overloadpacket not in self.counted:
            # In inference mode composite operators arrive whole.
            with self:
                parts = operator.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
            if not is_negligible(operator):
                self.uncounted[str(operator.overloadpacket)] += 1
        return operator(*args, **kwargs)
