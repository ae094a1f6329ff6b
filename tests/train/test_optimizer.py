from __future__ import annotations

import pytest
import torch
from torch import nn

from labctl.builtin import AdamWConfig, SGDConfig
from labctl.errors import PluginError, RunError
from labctl.plans.plan import OptimizerPart
from labctl.recipe.document import ParameterGroup
from labctl.train.optimizer import LearningRate, adamw, parameter_groups, sgd

CPU = torch.device("cpu")


def part(*groups: ParameterGroup, decay: float = 0.1) -> OptimizerPart:
    return OptimizerPart(
        name="adamw", plugin="labctl", config={}, weight_decay=decay, clip_norm=None, groups=groups
    )


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3), nn.Linear(3, 2))


def named(groups: list[dict[str, object]], net: nn.Module) -> dict[str, tuple[float, float]]:
    names = {id(p): name for name, p in net.named_parameters()}
    return {names[id(p)]: (g["lr_scale"], g["weight_decay"]) for g in groups for p in g["params"]}  # type: ignore[attr-defined,misc] # groups are torch's dicts


def test_weight_decay_spares_biases_and_norms_and_the_first_match_counts() -> None:
    net = model()
    half = ParameterGroup(match=("2.*",), lr_scale=0.5)
    late = ParameterGroup(match=("*.bias",), lr_scale=9.0, weight_decay=0.3)
    assert named(parameter_groups(net, part(half, late), CPU), net) == {
        "0.weight": (1.0, 0.1), "0.bias": (9.0, 0.3), "1.weight": (1.0, 0.0), "1.bias": (9.0, 0.3),
        "2.weight": (0.5, 0.1), "2.bias": (0.5, 0.0),
    }  # fmt: skip


def test_a_pattern_that_matches_nothing_is_an_error() -> None:
    with pytest.raises(RunError, match=r"pattern 'dendritic\.\*' matches no parameter"):
        parameter_groups(model(), part(ParameterGroup(match=("dendritic.*",))), CPU)


def test_frozen_parameters_are_left_out() -> None:
    net = model()
    net[0].weight.requires_grad_(False)
    assert "0.weight" not in named(parameter_groups(net, part(), CPU), net)


def test_the_fused_step_with_a_tensor_rate_equals_adamw_written_out() -> None:
    """AdamW, Loshchilov & Hutter 2019, algorithm 2."""
    net = model().double()
    optimizer = adamw(
        AdamWConfig(),
        parameter_groups(net, part(ParameterGroup(match=("0.*",), lr_scale=0.5)), CPU),
    )
    set_lr = LearningRate(optimizer)
    x = torch.randn(5, 4, dtype=torch.float64)
    expected = {name: p.detach().clone() for name, p in net.named_parameters()}
    first = {name: torch.zeros_like(p) for name, p in expected.items()}
    second = {name: torch.zeros_like(p) for name, p in expected.items()}
    for t, rate in enumerate([1e-2, 3e-3, 0.0, 5e-2], 1):
        optimizer.zero_grad()
        torch.autograd.backward(net(x).square().sum())
        set_lr(torch.tensor(rate))
        for name, parameter in net.named_parameters():
            assert parameter.grad is not None
            gradient = parameter.grad.clone()
            lr = float(torch.tensor(rate)) * (0.5 if name.startswith("0.") else 1.0)
            first[name] = 0.9 * first[name] + 0.1 * gradient
            second[name] = 0.999 * second[name] + 0.001 * gradient**2
            decay = 0.1 if parameter.ndim >= 2 else 0.0
            update = (first[name] / (1 - 0.9**t)) / ((second[name] / (1 - 0.999**t)).sqrt() + 1e-8)
            expected[name] = expected[name] * (1 - lr * decay) - lr * update
        optimizer.step()
    for name, parameter in net.named_parameters():
        torch.testing.assert_close(parameter.detach(), expected[name], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_takes_parameters_whose_first_gradient_comes_late(nesterov: bool) -> None:
    """A part of the model that a structural knob leaves out at first: momentum written out."""
    net = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)]).double()
    config = SGDConfig(momentum=0.9, nesterov=nesterov)
    optimizer = sgd(config, parameter_groups(net, part(decay=0.0), CPU))
    set_lr = LearningRate(optimizer)
    torch.manual_seed(1)
    x = torch.randn(5, 4, dtype=torch.float64)
    expected = {name: p.detach().clone() for name, p in net.named_parameters()}
    momenta = {name: torch.zeros_like(p) for name, p in expected.items()}
    for depth in (1, 1, 2, 1, 2):
        optimizer.zero_grad(set_to_none=True)
        y = x
        for layer in list(net)[:depth]:
            y = layer(y)
        torch.autograd.backward(y.square().sum())
        set_lr(torch.tensor(0.01))
        for name, parameter in net.named_parameters():
            if parameter.grad is not None:
                momenta[name] = 0.9 * momenta[name] + parameter.grad
                update = parameter.grad + 0.9 * momenta[name] if nesterov else momenta[name]
                expected[name] = expected[name] - float(torch.tensor(0.01)) * update
        optimizer.step()
    for name, parameter in net.named_parameters():
        torch.testing.assert_close(parameter.detach(), expected[name])


def test_an_optimizer_that_keeps_other_groups_is_refused() -> None:
    model = nn.Linear(2, 2)
    for groups in (
        [{"params": model.parameters(), "lr": 1e-3}],
        [{"params": model.parameters(), "lr": 1e-3, "lr_scale": 1.0}],
    ):
        with pytest.raises(PluginError, match="SGD keeps groups of its own"):
            LearningRate(torch.optim.SGD(groups))
