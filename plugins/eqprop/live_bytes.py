"""How many bytes of tensors are alive while work is done, on any device."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


@dataclass
class Tally:
    """Bytes of distinct storages, now and at most so far."""

    now: int = 0
    peak: int = 0

    def add(self, size: int) -> None:
        self.now += size
        self.peak = max(self.peak, self.now)

    def remove(self, size: int) -> None:
        self.now -= size


class _Saved:
    """A tensor that autograd keeps for the way back, counted while it is kept."""

    def __init__(self, tensor: Tensor, forget: Callable[[Tensor], None]) -> None:
        self.tensor = tensor
        self._forget = forget

    def __del__(self) -> None:
        self._forget(self.tensor)


@contextmanager
def saved_bytes(*but: Tensor) -> Iterator[Tally]:
    """Count what autograd saves for the way back, each storage once, but for those of `but`.

    Parameters and inputs, given as `but`, are there anyway. What activation checkpointing computes
    anew on the way back is not seen: it saves that by itself.
    """
    tally = Tally()
    holders: dict[int, int] = {tensor.untyped_storage().data_ptr(): 1 for tensor in but}

    def kept(tensor: Tensor) -> _Saved:
        storage = tensor.untyped_storage()
        holders[storage.data_ptr()] = holders.get(storage.data_ptr(), 0) + 1
        if holders[storage.data_ptr()] == 1:
            tally.add(storage.nbytes())
        return _Saved(tensor, forgotten)

    def forgotten(tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        holders[storage.data_ptr()] -= 1
        if holders[storage.data_ptr()] == 0:
            del holders[storage.data_ptr()]
            tally.remove(storage.nbytes())

    with torch.autograd.graph.saved_tensors_hooks(kept, lambda saved: saved.tensor):
        yield tally


class LiveBytes(TorchDispatchMode):
    """Counts the storages that operators allocate while the mode is on, until they are freed.

    What exists before is not counted, nor is scratch memory inside an operator.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch annotates no mode
        self.tally = Tally()
        self._known: set[int] = set()

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[Any],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = {storage._cdata for storage in _storages((args, kwargs))}
        output = func(*args, **(kwargs or {}))
        for storage in _storages(output):
            if storage._cdata not in given:  # neither a view nor changed in place
                self._note(storage)
        return output

    def _note(self, storage: torch.UntypedStorage) -> None:
        if storage._cdata in self._known:
            return
        self._known.add(storage._cdata)
        self.tally.add(storage.nbytes())
        weakref.finalize(storage, self._freed, storage._cdata, storage.nbytes())

    def _freed(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.tally.remove(size)


def _storages(tree: Any) -> list[torch.UntypedStorage]:
    return [leaf.untyped_storage() for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]
