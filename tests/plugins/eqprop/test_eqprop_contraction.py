"""Limits of the weights against singular values, and the measured radius against eigenvalues."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

Modules = Callable[[str], ModuleType]
Make = Callable[..., Any]


def norms(model: Any) -> list[float]:
    """Spectral norms of patterns, queries, keys."""
    matrices = [model.patterns, *model.query_key]
    return [torch.linalg.matrix_norm(matrix, 2).item() for matrix in matrices]


def grown(energy_model: Make, factor: float) -> Any:
    model = energy_model()
    draws = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for weights in (model.patterns, model.query_key):
            noise = torch.randn(weights.shape, generator=draws, dtype=weights.dtype)
            weights.add_(noise).mul_(factor)
    return model


def test_power_iteration_finds_the_largest_singular_values(eqprop: Modules) -> None:
    draws = torch.Generator().manual_seed(0)
    matrices = torch.randn(3, 20, 12, generator=draws, dtype=torch.float64)
    start = torch.ones(3, 12, dtype=torch.float64)
    found, vectors = eqprop("contraction").largest_singular(matrices, start, 200)
    torch.testing.assert_close(found, torch.linalg.svdvals(matrices)[:, 0], rtol=1e-6, atol=0)
    assert (vectors.norm(dim=1) - 1).abs().max() < 1e-12


def test_what_outgrew_its_limit_is_scaled_to_it(eqprop: Modules, energy_model: Make) -> None:
    model = grown(energy_model, 3.0)
    with torch.no_grad():
        model.gain.fill_(1.7)
    patterns = model.patterns.detach().clone()
    contraction = eqprop("contraction").Contraction(model, eqprop("config").ContractionConfig())
    contraction.apply()
    assert norms(model) == pytest.approx([1.0, 0.5, 0.5], rel=1e-3)
    assert model.gain.item() == 1.0
    ratio = model.patterns / patterns
    torch.testing.assert_close(ratio, ratio[0, 0].expand_as(ratio))


def test_limits_hold_while_weights_move(eqprop: Modules, energy_model: Make) -> None:
    """A few power iterations after each step follow the largest direction."""
    model = grown(energy_model, 3.0)
    contraction = eqprop("contraction").Contraction(model, eqprop("config").ContractionConfig())
    draws, worst = torch.Generator().manual_seed(1), 0.0
    for _ in range(40):
        with torch.no_grad():
            for weights in (model.patterns, model.query_key):
                noise = torch.randn(weights.shape, generator=draws, dtype=weights.dtype)
                weights.add_(noise, alpha=0.005)
        contraction.apply()
        ratios = [norm / limit for norm, limit in zip(norms(model), (1, 0.5, 0.5), strict=True)]
        worst = max(worst, *ratios)
    assert 0.99 < worst < 1.03


def test_what_is_within_its_limits_is_left_alone(eqprop: Modules, energy_model: Make) -> None:
    model = grown(energy_model, 0.02)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    contraction = eqprop("contraction").Contraction(model, eqprop("config").ContractionConfig())
    contraction.apply()
    contraction.decay(torch.tensor(False), torch.tensor(0.1))
    assert contraction.calm(lambda: torch.tensor(0.95)) == 1
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_limits_can_be_lifted(eqprop: Modules, energy_model: Make) -> None:
    model = grown(energy_model, 3.0)
    with torch.no_grad():
        model.gain.fill_(1.7)
    before = norms(model)
    config = eqprop("config").ContractionConfig(
        memory_norm=None, attention_norm=None, max_gain=None
    )
    eqprop("contraction").Contraction(model, config).apply()
    assert norms(model) == before and model.gain.item() == pytest.approx(1.7)


def test_decay_is_of_what_makes_the_radius(eqprop: Modules, energy_model: Make) -> None:
    model = energy_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    config = eqprop("config").ContractionConfig(decay=5.0)
    eqprop("contraction").Contraction(model, config).decay(torch.tensor(True), torch.tensor(0.02))
    for name, value in model.state_dict().items():
        factor = 0.9 if name in ("patterns", "query_key") else 1.0
        torch.testing.assert_close(value, before[name] * factor)


@pytest.mark.slow
def test_a_radius_that_is_too_large_is_brought_back(eqprop: Modules, energy_model: Make) -> None:
    """Against the radius that the probe measures."""
    model = grown(energy_model, 1.5)
    inputs = torch.randn(8, 1, 8, 8, generator=torch.Generator().manual_seed(4)).double()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    config = eqprop("config").ContractionConfig(max_radius=0.5)
    contraction = eqprop("contraction").Contraction(model, config)

    def radius() -> Tensor:
        return eqprop("probe").largest_radius(model, inputs, 200)

    assert radius() > 0.8
    factor = contraction.calm(radius)
    assert 0.4 < radius() <= 0.5, "within the limit, and not much further"
    torch.testing.assert_close(model.patterns.detach(), before["patterns"] * factor)
    torch.testing.assert_close(model.query_key.detach(), before["query_key"] * factor)
    assert torch.equal(model.embed.weight, before["embed.weight"])


def test_a_radius_that_is_no_number_is_left(eqprop: Modules, energy_model: Make) -> None:
    model = energy_model()
    contraction = eqprop("contraction").Contraction(model, eqprop("config").ContractionConfig())
    assert contraction.calm(lambda: torch.tensor(float("nan"))) == 1


@pytest.mark.slow
@pytest.mark.parametrize("step_size", [1.0, 0.3])
def test_radius_is_the_largest_eigenvalue(
    eqprop: Modules, energy_model: Make, step_size: float
) -> None:
    model = grown(energy_model, 0.5)
    draws = torch.Generator().manual_seed(2)
    u = torch.randn(3, 5, 12, generator=draws, dtype=torch.float64)
    x = model.settle(u).x
    found = eqprop("contraction").spectral_radius(model.field, x, (u,), 4000, step_size)
    for sample in range(3):
        drive = u[sample : sample + 1]

        def field(state: Tensor, drive: Tensor = drive) -> Tensor:
            moved: Tensor = model.field(state.view(drive.shape), drive)
            return torch.lerp(state, moved.flatten(), step_size)

        jacobian = torch.func.jacrev(field)(x[sample].flatten())
        expected = torch.linalg.eigvals(jacobian).abs().max().item()
        assert found[sample].item() == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("activation", ["logcosh", "relu2", "softplus2"])
def test_the_limits_bound_the_jacobian(
    eqprop: Modules, energy_model: Make, activation: str
) -> None:
    """|H| <= s_m^2 max Phi'' + 2 s_a^2 (1 + b R^2 s_a^2), and |M| <= gain / sqrt(eps)."""
    model = energy_model(activation=activation, embed_dim=12)
    with torch.no_grad():
        model.patterns.div_(torch.linalg.matrix_norm(model.patterns, 2)).mul_(0.8)
        model.query_key.div_(torch.linalg.matrix_norm(model.query_key, 2).view(2, 1, 1)).mul_(0.3)
        model.shift.zero_()
    b, square = model.config.beta_attention, 0.9**2 * 12
    bound = 0.9 * (0.8**2 * 1.05 + 2 * 0.3**2 * (1 + b * square * 0.3**2))
    assert bound < 1
    draws = torch.Generator().manual_seed(3)
    for scale in (0.0, 0.3, 1.0, 5.0):
        u = scale * torch.randn(4, 5, 12, generator=draws, dtype=torch.float64)
        radius = eqprop("contraction").spectral_radius(model.field, u, (u,), 30)
        assert radius.max() < bound


def test_state_comes_back(eqprop: Modules, energy_model: Make) -> None:
    """Going on from a saved state is going on, bit for bit."""
    models = [grown(energy_model, 3.0) for _ in range(2)]
    config = eqprop("config").ContractionConfig()
    one, other = (eqprop("contraction").Contraction(model, config) for model in models)
    one.apply()
    models[1].load_state_dict(models[0].state_dict())
    other.load_state_dict(one.state_dict())
    for model, contraction in zip(models, (one, other), strict=True):
        with torch.no_grad():
            model.patterns.mul_(1.3)
            model.query_key.mul_(1.1)
        contraction.apply()
    assert torch.equal(models[0].patterns, models[1].patterns)
    assert torch.equal(models[0].query_key, models[1].query_key)
