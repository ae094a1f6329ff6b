"""Step time, shared out among runs that are trained together."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from labctl.train import clock as clocks
from labctl.train.clock import Clock
from labctl.train.window import Window


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> Any:
    """`now.at = 3.5`: the time that a clock reads."""
    moment = SimpleNamespace(at=0.0)
    monkeypatch.setattr(clocks.time, "perf_counter", lambda: moment.at)
    return moment


def plans(*groups: str) -> Any:
    return [SimpleNamespace(group=group) for group in groups]


def test_only_steps_count_and_parts_that_overlap_count_once(now: Any) -> None:
    clock = Clock()
    now.at = 5.0
    with clock.running():
        now.at = 6.0
        with clock.running():
            now.at = 8.0
        now.at = 9.0
    now.at = 20.0
    assert clock.share == 4.0


def test_what_is_no_part_of_a_step_stops_it_whoever_steps(now: Any) -> None:
    clock = Clock()
    with clock.running(), clock.running():
        now.at = 1.0
        with clock.stopped():
            now.at = 10.0
            assert clock.share == 1.0
            now.at = 11.0
        now.at = 13.0
    with clock.stopped():
        now.at = 20.0
    assert clock.share == 3.0


def test_time_is_shared_out_among_those_that_are_there(now: Any) -> None:
    clock = Clock()
    first = Window(clock)
    clock.attend(plans("a", "a"))
    second = Window(clock)
    with clock.running():
        now.at = 3.0
    clock.attend(plans("a", "a", "a"))
    with clock.running():
        now.at = 9.0
    assert first.seconds == second.seconds == 3 / 2 + 6 / 3
    assert Window(clock).seconds == 0.0


def test_a_window_beside_other_work_is_not_timed(now: Any) -> None:
    one, clock = torch.ones(()), Clock()
    window = Window(clock)
    for groups, is_timed in ((("a",), True), (("a", "b"), False), (("a",), False)):
        clock.attend(plans(*groups))
        window.add({"loss": (one, one)})
        assert window.is_timed is is_timed
    again = Window.from_state(window.state_dict(), clock)
    assert not again.is_timed and again.steps == 3
