"""The numbers that a run journalled, exactly as they stand there, held against those of another."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from labctl.store.journal import Journal

LOSS = "loss"
"""The loss of a single step, among metrics that are means over several."""
Trace = Mapping[tuple[int, str], str]
"""Text of each number by step and metric."""


def traced(losses: Sequence[str], curves: Mapping[str, Mapping[int, float]]) -> Trace:
    """The trace of first losses, from step 1 on, and of curves."""
    exact = {(step, LOSS): loss for step, loss in enumerate(losses, 1)}
    means = {
        (step, name): repr(value) for name, curve in curves.items() for step, value in curve.items()
    }
    return exact | means


def trace_of(journal: Journal) -> Trace:
    """Everything that a run journalled."""
    losses = [str(x) for record in journal.of("first_losses") for x in record.fields["losses"]]
    return traced(losses, journal.curves)


def losses_until(trace: Trace, step: float = math.inf) -> Trace:
    """The losses of a trace up to `step`, or all: single ones, means, those of evaluations."""
    return {
        (at, name): text
        for (at, name), text in trace.items()
        if at <= step and name.rpartition("/")[2].startswith(LOSS)
    }


@dataclass(frozen=True, slots=True)
class Difference:
    """A number that is not what it was."""

    step: int
    metric: str
    then: str
    now: str | None
    """None: there is none any more."""

    @property
    def relative(self) -> float:
        """Distance of the two over the size of the first; inf where that means nothing."""
        if self.now is None:
            return math.inf
        then, now = float(self.then), float(self.now)
        if not (math.isfinite(then) and math.isfinite(now)) or then == 0:
            return math.inf
        return abs(now - then) / abs(then)

    def __str__(self) -> str:
        where = f"the loss of step {self.step}"
        if self.metric != LOSS:
            where = f"{self.metric} at step {self.step}"
        return f"{where} was {self.then}, now {'nothing' if self.now is None else self.now}"


def told_apart(then: Trace, now: Trace) -> Iterator[Difference]:
    """What is not as it was, in order of steps; what is only in `now` is none."""
    for step, metric in sorted(then):
        old, new = then[step, metric], now.get((step, metric))
        if old != new:
            yield Difference(step, metric, old, new)
