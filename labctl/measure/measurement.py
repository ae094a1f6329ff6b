"""What a measurement is given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from labctl.data.batches import Batches
from labctl.registry.card import DataSpec, Places


@dataclass(frozen=True, slots=True)
class MeasureContext:
    """A trained model with its data, and a folder to write arrays and figures into."""

    model: nn.Module
    """In evaluation mode, on `device`."""
    model_config: Any
    spec: DataSpec
    splits: Mapping[str, Batches]
    knobs: Mapping[str, Any]
    """As evaluation has them."""
    device: torch.device
    folder: Path
    seed: int
    places: Places = field(default_factory=lambda: Places(()))
    """Where files of data are looked for."""
    curves: Mapping[str, Mapping[int, float]] = field(default_factory=dict)
    """What the run journalled so far: of each metric its value by step."""
    autocast: Callable[[], AbstractContextManager[object]] = nullcontext
    """Around a forward pass that shall round as evaluation does."""
