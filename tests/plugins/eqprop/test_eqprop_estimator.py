"""Estimates against the implicit gradient, solved densely, and the order of their bias."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

Modules = Callable[[str], ModuleType]
Make = Callable[..., Any]
CLASSES = torch.tensor([0, 3, 9, 1])
EXACT: dict[str, Any] = {"max_steps": 500, "tol": 1e-14}


def images(count: int = 4) -> Tensor:
    draws = torch.Generator().manual_seed(1)
    return torch.randn(count, 1, 8, 8, generator=draws, dtype=torch.float64)


def flat(gradients: dict[str, Tensor], names: list[str]) -> Tensor:
    return torch.cat([gradients[name].flatten() for name in names])


def error(ours: dict[str, Tensor], theirs: dict[str, Tensor], *, head: bool = True) -> float:
    names = [name for name in theirs if head or not name.startswith("head.")]
    a, b = flat(ours, names), flat(theirs, names)
    return float((a - b).norm() / b.norm())


def implicit(model: Any, cost: Any, inputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """The gradient of the mean cost at the fixed points, each Jacobian inverted as a matrix."""
    named = dict(model.named_parameters())
    total = {name: torch.zeros_like(parameter) for name, parameter in named.items()}
    for sample in range(len(inputs)):
        image = inputs[sample : sample + 1]
        aim = cost.aim(targets[sample : sample + 1], 10, inputs.dtype)
        x = u = model.drive(image).detach()
        for _ in range(300):
            x = model.field(x, u).detach()
        shape = x.shape
        jacobian = torch.func.jacrev(lambda s, u=u, shape=shape: model.field(s.view(shape), u)
                                     .flatten())(x.flatten())  # fmt: skip
        leaf = x.requires_grad_()
        loss = cost.value(model.readout(leaf), aim).sum()
        pull, *direct = torch.autograd.grad(loss, [leaf, *named.values()], allow_unused=True)
        unit = torch.eye(leaf.numel(), dtype=leaf.dtype)
        adjoint = torch.linalg.solve(unit - jacobian.T, pull.flatten()).view(shape).detach()
        through = torch.autograd.grad(
            (model.field(leaf.detach(), model.drive(image)) * adjoint).sum(),
            list(named.values()),
            allow_unused=True,
        )
        for name, one, other in zip(named, direct, through, strict=True):
            for part in (one, other):
                if part is not None:
                    total[name] += part / len(inputs)
    return total


@pytest.fixture
def case(eqprop: Modules, energy_model: Make) -> Callable[..., Any]:
    """The estimate of a small model at a beta, its options as in a recipe, and the reference."""

    def build(**fields: Any) -> tuple[Callable[..., Any], Callable[[], dict[str, Tensor]]]:
        model = energy_model(**({"activation": "softplus2", "relax": EXACT} | fields))
        with torch.no_grad():
            model.query_key.mul_(2)
        cost = eqprop("cost").Cost(1.0, 0.1)

        def estimate(beta: float, mask: Any = None, **options: Any) -> Any:
            config = eqprop("config").EqPropConfig(**({"nudge": EXACT} | options))
            return eqprop("estimator").estimate(
                model, cost, images(), CLASSES, torch.tensor(beta, dtype=torch.float64), config,
                mask=mask,
            )  # fmt: skip

        return estimate, lambda: implicit(model, cost, images(), CLASSES)

    return build


@pytest.mark.slow
@pytest.mark.parametrize("readout", ["cls", "mean", "flatten"])
@pytest.mark.parametrize("activation", ["logcosh", "relu2", "softplus2"])
def test_a_weak_nudge_gives_the_implicit_gradient(
    case: Callable[..., Any], activation: str, readout: str
) -> None:
    estimate, reference = case(activation=activation, readout=readout)
    found, wanted = estimate(1e-3), reference()
    assert set(found.gradients) == set(wanted)
    names = list(wanted)
    cosine = torch.cosine_similarity(
        flat(found.gradients, names), flat(wanted, names), dim=0
    ).item()
    assert 1 - cosine < 1e-8
    assert error(found.gradients, wanted, head=False) < 1e-5
    for name, gradient in wanted.items():
        assert gradient.norm() > 1e-8
        torch.testing.assert_close(found.gradients[name], gradient, rtol=1e-3, atol=1e-7, msg=name)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("estimator", "low", "high"),
    [("centered", 1.9, 2.1), ("one_sided", 0.9, 1.1), ("random_sign", 0.9, 1.1),
     ("richardson", 3.8, 4.2)],
)  # fmt: skip
def test_the_bias_falls_with_its_power_of_beta(
    case: Callable[..., Any], estimator: str, low: float, high: float
) -> None:
    estimate, reference = case()
    wanted = reference()
    betas = [0.1, 0.2, 0.4] if estimator == "richardson" else [0.01, 0.03, 0.1]
    errors = [error(estimate(beta, estimator=estimator).gradients, wanted) for beta in betas]
    slope = np.polyfit(np.log(betas), np.log(errors), 1)[0]
    assert low < slope < high, (slope, errors)


@pytest.mark.slow
def test_both_signs_of_a_one_sided_contrast_make_a_centered_one(case: Callable[..., Any]) -> None:
    estimate, _ = case()
    plus = estimate(0.1, estimator="random_sign").gradients
    minus = estimate(-0.1, estimator="random_sign").gradients
    centered = estimate(0.1).gradients
    for name, gradient in centered.items():
        torch.testing.assert_close((plus[name] + minus[name]) / 2, gradient, rtol=0, atol=1e-9)
        turned = estimate(-0.1).gradients[name]
        torch.testing.assert_close(turned, gradient, rtol=0, atol=1e-9)


@pytest.mark.parametrize("estimator", ["centered", "one_sided", "richardson"])
def test_branches_can_take_turns(case: Callable[..., Any], estimator: str) -> None:
    estimate, _ = case(relax={"max_steps": 30, "tol": 1e-6})
    nudge = {"max_steps": 20, "tol": 1e-3}
    options = {"estimator": estimator, "nudge": nudge}
    together, in_turn = estimate(0.1, **options), estimate(0.1, sequential=True, **options)
    for name, gradient in together.gradients.items():
        torch.testing.assert_close(in_turn.gradients[name], gradient, rtol=0, atol=1e-12)
    for one, other in zip(together.nudged, in_turn.nudged, strict=True):
        assert torch.equal(one.steps, other.steps)


def test_a_sample_is_nudged_as_if_alone(
    eqprop: Modules, energy_model: Make, case: Callable[..., Any]
) -> None:
    """Neither the others nor their number weaken the nudge: only gradients are averaged."""
    model, cost = energy_model(relax=EXACT), eqprop("cost").Cost()
    config, beta = eqprop("config").EqPropConfig(nudge=EXACT), torch.tensor(0.1).double()
    estimate = eqprop("estimator").estimate
    whole = estimate(model, cost, images(), CLASSES, beta, config)
    parts = [
        estimate(model, cost, images()[i : i + 1], CLASSES[i : i + 1], beta, config)
        for i in range(4)
    ]
    for i, part in enumerate(parts):
        torch.testing.assert_close(whole.nudged[0].x[i], part.nudged[0].x[0], rtol=0, atol=1e-9)
    for name, gradient in whole.gradients.items():
        mean = torch.stack([part.gradients[name] for part in parts]).mean(0)
        torch.testing.assert_close(gradient, mean, rtol=0, atol=1e-9)


def test_the_nudge_moves_states_down_the_cost(eqprop: Modules, case: Callable[..., Any]) -> None:
    estimate, _ = case()
    found = estimate(0.1)
    plus, minus = (relaxed.x for relaxed in found.nudged)
    apart = (plus + minus - 2 * found.free.x).norm() / (plus - minus).norm()
    assert apart < 0.05, "the two branches go opposite ways"


def test_a_frozen_mask_is_the_same_in_every_phase(eqprop: Modules, energy_model: Make) -> None:
    """With the mask kept, leaving patterns out is another model, and its gradient is as exact."""
    model = energy_model(activation="softplus2", relax=EXACT)
    keep = torch.tensor([1.0, 0.0] * 10, dtype=torch.float64)
    cost, config = eqprop("cost").Cost(), eqprop("config").EqPropConfig(nudge=EXACT)
    beta = torch.tensor(0.01, dtype=torch.float64)
    found = eqprop("estimator").estimate(
        model, cost, images(), CLASSES, beta, config, mask=2 * keep.expand(4, 1, -1)
    )
    smaller = energy_model(activation="softplus2", relax=EXACT, hidden=20)
    field = smaller.field
    smaller.field = lambda x, u: field(x, u, 2 * keep.expand(len(x), 1, -1))
    wanted = implicit(smaller, cost, images(), CLASSES)
    assert error(found.gradients, wanted) < 1e-4
    assert (found.gradients["patterns"][1::2] == 0).all()


def test_failed_samples_count_nothing(eqprop: Modules, energy_model: Make) -> None:
    """A relaxation cut short leaves some samples further from rest than others."""
    model, cost = energy_model(relax={"max_steps": 4, "tol": 0.0}), eqprop("cost").Cost()
    residual = model.settle(model.drive(images()).detach()).residual
    failure = {"residual": float(residual.sort().values[2:].mean()), "energy_rise": None}
    config = eqprop("config").EqPropConfig(nudge=EXACT, failure=failure)
    estimate, beta = eqprop("estimator").estimate, torch.tensor(0.1).double()
    # Tried again with half the step, they end further from rest still.
    found = estimate(model, cost, images(), CLASSES, beta, config)
    worst = int(residual.argmax())
    assert found.kept.tolist() == [i != worst for i in range(4)]
    others = [i for i in range(4) if i != worst]
    wanted = estimate(model, cost, images()[others], CLASSES[others], beta, config)
    for name, gradient in wanted.gradients.items():
        torch.testing.assert_close(found.gradients[name], gradient, rtol=0, atol=1e-9)
