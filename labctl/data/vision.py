"""Image sets read through torchvision's own classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .examples import Images


def _dataset_class(name: str) -> Callable[..., Any]:
    from torchvision import datasets

    kind: Callable[..., Any] = getattr(datasets, name)
    return kind


def read(name: str, root: Path) -> Mapping[str, Images]:
    """Both splits of torchvision's data set `name`, whole, as uint8 (N, C, H, W)."""
    return {
        split: _split(_dataset_class(name), root, split == "train") for split in ("train", "test")
    }


def download(name: str, root: Path) -> None:
    """Download torchvision's data set `name` below `root`."""
    _dataset_class(name)(root=str(root), download=True)


def _split(dataset_class: Callable[..., Any], root: Path, is_train: bool) -> Images:
    dataset = dataset_class(root=str(root), train=is_train, download=False)
    pixels = torch.as_tensor(np.asarray(dataset.data))
    pixels = pixels.unsqueeze(1) if pixels.ndim == 3 else pixels.permute(0, 3, 1, 2)
    labels = torch.as_tensor(np.asarray(dataset.targets), dtype=torch.int64)
    return Images(pixels.to(torch.uint8).contiguous(), labels)
