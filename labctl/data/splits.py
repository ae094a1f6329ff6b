"""Splits of a data set on a device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from labctl.errors import EnvironmentProblem
from labctl.registry.card import Dataset, DataSpec, Places

from .batches import Batches


def load_splits(
    card: Dataset, config: Any, places: Places, num_val: int, spec: DataSpec, device: torch.device
) -> Mapping[str, Batches]:
    """The splits by name. `num_val` examples of `train` become `val`, drawn once for all seeds.

    Raises:
        EnvironmentProblem: files are missing, or hold another number of examples than the plan
        counts on.
    """
    if hint := card.missing(config, places):
        raise EnvironmentProblem(f"data set {spec.name} is not here", hint=hint)
    splits = dict(card.load(config, places))
    for name, size in spec.sizes.items():
        if len(splits[name]) != size:
            raise EnvironmentProblem(
                f"{spec.name}: split {name} has {len(splits[name])} examples, "
                f"not the {size} expected",
                hint="the files changed or are incomplete; fetch them again: labctl data",
            )
    if num_val:
        order = torch.randperm(len(splits["train"]), generator=torch.Generator().manual_seed(0))
        splits["val"] = splits["train"].subset(order[:num_val].sort().values)
        splits["train"] = splits["train"].subset(order[num_val:].sort().values)
    return {name: Batches(examples.to(device), spec, device) for name, examples in splits.items()}
