"""A process beside a worker, which compiles what its training comes to later."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from labctl.store.run import Run
from labctl.train.training import Training

from .slots import cores

STEPS = 2
"""That the worker takes first: by then it holds what training needs."""
CORES = 4
"""Each worker of this machine must have at least so many; one or two are busy while it trains."""
MEMORY = 2.0
"""How many times what the worker has held of its device must be free there."""


class Forerunner:
    """Begun once, when the worker has trained its first steps, if there is room for it.

    What it compiles is in the cache when the worker comes there; if it fails, or comes too late,
    the worker compiles by itself. It ends with the worker.
    """

    def __init__(self, roots: Sequence[Path], workers: int, sharing: int) -> None:
        """Args:
        roots: where data are.
        workers: that train on this machine.
        sharing: those of them that share the device.
        """
        self.roots, self.workers, self.sharing = roots, workers, sharing
        self._process: subprocess.Popen[bytes] | None = None
        self._scratch: tempfile.TemporaryDirectory[str] | None = None
        self._first: int | None = None
        self._is_decided = False

    def attend(self, training: Training) -> None:
        """Called after every round of turns, with one of the trainings."""
        if self._is_decided:
            return
        if self._first is None:
            self._first = training.step
        if training.step - self._first < STEPS:
            return
        self._is_decided = True
        if self._is_worth_while(training):
            try:
                self._begin(training.run)
            except OSError as error:
                print(f"nothing is compiled ahead: {error}", file=sys.stderr)
            else:
                training.journal.record("compiling_ahead", training.step)

    def _is_worth_while(self, training: Training) -> bool:
        if training.device.type != "cuda" or not training.work.numerics.compiled:
            return False
        if not any(phase.start > training.step for phase in training.work.phases()):
            return False
        free, _ = torch.cuda.mem_get_info(training.device)
        held = torch.cuda.max_memory_reserved(training.device)
        return free >= MEMORY * held * self.sharing and cores() >= CORES * self.workers

    def _begin(self, run: Run) -> None:
        with (run.folder / "forerunner.log").open("wb") as log:
            self._scratch = tempfile.TemporaryDirectory(prefix="labctl-forerunner-")
            order = {
                "run": str(run.folder),
                "data_roots": [str(root) for root in self.roots],
                "scratch": self._scratch.name,
            }
            self._process = subprocess.Popen(
                [sys.executable, "-m", "labctl.execute.compiling", json.dumps(order)],
                stdin=subprocess.PIPE,  # it ends when this process no longer holds the other end
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        if self._scratch is not None:
            self._scratch.cleanup()
