"""A step of the learner against the same step written out, and what it does in trouble."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from labctl.api import Batch, LabctlError, LearnerParts, Objective, Output
from labctl.train.engine import engine_of

Modules = Callable[[str], ModuleType]
Make = Callable[..., Any]
CLIP = 0.05
EPOCH = 3
CUDA = torch.device("cuda")


def term(output: Output, batch: Batch, knobs: Any) -> Tensor:
    return F.cross_entropy(output.logits.float(), batch.targets, label_smoothing=0.1)


def batch(seed: int = 4) -> Batch:
    draws = torch.Generator().manual_seed(seed)
    inputs = torch.randn(6, 1, 8, 8, generator=draws, dtype=torch.float64)
    return Batch(inputs, torch.tensor([0, 1, 2, 3, 4, 5]), torch.arange(6))


def parts(
    model: nn.Module,
    autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
    names: tuple[str, ...] = ("cross_entropy",),
    clip: float | None = CLIP,
) -> LearnerParts:
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)

    def set_lr(lr: float) -> None:
        optimizer.param_groups[0]["lr"] = lr

    objective = Objective(dict.fromkeys(names, term))
    return LearnerParts(model, objective, optimizer, set_lr, clip, autocast, EPOCH)


def knobs(beta: float = 0.05) -> dict[str, Any]:
    return {"lr": torch.tensor(0.3), "beta": torch.tensor(beta)}


@pytest.fixture
def learner(eqprop: Modules, eqprop_card: Callable[[str], Any]) -> Callable[..., Any]:
    """The learner of a model, with options as in a recipe."""

    def build(model: nn.Module, wrapped: LearnerParts | None = None, **options: Any) -> Any:
        card = eqprop_card("eqprop")
        return card.build(card.config(**options), wrapped or parts(model))

    return build


def test_step_is_the_one_written_out(
    eqprop: Modules, energy_model: Make, learner: Callable[..., Any]
) -> None:
    model, twin = energy_model().train(), energy_model().train()
    subject = learner(model)
    metrics = subject.step(batch(), knobs())

    given, config = batch(), eqprop("config").EqPropConfig()
    cost, beta = eqprop("cost").Cost(1.0, 0.1), torch.tensor(0.05).double()
    found = eqprop("estimator").estimate(twin, cost, given.inputs, given.targets, beta, config)
    norm = torch.stack([g.norm() for g in found.gradients.values()]).norm()
    assert norm > CLIP, "clipping takes part in the comparison"
    with torch.no_grad():
        for name, parameter in twin.named_parameters():
            parameter -= knobs()["lr"] * found.gradients[name] * (CLIP / (norm + 1e-6))
    eqprop("contraction").Contraction(twin, config.contraction).apply()
    for ours, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)

    logits = energy_model()(given.inputs, {}).detach()
    loss = F.cross_entropy(logits, given.targets, label_smoothing=0.1)
    assert (metrics["loss"][0] / metrics["loss"][1]).item() == pytest.approx(loss.item(), rel=1e-5)
    right = (logits.argmax(-1) == given.targets).sum()
    assert metrics["acc"][0] == right and metrics["acc"][1] == 6
    assert metrics["grad_norm"][0].item() == pytest.approx(norm.item(), rel=1e-6)
    assert metrics["free_steps"][0] / metrics["free_steps"][1] == found.free.steps.double().mean()
    assert metrics["failed"][0] == metrics["skipped"][0] == 0
    assert all(parameter.grad is None for parameter in model.parameters())


def test_probe_finds_how_good_the_estimate_is(
    energy_model: Make, learner: Callable[..., Any]
) -> None:
    """With dropout on, which it must not see; and it leaves the model as it was."""
    model = energy_model(dropout=0.3).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    subject = learner(model, probe={"samples": 4})
    found = subject.look(batch(), knobs())
    values = {name: float(total / count) for name, (total, count) in found.items()}
    assert values["probe_cosine"] > 0.9999 and values["probe_cosine_body"] > 0.999
    assert values["probe_error"] < 0.02
    assert 0 < values["spectral_radius"] < 0.95 and values["calmed"] == 1
    assert values["snr"] > 10 and 0 < values["displacement"] < 0.1
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert learner(model, probe={"samples": 0}).look(batch(), knobs()) == {}


def test_a_step_draws_one_mask_a_sample(
    eqprop: Modules, energy_model: Make, learner: Callable[..., Any]
) -> None:
    model = energy_model(dropout=0.5).train()
    seen: list[Tensor] = []
    hidden = model.hidden
    force = model.force
    model.force = lambda g, mask=None: (seen.append(mask), force(g, mask))[1]
    model.hidden = lambda g, mask=None: (seen.append(mask), hidden(g, mask))[1]
    learner(model, probe={"samples": 0}).step(batch(), knobs())
    rows = {tuple(row.tolist()) for mask in seen for row in mask[:, 0]}
    assert len(rows) == 6, "one for each sample, in the free and in both nudged phases"
    assert {value for row in rows for value in row} == {0.0, 2.0}
    assert model.eval().masks(batch().inputs) is None


def test_random_sign_is_drawn_from_the_steps_stream(
    energy_model: Make, learner: Callable[..., Any]
) -> None:
    subject = learner(energy_model(), estimator="random_sign")

    def sign(seed: int) -> float:
        torch.manual_seed(seed)
        return float(subject._sign(torch.zeros(1)))

    signs = [sign(seed) for seed in range(40)]
    assert set(signs) == {1.0, -1.0}
    assert signs == [sign(seed) for seed in range(40)]
    assert learner(energy_model())._sign(torch.zeros(1)) == 1.0


def test_an_update_that_lost_too_many_samples_is_skipped(
    energy_model: Make, learner: Callable[..., Any]
) -> None:
    model = energy_model(relax={"max_steps": 2, "tol": 0.0}).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    strict = {"residual": 1e-9, "energy_rise": None}
    metrics = learner(model, failure=strict).step(batch(), knobs())
    assert metrics["failed"][0] / metrics["failed"][1] == 1
    assert metrics["skipped"][0] == 1 and metrics["grad_norm"][1] == 0
    # The radius is within its limits, and two steps of two are more than max_busy of them.
    assert metrics["slow"][0] == 1
    for name, value in model.state_dict().items():
        if name not in ("patterns", "query_key"):
            assert torch.equal(value, before[name])
    lenient = learner(model, failure=strict | {"skip_above": 1.0}).step(batch(), knobs())
    assert lenient["skipped"][0] == 0


def test_a_state_that_is_no_number_makes_the_loss_none(
    energy_model: Make, learner: Callable[..., Any]
) -> None:
    model = energy_model().train()
    with torch.no_grad():
        model.patterns.fill_(float("nan"))
    metrics = learner(model, probe={"samples": 0}).step(batch(), knobs())
    assert (metrics["loss"][0] / metrics["loss"][1]).isnan()
    assert metrics["failed"][0] / metrics["failed"][1] == 1
    assert metrics["skipped"][0] == 1


def test_weights_decay_when_relaxation_is_slow(
    energy_model: Make, learner: Callable[..., Any]
) -> None:
    norms = []
    for busy in (0.05, 1.5):
        model = energy_model().train()
        options = {"contraction": {"max_busy": busy, "decay": 0.5}, "probe": {"samples": 0}}
        metrics = learner(model, **options).step(batch(), knobs())
        assert metrics["slow"][0] == (busy < 1)
        norms.append(model.patterns.norm().item())
    assert norms[0] / norms[1] == pytest.approx(1 - 0.5 * 0.3)


def test_a_saved_learner_goes_on(energy_model: Make, learner: Callable[..., Any]) -> None:
    straight, stopped, resumed = (energy_model().train() for _ in range(3))
    subject = learner(straight)
    for step in range(2 * EPOCH):
        last = subject.step(batch(step), knobs())
    first = learner(stopped)
    for step in range(EPOCH - 1):
        first.step(batch(step), knobs())
    resumed.load_state_dict(stopped.state_dict())
    second = learner(resumed)
    second.load_state_dict(first.state_dict())
    for step in range(EPOCH - 1, 2 * EPOCH):
        again = second.step(batch(step), knobs())
    for one, other in zip(straight.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)
    assert last.keys() == again.keys()
    assert all(torch.equal(last[name][0], again[name][0]) for name in last)


class Looks(TorchDispatchMode):
    """Counts how often Python waits for a value."""

    count = 0

    def __torch_dispatch__(
        self, operator: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        self.count += operator.overloadpacket is torch.ops.aten._local_scalar_dense
        return operator(*args, **(kwargs or {}))


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [{}, {"estimator": "random_sign"}, {"estimator": "richardson", "sequential": True}],
)
def test_an_unwatched_step_waits_for_nothing_and_is_the_same(
    energy_model: Make, learner: Callable[..., Any], options: dict[str, Any]
) -> None:
    """So a GPU can record it; with dropout, and a bad batch that is skipped on the way."""
    fields = {"dropout": 0.2, "relax": {"max_steps": 22}}
    models = [energy_model(**fields).train() for _ in range(2)]
    # An optimizer on a CPU would itself wait for a learning rate that is a tensor.
    own = [replace(parts(model), set_lr=lambda lr: None) for model in models]
    watched, blind = (learner(*pair, **options) for pair in zip(models, own, strict=True))
    blind.watched = False
    for step in range(4):
        given = batch(step)
        if step == 2:
            given.inputs[0] = float("nan")
        for subject in (watched, blind):
            torch.manual_seed(step)
            with Looks() as looks:
                metrics = subject.step(given, knobs(0.05 + 0.01 * step))
            assert metrics["skipped"][0] == (step == 2)
        assert looks.count == 0
    for ours, theirs in zip(*(model.parameters() for model in models), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10)


def test_a_skipped_step_leaves_the_optimizer_as_it_was(
    energy_model: Make, learner: Callable[..., Any]
) -> None:
    """Moments of the weights neither decay nor take in a gradient that is no number."""
    model = energy_model().train()
    own = parts(model)
    own.optimizer.param_groups[0]["momentum"] = 0.9
    subject = learner(model, own, contraction={"max_busy": 10.0})
    first, bad = batch(0), batch(1)
    bad.inputs[:] = float("nan")
    subject.step(bad, knobs())
    assert all(state["momentum_buffer"].eq(0).all() for state in own.optimizer.state.values())
    subject.step(first, knobs())

    def changing() -> list[Tensor]:
        moments = (state["momentum_buffer"] for state in own.optimizer.state.values())
        return [*model.parameters(), *moments]

    before = [value.detach().clone() for value in changing()]
    subject.step(bad, knobs())
    assert all(torch.equal(*pair) for pair in zip(before, changing(), strict=True))


@pytest.mark.gpu
def test_a_recorded_step_is_the_step_bit_for_bit(
    energy_model: Make, learner: Callable[..., Any]
) -> None:
    fields = {"dropout": 0.2, "relax": {"max_steps": 22}}
    models = [energy_model(**fields).float().cuda().train() for _ in range(2)]
    # A learning rate in a tensor is more than this optimizer can take without waiting.
    own = [replace(parts(model), set_lr=lambda lr: None) for model in models]
    one, other = (learner(*pair) for pair in zip(models, own, strict=True))
    engines = [
        engine_of(name, subject, subject.parts.objective, subject.model.parameters(), CUDA)
        for name, subject in (("eager", one), ("graphed", other))
    ]
    for step in range(2 * EPOCH):
        given = batch(step)
        there = Batch(given.inputs.float().cuda(), given.targets.cuda(), given.index.cuda())
        turned = {name: value.cuda() for name, value in knobs(0.05 + 0.01 * step).items()}
        for engine in engines:
            torch.manual_seed(step)
            if engine.is_due(there, turned):
                engine.prepare(there, turned)
            engine.step(there, turned)
    assert (engines[1].name, engines[1].why) == ("graphed", "")
    for ours, theirs in zip(*(model.parameters() for model in models), strict=True):
        assert torch.equal(ours, theirs)


def test_memory_does_not_grow_with_the_steps(
    energy_model: Make, learner: Callable[..., Any]
) -> None:
    """Nothing is kept for a way back, however long the relaxations are."""
    saved: list[int] = []
    hooks = torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: saved.append(tensor.numel()) or tensor, lambda tensor: tensor
    )
    for steps in (5, 50):
        relax = {"max_steps": steps, "tol": 0.0}
        options = {"probe": {"samples": 0}, "nudge": relax}
        subject = learner(energy_model(relax=relax).train(), **options)
        with hooks:
            subject.step(batch(), knobs())
    assert saved == []


def test_what_it_cannot_train_is_refused(energy_model: Make, learner: Callable[..., Any]) -> None:
    with pytest.raises(LabctlError, match="Linear has none"):
        learner(nn.Linear(3, 3))
    frozen = energy_model()
    frozen.positions.requires_grad_(False)
    with pytest.raises(LabctlError, match="frozen"):
        learner(frozen)
    model = energy_model()
    with pytest.raises(LabctlError, match="cross_entropy alone"):
        learner(model, parts(model, names=("cross_entropy", "other")))
    half = partial(torch.autocast, "cpu", dtype=torch.bfloat16)
    with pytest.raises(LabctlError, match="bf16"):
        learner(model, parts(model, half))


@pytest.mark.slow
@pytest.mark.parametrize("estimator", ["centered", "one_sided", "random_sign", "richardson"])
def test_it_learns_a_batch_by_heart(
    energy_model: Make, learner: Callable[..., Any], estimator: str
) -> None:
    model = energy_model().float().train()
    subject = learner(model, parts(model, clip=None), estimator=estimator, probe={"samples": 0})
    given = Batch(batch().inputs.float(), batch().targets, batch().index)
    losses = []
    for step in range(40):
        torch.manual_seed(step)
        total, count = subject.step(given, knobs())["loss"]
        losses.append(float(total / count))
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.slow
def test_work_is_counted_without_the_probe(energy_model: Make, learner: Callable[..., Any]) -> None:
    """On the meta device: all steps of the relaxations, six samples free, twice six nudged."""
    relax = {"max_steps": 7, "tol": 0.0}

    def flops(steps: int, samples: int) -> int:
        model = energy_model(relax=relax).to("meta").train()
        options = {"nudge": {"max_steps": steps}, "probe": {"samples": samples}}
        given = Batch(
            torch.empty(6, 1, 8, 8, dtype=torch.float64, device="meta"),
            torch.zeros(6, dtype=torch.int64, device="meta"),
            torch.zeros(6),
        )
        subject = learner(model, **options)
        with FlopCounterMode(display=False) as counter:
            subject.step(given, knobs())
        return int(counter.get_total_flops())

    assert flops(5, 4) == flops(5, 0)
    tokens, width, hidden, heads = 5, 12, 20, 3
    field = tokens * (2 * hidden * width + 4 * width**2) + 3 * heads * tokens**2 * (width // heads)
    head = 2 * 10 * width
    assert flops(6, 0) - flops(5, 0) == 2 * 12 * (field + head)
