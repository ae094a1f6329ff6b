"""The process that feeds MLflow while runs train; training waits for it only at the very end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress

from labctl.project import Project
from labctl.store.atomic import storage
from labctl.store.run import Run

LAST_WORDS_SECONDS = 30.0
"""How long it may take to deliver the rest when all runs have ended."""


class Tracking:
    """`labctl.track.feed` in a process of its own, whose death loses nothing."""

    def __init__(self, project: Project, runs: Sequence[Run]) -> None:
        order = {"project": str(project.root), "runs": [str(run.folder) for run in runs]}
        log_path = project.runs / ".feed.log"
        self._log = log_path
        with storage(log_path), log_path.open("ab") as log:
            self._said_before = log.tell()
            self._process = subprocess.Popen(
                [sys.executable, "-m", "labctl.track.feed", json.dumps(order)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        assert self._process.stdin is not None
        self._words = self._process.stdin

    def add(self, run: Run) -> None:
        """One more run to be followed."""
        with suppress(OSError):  # it died; `labctl sync` makes it good
            self._words.write(os.fsencode(f"{run.folder}\n"))
            self._words.flush()

    @property
    def complaint(self) -> str:
        """The first line of what it said; empty if it said nothing."""
        try:
            said = self._log.read_bytes()[self._said_before :].decode(errors="replace")
        except OSError:
            return ""
        return next((line.strip() for line in said.splitlines() if line.strip()), "")

    def finish(self) -> bool:
        """Let it deliver the rest, without waiting long; whether it could."""
        with suppress(OSError):  # it died with a folder unread
            self._words.close()
        try:
            code = self._process.wait(timeout=LAST_WORDS_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        return not code
