"""Measurement: what a trained model executes and how fast, beside the plain transformer."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from labctl.api import MeasureContext, count

from .measure_config import InferenceCostConfig
from .model import DendriticLiquidViT
from .watching import batches, opened

LEAST_ROUNDS = 5
NORMS: dict[type[nn.Module], int] = {nn.LayerNorm: 5, nn.BatchNorm2d: 2}
"""What fvcore charges for each element of a norm, in evaluation."""


@torch.no_grad()
def inference_cost(config: InferenceCostConfig, context: MeasureContext) -> dict[str, float]:
    """Count and time the forward pass, with tokens left out as in this run's last evaluation, and
    that of the same transformer without dendrites, gate and sparsity.

    Both are timed in turns in this process, with the same images, so that ratios do not depend on
    what else the machine does; the images are on the device, and no gradient is kept.

    Returns:
        Per image: `macs`, multiply-accumulates executed, on average over the images; `fvcore`, as
        fvcore counts, norms included. `mac_ratio` and `fvcore_ratio`, over those of the plain
        transformer. For each number of images at once `b<k>/per_second`, `b<k>/plain_per_second`,
        their ratio `b<k>/speedup`, which `1 / mac_ratio` bounds, and, where fewer are executed,
        `b<k>/eta`, the share of the saving that is saved as time. `latency_ms`, if one image at
        once is asked for.

    Raises:
        LabctlError: there is no such split.
    """
    model = opened(context)
    plain = _plain(model, context)
    images = torch.cat([b.inputs for b in batches(context, config.split, config.images)])
    numbers: dict[str, float] = {}
    macs, fvcore = _counted(model, images, context.knobs)
    plain_macs, plain_fvcore = _counted(plain, images[:1], {})
    ratio = macs / plain_macs
    numbers |= {"macs": macs, "mac_ratio": ratio}
    numbers |= {"fvcore": fvcore, "fvcore_ratio": fvcore / plain_fvcore}
    for size in config.batches:
        batch = images[torch.arange(size, device=images.device) % len(images)]
        own, other = _seconds(
            partial(model, batch, context.knobs), partial(plain, batch, {}), config.seconds
        )
        numbers[f"b{size}/per_second"] = size / own
        numbers[f"b{size}/plain_per_second"] = size / other
        numbers[f"b{size}/speedup"] = other / own
        if ratio < 1:
            numbers[f"b{size}/eta"] = (1 - own / other) / (1 - ratio)
        if size == 1:
            numbers["latency_ms"] = 1e3 * own
    return numbers


def _plain(model: DendriticLiquidViT, context: MeasureContext) -> DendriticLiquidViT:
    """Of the same size, with other weights, which no time depends on."""
    parts = {"dendrites": None, "liquid": None, "sparse": None}
    plain = DendriticLiquidViT(model.config.model_copy(update=parts), context.spec)
    return plain.to(context.device, model.positions.dtype).eval()


def _counted(model: nn.Module, images: Tensor, knobs: Any) -> tuple[float, float]:
    """Multiply-accumulates of an image, on average, and these as fvcore counts."""
    normed = 0

    def note(module: nn.Module, given: tuple[Tensor]) -> None:
        nonlocal normed
        normed += NORMS[type(module)] * given[0].numel()

    flops = 0
    with ExitStack() as stack:
        for module in model.modules():
            if type(module) in NORMS:
                stack.callback(module.register_forward_pre_hook(note).remove)
        for batch in images.split(128):
            flops += count(partial(model, batch, knobs)).flops
    return flops / 2 / len(images), (flops / 2 + normed) / len(images)


def _seconds(
    own: Callable[[], object], other: Callable[[], object], seconds: float
) -> tuple[float, float]:
    """Median time of each, in turns."""
    taken: tuple[list[float], list[float]] = ([], [])
    for _ in range(2):  # the first calls choose kernels and fetch memory
        own()
        other()
    while len(taken[0]) < LEAST_ROUNDS or min(map(sum, taken)) < seconds:
        for work, of in zip((own, other), taken, strict=True):
            _wait()
            began = time.perf_counter()
            work()
            _wait()
            of.append(time.perf_counter() - began)
    return statistics.median(taken[0]), statistics.median(taken[1])


def _wait() -> None:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
