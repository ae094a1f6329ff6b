"""A worker process, and the runs that it was given."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from labctl.store.atomic import storage
from labctl.store.journal import segments
from labctl.store.run import Run
from labctl.store.status import Status

from .slots import Slot

TAKEN = 75
"""Exit code of a worker: another one has its runs."""


def spawn(
    runs: Sequence[Run], slot: Slot, roots: Sequence[Path], order: dict[str, Any]
) -> subprocess.Popen[bytes]:
    """Start a worker in a slot, which is its own from then on. It writes to the log of the first
    run; the others' say so.

    Args:
        order: how it is to train: `workers` that share its device and `of_machine`, `threads`, or
            `cpu_threads` if torch finds no GPU, `together`.
    """
    whole = {
        "runs": [str(run.folder) for run in runs],
        "data_roots": [str(root) for root in roots],
        **order,
    }
    log_path = runs[0].log_path
    for run in runs[1:]:
        with storage(run.log_path), run.log_path.open("a", encoding="utf-8") as other:
            other.write(f"the worker that has this run writes to {log_path}\n")
    with storage(log_path), log_path.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "labctl.execute.worker", json.dumps(whole)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **slot.environment, "PYTHONUNBUFFERED": "1"},
            start_new_session=True,
            pass_fds=[slot.lock.descriptor],
        )
    slot.lock.release()
    return process


class Crew:
    """The runs of a worker, and how it fares."""

    def __init__(self, runs: Sequence[Run], process: subprocess.Popen[bytes]) -> None:
        self.runs, self._process = tuple(runs), process
        self.began, self._since = time.monotonic(), time.time()

    @property
    def code(self) -> int | None:
        """What the process ended with; None while it lives."""
        return self._process.poll()

    def has_ended(self, run: Run) -> bool:
        """Whether one of its runs is over, even if others go on; the last is when the worker is."""
        if self.code is not None:
            return True
        return self._has_left(run) and not all(self._has_left(other) for other in self.runs)

    def _has_left(self, run: Run) -> bool:
        return self.has_told_end(run) and run.status is not Status.RUNNING

    def has_told_end(self, run: Run) -> bool:
        """Whether the worker wrote how the run ended; what an earlier one wrote does not count."""
        end = run.end
        return end is not None and end["time"] >= self._since

    def stop(self) -> None:
        """Ask it to write checkpoints and end."""
        if self.code is None:
            self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        if self.code is None:
            self._process.kill()

    @property
    def how_it_died(self) -> str:
        code = self.code
        if code in (None, TAKEN):
            return "it belonged to another labctl"
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def log_of(run: Run, crew: Crew | None) -> Path:
    """Where what a run's worker printed can be read."""
    return run.log_path if crew is None else crew.runs[0].log_path


def threads_of(run: Run) -> int:
    """Threads of the run's first attempt: a resumed run computes as it began, bit for bit."""
    for path in segments(run.folder):
        try:
            first = json.loads(path.read_bytes().split(b"\n", 1)[0])
        except (OSError, ValueError):
            continue  # killed before it had begun
        return int(first.get("threads", 0)) if first.get("device") == "cpu" else 0
    return 0
