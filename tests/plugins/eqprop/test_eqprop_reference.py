"""The gradients that estimates are held against, held against dense linear algebra themselves."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from labctl.api import Batch, LabctlError, LearnerParts, Objective, Output

Modules = Callable[[str], ModuleType]
FAR = 400
"""Steps after which the models here have converged to rounding."""


class TanhLoop(nn.Module):
    """x <- W tanh(x) + u per example: a fixed point without symmetry, of Jacobian W diag(...)."""

    def __init__(self, gain: float, *, width: int = 6, tokens: int = 2) -> None:
        super().__init__()
        draws = torch.Generator().manual_seed(3)
        size = width * tokens
        weight = torch.randn(size, size, generator=draws, dtype=torch.float64)
        self.weight = nn.Parameter(gain * weight / torch.linalg.matrix_norm(weight, 2))
        self.embed = nn.Parameter(torch.randn(4, size, generator=draws, dtype=torch.float64))
        self.head = nn.Parameter(torch.randn(size, 3, generator=draws, dtype=torch.float64))
        self.unused = nn.Parameter(torch.ones(2, dtype=torch.float64))
        self.tokens = tokens

    def drive(self, inputs: Tensor) -> Tensor:
        return (inputs @ self.embed).unflatten(1, (self.tokens, -1))

    def start(self, drive: Tensor) -> Tensor:
        return drive

    def field(self, state: Tensor, drive: Tensor, mask: Tensor | None = None) -> Tensor:
        image = state.flatten(1).tanh() @ self.weight.T
        return drive + image.view_as(state)

    def readout(self, state: Tensor) -> Tensor:
        return state.flatten(1).tanh() @ self.head


@pytest.fixture(scope="module")
def reference(eqprop: Modules) -> ModuleType:
    return eqprop("reference")


@pytest.fixture(scope="module")
def batch() -> tuple[Tensor, Tensor]:
    draws = torch.Generator().manual_seed(5)
    inputs = torch.randn(5, 4, generator=draws, dtype=torch.float64)
    return inputs, torch.arange(5) % 3


def dense_gradients(model: TanhLoop, inputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """The implicit gradient with (I - J)^T of every example written out and factorised."""
    drive = model.drive(inputs)
    with torch.no_grad():
        point = drive
        for _ in range(4000):
            point = model.field(point, drive)
    leaf = point.detach().requires_grad_()
    logits = model.readout(leaf)
    loss = nn.functional.cross_entropy(logits, targets)
    upstream = torch.autograd.grad(loss, leaf, retain_graph=True)[0]
    size = leaf[0].numel()
    adjoint = torch.empty(len(inputs), size, dtype=torch.float64)
    for row in range(len(inputs)):

        def alone(state: Tensor, row: int = row) -> Tensor:
            image = model.field(state.view(1, *leaf.shape[1:]), drive[row : row + 1].detach())
            return image.flatten()

        jacobian = torch.autograd.functional.jacobian(alone, point[row].flatten())
        system = (torch.eye(size, dtype=torch.float64) - jacobian).T
        adjoint[row] = torch.linalg.solve(system, upstream[row].flatten())
    image = model.field(point, drive)
    product = (adjoint.view_as(image).detach() * image).sum()
    named = dict(model.named_parameters())
    direct = torch.autograd.grad(loss, list(named.values()), materialize_grads=True)
    through = torch.autograd.grad(product, list(named.values()), materialize_grads=True)
    return {name: a + b for name, a, b in zip(named, direct, through, strict=True)}


def apart(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> float:
    """|a - b| / |b| over all parameters."""
    assert ours.keys() == theirs.keys()
    difference = sum(float((ours[n] - theirs[n]).square().sum()) for n in ours)
    return math.sqrt(difference / sum(float(theirs[n].square().sum()) for n in ours))


def test_implicit_is_the_dense_solution(
    reference: ModuleType, batch: tuple[Tensor, Tensor]
) -> None:
    model = TanhLoop(0.9)
    found = reference.implicit(model, *batch, tol=1e-13)
    assert apart(found.gradients, dense_gradients(model, *batch)) < 1e-10
    assert float(found.residual) <= 1e-13 and float(found.adjoint_residual) <= 1e-13
    assert float(found.gradients["unused"].abs().max()) == 0
    loss = nn.functional.cross_entropy(found.logits, batch[1])
    assert float(found.loss) == pytest.approx(float(loss), rel=1e-14)


def test_the_adjoint_is_solved_where_its_iteration_does_not_contract(
    reference: ModuleType, batch: tuple[Tensor, Tensor]
) -> None:
    """J of radius above 1 at an unstable point: only a linear solver finds the adjoint."""
    model = TanhLoop(1.0)
    rotation = torch.linalg.qr(torch.randn(12, 12, generator=torch.Generator().manual_seed(1)))[0]
    matrix = 1.7 * rotation.double()
    upstream = torch.randn(5, 2, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(2))

    def pulled(vector: Tensor) -> Tensor:
        return (vector.flatten(1) @ matrix).view_as(vector)

    found = reference.adjoint(pulled, upstream, tol=1e-12, max_steps=50)
    system = torch.eye(12, dtype=torch.float64) - matrix.T
    expected = torch.linalg.solve(system, upstream.flatten(1).T).T.view_as(upstream)
    assert float(found.residual) < 1e-12
    torch.testing.assert_close(found.value, expected, rtol=1e-10, atol=1e-10)

    slow = reference.implicit(model, *batch, tol=1e-13, max_steps=8)
    assert float(slow.residual) > 1e-13, "the cap was meant to stop the relaxation"
    assert float(slow.adjoint_residual) < 1e-12, "the adjoint does not hang on the same cap"


def test_gmres_solves_each_example_alone(eqprop: Modules) -> None:
    """Also examples whose Krylov space is smaller than that of others, or whose right side is 0."""
    draws = torch.Generator().manual_seed(0)
    matrices = torch.randn(4, 7, 7, generator=draws, dtype=torch.float64)
    matrices[0] = 2 * torch.eye(7, dtype=torch.float64)
    right = torch.randn(4, 7, generator=draws, dtype=torch.float64)
    right[1] = 0
    value, residual = eqprop("krylov").gmres(
        lambda v: torch.einsum("bij,bj->bi", matrices, v), right, torch.zeros_like(right), tol=1e-12
    )
    torch.testing.assert_close(value, torch.linalg.solve(matrices, right), rtol=1e-8, atol=1e-10)
    assert float(residual.max()) < 1e-10


def test_gmres_restarts(eqprop: Modules) -> None:
    draws = torch.Generator().manual_seed(0)
    matrix = torch.eye(30, dtype=torch.float64)
    matrix += 0.1 * torch.randn(30, 30, generator=draws, dtype=torch.float64)
    right = torch.randn(2, 30, generator=draws, dtype=torch.float64)
    value, residual = eqprop("krylov").gmres(
        lambda v: v @ matrix.T, right, torch.zeros_like(right), tol=1e-11, restart=8
    )
    torch.testing.assert_close(value, torch.linalg.solve(matrix, right.T).T, rtol=1e-9, atol=1e-10)
    assert float(residual.max()) < 1e-11


def test_bptt_through_many_steps_is_the_implicit_gradient(
    reference: ModuleType, batch: tuple[Tensor, Tensor]
) -> None:
    model = TanhLoop(0.9)
    exact = reference.implicit(model, *batch, tol=1e-14)
    distances = [
        apart(reference.bptt(model, *batch, steps=steps).gradients, exact.gradients)
        for steps in (1, 10, FAR)
    ]
    assert distances[0] > 1e-2 > distances[1] > 1e-4 and distances[2] < 1e-12


@pytest.mark.parametrize("step_size", [1.0, 0.6])
def test_bptt_is_autograd_through_the_steps(
    reference: ModuleType, batch: tuple[Tensor, Tensor], step_size: float
) -> None:
    model = TanhLoop(0.9)
    drive = model.drive(batch[0])
    state = drive
    for _ in range(7):
        state = (1 - step_size) * state + step_size * model.field(state, drive)
    nn.functional.cross_entropy(model.readout(state), batch[1]).backward()
    found = reference.bptt(model, *batch, steps=7, step_size=step_size)
    for name in ("weight", "embed", "head"):
        expected = model.get_parameter(name).grad
        torch.testing.assert_close(found.gradients[name], expected, rtol=1e-12, atol=1e-14)
    assert found.adjoint_residual is None and float(found.residual) > 1e-6


@pytest.mark.parametrize("steps", [0, 1, 5, 16, 17])
def test_checkpoints_change_no_gradient(
    reference: ModuleType, batch: tuple[Tensor, Tensor], steps: int
) -> None:
    model = TanhLoop(0.9)
    plain = reference.bptt(model, *batch, steps=steps)
    kept = reference.bptt(model, *batch, steps=steps, checkpointed=True)
    assert apart(kept.gradients, plain.gradients) < 1e-15


def test_a_segment_is_the_root_of_the_steps(reference: ModuleType) -> None:
    assert [reference.segment_length(steps) for steps in (0, 1, 4, 50, 100)] == [1, 1, 2, 8, 10]


def test_no_step_is_a_linear_classifier_of_the_drive(
    reference: ModuleType, batch: tuple[Tensor, Tensor]
) -> None:
    model = TanhLoop(0.9)
    found = reference.bptt(model, *batch, steps=0)
    torch.testing.assert_close(found.logits, model.readout(model.drive(batch[0])))
    assert float(found.gradients["weight"].abs().max()) == 0


def test_implicit_does_not_depend_on_the_step_size(
    reference: ModuleType, batch: tuple[Tensor, Tensor]
) -> None:
    model: Any = TanhLoop(0.9)
    whole = reference.implicit(model, *batch)
    half = reference.implicit(model, *batch, step_size=0.5)
    assert apart(half.gradients, whole.gradients) < 1e-10


def smoothed(output: Output, batch: Batch, knobs: Mapping[str, Any]) -> Tensor:
    return nn.functional.cross_entropy(output.logits, batch.targets, label_smoothing=0.1)


@pytest.fixture
def learning(energy_model: Callable[..., Any]) -> Callable[..., tuple[LearnerParts, Batch]]:
    """Parts of a learner whose steps leave the gradient behind, scaled, as a change of weights."""

    def build(**relax: Any) -> tuple[LearnerParts, Batch]:
        model = energy_model(patch_size=2)
        model.config = model.config.model_copy(
            update={"relax": model.config.relax.model_copy(update=relax)}
        )
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
        parts = LearnerParts(
            model, Objective({"ce": smoothed}), optimizer, lambda lr: None, None, nullcontext, 1
        )
        draws = torch.Generator().manual_seed(0)
        inputs = torch.randn(6, 1, 8, 8, generator=draws, dtype=torch.float64)
        return parts, Batch(inputs, torch.arange(6), torch.arange(6))

    return build


FREE = {"memory_norm": None, "attention_norm": None, "max_gain": None}
"""Limits that limit nothing, so that a step is the gradient alone."""


def moved(card: Any, config: dict[str, Any], parts: LearnerParts, batch: Batch) -> Any:
    """What one step adds to each weight, and its metrics."""
    before = {name: p.detach().clone() for name, p in parts.model.named_parameters()}
    learner = card.build(card.config(contraction=FREE, **config), parts)
    metrics = learner.step(batch, {"lr": torch.tensor(1e-3)})
    after = parts.model.named_parameters()
    return {name: p.detach() - before[name] for name, p in after}, metrics


@pytest.mark.parametrize("checkpoint", [False, True])
def test_learner_bptt_descends_the_objective_through_the_steps(
    eqprop_card: Callable[[str], Any], learning: Callable[..., Any], checkpoint: bool
) -> None:
    """The recipe's own objective, smoothing included, of exactly so many damped steps."""
    parts, batch = learning(max_steps=7, step_size=0.8)
    loss, _ = parts.objective(parts.model, batch, {})
    loss.backward()
    expected = {name: -1e-3 * p.grad for name, p in parts.model.named_parameters()}
    parts.model.zero_grad()
    step, metrics = moved(eqprop_card("bptt"), {"checkpoint": checkpoint}, parts, batch)
    assert apart(step, expected) < 1e-9
    assert float(metrics["loss"][0] / metrics["loss"][1]) == pytest.approx(loss.item(), rel=1e-6)
    assert float(metrics["free_steps"][0]) == 7
    assert metrics["residual"][0].isfinite() and "adjoint_residual" not in metrics


