"""What an attempt tells while it trains."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from labctl.execute import attempt as module
from labctl.execute.attempt import PROGRESS_SECONDS, PROGRESS_SHARE, Attempt, Workbench
from labctl.execute.stop import Stop
from labctl.store.run import Run


def notes(
    monkeypatch: pytest.MonkeyPatch, folder: Path, *, write: float, runs: int, until: float
) -> list[float]:
    """When one of `runs` runs says how far it is, by a clock that steps take 10 ms of and each note
    takes `write` seconds of."""
    now, told = 100.0, []

    def written(path: Path, value: Any, *, durable: bool) -> None:
        nonlocal now
        told.append(now - 100)
        now += write

    monkeypatch.setattr(module, "write_json", written)
    monkeypatch.setattr("time.monotonic", lambda: now)
    bench = Workbench((), Stop(), None, {}, runs=runs)
    attempt = Attempt(Run(folder), bench)
    bench.live = [attempt] * runs
    training: Any = SimpleNamespace(step=1, seconds_per_step=0.01)
    while now < 100 + until:
        now += 0.01
        attempt._note_progress(training)
    return told


def test_progress_is_told_twice_a_second(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    told = notes(monkeypatch, tmp_path, write=1e-4, runs=3, until=10)
    assert len(told) == pytest.approx(10 / PROGRESS_SECONDS[0], abs=2)
    assert told[0] < 0.02


@pytest.mark.parametrize("runs", [1, 3])
def test_a_slow_disk_is_told_as_often_as_its_share_allows(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, runs: int
) -> None:
    told = notes(monkeypatch, tmp_path, write=2e-3, runs=runs, until=30)
    share = len(told) * 2e-3 * runs / 30
    assert 0.5 * PROGRESS_SHARE < share < 1.2 * PROGRESS_SHARE


def test_even_the_slowest_disk_is_told_now_and_then(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    told = notes(monkeypatch, tmp_path, write=0.5, runs=4, until=60)
    gaps = [later - earlier for earlier, later in pairwise(told)]
    assert len(told) > 10 and max(gaps) < PROGRESS_SECONDS[1] + 0.1
