"""How many runs of one worker are trained together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch

from labctl.plans.plan import Plan
from labctl.train.training import Training

from .job import Together

GAIN = 1.05
"""How much faster all must be together with one run more, or no further one joins."""
WINDOWS = 2
"""Stretches of steps that each run has had since the last one joined: one warms up, one counts."""
MEMORY_MARGIN = 1.5
"""Of what a run holds on average; so much must be free for another one."""


class Width(Protocol):
    """Asked before every round of turns whether one more run may join those in training."""

    why: str
    """What was decided and is not said yet."""

    def has_room(self, live: Sequence[Training], another: Plan) -> bool: ...

    def narrow(self, runs: int) -> None:
        """So many and no more: the memory of the device holds no other."""
        ...


class Fixed:
    """So many, whatever they gain."""

    def __init__(self, most: int) -> None:
        self.most, self.why = most, ""

    def has_room(self, live: Sequence[Training], another: Plan) -> bool:
        return len(live) < self.most

    def narrow(self, runs: int) -> None:
        self.most, self.why = runs, _full(runs)


class Widening:
    """One, and one more for as long as that makes all of them together faster.

    Runs that differ in more than the seed are not trained together: what each of them takes could
    not be told. Only steps that are recorded as graphs gain from each other: a step that is
    launched kernel by kernel, or that waits for the device, keeps the process busy by itself.
    """

    def __init__(self) -> None:
        self.why = ""
        self._begin()

    def _begin(self) -> None:
        self._most = 1
        self._rates: dict[int, float] = {}
        """Examples per second of all runs, by their number."""
        self._joined: dict[str, int] = {}
        """Windows that each run had closed when the last one joined."""

    def has_room(self, live: Sequence[Training], another: Plan) -> bool:
        if not live:
            self._begin()
            return True
        if another.group != live[0].plan.group:
            return False
        self._consider(live)
        return len(live) < self._most

    def narrow(self, runs: int) -> None:
        self._most, self.why = runs, _full(runs)
        self._rates.setdefault(runs, 0.0)

    def _consider(self, live: Sequence[Training]) -> None:
        number = len(live)
        if number != self._most or number in self._rates:
            return
        if {training.plan.key for training in live} != self._joined.keys():
            self._joined = {training.plan.key: training.windows for training in live}
        if any(t.windows - self._joined[t.plan.key] < WINDOWS for t in live):
            return
        rate = self._rates[number] = _rate(live)
        gain = rate / self._rates[number - 1] if number > 1 else 0.0
        if number > 1 and gain < GAIN:
            self._most = number - 1
            self.why = f"{number} together are {gain:.2f} times as fast as {number - 1}"
        elif slow := [t for t in live if not t.rig.engine.is_recorded]:
            if slow[0].device.type == "cuda":
                self.why = (
                    f"a step that is {slow[0].rig.engine.name} gains nothing from others beside it"
                )
        elif not _fits(live):
            self.why = _full(number)
        else:
            self._most = number + 1
            self.why = f"{number} together: {rate:,.0f} examples/s" if number > 1 else ""


def width_of(together: Together) -> Width:
    """The policy of a number of runs, or of `auto`."""
    return Widening() if together == "auto" else Fixed(together)


def _full(runs: int) -> str:
    return f"{runs} together: the device has no memory for another one"


def _rate(live: Sequence[Training]) -> float:
    """Examples per second: a round of turns takes the sum of the runs' shares."""
    seconds = sum(training.seconds_per_step or 0.0 for training in live)
    examples = sum(training.work.batch_size for training in live)
    return examples / seconds if seconds else 0.0


def _fits(live: Sequence[Training]) -> bool:
    device = live[0].device
    if device.type != "cuda":
        return True
    free, _ = torch.cuda.mem_get_info(device)
    held = torch.cuda.memory_reserved(device) / len(live)
    return free >= MEMORY_MARGIN * held
