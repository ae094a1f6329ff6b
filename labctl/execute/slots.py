"""Device slots: how many workers may train at once, on this machine, in this project."""

from __future__ import annotations

import math
import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from labctl.store.lock import FileLock


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
        cores = (
            len(os.sched_getaffinity(0))
            if hasattr(os, "sched_getaffinity")
            else os.cpu_count() or 1
        )
        is_mps = wanted_device == "mps" or (wanted_device == "auto" and sys.platform == "darwin")
        places = len(self.gpus) or (1 if is_mps else cores)
        self.count = max(1, min(jobs or places, plans))
        self.sharing = -(-self.count // max(1, len(self.gpus)))
        self.threads = 0 if self.gpus else int(max(1, min(cores // self.count, _most_threads())))

    def take(self) -> Slot | None:
        """A free slot, or None: this supervisor or another one uses them all."""
        for number in range(self.count):
            gpu = self.gpus[number % len(self.gpus)] if self.gpus else ""
            lock = FileLock(self.folder / f"{gpu or 'cpu'}-{number}")
            if lock.acquire():
                environment = (
                    {"CUDA_VISIBLE_DEVICES": gpu} if gpu else {"OMP_NUM_THREADS": str(self.threads)}
                )
                return Slot(lock, environment)
        return None


def _most_threads() -> float:
    """What OMP_NUM_THREADS allows a process, as OpenMP reads it: its first number."""
    first = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return int(first) if first.isdecimal() and int(first) else math.inf
