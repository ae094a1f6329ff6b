"""A corrupted test set: generated, or read from the published files."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from labctl.errors import EnvironmentProblem
from labctl.registry.card import Places

from .corruption import SEVERITIES, Corruption
from .names import PUBLISHED, files_missing

VERSION = 2
"""Of the generator: raised whenever it makes other images of the same."""
CHUNK = 500
"""Images that share a generator of random numbers; part of what is generated."""
Images = Callable[[Corruption, int], Tensor]
"""The uint8 images (N, C, H, W) of a corruption at a severity."""


def generated(images: Tensor, seed: int = 0) -> Images:
    """What labctl makes of uint8 (N, C, H, W), on their device.

    Each corruption at each severity draws from a generator of its own for every `CHUNK` images, and
    for as many where fewer are left, so an image is the same whichever others are made. Chunks are
    drawn for in as many threads as torch has, while the device works on those before.
    """
    chunks = images.split(CHUNK)
    missing = -len(images) % CHUNK
    on_host = torch.cat([images.cpu(), torch.zeros(missing, *images.shape[1:], dtype=torch.uint8)])

    def of(corruption: Corruption, severity: int) -> Tensor:
        def drawn(place: int) -> tuple[Tensor, ...]:
            name = f"{seed}/{corruption.name}/{severity}/{place}"
            digest = hashlib.sha256(name.encode()).digest()
            stream = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
            there = on_host[place * CHUNK : (place + 1) * CHUNK]
            draws = corruption.drawn(there, severity, stream)
            return tuple(draw[: len(chunks[place])] for draw in draws)

        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            made = [
                corruption.made(chunk, severity, draws)
                for chunk, draws in zip(chunks, pool.map(drawn, range(len(chunks))), strict=True)
            ]
        return torch.cat(made)

    return of


def published(data: str, labels: Tensor, places: Places) -> Images:
    """The files of Hendrycks & Dietterich, from `CIFAR-10-C/` in one of the data folders.

    Args:
        labels: int64 (N,) of the test set; the files must have the same.

    Raises:
        EnvironmentProblem: there are none for this data set, they are not there, or they are other
            files than these.
    """
    if (problem := files_missing(data, places)) is not None:
        raise problem
    found = places.find(PUBLISHED[data])
    assert found is not None, "files_missing looked there"
    count = len(labels)
    theirs = torch.from_numpy(_array(found / "labels.npy", (SEVERITIES * count,)).astype(np.int64))
    if not torch.equal(theirs, labels.cpu().repeat(SEVERITIES)):
        raise EnvironmentProblem(
            f"{found / 'labels.npy'} has other labels than the test set of {data}",
            hint="unpack it anew",
        )

    def of(corruption: Corruption, severity: int) -> Tensor:
        path = found / f"{corruption.name}.npy"
        array = _array(path, (SEVERITIES * count, 32, 32, 3))
        block = np.array(array[(severity - 1) * count : severity * count])
        return torch.from_numpy(block).permute(0, 3, 1, 2).contiguous().to(labels.device)

    return of


def _array(path: Path, shape: tuple[int, ...]) -> NDArray[Any]:
    """A file's array, mapped into memory."""
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise EnvironmentProblem(f"{path} cannot be read: {error}", hint="unpack it anew") from None
    if array.shape != shape or array.dtype != np.uint8:
        raise EnvironmentProblem(
            f"{path} holds {array.dtype} {array.shape}, not uint8 {shape}", hint="unpack it anew"
        )
    return array


def checksum(images: Tensor) -> str:
    """SHA-256 of uint8 images (N, C, H, W)."""
    return hashlib.sha256(images.contiguous().cpu().numpy().tobytes()).hexdigest()
