"""Energies against their definitions written as sums, and forces against autograd."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

Modules = Callable[[str], ModuleType]
Make = Callable[..., Any]
ACTIVATIONS = ["logcosh", "relu2", "softplus2"]


def tokens(samples: int = 4, count: int = 5, width: int = 12, seed: int = 1) -> Tensor:
    draws = torch.Generator().manual_seed(seed)
    return torch.randn(samples, count, width, generator=draws, dtype=torch.float64)


def gradient(value: Tensor, at: Tensor) -> Tensor:
    (found,) = torch.autograd.grad(value.sum(), at)
    return found


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activation_is_the_slope_of_a_convex_potential(eqprop: Modules, activation: str) -> None:
    phi = eqprop("energy").POTENTIALS[activation]
    z = torch.linspace(-8, 8, 4001, dtype=torch.float64)[1:].requires_grad_()  # without the kink
    slope = gradient(phi.value(z), z)
    torch.testing.assert_close(phi.slope(z), slope, rtol=0, atol=1e-12)
    curvature = torch.diff(phi.slope(z.detach())) / (z[1] - z[0])
    assert curvature.min() > -1e-9
    assert curvature.max() < 1.05


def test_potentials_are_the_named_functions(eqprop: Modules) -> None:
    phi = eqprop("energy").POTENTIALS
    z = torch.tensor([-2.0, -0.3, 0.0, 1.7], dtype=torch.float64)
    expected = {
        "logcosh": [math.log(math.cosh(v)) for v in z.tolist()],
        "relu2": [max(v, 0.0) ** 2 / 2 for v in z.tolist()],
        "softplus2": [math.log1p(math.exp(v)) ** 2 / 2 for v in z.tolist()],
    }
    for name, values in expected.items():
        assert phi[name].value(z).tolist() == pytest.approx(values, abs=1e-12)
    assert phi["logcosh"].value(torch.tensor([1e4, -1e4])).isfinite().all()


def test_norm_is_the_gradient_of_the_lagrangian(eqprop: Modules) -> None:
    energy = eqprop("energy")
    x = tokens().requires_grad_()
    gain, shift = torch.tensor(0.8, dtype=torch.float64), tokens(1, 1, seed=2)[0, 0]
    found = gradient(energy.lagrangian(x, gain, shift, 0.3), x)
    mean = x.mean(-1, keepdim=True)
    spread = (((x - mean) ** 2).mean(-1, keepdim=True) + 0.3).sqrt()
    expected = 0.8 * (x - mean) / spread + shift
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(energy.soft_norm(x, gain, shift, 0.3), expected, rtol=0, atol=1e-12)


def test_norm_has_a_symmetric_positive_jacobian_of_bounded_norm(eqprop: Modules) -> None:
    gain, shift = torch.tensor(0.8, dtype=torch.float64), torch.zeros(12, dtype=torch.float64)
    for scale in (1e-3, 1.0, 30.0):
        x = tokens(1, 1)[0, 0] * scale
        jacobian = torch.func.jacrev(lambda v: eqprop("energy").soft_norm(v, gain, shift, 0.25))(x)
        torch.testing.assert_close(jacobian, jacobian.T, rtol=0, atol=1e-12)
        values = torch.linalg.eigvalsh(jacobian)
        assert values.min() > -1e-12
        assert values.max() <= 0.8 / math.sqrt(0.25) + 1e-12


@pytest.mark.parametrize("b", [0.1, 0.5, 3.0])
def test_attention_energy_is_its_sum(eqprop: Modules, b: float) -> None:
    g, weights = tokens(2, 4), tokens(2, 12, 12, seed=3)
    found = eqprop("energy").attention_energy(g, weights, 3, b)
    for sample in range(2):
        total = 0.0
        for head in range(3):
            rows = slice(4 * head, 4 * head + 4)
            queries, keys = g[sample] @ weights[0, rows].T, g[sample] @ weights[1, rows].T
            for c in range(4):
                others = [b * float(keys[k] @ queries[c]) for k in range(4) if k != c]
                total -= math.log(sum(math.exp(other) for other in others)) / b
        assert found[sample].item() == pytest.approx(total, rel=1e-12)


def test_memory_energy_is_its_sum(eqprop: Modules) -> None:
    energy = eqprop("energy")
    g, patterns, thresholds = tokens(2, 3), tokens(1, 7, seed=4)[0], tokens(1, 1, 7, 5)[0, 0]
    mask = torch.tensor([[1.0, 0, 2, 1, 0, 1, 1], [0, 1, 1, 1, 1, 0, 3]], dtype=torch.float64)
    found = energy.memory_energy(
        g, patterns, thresholds, energy.POTENTIALS["relu2"], mask.unsqueeze(1)
    )
    for sample in range(2):
        total = 0.0
        for n in range(3):
            for mu in range(7):
                overlap = float(patterns[mu] @ g[sample, n] + thresholds[mu])
                total -= float(mask[sample, mu]) * max(overlap, 0) ** 2 / 2
        assert found[sample].item() == pytest.approx(total, rel=1e-12)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("attention", [True, False])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("memory", ["attractive", "repulsive"])
def test_force_is_minus_the_gradient_of_the_energy(
    energy_model: Make, memory: str, activation: str, attention: bool, masked: bool
) -> None:
    model = energy_model(activation=activation, attention=attention, memory=memory, readout="mean")
    g = tokens(count=4).requires_grad_()
    mask = (tokens(4, 1, 20, seed=6) > 0).double() * 2 if masked else None
    expected = -gradient(model.interaction(g, mask), g)
    torch.testing.assert_close(model.force(g.detach(), mask), expected, rtol=0, atol=1e-10)
    assert expected.abs().max() > 0.1


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_gradient_of_the_energy_is_the_way_to_the_field(
    energy_model: Make, activation: str
) -> None:
    """dE/dx = M (x - T(x)) with M = dg/dx: the field's fixed points are the stationary points."""
    model = energy_model(activation=activation)
    x, u = tokens().requires_grad_(), tokens(seed=7)
    found = gradient(model.energy(x, u), x)
    away = (x - model.field(x, u)).detach()
    expected = gradient((model.norm(x) * away).sum(), x)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


