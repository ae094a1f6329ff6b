"""The model and the images of a measurement."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from labctl.api import Batch, LabctlError, MeasureContext

from ..model import DendriticLiquidViT

BATCH = 500


def opened(context: MeasureContext) -> DendriticLiquidViT:
    """The model of a measurement."""
    assert isinstance(context.model, DendriticLiquidViT), "the cards say only_for this one"
    return context.model


def batches(context: MeasureContext, split: str, images: int) -> Iterator[Batch]:
    """The first images of a split, in the model's precision.

    Raises:
        LabctlError: there is no such split.
    """
    if split not in context.splits:
        known = ", ".join(sorted(context.splits))
        raise LabctlError(f"there is no split {split!r}", hint=f"there are: {known}")
    left, dtype = images, opened(context).positions.dtype
    for batch in context.splits[split].in_order(BATCH):
        if left <= 0:
            return
        yield replace(
            batch,
            inputs=batch.inputs[:left].to(dtype),
            targets=batch.targets[:left],
            index=batch.index[:left],
        )
        left -= BATCH
