"""Measurement: what a trained model executes and how fast, beside the plain transformer."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from copy import deepcopy
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from labctl.api import Knobs, MeasureContext, count

from ..model import DendriticLiquidViT
from .config import InferenceCostConfig
from .opening import BATCH, batches, opened

LEAST_ROUNDS = 5
BURST = 0.02
"""Seconds of calls that follow one another before the device is waited for: what the host does for
one call, it does while the device is at those before."""
FORMS = 256
"""Forms of models that are compiled in a process, of all seeds that are measured in it."""
NORMS: dict[type[nn.Module], int] = {nn.LayerNorm: 5, nn.BatchNorm2d: 2}
"""What fvcore charges for each element of a norm, in evaluation."""


@torch.no_grad()
def inference_cost(config: InferenceCostConfig, context: MeasureContext) -> dict[str, float]:
    """Count and time the forward pass, with tokens left out as in this run's last evaluation, and
    that of the same transformer without dendrites, gate and sparsity.

    Both are timed in turns in this process, with the same images, so that ratios do not depend on
    what else the machine does; the images are on the device, no gradient is kept, and what is asked
    for are logits. Throughput is that of calls that follow one another, latency that of a call
    whose answer is waited for. As written, each operator by itself reads and writes every token
    once more, which costs most where most is added; `compiled`, on a GPU recorded as CUDA graphs,
    and in bf16 is how models are used.

    Returns:
        Per image: `macs`, multiply-accumulates executed, on average over the images, and `flops`, 2
        for each; `fvcore`, as fvcore counts, norms included. `mac_ratio` and `fvcore_ratio`, over
        those of the plain transformer. For each number of images at once `b<k>/per_second`,
        `b<k>/plain_per_second`, their ratio `b<k>/speedup`, which `1 / mac_ratio` bounds, and,
        where fewer are executed, `b<k>/eta`, the share of the saving that is saved as time.
        `latency_ms` and `plain_latency_ms`, if one image at once is asked for. With a `precision`
        of its own, `agreement`, the share of the images of which the model says the same class as
        in that of its weights.

    Raises:
        LabctlError: there is no such split.
    """
    trained = opened(context)
    images = torch.cat([b.inputs for b in batches(context, config.split, config.images)])
    numbers: dict[str, float] = {}
    model = trained
    if config.precision is not None:
        model = deepcopy(trained).to(torch.bfloat16)
        same = _classes(trained, images, context) == _classes(model, images, context)
        numbers["agreement"] = float(same.float().mean())
        images = images.to(torch.bfloat16)
    plain = _plain(model, context)
    macs, fvcore = _counted(model, images, context.knobs)
    plain_macs, plain_fvcore = _counted(plain, images[:1], {})
    ratio = macs / plain_macs
    numbers |= {"macs": macs, "flops": 2 * macs, "mac_ratio": ratio}
    numbers |= {"fvcore": fvcore, "fvcore_ratio": fvcore / plain_fvcore}
    made = _fused if config.compiled else _logits
    run, run_plain = made(model), made(plain)
    for size in config.batches:
        batch = images[torch.arange(size, device=images.device) % len(images)]
        works = partial(run, batch, context.knobs), partial(run_plain, batch, {})
        with torch._dynamo.config.patch(recompile_limit=FORMS, accumulated_recompile_limit=FORMS):
            own, other = _seconds(works, config.seconds, BURST)
            if size == 1:
                alone, plain_alone = _seconds(works, config.seconds)
                numbers |= {"latency_ms": 1e3 * alone, "plain_latency_ms": 1e3 * plain_alone}
        numbers[f"b{size}/per_second"] = size / own
        numbers[f"b{size}/plain_per_second"] = size / other
        numbers[f"b{size}/speedup"] = other / own
        if ratio < 1:
            numbers[f"b{size}/eta"] = (1 - own / other) / (1 - ratio)
    return numbers


def _plain(model: DendriticLiquidViT, context: MeasureContext) -> DendriticLiquidViT:
    """Of the same size, with other weights, which no time depends on."""
    parts = {"dendrites": None, "liquid": None, "sparse": None}
    plain = DendriticLiquidViT(model.config.model_copy(update=parts), context.spec)
    return plain.to(context.device, model.positions.dtype).eval()


def _classes(model: DendriticLiquidViT, images: Tensor, context: MeasureContext) -> Tensor:
    """int64 (B,): what the model says of images (B, C, H, W) in whatever precision."""
    parts = images.to(model.positions.dtype).split(BATCH)
    return torch.cat([model(part, context.knobs).logits.argmax(-1) for part in parts])


def _logits(model: DendriticLiquidViT) -> Callable[..., Tensor]:
    def run(images: Tensor, knobs: Knobs) -> Tensor:
        logits: Tensor = model(images, knobs).logits
        return logits

    return run


def _fused(model: DendriticLiquidViT) -> Callable[..., Tensor]:
    run, sparse = _logits(model), model.config.sparse
    if sparse is not None and sparse.execution == "packed":
        return run  # in pieces, with guards around each, it takes longer than as it is written
    # On a GPU recorded, too: a call is some hundred kernels, which start slower than they run.
    return torch.compile(run, fullgraph=True, dynamic=False, mode="reduce-overhead")


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
    works: tuple[Callable[[], object], Callable[[], object]], seconds: float, burst: float = 0.0
) -> tuple[float, float]:
    """Median time of a call of each, in turns, for so many seconds of each at least: of calls that
    follow one another for `burst` seconds, of single ones by default."""
    for _ in range(2):  # the first calls choose kernels and fetch memory
        for work in works:
            work()
    calls = [max(1, round(burst / _taken(work, 1))) for work in works]
    found: tuple[list[float], list[float]] = ([], [])
    while len(found[0]) < LEAST_ROUNDS or any(
        sum(of) * n < seconds for of, n in zip(found, calls, strict=True)
    ):
        for work, n, of in zip(works, calls, found, strict=True):
            of.append(_taken(work, n) / n)
    return statistics.median(found[0]), statistics.median(found[1])


def _taken(work: Callable[[], object], calls: int) -> float:
    """Seconds of so many calls, and of the device until it has carried them out."""
    _wait()
    began = time.perf_counter()
    for _ in range(calls):
        work()
    _wait()
    return time.perf_counter() - began


def _wait() -> None:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
