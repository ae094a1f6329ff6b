"""What is checked of a data set: that the splits hold what the spec promises."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from labctl.data.examples import NOTHING, Examples
from labctl.errors import Problem
from labctl.registry.card import DataSpec

from .bench import CPU, Bench

LOOKED_AT = 512
"""Examples of a split whose values are looked at, spread over it."""


def spec(bench: Bench) -> Iterator[Problem]:
    """The spec is the same when asked again; its faults are found where recipes are read."""
    part, found = bench.recipe.data, bench.recipe.spec
    if part.card.spec(part.config, bench.places) != found:
        hint = "it must depend on config and files alone"
        yield Problem("differs when asked again", f"spec of {found.name}", hint)


def splits(bench: Bench) -> Iterator[Problem]:
    """Every split has the size, dtype, shape and range that the spec promises."""
    part, promised = bench.recipe.data, bench.recipe.spec
    loaded = part.card.load(part.config, bench.places)
    again = part.card.load(part.config, bench.places)
    for name, size in promised.sizes.items():
        where = f"{promised.name}: split {name}"
        if name not in loaded:
            yield Problem("is promised by the spec and not loaded", where)
        elif len(loaded[name]) != size:
            yield Problem(f"has {len(loaded[name])} examples; the spec says {size}", where)
        else:
            for message in _split_faults(loaded[name], again[name], promised):
                yield Problem(message, where)


def _split_faults(split: Examples, again: Examples, promised: DataSpec) -> Iterator[str]:
    index = torch.linspace(0, len(split) - 1, min(len(split), LOOKED_AT)).long()
    inputs, targets = split.to(CPU).take(index)
    dtype = torch.uint8 if promised.inputs == "image" else torch.int64
    if inputs.dtype != dtype:
        yield f"inputs are {inputs.dtype}; {promised.inputs} data are {dtype}"
    shape = (len(index), *promised.shape)
    if inputs.shape != shape:
        yield f"{len(index)} inputs have shape {tuple(inputs.shape)}; the spec says {shape}"
        return
    expected = shape[:1] if promised.inputs == "image" else shape
    if targets.dtype != torch.int64 or targets.shape != expected:
        yield f"targets are {targets.dtype} {tuple(targets.shape)}, not torch.int64 {expected}"
        return
    yield from _range_faults("targets", targets[targets != NOTHING], promised.num_classes)
    if promised.inputs == "tokens":
        yield from _range_faults("inputs", inputs, promised.num_classes)
    yield from _take_faults(split, again, index, (inputs, targets))


def _range_faults(what: str, values: Tensor, count: int) -> Iterator[str]:
    if values.numel():
        low, high = int(values.min()), int(values.max())
        if low < 0 or high >= count:
            yield f"{what} run from {low} to {high}; the spec's num_classes allows 0 to {count - 1}"


def _take_faults(
    split: Examples, again: Examples, index: Tensor, taken: tuple[Tensor, Tensor]
) -> Iterator[str]:
    """An example is what its position says, whatever else is asked for."""
    order = torch.randperm(len(index), generator=torch.Generator().manual_seed(0))
    places = torch.arange(len(order))
    for message, found in (
        ("`take` gives other examples in another order", split.take(index[order])),
        ("`subset` loses the order of its index", split.subset(index[order]).take(places)),
        ("`load` gives other examples the second time", again.take(index[order])),
    ):
        if not all(torch.equal(a[order], b) for a, b in zip(taken, found, strict=True)):
            yield message
