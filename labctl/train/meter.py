"""What a device draws while a run has it."""

from __future__ import annotations

import time
from typing import Any

import torch

EVERY_SECONDS = 10.0
"""Between readings, each of which holds the process up for milliseconds."""


class Meter:
    """Reads the energy counter of an NVIDIA device (NVML; Volta and newer), if there is one.

    It counts all that the device draws, idle or busy, for whomever.
    """

    def __init__(self, device: torch.device) -> None:
        self._counter = _counter(device) if device.type == "cuda" else None
        self._read, self._read_at = self._joules(), time.monotonic()

    @property
    def is_due(self) -> bool:
        """Whether it is time to ask again."""
        return self._counter is not None and time.monotonic() - self._read_at >= EVERY_SECONDS

    def drawn(self) -> float | None:
        """Joules since this was last asked; None where the device does not tell."""
        now, self._read_at = self._joules(), time.monotonic()
        if now is None or self._read is None:
            return None
        before, self._read = self._read, now
        return now - before

    def _joules(self) -> float | None:
        if self._counter is None:
            return None
        import pynvml

        return float(pynvml.nvmlDeviceGetTotalEnergyConsumption(self._counter)) / 1e3


def _counter(device: torch.device) -> Any:
    """NVML's handle of a device that counts; None if it does not."""
    import pynvml

    try:
        pynvml.nvmlInit()
        uuid = torch.cuda.get_device_properties(device).uuid
        handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
        pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except pynvml.NVMLError:
        return None
    return handle
