"""Checkpoints that are written beside training, one at a time."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from labctl.store.journal import JournalWriter

from . import checkpoint


class Saver:
    """Writes states to `path` in a thread of its own, and journals each that the disk has.

    What is journalled up to a checkpoint is on the disk before it.
    """

    def __init__(self, path: Path, journal: JournalWriter, every_seconds: float) -> None:
        self.path, self.journal, self.every_seconds = path, journal, every_seconds
        self._began = time.monotonic()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._writing: tuple[int, Future[None]] | None = None

    @property
    def is_busy(self) -> bool:
        return self._writing is not None

    @property
    def is_due(self) -> bool:
        """Whether it is time for the next one."""
        return time.monotonic() - self._began >= self.every_seconds and not self.is_busy

    def begin(self, step: int, state: dict[str, Any]) -> None:
        """Write a state after `step` steps, which nobody changes any more; not while busy."""
        assert self._writing is None
        self._began = time.monotonic()
        self._writing = (step, self._thread.submit(self._write, state))

    def note(self) -> None:
        """Journal what was begun, if it has been written.

        Raises:
            EnvironmentProblem: it could not be.
        """
        if self._writing is not None and self._writing[1].done():
            self.wait()

    def wait(self) -> None:
        """Until what was begun has been written, and journal it.

        Raises:
            EnvironmentProblem: it could not be.
        """
        if self._writing is None:
            return
        (step, writing), self._writing = self._writing, None
        writing.result()
        self.journal.record("checkpoint", step)

    def _write(self, state: dict[str, Any]) -> None:
        self.journal.sync()
        checkpoint.save(self.path, state)
