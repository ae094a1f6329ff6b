"""When work on a CPU is refused for the time that it would take."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest

from labctl.execute.patience import PATIENCE_HOURS, PROBE_SECONDS, too_long


def active(*, step: int = 0, pace: float | None = 1.0, since: float = 60.0) -> Any:
    """A run of 10,800 steps: three hours, at a second each."""
    plan = SimpleNamespace(work=SimpleNamespace(steps=10_800))
    watched = SimpleNamespace(plan=plan, step=step, seconds_per_step=pace)
    crew = SimpleNamespace(began=time.monotonic() - since)
    return SimpleNamespace(watched=watched, crew=crew)


JOB: Any = SimpleNamespace(plan=SimpleNamespace(work=SimpleNamespace(steps=10_800)))


@pytest.mark.parametrize(
    ("runs", "waiting", "workers", "said"),
    [
        ([{}], 0, 1, ""),
        ([{}], 2, 1, "this would take about 9h 00m on this CPU (1 s per step)"),
        ([{}], 2, 2, ""),
        ([{"step": 10_000}], 2, 1, "this would take about 6h 13m on this CPU (1 s per step)"),
        ([{"pace": None}], 9, 1, ""),
        ([{"since": PROBE_SECONDS - 1}], 9, 1, ""),
        ([{}, {"pace": 3.0}], 1, 1, "this would take about 18h 00m on this CPU (2 s per step)"),
    ],
)
def test_the_rest_is_held_against_the_pace_of_what_runs(
    runs: list[dict[str, Any]], waiting: int, workers: int, said: str
) -> None:
    assert PATIENCE_HOURS == 6
    found = too_long([active(**run) for run in runs], [JOB] * waiting, workers)
    assert found.startswith(said) and bool(found) == bool(said)
