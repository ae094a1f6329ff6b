"""Local gradients against autograd of F at fixed states, parameter by parameter."""

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


def draw(*shape: int, seed: int) -> Tensor:
    draws = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=draws, dtype=torch.float64)


def expected(
    model: Any, cost: Any, x: Tensor, images: Tensor, held: Any, beta: Tensor, weight: Tensor
) -> dict[str, Tensor]:
    """d/dtheta of sum_i weight_i (E + beta_i C)(x_i), the drive included in theta."""
    energy = model.energy(x, model.drive(images), held.mask)
    total = (weight * (energy + beta * cost.value(model.readout(x), held.aim))).sum()
    named = dict(model.named_parameters())
    return dict(zip(named, torch.autograd.grad(total, list(named.values())), strict=True))


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    "fields",
    [
        {"readout": "cls"},
        {"readout": "cls", "cls_tokens": 3, "memory": "repulsive"},
        {"readout": "mean"},
        {"readout": "flatten", "attention": False},
    ],
)
@pytest.mark.parametrize("activation", ["logcosh", "relu2", "softplus2"])
def test_local_gradients_are_those_of_autograd(
    eqprop: Modules, energy_model: Make, activation: str, fields: dict[str, Any], masked: bool
) -> None:
    model = energy_model(activation=activation, **fields)
    cost = eqprop("cost").Cost(0.7, 0.1)
    images, x = draw(6, 1, 8, 8, seed=1), 2 * draw(6, model.num_tokens, 12, seed=2)
    aim = cost.aim(torch.tensor([0, 3, 9, 1, 1, 2]), 10, torch.float64)
    mask = (draw(6, 1, 20, seed=3) > 0).double() * 2 if masked else None
    held = eqprop("local").Held(model.patches(images), model.drive(images).detach(), aim, mask)
    beta, weight = draw(6, seed=4), draw(6, seed=5)
    found = eqprop("local").local_gradients(model, cost, x, held, beta, weight)
    wanted = expected(model, cost, x, images, held, beta, weight)
    assert set(found) == set(wanted)
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient, rtol=0, atol=1e-10, msg=name)
        assert gradient.abs().max() > 1e-2, f"{name} is put to the test"


def test_samples_add_up(eqprop: Modules, energy_model: Make) -> None:
    """Rows of a batch that is held several times are those of its parts."""
    model, cost = energy_model(), eqprop("cost").Cost()
    images, x = draw(3, 1, 8, 8, seed=1), draw(6, 5, 12, seed=2)
    aim = cost.aim(torch.tensor([0, 3, 9]), 10, torch.float64)
    held = eqprop("local").Held(model.patches(images), model.drive(images).detach(), aim, None)
    beta, weight = draw(6, seed=4), draw(6, seed=5)
    local = eqprop("local").local_gradients
    whole = local(model, cost, x, held.repeat(2), beta, weight)
    parts = [local(model, cost, x[r], held, beta[r], weight[r]) for r in (slice(3), slice(3, 6))]
    for name, gradient in whole.items():
        torch.testing.assert_close(gradient, parts[0][name] + parts[1][name], rtol=0, atol=1e-10)


def test_no_graph_is_built(eqprop: Modules, energy_model: Make) -> None:
    model, cost = energy_model(), eqprop("cost").Cost()
    images, x = draw(3, 1, 8, 8, seed=1), draw(3, 5, 12, seed=2)
    aim = cost.aim(torch.tensor([0, 3, 9]), 10, torch.float64)
    held = eqprop("local").Held(model.patches(images), model.drive(images).detach(), aim, None)
    ones = torch.ones(3, dtype=torch.float64)

    class Graphs(TorchDispatchMode):
        def __torch_dispatch__(
            self, operator: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            assert "backward" not in str(operator)
            return operator(*args, **(kwargs or {}))

    saved: list[Tensor] = []
    hooks = torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: saved.append(tensor) or tensor, lambda tensor: tensor
    )
    with hooks, Graphs():
        found = eqprop("local").local_gradients(model, cost, x, held, ones, ones)
    assert not saved
    assert not any(gradient.requires_grad for gradient in found.values())
