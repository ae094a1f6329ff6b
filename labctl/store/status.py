"""What state a run is in: a function of its folder."""

from __future__ import annotations

from enum import StrEnum


class Status(StrEnum):
    """States of a run."""

    PENDING = "PENDING"
    """Planned, never begun."""
    RUNNING = "RUNNING"
    """A worker holds its lock."""
    DONE = "DONE"
    FAILED = "FAILED"
    """The worker ended with an error."""
    DIVERGED = "DIVERGED"
    """The loss stopped being finite; the answer to an experiment, not a fault of the machine."""
    HALTED = "HALTED"
    """A stop rule of the recipe was met: an answer as well."""
    STOPPED = "STOPPED"
    """Ended on request, resumable."""
    LOST = "LOST"
    """Begun, not ended, and no worker lives: the process was killed. Resumable."""

    @property
    def is_final(self) -> bool:
        """Whether the work needs no further attempt to be an answer."""
        return self in (Status.DONE, Status.DIVERGED, Status.HALTED)


ANSWERS = tuple(status for status in Status if status.is_final)
"""Ends that answer what was asked, a result among them."""