def test_learner_implicit_descends_the_objective_at_the_fixed_point(
    eqprop_card: Callable[[str], Any], learning: Callable[..., Any]
) -> None:
    parts, batch = learning(max_steps=300, tol=0.0)
    loss, _ = parts.objective(parts.model, batch, {})
    loss.backward()
    expected = {name: -1e-3 * p.grad for name, p in parts.model.named_parameters()}
    parts.model.zero_grad()
    step, metrics = moved(eqprop_card("implicit"), {"tol": 1e-12, "max_steps": 500}, parts, batch)
    assert apart(step, expected) < 1e-8
    assert float(metrics["residual"][0]) <= 1e-12
    assert float(metrics["adjoint_residual"][0]) <= 1e-12


@pytest.mark.parametrize("name", ["bptt", "implicit"])
def test_learners_keep_the_limits_of_equilibrium_propagation(
    eqprop_card: Callable[[str], Any], learning: Callable[..., Any], name: str
) -> None:
    parts, batch = learning(max_steps=5)
    model: Any = parts.model
    with torch.no_grad():
        model.patterns.mul_(4)
        model.gain.fill_(3.0)
    card = eqprop_card(name)
    learner = card.build(card.config(), parts)
    learner.step(batch, {"lr": torch.tensor(1e-3)})
    assert torch.linalg.matrix_norm(model.patterns, 2).item() == pytest.approx(1, abs=0.02)
    assert model.gain.item() == 1
    again = card.build(card.config(), parts)
    again.load_state_dict(learner.state_dict())
    torch.testing.assert_close(again.limits.directions, learner.limits.directions)


@pytest.mark.parametrize("name", ["bptt", "implicit"])
def test_dropout_is_one_mask_for_all_steps(
    eqprop_card: Callable[[str], Any], learning: Callable[..., Any], name: str
) -> None:
    """With a mask redrawn at each step the state would never come to rest."""
    parts, batch = learning(max_steps=200)
    parts.model.config = parts.model.config.model_copy(update={"dropout": 0.5})
    parts.model.train()
    torch.manual_seed(0)
    config = {"tol": 1e-9, "max_steps": 300} if name == "implicit" else {}
    step, metrics = moved(eqprop_card(name), config, parts, batch)
    assert float(metrics["residual"][0]) < 1e-8
    assert float(step["patterns"].abs().max()) > 0


def test_learners_say_which_models_they_are_for(
    eqprop_card: Callable[[str], Any], learning: Callable[..., Any]
) -> None:
    parts, _ = learning()
    linear = nn.Linear(2, 2)
    for name in ("bptt", "implicit"):
        card = eqprop_card(name)
        other = LearnerParts(
            linear, parts.objective, parts.optimizer, parts.set_lr, None, nullcontext, 1
        )
        with pytest.raises(LabctlError, match="for models that relax to a fixed point"):
            card.build(card.config(), other)
