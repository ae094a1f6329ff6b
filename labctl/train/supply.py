"""The batches that a run trains on, by step."""

from __future__ import annotations

import math
from dataclasses import fields, replace

import torch
from torch import Tensor

from labctl.data.batches import Batches
from labctl.data.decisions import Decisions
from labctl.data.draws import Draws
from labctl.data.examples import Batch
from labctl.plans.plan import Work

from .streams import stream

VALUES_AHEAD = 2**23
"""Input values that are augmented at once, unless one batch has more."""
VALUES_CACHED = 2**21
"""The same on a CPU, whose caches hold no more."""


class Supply:
    """Every epoch in an order of its own, every step augmented from a stream of its own.

    Batches of some steps ahead are made at once, for a small one takes longer to launch than to
    compute. No step shows in another's batch, so a run may begin anywhere.
    """

    def __init__(self, batches: Batches, work: Work, dtype: torch.dtype) -> None:
        """Args:
        dtype: of inputs that are floating-point.
        """
        self.batches, self.work, self.dtype = batches, work, dtype
        values = work.batch_size * math.prod(batches.spec.shape)
        most = VALUES_CACHED if batches.device.type == "cpu" else VALUES_AHEAD
        self.ahead = max(1, most // values)
        self._order: tuple[int, Tensor] | None = None
        self._made: dict[int, Batch] = {}

    def at(self, step: int) -> Batch:
        """The batch of a step, counted from 0."""
        if step not in self._made:
            self._made.clear()
            self._made = self._some(step)
        return _owned(self._made.pop(step))

    def _some(self, step: int) -> dict[int, Batch]:
        """Batches from this step on: to the end of the epoch or of the training, or as many as are
        made at once."""
        work, size = self.work, self.work.batch_size
        epoch, position = divmod(step, work.steps_per_epoch)
        count = min(self.ahead, work.steps_per_epoch - position, work.steps - step)
        index = self._order_of(epoch)[position * size : (position + count) * size]
        batch = self.batches.at(index, self._decisions(step, index))
        if batch.inputs.is_floating_point():
            batch = replace(batch, inputs=batch.inputs.to(self.dtype))
        columns = {
            field.name: value.split(size)
            for field in fields(batch)
            if (value := getattr(batch, field.name)) is not None
        }
        return {
            step + i: replace(batch, **{name: column[i] for name, column in columns.items()})
            for i in range(count)
        }

    def _order_of(self, epoch: int) -> Tensor:
        if self._order is None or self._order[0] != epoch:
            draws = stream(self.work.seed, "shuffle", epoch)
            order = torch.randperm(len(self.batches), generator=draws)
            self._order = (epoch, order.to(self.batches.device))
        return self._order[1]

    def _decisions(self, step: int, index: Tensor) -> Decisions | None:
        spec, augment, seed = self.batches.spec, self.work.data.augment, self.work.seed
        if spec.inputs != "image":
            return None
        _, height, width = spec.shape
        counts = [len(part) for part in index.split(self.work.batch_size)]
        streams = [stream(seed, "augment", step + i) for i in range(len(counts))]
        return Decisions.drawn(Draws(counts, streams), (height, width), augment)


def _owned(batch: Batch) -> Batch:
    """A copy in memory of its own: where a tensor begins may decide which kernel reads it."""
    tensors = {field.name: getattr(batch, field.name) for field in fields(batch)}
    return replace(batch, **{k: t.clone() for k, t in tensors.items() if t is not None})
