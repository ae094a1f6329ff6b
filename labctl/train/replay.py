"""Functions of tensors recorded once as CUDA graphs, then replayed in one launch."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Protocol

import torch
from torch import Tensor

from .recording import Recording

Function = Callable[..., tuple[Tensor, ...]]
"""Tensors to tensors."""


class Replay(Protocol):
    """Evaluates `function(*tensors)`.

    A key stands for one function: what it computes depends on nothing but the tensors it is given
    and on parameters, which stay where they are in memory and may change in place. It must not wait
    for the device.
    """

    def __call__(
        self, key: Hashable, function: Function, *tensors: Tensor
    ) -> tuple[Tensor, ...]: ...


def eagerly(key: Hashable, function: Function, *tensors: Tensor) -> tuple[Tensor, ...]:
    """Simply evaluates it."""
    return function(*tensors)


class Graphs:
    """Records a function when it first comes with its key and shapes, and replays it from then on.

    The same kernels run as without, in the same order. Results belong to the caller; what a
    recording needs in between, it shares with the others, for one runs at a time.
    """

    def __init__(self) -> None:
        self._recordings: dict[Hashable, Recording] = {}
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, key: Hashable, function: Function, *tensors: Tensor) -> tuple[Tensor, ...]:
        whole = (key, *((tensor.shape, tensor.dtype, tensor.device) for tensor in tensors))
        recording = self._recordings.get(whole)
        if recording is None:
            recording = self._recordings[whole] = self._recorded(function, tensors)
        return tuple(tensor.clone() for tensor in recording(tensors))

    def _recorded(self, function: Function, tensors: tuple[Tensor, ...]) -> Recording:
        inputs = [tensor.clone(memory_format=torch.contiguous_format) for tensor in tensors]
        # Libraries allocate when first used, which a recording must not contain; what is drawn
        # meanwhile is put back.
        drawn = torch.cuda.get_rng_state()
        function(*inputs)
        torch.cuda.set_rng_state(drawn)
        return Recording(lambda: function(*inputs), inputs, self._pool)
