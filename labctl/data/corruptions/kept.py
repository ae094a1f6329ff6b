"""Corrupted images on disk, so that the runs of a machine share what one of them made."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from labctl.errors import EnvironmentProblem
from labctl.registry.card import Places
from labctl.store.atomic import write_atomic

from .corruption import Corruption
from .names import PUBLISHED
from .suite import VERSION, Images, checksum

LEAST = 1 << 18
"""Values of all images together: of fewer, files take as long as to make them anew."""


def folder_of(data: str, images: Tensor, seed: int, places: Places) -> Path | None:
    """Where what is generated of uint8 `images` (N, C, H, W) is kept, in the user's cache; None if
    it is not worth while.

    One for each kind of device, since these round differently.
    """
    if not places.roots or images.numel() < LEAST:
        return None
    digest = hashlib.sha256(f"{images.device.type}/{seed}/{checksum(images)}".encode()).hexdigest()
    return places.roots[-1] / f"{PUBLISHED.get(data, data)}-labctl-v{VERSION}" / digest[:16]


def kept(of: Images, images: Tensor, folder: Path) -> Images:
    """As `of`, which makes corrupted ones of `images` (N, C, H, W); each is read from `folder` if
    it is there, whole, and written there if not. Where the disk refuses, it is made anew."""

    def read_or_made(corruption: Corruption, severity: int) -> Tensor:
        path = folder / f"{corruption.name}-{severity}.npy"
        if (found := _read(path, images)) is not None:
            return found
        made = of(corruption, severity)
        array = made.cpu().numpy()
        with suppress(EnvironmentProblem):
            write_atomic(path, lambda file: np.save(file, array), durable=False)
        return made

    return read_or_made


def _read(path: Path, images: Tensor) -> Tensor | None:
    """The file's images, on the device of `images`; None unless they are of the same shape."""
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    if array.shape != tuple(images.shape) or array.dtype != np.uint8:
        return None
    return torch.from_numpy(array).to(images.device)
