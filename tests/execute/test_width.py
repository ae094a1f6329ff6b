"""How many runs a worker trains together: what is measured, and what is made of it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from labctl.execute import width as widths
from labctl.execute.width import Fixed, Widening

SHARES = {1: 8.0, 2: 5.0, 3: 4.0, 4: 3.9}
"""Milliseconds of one step, by the number of runs: a fourth gains 1.03."""


def run(key: int, group: str = "row", engine: str = "graphed") -> Any:
    return SimpleNamespace(
        plan=SimpleNamespace(key=str(key), group=group),
        windows=0,
        seconds_per_step=None,
        work=SimpleNamespace(batch_size=100),
        rig=SimpleNamespace(engine=SimpleNamespace(name=engine, is_recorded=engine == "graphed")),
        device=torch.device("cuda"),
    )


def widened(runs: list[Any], rounds: int = 40) -> tuple[list[Any], list[str]]:
    """Who is in training at the end, and what was said."""
    width, live, said = Widening(), list[Any](), list[str]()
    waiting = list(runs)
    for _ in range(rounds):
        while waiting and width.has_room(live, waiting[0].plan):
            live.append(waiting.pop(0))
        said += [width.why] if width.why else []
        width.why = ""
        for each in live:
            each.windows += 1
            each.seconds_per_step = SHARES[len(live)] / 1000
    return live, said


@pytest.fixture(autouse=True)
def _room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(widths, "_fits", lambda live: True)


def test_runs_join_while_that_is_faster() -> None:
    live, said = widened([run(key) for key in range(6)])
    assert len(live) == 4  # the fourth was found to be one too many, and is let to its end
    assert said[-1] == "4 together are 1.03 times as fast as 3"
    assert "2 together: 20,000 examples/s" in said


def test_one_too_many_is_not_replaced() -> None:
    width, runs = Widening(), [run(key) for key in range(6)]
    live = runs[:1]
    assert width.has_room([], runs[0].plan)
    for number in (1, 2, 3, 4):
        live = runs[:number]
        for _ in range(4):
            width.has_room(live, runs[5].plan)
            for each in live:
                each.windows += 1
                each.seconds_per_step = SHARES[number] / 1000
    assert not width.has_room(runs[:3], runs[5].plan)
    assert width.has_room(runs[:2], runs[5].plan)


def test_rows_are_trained_one_after_the_other() -> None:
    live, _ = widened([run(0), run(1), run(2, group="another")])
    assert [each.plan.group for each in live] == ["row", "row"]


def test_a_step_that_is_not_recorded_is_alone_and_the_reason_said() -> None:
    live, said = widened([run(key, engine="eager") for key in range(3)])
    assert len(live) == 1
    assert said == ["a step that is eager gains nothing from others beside it"]


def test_a_full_device_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(widths, "_fits", lambda live: len(live) < 2)
    live, said = widened([run(key) for key in range(3)])
    assert len(live) == 2
    assert said[-1] == "2 together: the device has no memory for another one"


def test_a_number_is_a_number() -> None:
    width = Fixed(2)
    assert width.has_room([run(0)], run(1, group="another").plan)
    assert not width.has_room([run(0), run(1)], run(2).plan)
    width.narrow(1)
    assert not width.has_room([run(0)], run(1).plan)
