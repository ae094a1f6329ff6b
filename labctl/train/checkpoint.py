"""Checkpoints: everything that a run needs to go on as if nothing had happened."""

from __future__ import annotations

import io
import pickle
import struct
import zlib
from copy import copy
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

import torch
from torch import Tensor

from labctl.errors import RunError
from labctl.store.atomic import storage, write_atomic

_TRAILER = struct.Struct("<8sQI")
_MAGIC = b"labctl\0\1"


class _Summed(io.RawIOBase):
    """A file that keeps the length and checksum of what passes through it."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.size, self.crc = file, 0, 0
        self.refused: OSError | None = None
        """By the disk: torch makes an error of its own of it, which does not say so."""

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        view = memoryview(data)
        self.crc = zlib.crc32(view, self.crc)
        self.size += view.nbytes
        try:
            return self.file.write(view)
        except OSError as error:
            self.refused = error
            raise


def write_state(file: BinaryIO, state: dict[str, Any]) -> _Summed:
    """What `torch.save` writes.

    Raises:
        OSError: the disk refuses it.
    """
    summed = _Summed(file)
    try:
        torch.save(state, cast("IO[bytes]", summed))
    except RuntimeError as error:
        raise summed.refused or error from error
    return summed


def save(path: Path, state: dict[str, Any]) -> None:
    """Write `state` beside `path`, then rename; the checkpoint before it stays as `.previous`."""

    def write(file: BinaryIO) -> None:
        summed = write_state(file, state)
        file.write(_TRAILER.pack(_MAGIC, summed.size, summed.crc))

    # Written before anything is renamed: the one at `path` may be damaged, and `.previous` the only
    # whole one.
    fresh = path.with_name(path.name + ".new")
    write_atomic(fresh, write)
    with storage(path):
        if path.exists():
            path.replace(_previous(path))
        fresh.replace(path)


def load(path: Path) -> tuple[dict[str, Any] | None, list[str]]:
    """The newest whole checkpoint, on the CPU, and why newer ones could not be used.

    None if there is no checkpoint at all.

    Raises:
        RunError: there are checkpoints, and none is whole.
    """
    faults: list[str] = []
    for candidate in (path, _previous(path)):
        if candidate.exists():
            try:
                return _read(candidate), faults
            except (OSError, ValueError, RuntimeError, EOFError) as error:
                faults.append(f"{candidate.name}: {error}")
    if faults:
        raise RunError(
            f"no usable checkpoint: {'; '.join(faults)}",
            where=str(path.parent),
            hint="begin this run again with `labctl run ... --restart`; "
            "its journal so far is set aside, not deleted",
        )
    return None, []


def load_weights(path: Path, device: torch.device | str = "cpu") -> dict[str, Tensor]:
    """The parameters and buffers of a trained model, by name.

    Raises:
        RunError: the file is damaged, or cut short.
    """
    try:
        weights: dict[str, Tensor] = torch.load(path, map_location=device, weights_only=True)
    except (RuntimeError, EOFError, OSError, pickle.UnpicklingError) as error:
        raise RunError(
            "the weights cannot be read: damaged, or cut short",
            where=str(path),
            hint="copy the file again, or move the run's folder away and train it anew",
        ) from error
    return weights


def moved(value: Any, device: torch.device, *, copied: bool = False) -> Any:
    """`value` with the tensors anywhere inside it on `device`, in memory of their own if copied."""
    if isinstance(value, Tensor):
        return value.detach().to(device, copy=copied)
    if isinstance(value, dict):
        found = copy(value)  # of its class, with its attributes
        found |= {key: moved(item, device, copied=copied) for key, item in value.items()}
        return found
    if isinstance(value, list | tuple):
        return type(value)(moved(item, device, copied=copied) for item in value)
    return value


def discard(path: Path) -> None:
    """Remove the checkpoints of a run that is done."""
    _previous(path).unlink(missing_ok=True)  # first: alone it would be taken for the newest
    path.unlink(missing_ok=True)


def _previous(path: Path) -> Path:
    return path.with_name(path.name + ".previous")


def _read(path: Path) -> dict[str, Any]:
    data = path.read_bytes()
    if len(data) < _TRAILER.size:
        raise ValueError("truncated")
    magic, size, crc = _TRAILER.unpack(data[-_TRAILER.size :])
    if magic != _MAGIC or size != len(data) - _TRAILER.size:
        raise ValueError("truncated")
    if zlib.crc32(memoryview(data)[: -_TRAILER.size]) != crc:
        raise ValueError("damaged: its checksum does not match")
    state = torch.load(io.BytesIO(data[: -_TRAILER.size]), map_location="cpu", weights_only=True)
    return dict(state)
