"""How many workers train at once, and with how many threads."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from labctl.execute.slots import Slots


@pytest.mark.parametrize(
    ("asked", "jobs", "threads"),
    [(None, 1, 8), (None, 2, 4), ("3", 1, 3), ("3,2", 1, 3), ("6", 2, 4), ("0", 1, 8), ("x", 4, 2)],
)
def test_workers_share_the_cores_as_far_as_the_environment_allows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: str | None, jobs: int, threads: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if asked is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", asked)
    slot = Slots(tmp_path, "cpu", jobs, plans=8).take()
    assert slot is not None and slot.environment == {"OMP_NUM_THREADS": str(threads)}
    slot.lock.release()


@pytest.mark.parametrize(
    ("asked", "jobs", "threads", "cpu_threads"),
    [
        (None, None, 4, 8),
        (None, 4, 2, 2),
        (None, 16, 1, 1),
        ("6", None, 6, 6),
        ("2", None, 2, 2),
    ],
)
def test_a_worker_on_a_gpu_takes_few_threads_unless_told(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    asked: str | None,
    jobs: int,
    threads: int,
    cpu_threads: int,
) -> None:
    """Those of the CPU are for a worker whose torch finds no GPU."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if asked is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", asked)
    slots = Slots(tmp_path, "cuda", jobs, plans=16)
    slot = slots.take()
    assert slot is not None and slots.threads == threads
    assert slots.cpu_threads == cpu_threads
    assert slot.environment == {"CUDA_VISIBLE_DEVICES": "GPU-a", "OMP_NUM_THREADS": str(threads)}
    slot.lock.release()
