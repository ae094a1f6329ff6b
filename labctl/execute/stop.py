"""What asks a worker to stop."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from types import FrameType

from labctl.store.run import Run


class Stop:
    """Whether the worker was asked to stop, by a signal or by a file in the run's folder."""

    def __init__(self) -> None:
        self.reason = ""
        self._looked: dict[Path, float] = {}

    def catch_signals(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self.note)

    def note(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal."""
        self.reason = signal.Signals(number).name

    def asked(self, run: Run) -> bool:
        """A signal means every run of the worker, a file the one that it lies beside."""
        if self.reason:
            return True
        now = time.monotonic()
        if now - self._looked.get(run.folder, 0.0) > 0.2:
            self._looked[run.folder] = now
            return run.stop_path.exists()
        return False
