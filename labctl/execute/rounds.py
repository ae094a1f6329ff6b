"""Several runs of one worker, trained in turns, or one after the other."""

from __future__ import annotations

import gc
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from labctl.errors import LabctlError
from labctl.registry.registry import Registry
from labctl.store.run import Run

from .attempt import Attempt, Poisoned, Workbench
from .forerunner import Forerunner
from .stop import Stop
from .width import Fixed, Width


def work(
    runs: Sequence[Run],
    roots: tuple[Path, ...],
    stop: Stop,
    registry: Registry | None = None,
    facts: Mapping[str, Any] | None = None,
    width: Width | None = None,
    forerunner: Forerunner | None = None,
) -> list[Attempt]:
    """Train `runs` until each has ended, as many in turns as `width` lets, all if it is not given;
    those that somebody else has are left out.

    Plugins come from each run's stored code, unless a registry is given. `facts` are journalled
    with those of the device. `forerunner` attends to them.

    Raises:
        Poisoned: with several runs; none of those in training has an end then.
    """
    bench = Workbench(roots, stop, registry, facts or {}, runs=len(runs))
    rounds = _Rounds(bench, width or Fixed(len(runs)), runs)
    try:
        while rounds.go_on():
            if forerunner is not None:
                rounds.shown_to(forerunner)
    except Poisoned:
        for attempt in bench.live:
            attempt.let_go()
        raise
    return rounds.begun


class _Rounds:
    """The runs of a worker, one round of turns after the other.

    Nothing here outlasts a round that would keep a run's memory from the next one.
    """

    def __init__(self, bench: Workbench, width: Width, runs: Sequence[Run]) -> None:
        self.bench, self.width = bench, width
        self.waiting, self.begun = deque(runs), list[Attempt]()

    def go_on(self) -> bool:
        """Let a run join, or give each its turn; False when none is left."""
        if self._has_room():
            self._begin(self.waiting.popleft())
        elif self.bench.live:
            self.bench.stopwatch.attend([attempt.run.plan for attempt in self.bench.live])
            for attempt in list(self.bench.live):
                attempt.turn()
                self._settle()
        else:
            return False
        if self.width.why:
            self._tell(self.width.why)
            self.width.why = ""
        return True

    def shown_to(self, forerunner: Forerunner) -> None:
        """Once no run waits to join, whose joining depends on memory and speed."""
        training = self.bench.live[0].training if self.bench.live else None
        if training is not None and not self.waiting:
            forerunner.attend(training)

    def _has_room(self) -> bool:
        while self.waiting and not self.bench.stop.reason:
            try:
                plan = self.waiting[0].plan
            except LabctlError as error:  # its folder is gone
                print(error, file=sys.stderr)
                self.waiting.popleft()
                continue
            return self.width.has_room([a.training for a in self.bench.live if a.training], plan)
        return False

    def _begin(self, run: Run) -> None:
        attempt = Attempt(run, self.bench)
        if attempt.claim():
            self.begun.append(attempt)
            self.bench.live.append(attempt)
            attempt.begin()
            self._settle()

    def _settle(self) -> None:
        """Take out what has ended, and give its memory back."""
        ended = [attempt for attempt in self.bench.live if attempt.status is not None]
        if not ended:
            return
        self.bench.live = [attempt for attempt in self.bench.live if attempt not in ended]
        for attempt in ended:
            if attempt.was_squeezed:
                self.begun.remove(attempt)
                self.waiting.appendleft(attempt.run)
                self.width.narrow(max(1, len(self.bench.live)))
        gc.collect()  # a recording and what it reads refer to each other
        torch.cuda.empty_cache()

    def _tell(self, why: str) -> None:
        print(why, flush=True)
        for attempt in self.bench.live:
            if attempt.training is not None:
                journal, step = attempt.training.journal, attempt.training.step
                journal.record("together", step, why=why)
