"""The one-token system: what it computes, and what its updates are worth."""

from __future__ import annotations

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
def mnist() -> DataSpec:
    return DataSpec("mnist", "1", "image", (1, 28, 28), 10, {"train": 60_000, "test": 10_000})


@pytest.fixture(scope="module")
def seed_model(eqprop: Modules, small_digits: DataSpec) -> Make:
    """A model of seed 0, small and in float64 unless asked otherwise."""
    small = {"embed_dim": 16, "num_heads": 2, "hidden_dim": 32}

    def build(spec: DataSpec = small_digits, draw: int = 0, **fields: Any) -> Any:
        torch.manual_seed(draw)
        config = eqprop("seed_config").SeedConfig(**(small | fields))
        model = eqprop("seed_model").EqPropSeed(config, spec)
        return model.double() if spec is small_digits else model

    return build


def cross_entropy(output: Output, batch: Batch, knobs: Any) -> Tensor:
    return F.cross_entropy(output.logits, batch.targets)


def parts(model: nn.Module, lr: float = 0.0, steps_per_epoch: int = 100) -> LearnerParts:
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    objective = Objective({"cross_entropy": cross_entropy})
    return LearnerParts(
        model, objective, optimizer, lambda rate: None, None, nullcontext, steps_per_epoch
    )


@pytest.fixture(scope="module")
def seed_learner(eqprop: Modules) -> Make:
    def build(model: nn.Module, lr: float = 0.0, **fields: Any) -> Any:
        config = eqprop("seed_config").SeedLearnerConfig(**fields)
        return eqprop("seed_learner").SeedEqProp(config, parts(model, lr))

    return build


def random_batch(model: nn.Module, size: int, shape: tuple[int, ...] = (1, 8, 8)) -> Batch:
    draws = torch.Generator().manual_seed(7)
    inputs = torch.randn(size, *shape, generator=draws, dtype=torch.float64)
    targets = torch.randint(0, 10, (size,), generator=draws)
    return Batch(inputs.to(next(model.parameters())), targets, torch.arange(size))


def knobs(model: nn.Module, beta: float) -> dict[str, Tensor]:
    like = next(model.parameters())
    return {"lr": like.new_tensor(0.0), "beta": like.new_tensor(beta)}


def means(metrics: dict[str, tuple[Tensor, Tensor]]) -> dict[str, float]:
    return {name: float(total / count) for name, (total, count) in metrics.items()}


def update(learner: Any, batch: Batch, beta: float) -> dict[str, Tensor]:
    """The gradient that a step would hand to the optimizer, by parameter."""
    loss, _ = learner.surrogate(batch, knobs(learner.model, beta))
    named = dict(learner.model.named_parameters())
    found = torch.autograd.grad(loss, list(named.values()), materialize_grads=True)
    return dict(zip(named, found, strict=True))


def joined(gradients: dict[str, Tensor]) -> Tensor:
    """Of everything but the head, which any rule trains alike."""
    return torch.cat([g.flatten() for name, g in gradients.items() if not name.startswith("head")])


def cosine(one: Tensor, other: Tensor) -> float:
    return float(F.cosine_similarity(one.flatten(), other.flatten(), dim=0))


def test_attention_to_one_token_does_not_see_the_state(seed_model: Make, mnist: DataSpec) -> None:
    model = seed_model(mnist, embed_dim=256, num_heads=8, hidden_dim=1024)
    drive = model.drive(random_batch(model, 16, (1, 28, 28)).inputs)
    attended = [
        model.attention(torch.randn_like(drive) * scale, model.attention.source(drive))
        for scale in (0, 1, 10)
    ]
    affine = model.attention.out(model.attention.value(drive))
    for one in attended:
        torch.testing.assert_close(one, attended[0], rtol=0, atol=1e-5)
        torch.testing.assert_close(one, affine, rtol=0, atol=1e-5)


def test_attention_to_several_tokens_does(seed_model: Make) -> None:
    model = seed_model()
    drive = torch.randn(3, 4, 16).double()
    one, other = (
        model.attention(torch.randn_like(drive), model.attention.source(drive)) for _ in range(2)
    )
    assert bool((one - other).abs().max() > 1e-3)