def test_the_jacobian_of_the_field_has_a_real_spectrum(energy_model: Make) -> None:
    model = energy_model()
    with torch.no_grad():
        model.query_key.mul_(4)
    x, u = tokens(1), tokens(1, seed=7)
    jacobian = torch.func.jacrev(lambda s: model.field(s.view(1, 5, 12), u).flatten())(x.flatten())
    assert (jacobian - jacobian.T).abs().max() > 1e-3, "it is similar to a symmetric one, not equal"
    assert torch.linalg.eigvals(jacobian).imag.abs().max() < 1e-9


def test_attention_sees_other_tokens_alone(eqprop: Modules) -> None:
    weights = tokens(2, 12, 12, seed=3)
    scores = eqprop("energy").attention(tokens(2, 4), weights, 3, 0.5).scores
    shares = scores.softmax(-1)
    assert torch.equal(shares.diagonal(dim1=-2, dim2=-1), torch.zeros(6, 4, dtype=torch.float64))
    torch.testing.assert_close(shares.sum(-1), torch.ones(6, 4, dtype=torch.float64))


def test_samples_and_absent_images_are_alone(energy_model: Make) -> None:
    model = energy_model()
    x, u = tokens(), tokens(seed=7)
    moved = x.clone()
    moved[1:] += 1
    torch.testing.assert_close(model.energy(x, u)[0], model.energy(moved, u)[0])
    torch.testing.assert_close(model.field(x, u)[0], model.field(moved, u)[0])


@pytest.mark.parametrize("readout", ["cls", "mean", "flatten"])
def test_pull_is_the_transposed_readout(energy_model: Make, readout: str) -> None:
    model = energy_model(readout=readout)
    g = tokens(count=model.num_tokens).requires_grad_()
    errors = tokens(1, 4, 10, seed=8)[0]
    expected = gradient(model.head(model.pool(g)) * errors, g)
    torch.testing.assert_close(model.pull(errors), expected, rtol=0, atol=1e-12)


def test_patches_are_tiles_of_the_image(energy_model: Make) -> None:
    model = energy_model()
    image = torch.arange(2 * 64, dtype=torch.float64).view(2, 1, 8, 8)
    patches = model.patches(image)
    assert patches.shape == (2, 4, 16)
    assert torch.equal(patches[1, 2], image[1, 0, 4:, :4].flatten())
    u = model.drive(image)
    assert torch.equal(u[:, 0], model.positions[0].expand(2, -1)), "the extra token sees no pixels"
    torch.testing.assert_close(
        u[1, 3], model.embed.weight @ patches[1, 2] + model.embed.bias + model.positions[3]
    )
