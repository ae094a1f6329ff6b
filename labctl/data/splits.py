"""Splits of a data set on a device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from labctl.errors import EnvironmentProblem, PluginError
from labctl.registry.card import Dataset, DataSpec, Places

from .batches import Batches
from .examples import NOTHING, Examples, Images, Windows


def load_splits(
    card: Dataset, config: Any, places: Places, num_val: int, spec: DataSpec, device: torch.device
) -> Mapping[str, Batches]:
    """The splits by name. `num_val` examples of `train` become `val`, drawn once for all seeds.

    Raises:
        EnvironmentProblem: files are missing, or hold another number of examples than the plan
        counts on.
        PluginError: what the data set loads is not what its spec promises.
    """
    if hint := card.missing(config, places):
        raise EnvironmentProblem(f"data set {spec.name} is not here", hint=hint)
    splits = dict(card.load(config, places))
    for name, size in spec.sizes.items():
        if name not in splits:
            raise _broken(f"{spec.name}: split {name} is promised by the spec and not loaded")
        if len(splits[name]) != size:
            raise EnvironmentProblem(
                f"{spec.name}: split {name} has {len(splits[name])} examples, "
                f"not the {size} expected",
                hint="the files changed or are incomplete; fetch them again: labctl data"
                if card.fetch is not None
                else "the data changed, or the spec of their plugin says another number",
            )
        if fault := _fault(splits[name], spec):
            raise _broken(f"{spec.name}: split {name}: {fault}")
    if num_val:
        order = torch.randperm(len(splits["train"]), generator=torch.Generator().manual_seed(0))
        splits["val"] = splits["train"].subset(order[:num_val].sort().values)
        splits["train"] = splits["train"].subset(order[num_val:].sort().values)
    return {name: Batches(examples.to(device), spec, device) for name, examples in splits.items()}


def _broken(message: str) -> PluginError:
    return PluginError(message, hint="a fault of the data set's plugin, to be mended there")


def _fault(split: Examples, spec: DataSpec) -> str | None:
    """What of a split is not as the spec has it, as far as one example and the range tell: pixels
    of another type would be scaled as bytes, and a GPU breaks off over a class beyond the last."""
    if not len(split):
        return "there are no examples"
    inputs, _ = split.take(torch.zeros(1, dtype=torch.int64))
    dtype = torch.uint8 if spec.inputs == "image" else torch.int64
    if inputs.dtype != dtype:
        return f"inputs are {inputs.dtype}; {spec.inputs} data are {dtype}"
    if tuple(inputs.shape[1:]) != spec.shape:
        return f"inputs have shape {tuple(inputs.shape[1:])}; the spec says {spec.shape}"
    match split:
        case Images(labels=values):
            what = "labels"
        case Windows(stream=values):
            what = "tokens"
        case _:
            return None
    if values.ndim != 1:
        return f"{what} have shape {tuple(values.shape)}, not (N,)"
    if values.dtype != torch.int64:
        return f"{what} are {values.dtype}, not torch.int64"
    low, high = (int(value) for value in values.aminmax())
    if low == NOTHING and len(told := values[values != NOTHING]):
        low = int(told.min())
    if (low < 0 and low != NOTHING) or high >= spec.num_classes:
        return f"{what} run from {low} to {high}, not within 0 to {spec.num_classes - 1}"
    return None