def test_linear_attention_is_the_sum_written_out(eqprop: Modules) -> None:
    torch.manual_seed(1)
    queries, keys, values = torch.randn(3, 2, 3, 5, 4).double()
    module = eqprop("seed_model")
    found = module.linear_attention(queries, module.gathered(keys, values))

    def phi(x: Tensor) -> Tensor:
        return torch.where(x > 0, x + 1, x.exp())

    for b in range(2):
        for h in range(3):
            for s in range(5):
                weights = torch.stack([phi(queries[b, h, s]) @ phi(k) for k in keys[b, h]])
                expected = (weights[:, None] * values[b, h]).sum(0) / (weights.sum() + 1e-6)
                torch.testing.assert_close(found[b, h, s], expected)


def test_field_is_the_block_written_out(seed_model: Make) -> None:
    model = seed_model().eval()
    state, drive = torch.randn(2, 3, 1, 16).double()

    def norm(x: Tensor) -> Tensor:
        return (x - x.mean(-1, keepdim=True)) / (
            x.var(-1, unbiased=False, keepdim=True) + 1e-5
        ).sqrt()

    h1 = state + model.attention.out(model.attention.value(drive))
    z = norm(h1) @ model.up.weight.T + model.up.bias
    h2 = h1 + (0.5 * z * (1 + torch.erf(z / 2**0.5))) @ model.down.weight.T + model.down.bias
    torch.testing.assert_close(model.field(drive)(state), norm(h2), rtol=1e-5, atol=1e-5)


def test_phase_ends_for_all_when_the_worst_has_settled(eqprop: Modules) -> None:
    config = eqprop("seed_config").SeedConfig(damping=0.5, max_steps=50, tol=1e-3, check_every=5)
    start = torch.tensor([1e-6, 1.0]).double().view(2, 1, 1)
    found = eqprop("seed_model").settled(lambda h: h / 2, start, config)
    # |f(h) - h| is h / 2, and h is 0.75^t: at the 25th application 0.75^24 / 2 < 1e-3 for the
    # first time at which it is looked at.
    assert found.steps == 25
    assert float(found.residual) == pytest.approx(0.75**24 / 2)
    torch.testing.assert_close(found.state, start * 0.75**25)
    capped = eqprop("seed_model").settled(
        lambda h: h / 2, start, config.model_copy(update={"max_steps": 7})
    )
    assert capped.steps == 7 and float(capped.residual) == pytest.approx(0.75**6 / 2)


@pytest.mark.parametrize("max_steps", [7, 50])
def test_to_break_off_or_to_stand_still_is_the_same(eqprop: Modules, max_steps: int) -> None:
    config = eqprop("seed_config").SeedConfig(damping=0.5, max_steps=max_steps, tol=1e-3)
    start = torch.tensor([1e-6, 1.0]).double().view(2, 1, 1)
    one, other = (
        eqprop("seed_model").settled(lambda h: h.cos(), start, config, breaks_off=breaks_off)
        for breaks_off in (True, False)
    )
    assert torch.equal(one.state, other.state) and torch.equal(one.residual, other.residual)
    assert one.steps == other.steps == min(max_steps, 10)


def test_forward_relaxes_alike_with_and_without_gradients(seed_model: Make) -> None:
    model = seed_model(tol=0.0, max_steps=12).eval()
    inputs = random_batch(model, 4).inputs
    with torch.no_grad():
        still = model(inputs)
    torch.testing.assert_close(model(inputs), still)


def test_frozen_dropout_keeps_one_mask_for_an_example(seed_model: Make) -> None:
    frozen = seed_model(dropout=0.5, dropout_mode="frozen").train()
    inputs = random_batch(frozen, 4).inputs
    drive = frozen.drive(inputs)
    state = torch.randn_like(drive)
    field = frozen.field(drive)
    assert torch.equal(field(state), field(state))
    assert not torch.equal(frozen.field(drive)(state), field(state)), "drawn anew"
    twice = frozen.field(drive[:1].expand(4, -1, -1))(state[:1].expand(4, -1, -1))
    assert not torch.equal(twice[0], twice[1]), "examples have masks of their own"
    frozen.eval()
    again = frozen.drive(inputs)
    assert torch.equal(frozen.field(again)(state), frozen.field(again)(state))
    moving = seed_model(dropout=0.5, dropout_mode="resampled").train().field(drive)
    assert not torch.equal(moving(state), moving(state))
    still = seed_model(dropout=0.5, dropout_mode="off").train()
    assert torch.equal(still.field(drive)(state), still.eval().field(drive)(state))


