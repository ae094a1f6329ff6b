"""When a trial is given up early, and the curve by which that is decided."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Literal

from pydantic import Field, field_validator

from labctl.execute.follower import Follower
from labctl.recipe.times import Time
from labctl.registry.config import Config
from labctl.store.run import Run

from .objective import Goal

WHOLE = 1000
"""Progress at the end of a run: trials are compared after equal parts of their budgets."""


class Pruner(Config):
    """How trials that fall behind are recognised."""

    kind: Literal["median", "hyperband"]
    """`median`: worse than half of the finished trials were at the same progress. `hyperband`:
    not among the best third of those that came as far, in several brackets (Li et al. 2018)."""
    metric: str | None = None
    """Looked at whenever it is journalled; the objective's own if not given."""
    goal: Goal | None = None
    """Of `metric`; the objective's own if not given."""
    warm_up: Time = Time(10, "%")
    """Part of a run's budget before which none is given up."""
    startup: int = Field(default=5, ge=0)
    """Of `median`: trials that are finished before any is given up."""

    @field_validator("warm_up")
    @classmethod
    def _is_part(cls, warm_up: Time) -> Time:
        if warm_up.unit != "%" or not 0 < warm_up.value < 100:
            raise ValueError(f"{warm_up} should be a part of the budget, for example 10%")
        return warm_up

    @property
    def begin(self) -> int:
        """Progress from which on trials are given up."""
        return max(1, round(WHOLE * self.warm_up.value / 100))


def as_pruner(value: Any) -> Any:
    """A pruner by its name alone, or `none`."""
    if value == "none":
        return None
    return {"kind": value} if isinstance(value, str) else value


class Curve:
    """A metric of a run that may still be training; each value is read once."""

    def __init__(self, run: Run, metric: str) -> None:
        self.run, self.metric = run, metric
        self._follower = Follower(run, from_now=False)

    def new(self) -> Iterator[tuple[int, float]]:
        """Progress from 0 to `WHOLE`, and the value there, as journalled since the last call."""
        for record in self._follower.new():
            value = record.values.get(self.metric, math.nan)
            if math.isfinite(value):
                yield round(WHOLE * record.step / self.run.plan.work.steps), value
