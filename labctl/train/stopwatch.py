"""The time that training steps take, where several runs of one process take turns."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from labctl.plans.plan import Plan


class Stopwatch:
    """Runs while any step is on its way, and shares that time out equally among the runs.

    What steps of different runs take on a device at once cannot be told apart, so that a share says
    something only of runs that are alike: seeds of one recipe.
    """

    def __init__(self) -> None:
        self.share = 0.0
        """Seconds of steps so far, of one run."""
        self.runs = 1
        """Runs that are trained together now."""
        self.is_fair = True
        """Whether they differ in nothing but the seed."""
        self._stepping = 0
        self._read = 0.0

    def attend(self, plans: Sequence[Plan]) -> None:
        """From now on these are trained together."""
        self.runs = max(1, len(plans))
        self.is_fair = len({plan.group for plan in plans}) <= 1

    @contextmanager
    def running(self) -> Iterator[None]:
        """Around steps, or a part of one; what overlaps counts once."""
        self._advance()
        self._stepping += 1
        try:
            yield
        finally:
            self._advance()
            self._stepping -= 1

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Around what is no part of a step though it happens within one."""
        self._advance()
        stepping, self._stepping = self._stepping, 0
        try:
            yield
        finally:
            self._advance()
            self._stepping = stepping

    def _advance(self) -> None:
        now = time.perf_counter()
        if self._stepping:
            self.share += (now - self._read) / self.runs
        self._read = now
