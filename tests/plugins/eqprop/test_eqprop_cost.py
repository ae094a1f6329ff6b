"""The cost of a sample, and how it is read off the recipe's loss."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from labctl.api import Batch, LabctlError, Objective, Output

Modules = Callable[[str], ModuleType]


def smoothed(smoothing: float, weight: float) -> Callable[..., Tensor]:
    def term(output: Output, batch: Batch, knobs: Any) -> Tensor:
        loss = F.cross_entropy(output.logits.float(), batch.targets, label_smoothing=smoothing)
        return loss * weight

    return term


@pytest.mark.parametrize(("weight", "smoothing"), [(1.0, 0.0), (0.3, 0.1), (2.5, 0.05)])
def test_value_and_slope_are_those_of_cross_entropy(
    eqprop: Modules, weight: float, smoothing: float
) -> None:
    cost = eqprop("cost").Cost(weight, smoothing)
    draws = torch.Generator().manual_seed(0)
    logits = torch.randn(6, 10, generator=draws, dtype=torch.float64).mul(3).requires_grad_()
    targets = torch.tensor([0, 9, 3, 3, 1, 5])
    aim = cost.aim(targets, 10, torch.float64)
    expected = weight * F.cross_entropy(
        logits, targets, label_smoothing=smoothing, reduction="none"
    )
    torch.testing.assert_close(cost.value(logits, aim), expected, rtol=0, atol=1e-12)
    (slope,) = torch.autograd.grad(expected.sum(), logits)
    torch.testing.assert_close(cost.slope(logits, aim), slope, rtol=0, atol=1e-12)


@pytest.mark.parametrize("classes", [2, 10, 100])
@pytest.mark.parametrize(("weight", "smoothing"), [(1.0, 0.0), (0.3, 0.1), (2.5, 0.05)])
def test_weight_and_smoothing_are_read_off_the_loss(
    eqprop: Modules, classes: int, weight: float, smoothing: float
) -> None:
    objective = Objective({"cross_entropy": smoothed(smoothing, weight)})
    found = eqprop("cost").cost_of(objective, classes)
    assert found == eqprop("cost").Cost(weight, smoothing)


@pytest.mark.parametrize("names", [(), ("cross_entropy", "other"), ("other",)])
def test_other_losses_are_refused(eqprop: Modules, names: tuple[str, ...]) -> None:
    objective = Objective(dict.fromkeys(names, smoothed(0.0, 1.0)))
    with pytest.raises(LabctlError, match="cross_entropy alone"):
        eqprop("cost").cost_of(objective, 10)