def test_nudged_state_is_a_fixed_point_of_the_nudged_field(
    seed_model: Make, seed_learner: Make
) -> None:
    model = contracting(seed_model(dropout_mode="off", max_steps=2000, tol=1e-13))
    learner, given, beta = seed_learner(model), random_batch(model, 5), 0.25
    drive = model.drive(given.inputs).detach()
    field = model.field(drive)
    settled = learner_module(model).settled
    with torch.no_grad():
        found = settled(
            lambda h: learner._nudged(field(h), given, knobs(model, beta)), drive, model.config
        )
        image = field(found.state)
    error = model.readout(image).softmax(-1) - F.one_hot(given.targets, 10)
    pull = (error @ model.head.weight) / len(error)
    torch.testing.assert_close(found.state, image - beta * pull[:, None], rtol=0, atol=1e-11)


def learner_module(model: Any) -> Any:
    """The module that the model's class is in."""
    import sys

    return sys.modules[type(model).__module__]


def contracting(model: Any) -> Any:
    """The model with a field that settles: its second norm hardly passes the state on."""
    with torch.no_grad():
        model.norm3.weight.fill_(0.3)
        for linear in (model.up, model.down):
            linear.weight.mul_(0.5)
    return model


def adjoint_gradient(model: Any, batch: Batch, tol_steps: int = 400) -> dict[str, Tensor]:
    """The gradient of the loss at the free state, through the whole relaxation."""
    drive = model.drive(batch.inputs)
    state = model.start(drive)
    for _ in range(tol_steps):
        state = torch.lerp(state, model.field(drive)(state), 0.8)
    loss = F.cross_entropy(model.readout(state), batch.targets)
    named = dict(model.named_parameters())
    found = torch.autograd.grad(loss, list(named.values()))
    return dict(zip(named, found, strict=True))


@pytest.mark.slow
def test_proxy_is_the_true_update_shrunk_by_half_the_size_of_the_state(
    seed_model: Make, seed_learner: Make
) -> None:
    model = contracting(seed_model(dropout_mode="off", max_steps=2000, tol=1e-14))
    given = random_batch(model, 6)
    proxy = joined(update(seed_learner(model), given, 0.25))
    true = joined(update(seed_learner(model, update="descending_field"), given, 0.25))
    torch.testing.assert_close(proxy, true * 2 / (1 * 6 * 16), rtol=1e-6, atol=1e-12)


@pytest.mark.slow
def test_vector_field_as_it_was_written_ascends_the_loss(
    seed_model: Make, seed_learner: Make
) -> None:
    model = contracting(seed_model(dropout_mode="off", max_steps=2000, tol=1e-14))
    given = random_batch(model, 6)
    written = joined(update(seed_learner(model, update="vector_field"), given, 1e-2))
    mended = joined(update(seed_learner(model, update="descending_field"), given, 1e-2))
    assert torch.equal(written, -mended)
    gradient = joined(adjoint_gradient(model, given))
    assert cosine(mended, gradient) > 0.5 and cosine(written, gradient) < -0.5
    # No approximation of the adjoint is left where the field does not depend on the state: there
    # the mended update is the gradient, in scale too.
    with torch.no_grad():
        model.norm3.weight.fill_(1e-4)
    mended = joined(update(seed_learner(model, update="descending_field"), given, 1e-2))
    torch.testing.assert_close(mended, joined(adjoint_gradient(model, given)), rtol=1e-2, atol=1e-6)


