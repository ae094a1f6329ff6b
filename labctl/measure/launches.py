"""How many pieces of work the host hands out: what the step of a small model is bound by."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch._ops import OpOverload
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

_LAUNCH = re.compile(r"cu(da)?(LaunchKernel|GraphLaunch|LaunchCooperative|Mem(cpy|set)\w*Async)")
"""Calls of the CUDA runtime or driver that put work on a stream."""


def kernel_launches(work: Callable[[], object]) -> int:
    """Calls that start work on a CUDA device: a kernel, a copy, a filling, or a whole graph."""
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as found:
        work()
        torch.cuda.synchronize()
    return sum(event.count for event in found.key_averages() if _LAUNCH.match(event.key))


def operators(work: Callable[[], object]) -> int:
    """Operators that torch's dispatcher sends to a kernel, views of tensors left out.

    What runs inside a compiled function is not seen.
    """
    tally = _Tally()
    with tally:
        work()
    return tally.count


class _Tally(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch annotates no mode
        self.count = 0

    def __torch_dispatch__(
        self,
        operator: OpOverload,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> object:
        self.count += not operator.is_view
        return operator(*args, **(kwargs or {}))
