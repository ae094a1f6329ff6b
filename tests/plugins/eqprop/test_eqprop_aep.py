"""Contrast through the transposed field, against implicit differentiation and against itself."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from labctl.api import Batch, DataSpec, LabctlError, LearnerParts, Objective, Output

Modules = Callable[[str], ModuleType]
Make = Callable[..., Any]


@pytest.fixture(scope="module")
def looped_model(eqprop: Modules, small_digits: DataSpec) -> Make:
    """A float64 model of seed 0, of 17 tokens or 16, that relaxes to machine precision."""

    def build(**fields: Any) -> Any:
        torch.manual_seed(0)
        module = eqprop("looped_config")
        relax = eqprop("config").RelaxConfig(max_steps=400, tol=1e-14)
        given = {"patch_size": 2, "embed_dim": 32, "num_heads": 4, "hidden": 64, "relax": relax}
        config = module.LoopedTransformerConfig(**(given | fields))
        model = eqprop("looped_model").LoopedTransformer(config, small_digits).double()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name.endswith("bias") or "norm" in name:
                    parameter.add_(torch.randn_like(parameter), alpha=0.1)
        return model

    return build


def cross_entropy(output: Output, batch: Batch, knobs: Any) -> Tensor:
    return F.cross_entropy(output.logits, batch.targets)


@pytest.fixture(scope="module")
def aep(eqprop: Modules) -> Make:
    def build(model: nn.Module, lr: float = 0.0, **fields: Any) -> Any:
        nudge = eqprop("config").NudgeConfig(max_steps=400, tol=1e-11)
        config = eqprop("looped_config").AepConfig(**({"nudge": nudge} | fields))
        optimizer = torch.optim.SGD(model.parameters(), lr=lr)
        objective = Objective({"cross_entropy": cross_entropy})
        parts = LearnerParts(model, objective, optimizer, lambda rate: None, None, nullcontext, 1)
        return eqprop("aep").Aep(config, parts)

    return build


@pytest.fixture(scope="module")
def images() -> Batch:
    draws = torch.Generator().manual_seed(3)
    inputs = torch.randn(8, 1, 8, 8, generator=draws, dtype=torch.float64)
    return Batch(inputs, torch.randint(0, 10, (8,), generator=draws), torch.arange(8))


def knobs(beta: float) -> dict[str, Tensor]:
    return {"lr": torch.tensor(0.0).double(), "beta": torch.tensor(beta).double()}


def estimate(learner: Any, batch: Batch, beta: float) -> dict[str, Tensor]:
    loss, _ = learner.surrogate(batch, knobs(beta))
    named = dict(learner.model.named_parameters())
    found = torch.autograd.grad(loss, list(named.values()))
    return dict(zip(named, found, strict=True))


def joined(gradients: dict[str, Tensor], *, head: bool) -> Tensor:
    """One vector; without the read-out, which needs no adjoint, unless asked for."""
    own = ("head", "norm.")
    return torch.cat([g.flatten() for n, g in gradients.items() if head or not n.startswith(own)])


def cosine(one: Tensor, other: Tensor) -> float:
    return float(F.cosine_similarity(one, other, dim=0))


def error(one: Tensor, other: Tensor) -> float:
    return float((one - other).norm() / other.norm())


@pytest.mark.parametrize("fields", [{}, {"depth": 1}, {"readout": "flatten"}, {"readout": "mean"}])
def test_estimate_is_the_implicit_gradient(
    eqprop: Modules, looped_model: Make, aep: Make, images: Batch, fields: dict[str, Any]
) -> None:
    model = looped_model(**fields)
    true = eqprop("reference").implicit(model, images.inputs, images.targets)
    assert true.residual < 1e-11 and true.adjoint_residual < 1e-11
    exact = estimate(aep(model), images, 1e-3)
    assert 1 - cosine(joined(exact, head=True), joined(true.gradients, head=True)) < 1e-12
    for name, gradient in exact.items():
        if true.gradients[name].norm() > 1e-12:
            alike = cosine(gradient.flatten(), true.gradients[name].flatten())
            assert alike > 1 - 1e-8, f"{name}: {alike}"
    assert error(joined(exact, head=False), joined(true.gradients, head=False)) < 1e-6


def test_without_the_transposition_an_error_stays_however_small_the_nudge(
    eqprop: Modules, looped_model: Make, aep: Make, images: Batch
) -> None:
    model = looped_model()
    true = joined(
        eqprop("reference").implicit(model, images.inputs, images.targets).gradients, head=False
    )
    for beta in (1e-4, 1e-2):
        plain = joined(estimate(aep(model, correction=False), images, beta), head=False)
        assert 0.9 < cosine(plain, true) < 0.995
        assert error(plain, true) > 0.05


def test_error_is_of_second_order_in_the_nudge(
    eqprop: Modules, looped_model: Make, aep: Make, images: Batch
) -> None:
    model = looped_model()
    true = joined(
        eqprop("reference").implicit(model, images.inputs, images.targets).gradients, head=False
    )
    strong, weak = (
        error(joined(estimate(aep(model), images, beta), head=False), true) for beta in (0.4, 0.04)
    )
    assert math.log10(strong / weak) == pytest.approx(2, abs=0.1)


def test_products_are_those_of_the_jacobian(
    eqprop: Modules, looped_model: Make, images: Batch
) -> None:
    model = looped_model(patch_size=4, embed_dim=8, hidden=12)
    drive = model.drive(images.inputs[:1]).detach()
    state = torch.randn_like(drive)
    linear = eqprop("aep").Linearised(model, state, drive)
    size = state.numel()
    jacobian = torch.autograd.functional.jacobian(lambda x: model.field(x, drive), state)
    jacobian = jacobian.reshape(size, size)
    assert float((jacobian - jacobian.T).norm() / jacobian.norm()) > 0.1, "no energy"
    for _ in range(2):  # what is kept serves more than once
        vector = torch.randn_like(state)
        pushed = (jacobian @ vector.flatten()).view_as(state)
        pulled = (jacobian.T @ vector.flatten()).view_as(state)
        torch.testing.assert_close(linear.push(vector), pushed)
        torch.testing.assert_close(linear.pull(vector), pulled)


def test_field_is_the_input_and_what_the_branches_add(looped_model: Make, images: Batch) -> None:
    model = looped_model(depth=1)
    drive, block = model.drive(images.inputs), model.blocks[0]
    state = torch.randn_like(drive)
    attention = nn.MultiheadAttention(32, 4, batch_first=True).double()
    with torch.no_grad():
        maps = (block.query, block.key, block.value)
        attention.in_proj_weight.copy_(torch.cat([linear.weight for linear in maps]))
        attention.in_proj_bias.copy_(torch.cat([linear.bias for linear in maps]))
        attention.out_proj.load_state_dict(block.out.state_dict())
    normed = block.norm1(state)
    attended = attention(normed, normed, normed, need_weights=False)[0]
    fed = block.down(F.gelu(block.up(block.norm2(state + attended))))
    torch.testing.assert_close(model.field(state, drive), drive + attended + fed)


def test_drive_is_a_patch_times_a_matrix(looped_model: Make, images: Batch) -> None:
    model = looped_model(readout="cls")
    drive = model.drive(images.inputs)
    weight = model.embed.weight.flatten(1)
    for row in range(4):
        for column in range(4):
            patch = images.inputs[:, 0, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
            token = 1 + 4 * row + column
            expected = patch.flatten(1) @ weight.T + model.embed.bias + model.positions[token]
            torch.testing.assert_close(drive[:, token], expected)
    torch.testing.assert_close(drive[:, 0], model.positions[0].expand(8, -1))


@pytest.mark.slow
def test_forward_relaxes_alike_with_and_without_gradients(
    looped_model: Make, images: Batch
) -> None:
    model = looped_model()
    with torch.no_grad():
        still = model(images.inputs)
    torch.testing.assert_close(model(images.inputs), still, rtol=0, atol=1e-10)


@pytest.mark.slow
def test_weights_stay_within_their_norm(looped_model: Make, aep: Make, images: Batch) -> None:
    model = looped_model(max_norm=0.5)
    learner = aep(model, lr=0.5)
    for _ in range(3):
        learner.step(images, knobs(0.05))
    for block in model.blocks:
        for linear in block.linears():
            assert float(torch.linalg.matrix_norm(linear.weight.detach(), 2)) < 0.5 * 1.01
    free = looped_model(max_norm=None)
    with torch.no_grad():
        free.blocks[0].up.weight.mul_(3)
    before = free.blocks[0].up.weight.detach().clone()
    aep(free).step(images, knobs(0.05))
    assert torch.equal(free.blocks[0].up.weight, before)


@pytest.mark.slow
def test_steps_lower_the_loss_and_tell_of_the_phases(
    looped_model: Make, aep: Make, images: Batch
) -> None:
    learner = aep(looped_model(), lr=0.2)
    losses = []
    for _ in range(8):
        metrics = learner.step(images, knobs(0.05))
        figures = {name: float(total / count) for name, (total, count) in metrics.items()}
        losses.append(figures["loss"])
    assert losses[-1] < 0.8 * losses[0]
    assert 0 < figures["nudge_steps"] < 400 and 0 < figures["free_steps"] < 400
    assert figures["residual"] < 1e-13 and 0 < figures["displacement"] < 0.1
    other = aep(looped_model())
    other.load_state_dict(learner.state_dict())
    assert all(
        torch.equal(a, b)
        for a, b in zip(
            other.state_dict()["limits"]["directions"],
            learner.state_dict()["limits"]["directions"],
            strict=True,
        )
    )


def test_examples_that_do_not_come_to_rest_leave_the_blocks_alone(
    looped_model: Make, aep: Make, images: Batch
) -> None:
    model = looped_model(max_norm=None, relax={"max_steps": 3})
    with torch.no_grad():
        for linear in model.blocks[0].linears():
            linear.weight.mul_(30)
    gradients = estimate(aep(model), images, 0.05)
    metrics = aep(model).surrogate(images, knobs(0.05))[1]
    assert metrics["failed"][0] == metrics["failed"][1] == 8
    assert not joined(gradients, head=False).any()
    assert gradients["head.weight"].isfinite().all() and gradients["head.weight"].any()


def test_other_models_are_refused(aep: Make) -> None:
    with pytest.raises(LabctlError, match="architecture looped_transformer"):
        aep(nn.Linear(2, 2))