@pytest.mark.slow
def test_steps_along_the_written_field_raise_the_loss(seed_model: Make, seed_learner: Make) -> None:
    def change(kind: str) -> float:
        model = contracting(seed_model(dropout_mode="off", max_steps=400, tol=1e-12))
        model.head.requires_grad_(False)
        learner, given = seed_learner(model, lr=0.3, update=kind), random_batch(model, 6)
        losses = [means(learner.step(given, knobs(model, 0.05)))["loss"] for _ in range(6)]
        return losses[-1] - losses[0]

    assert change("vector_field") > 1e-3
    assert change("descending_field") < -1e-3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "beta", "low", "high"),
    [
        ("resampled", 1e-6, 0.113, 0.122),
        ("resampled", 0.25, 0.113, 0.122),
        ("off", 1e-6, 0.0105, 0.0150),
        ("off", 0.25, 0.0105, 0.0150),
    ],
)
def test_at_the_reported_setting_nudged_and_free_differ_by_noise(
    seed_model: Make, seed_learner: Make, mnist: DataSpec,
    mode: str, beta: float, low: float, high: float,
) -> None:  # fmt: skip
    """Measured before, at another draw: .1165 and .1174 with dropout, .01316 and .01317 without."""
    model = seed_model(mnist, 0, embed_dim=256, num_heads=8, hidden_dim=1024, dropout_mode=mode)
    learner = seed_learner(model.train(), noise=True)
    given = random_batch(model, 128, (1, 28, 28)), knobs(model, beta)
    figures = means(learner.look(*given) | learner.step(*given))
    assert figures["free_steps"] == figures["nudge_steps"] == 50
    assert low < figures["displacement"] < high
    assert figures["displacement"] == pytest.approx(figures["noise"], rel=0.02)
    assert figures["residual"] > 1e-3, "no phase settles"


@pytest.mark.slow
def test_its_gradient_is_far_from_the_true_one(seed_model: Make, seed_learner: Make) -> None:
    """Of ten tokens, width 64, 50 steps in float32.

    The mean of the cosines of single parameters, .35 at one other draw, moves with the draw; over
    draws it is far below 1.
    """
    within, total = [], []
    for draw in range(6):
        torch.manual_seed(draw)
        model = seed_model(
            draw=draw, embed_dim=64, num_heads=4, hidden_dim=256, dropout_mode="off", tol=1e-6
        ).float()
        drive, targets = torch.randn(5, 10, 64), torch.randint(0, 10, (5,))
        model.drive = lambda inputs, drive=drive: drive
        given = Batch(drive, targets, torch.arange(5))
        loss, _ = seed_learner(model).surrogate(given, knobs(model, 1e-3))
        state = model.start(drive)
        for _ in range(50):
            state = torch.lerp(state, model.field(drive)(state), 0.8)
        reference = F.cross_entropy(model.readout(state), targets)
        block = [p for n, p in model.named_parameters() if not n.startswith(("embed", "head"))]
        ours = torch.autograd.grad(loss, block)
        theirs = torch.autograd.grad(reference, block)
        within.append(sum(cosine(a, b) for a, b in zip(ours, theirs, strict=True)) / len(block))
        total.append(cosine(*(torch.cat([g.flatten() for g in each]) for each in (ours, theirs))))
    assert sum(within) / 6 < 0.5 and max(within) < 0.9, within
    assert sum(total) / 6 < 0.5 and max(total) < 0.9, total


def test_noise_is_looked_for_where_it_is_asked_for(seed_model: Make, seed_learner: Make) -> None:
    model = seed_model(max_steps=5)
    given = random_batch(model, 4), knobs(model, 0.2)
    assert seed_learner(model).look(*given) == {}
    assert 0 < means(seed_learner(model, noise=True).look(*given))["noise"] < 1


def test_other_models_are_refused(seed_learner: Make) -> None:
    with pytest.raises(LabctlError, match="architecture eqprop_seed"):
        seed_learner(nn.Linear(2, 2))


def test_what_cannot_be_trained_is_told(eqprop: Modules, small_digits: DataSpec) -> None:
    module = eqprop("seed_config")
    text = DataSpec("chars", "1", "tokens", (256,), 65, {"train": 100})
    fault = module.seed_fault(module.SeedConfig(), text)
    assert fault == "eqprop_seed reads images, and chars holds tokens"
    assert module.seed_fault(module.SeedConfig(), small_digits) is None
    with pytest.raises(ValueError, match="num_heads 1 does, or embed_dim 35"):
        module.SeedConfig(embed_dim=31, num_heads=5)
    (knob,) = module.seed_knobs(module.SeedLearnerConfig(), small_digits)
    assert (knob.name, knob.kind, knob.default) == ("beta", "continuous", 0.25)
    assert knob.fault(0.0) is not None and knob.fault(0.2) is None
