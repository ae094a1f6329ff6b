"""Step time, shared out among runs that are trained together."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from labctl.train import stopwatch as module
from labctl.train.stopwatch import Stopwatch
from labctl.train.window import Window


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> Any:
    """`now.at = 3.5`: the time that a stopwatch reads."""
    moment = SimpleNamespace(at=0.0)
    monkeypatch.setattr(module.time, "perf_counter", lambda: moment.at)
    return moment


def plans(*groups: str) -> Any:
    return [SimpleNamespace(group=group) for group in groups]


def test_only_steps_count_and_parts_that_overlap_count_once(now: Any) -> None:
    stopwatch = Stopwatch()
    now.at = 5.0
    with stopwatch.running():
        now.at = 6.0
        with stopwatch.running():
            now.at = 8.0
        now.at = 9.0
    now.at = 20.0
    assert stopwatch.share == 4.0


def test_what_is_no_part_of_a_step_stops_it_whoever_steps(now: Any) -> None:
    stopwatch = Stopwatch()
    with stopwatch.running(), stopwatch.running():
        now.at = 1.0
        with stopwatch.stopped():
            now.at = 10.0
            assert stopwatch.share == 1.0
            now.at = 11.0
        now.at = 13.0
    with stopwatch.stopped():
        now.at = 20.0
    assert stopwatch.share == 3.0


def test_time_is_shared_out_among_those_that_are_there(now: Any) -> None:
    stopwatch = Stopwatch()
    first = Window(stopwatch)
    stopwatch.attend(plans("a", "a"))
    second = Window(stopwatch)
    with stopwatch.running():
        now.at = 3.0
    stopwatch.attend(plans("a", "a", "a"))
    with stopwatch.running():
        now.at = 9.0
    assert first.seconds == second.seconds == 3 / 2 + 6 / 3
    assert Window(stopwatch).seconds == 0.0


def test_a_window_beside_other_work_is_not_timed(now: Any) -> None:
    one, stopwatch = torch.ones(()), Stopwatch()
    window = Window(stopwatch)
    for groups, is_timed in ((("a",), True), (("a", "b"), False), (("a",), False)):
        stopwatch.attend(plans(*groups))
        window.add({"loss": (one, one)})
        assert window.is_timed is is_timed
    again = Window.from_state(window.state_dict(), stopwatch)
    assert not again.is_timed and again.steps == 3
