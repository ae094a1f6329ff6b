"""Sums of metrics over a stretch of steps."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from labctl.train.stopwatch import Stopwatch
from labctl.train.window import Window


def pair(total: float, count: float) -> tuple[Tensor, Tensor]:
    return torch.tensor(total), torch.tensor(count)


def test_a_mean_is_over_examples_and_not_over_steps() -> None:
    window = Window()
    window.add({"loss": pair(2.0, 1.0), "acc": pair(1.0, 4.0)})
    window.add({"loss": pair(4.0, 3.0), "acc": pair(1.0, 4.0)})
    assert window.means() == {"loss": 1.5, "acc": 0.25}
    assert window.steps == 2


def test_a_metric_of_some_steps_is_over_those() -> None:
    window = Window()
    window.add({"loss": pair(1.0, 1.0)})
    window.add({"look": pair(6.0, 2.0), "loss": pair(3.0, 1.0)})
    window.add({"loss": pair(5.0, 1.0), "look": pair(1.0, 2.0)})
    assert window.means() == {"loss": 3.0, "look": 1.75}


def test_a_metric_of_which_nothing_was_counted_has_no_mean() -> None:
    window = Window()
    window.add({"acc": pair(0.0, 0.0)})
    assert window.means() == {}
    assert Window().means() == {}


def test_sums_of_different_kinds_of_numbers_are_kept_as_they_are() -> None:
    window = Window()
    for _ in range(3):
        window.add({"loss": (torch.tensor(2**24 + 1, dtype=torch.float64), torch.tensor(1))})
    assert window.means() == {"loss": 2**24 + 1}


def test_what_is_added_stays_as_it_is_and_may_be_overwritten() -> None:
    window, total, count = Window(), *pair(1.0, 1.0)
    for _ in range(2):
        window.add({"loss": (total, count), "acc": (total, count)})
        assert (total.item(), count.item()) == (1.0, 1.0)
    total.fill_(7.0)
    assert window.means() == {"loss": 1.0, "acc": 1.0}


@pytest.mark.parametrize("steps", [1, 2])
def test_a_window_goes_on_from_its_state(steps: int) -> None:
    whole, first = Window(), Window()
    for i in range(4):
        whole.add({"loss": pair(0.1 * i, 1.0)})
    for i in range(steps):
        first.add({"loss": pair(0.1 * i, 1.0)})
    rest = Window.from_state(first.state_dict(), Stopwatch())
    before = first.means()
    for i in range(steps, 4):
        rest.add({"loss": pair(0.1 * i, 1.0)})
    assert (rest.means(), rest.steps) == (whole.means(), 4)
    assert (first.means(), first.steps) == (before, steps)
