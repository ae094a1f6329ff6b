"""What decides about work while it goes on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from labctl.store.run import Run

from .job import Job, Outcome


class Steering(Protocol):
    """Decides, while runs train, which others shall be trained and which are not worth going on."""

    def more(self, room: int) -> Sequence[Job]:
        """Jobs to begin now that `room` workers are idle; asked until no run is left."""
        ...

    def verdict(self, run: Run) -> str:
        """Why a running run shall be stopped now; empty to let it go on."""
        ...

    def ended(self, outcome: Outcome) -> None:
        """A run has ended."""
        ...
