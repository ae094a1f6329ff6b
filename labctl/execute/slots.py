"""Device slots: how many workers may train at once, on this machine, in this project."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from labctl.store.lock import FileLock

GPU_THREADS = 4
"""CPU threads of a worker whose model is on a GPU. What is left to the CPU are small pieces: there
more threads wait for each other, and 32 on a busy host made training three times as slow."""


@dataclass(frozen=True, slots=True)
class Slot:
    """Room for one worker. The worker inherits the lock, so that the slot is free when it is
    gone."""

    lock: FileLock
    environment: dict[str, str]


def gpu_ids() -> list[str]:
    """UUIDs of the NVIDIA devices that this process may use; found without torch."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [part.strip() for part in named.split(",") if part.strip() and part.strip() != "-1"]
    try:
        listing = subprocess.run(
            ["nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=20,
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    return listing.stdout.split() if listing.returncode == 0 else []


class Slots:
    """The slots of a machine: one per GPU, or on the CPU as many as there are cores, up to
    `jobs`."""

    def __init__(self, runs: Path, wanted_device: str, jobs: int | None, plans: int) -> None:
        self.folder = runs / ".slots" / (platform.node() or "here")
        self.gpus = [] if wanted_device in ("cpu", "mps") else gpu_ids()
        is_mps = wanted_device == "mps" or (wanted_device == "auto" and sys.platform == "darwin")
        places = len(self.gpus) or (1 if is_mps else cores())
        self.count = max(1, min(jobs or places, plans))
        self.sharing = -(-self.count // max(1, len(self.gpus)))
        self.threads = threads_of_each(self.count, on_gpu=bool(self.gpus))
        self.cpu_threads = threads_of_each(self.count, on_gpu=False)

    def take(self) -> Slot | None:
        """A free slot, or None: this supervisor or another one uses them all."""
        for number in range(self.count):
            gpu = self.gpus[number % len(self.gpus)] if self.gpus else ""
            lock = FileLock(self.folder / f"{gpu or 'cpu'}-{number}")
            if lock.acquire():
                environment = {"OMP_NUM_THREADS": str(self.threads)}
                if gpu:
                    environment["CUDA_VISIBLE_DEVICES"] = gpu
                return Slot(lock, environment)
        return None


def threads_of_each(workers: int, *, on_gpu: bool) -> int:
    """CPU threads of each of so many workers that train at once."""
    most = _allowed_threads() or (GPU_THREADS if on_gpu else cores())
    return max(1, min(cores() // workers, most))


def cores() -> int:
    """That this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _allowed_threads() -> int:
    """What OMP_NUM_THREADS allows a process, as OpenMP reads it: its first number; 0 if unset."""
    first = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return int(first) if first.isdecimal() else 0
