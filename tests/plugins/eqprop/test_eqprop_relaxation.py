"""Relaxation: down the energy, each sample for itself, and what happens when it goes wrong."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

Modules = Callable[[str], ModuleType]
Make = Callable[..., Any]


def images(count: int = 12, seed: int = 1) -> Tensor:
    draws = torch.Generator().manual_seed(seed)
    scale = torch.logspace(-2, 0.5, count, dtype=torch.float64).view(-1, 1, 1, 1)
    return torch.randn(count, 1, 8, 8, generator=draws, dtype=torch.float64) * scale


@pytest.mark.parametrize("step_size", [0.3, 1.0])
@pytest.mark.parametrize("activation", ["logcosh", "relu2", "softplus2"])
def test_energy_never_rises(
    eqprop: Modules, energy_model: Make, activation: str, step_size: float
) -> None:
    model = energy_model(activation=activation)
    u = model.drive(images()).detach()
    x = model.start(u) + 2 * torch.randn(u.shape, generator=torch.Generator().manual_seed(3)).to(u)
    before, fell = model.energy(x, u), 0.0
    for _ in range(120):
        x = x + step_size * (model.field(x, u) - x)
        after = model.energy(x, u)
        assert (after - before <= 1e-12 * before.abs()).all()
        fell, before = fell + (before - after).sum().item(), after
    assert fell > 1
    x = x.detach().requires_grad_()
    (slope,) = torch.autograd.grad(model.energy(x, u).sum(), x)
    assert slope.abs().max() < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["logcosh", "relu2", "softplus2"])
def test_a_repulsive_memory_has_one_minimum(
    eqprop: Modules, energy_model: Make, activation: str
) -> None:
    """From wherever it starts, with patterns under which an attractive one has several."""
    found: dict[str, list[Tensor]] = {"attractive": [], "repulsive": []}
    for memory, ends in found.items():
        model = energy_model(activation=activation, memory=memory, attention=False, readout="mean")
        with torch.no_grad():
            model.patterns.mul_(4)
            model.thresholds.zero_()
        u = model.drive(images()).detach() / 10
        for seed in (1, 2):
            draws = torch.Generator().manual_seed(seed)
            start = 3 * torch.randn(u.shape, generator=draws, dtype=torch.float64)
            config = eqprop("config").RelaxConfig(max_steps=4000, tol=1e-13, step_size=0.03)
            ends.append(eqprop("relaxation").relax(model.field, start, (u,), config).x)
    torch.testing.assert_close(*found["repulsive"], rtol=0, atol=1e-8)
    if activation == "logcosh":  # the others, which grow without bound, go one way
        one, other = found["attractive"]
        assert (one - other).abs().max() > 0.1


def test_each_sample_stops_by_itself_as_if_alone(eqprop: Modules, energy_model: Make) -> None:
    """Against a loop over samples, one at a time, that stops by the same rule."""
    model = energy_model()
    u = model.drive(images()).detach()
    config = eqprop("config").RelaxConfig(max_steps=50, tol=1e-4, step_size=0.5)
    found = eqprop("relaxation").relax(model.field, u, (u,), config)
    for sample in range(len(u)):
        x, drive = u[sample : sample + 1], u[sample : sample + 1]
        taken, is_moving = 0, True
        while is_moving:
            move = 0.5 * (model.field(x, drive) - x)
            x, taken = x + move, taken + 1
            is_moving = bool(move.norm() >= 1e-4 * x.norm()) and taken < 50
        assert found.steps[sample] == taken
        torch.testing.assert_close(found.x[sample], x[0], rtol=0, atol=1e-12)
        assert found.residual[sample].item() == pytest.approx((move.norm() / x.norm()).item())
    assert len(set(found.steps.tolist())) > 2, "samples differ in how long they take"
    assert (found.residual < 1e-4).all() and not found.failed.any()


def test_compaction_is_lockstep(eqprop: Modules, energy_model: Make) -> None:
    model = energy_model().float()
    u = model.drive(images(64).float()).detach()
    relax = eqprop("relaxation").relax
    config = eqprop("config").RelaxConfig(max_steps=50, tol=1e-4, step_size=0.3)
    gathered = relax(model.field, u, (u,), config)
    lockstep = relax(model.field, u, (u,), config, compact=False)
    torch.testing.assert_close(gathered.x, lockstep.x, rtol=0, atol=1e-6)
    assert (gathered.steps - lockstep.steps).abs().max() <= 1  # rounding decides a close race
    assert int(gathered.steps.sum()) <= gathered.work < lockstep.work
    assert lockstep.work >= 64 * int(lockstep.steps.max())


def test_a_way_from_an_origin_is_measured_against_it(eqprop: Modules) -> None:
    """x <- 1 + x/2 from 1: the k-th step is 2^-k, the way after it 1 - 2^-k."""
    config = eqprop("config").RelaxConfig(max_steps=60, tol=1e-3)
    start = torch.ones(1, 1, 1, dtype=torch.float64)
    relax = eqprop("relaxation").relax
    found = relax(lambda x: 1 + x / 2, start, (), config, origin=start)
    assert found.steps.item() == 10  # 2^-10 / (1 - 2^-10) < 1e-3
    assert found.x.item() == pytest.approx(2 - 2**-10)


def test_steps_can_be_counted_out(eqprop: Modules, energy_model: Make) -> None:
    model = energy_model()
    u = model.drive(images()).detach()
    config = eqprop("config").RelaxConfig
    assert torch.equal(model.settle(u, config=config(max_steps=0)).x, u)
    x = u
    for taken in (1, 2, 3, 4, 5):
        x = model.field(x, u)
        found = model.settle(u, config=config(max_steps=taken, tol=0.0))
        assert (found.steps == taken).all()
        torch.testing.assert_close(found.x, x, rtol=0, atol=1e-12)
    unrolled = eqprop("relaxation").unroll(model.field, u, (u,), config(max_steps=5))
    torch.testing.assert_close(unrolled, x, rtol=0, atol=1e-12)


def test_what_blows_up_has_failed_and_disturbs_nobody(eqprop: Modules) -> None:
    """Slopes -0.5 and 0 settle, 1.5 grows, and NaN is none."""
    slopes = torch.tensor([-0.5, 1.5, float("nan"), 0.0], dtype=torch.float64).view(4, 1, 1)
    start = torch.ones(4, 1, 1, dtype=torch.float64)
    config, failure = eqprop("config").RelaxConfig(), eqprop("config").FailureConfig()
    found = eqprop("relaxation").relax(
        lambda x, slope: 1 + slope * x, start, (slopes,), config, failure
    )
    assert found.failed.tolist() == [False, True, True, False]
    assert found.x[[0, 3]].flatten().tolist() == pytest.approx([1 / 1.5, 1.0], rel=1e-4)
    assert found.steps[1] < 10, "it stops when its step has grown tenfold"


def test_what_has_not_come_to_rest_has_failed(eqprop: Modules) -> None:
    config, failure = eqprop("config").RelaxConfig(max_steps=5), eqprop("config").FailureConfig()
    start = torch.ones(2, 1, 1, dtype=torch.float64)
    slopes = torch.tensor([0.1, 0.99], dtype=torch.float64).view(2, 1, 1)
    found = eqprop("relaxation").relax(
        lambda x, slope: 1 + slope * x, start, (slopes,), config, failure
    )
    assert found.failed.tolist() == [False, True]


def test_steps_over_the_goal_are_shortened(eqprop: Modules) -> None:
    """Slope -5 oscillates at any step above 1/3, -0.5 at none, though it steps over its goal."""
    slopes = torch.tensor([-5.0, -0.5, 0.9], dtype=torch.float64).view(3, 1, 1)
    start = torch.ones(3, 1, 1, dtype=torch.float64)
    config = eqprop("config").RelaxConfig(max_steps=200, tol=1e-6)
    failure = eqprop("config").FailureConfig()
    found = eqprop("relaxation").relax(
        lambda x, slope: 1 + slope * x, start, (slopes,), config, failure
    )
    assert not found.failed.any() and found.steps[0] < 40
    goals = [1 / 6, 1 / 1.5, 10.0]
    assert found.x.flatten().tolist() == pytest.approx(goals, rel=1e-4)
    for place, slope in ((1, -0.5), (2, 0.9)):
        x = torch.ones(1, dtype=torch.float64)
        for _ in range(int(found.steps[place])):
            x = x + (1 + slope * x - x)
        assert found.x[place].item() == pytest.approx(x.item(), abs=1e-12), "full steps"


def test_an_energy_that_rose_is_a_failure(eqprop: Modules) -> None:
    start = torch.ones(2, 1, 1, dtype=torch.float64)
    config, failure = eqprop("config").RelaxConfig(), eqprop("config").FailureConfig()
    sign = torch.tensor([1.0, -1.0], dtype=torch.float64).view(2, 1, 1)
    settle = eqprop("relaxation").relax

    def climb(x: Tensor, sign: Tensor) -> Tensor:
        return (sign * (x - 2) ** 2 + sign).flatten()

    arguments = (lambda x, sign: 1 + x / 2, start, (sign,), config)
    assert settle(*arguments, failure, energy=climb).failed.tolist() == [False, True]
    blind = failure.model_copy(update={"energy_rise": None})
    assert settle(*arguments, blind, energy=climb).failed.tolist() == [False, False]


def test_on_the_meta_device_every_step_is_taken(eqprop: Modules, energy_model: Make) -> None:
    model = energy_model().to("meta")
    u = torch.empty(3, 5, 12, dtype=torch.float64, device="meta")
    found = model.settle(u, failure=eqprop("config").FailureConfig())
    assert found.work == 3 * model.config.relax.max_steps
    assert found.x.shape == u.shape


class Looks(TorchDispatchMode):
    """Counts how often Python waits for a value."""

    count = 0

    def __torch_dispatch__(
        self, operator: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if operator.overloadpacket is torch.ops.aten._local_scalar_dense:
            self.count += 1
        return operator(*args, **(kwargs or {}))


def test_python_looks_at_values_every_few_steps(eqprop: Modules, energy_model: Make) -> None:
    model = energy_model()
    u = model.drive(images()).detach()
    config = eqprop("config").RelaxConfig(max_steps=24, tol=0.0)
    with Looks() as looks:
        model.settle(u, config=config)
    assert looks.count == 24 // eqprop("relaxation").CHECK_EVERY


@pytest.mark.parametrize("failure", [None, "usual"])
def test_an_unwatched_relaxation_waits_for_nothing_and_comes_to_the_same(
    eqprop: Modules, energy_model: Make, failure: str | None
) -> None:
    model = energy_model(relax={"max_steps": 40, "tol": 1e-4})
    u = model.drive(images()).detach()
    rule = None if failure is None else eqprop("config").FailureConfig()
    seen = model.settle(u, failure=rule)
    with Looks() as looks:
        blind = model.settle(u, failure=rule, watched=False)
    assert looks.count == 0
    assert blind.work == 40 * len(u) > seen.work
    assert torch.equal(blind.steps, seen.steps) and torch.equal(blind.failed, seen.failed)
    torch.testing.assert_close(blind.x, seen.x, rtol=0, atol=1e-12)


def test_evaluation_equals_training_on_the_way(energy_model: Make) -> None:
    model = energy_model(relax={"max_steps": 60, "tol": 1e-12})
    with torch.no_grad():
        early = model(images(), {})
    late = model(images(), {})
    assert late.requires_grad
    torch.testing.assert_close(early, late.detach(), rtol=0, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_way_that_is_lost_in_rounding_is_not_followed(eqprop: Modules, dtype: Any) -> None:
    """A sample that a nudge hardly moves stops when its steps are roundings of its state."""
    tiny = torch.tensor([1e-3, 8 * torch.finfo(dtype).eps], dtype=dtype).view(2, 1, 1)
    start = torch.ones(2, 1, 1, dtype=dtype)
    config = eqprop("config").RelaxConfig(max_steps=60, tol=1e-2)
    found = eqprop("relaxation").relax(
        lambda x, push: 1 + (x - 1) / 2 + push, start, (tiny,), config, origin=start
    )
    assert found.x[0].item() == pytest.approx(1.002, rel=1e-4), "where there is a way, it is gone"
    assert found.steps[0] == 7 and found.steps[1] <= 2
    endless = config.model_copy(update={"tol": 0.0})
    counted = eqprop("relaxation").relax(
        lambda x, push: 1 + (x - 1) / 2 + push, start, (tiny,), endless, origin=start
    )
    assert (counted.steps == 60).all()
