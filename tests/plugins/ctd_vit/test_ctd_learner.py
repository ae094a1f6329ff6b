"""The learner that ranks by its own loss, against the same step written out."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from labctl.api import (
    Backprop,
    Batch,
    DataSpec,
    Empty,
    LabctlError,
    LearnerParts,
    Objective,
    Output,
)

Make = Callable[..., Any]
Build = Callable[..., Any]
Modules = Callable[[str], ModuleType]
CLIP = 0.5
QUIET = {"saliency": "gradient", "dropout": 0.0, "drop_path": 0.0}


def smoothed(output: Output, batch: Batch, knobs: Any) -> Tensor:
    return F.cross_entropy(output.logits.float(), batch.targets, label_smoothing=0.1)


def batch() -> Batch:
    draws = torch.Generator().manual_seed(4)
    images = torch.randn(6, 1, 8, 8, generator=draws)
    return Batch(images, torch.tensor([0, 1, 2, 3, 4, 5]), torch.arange(6))


def parts(
    model: nn.Module, autocast: Callable[[], AbstractContextManager[Any]] = nullcontext
) -> LearnerParts:
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)

    def set_lr(lr: float) -> None:
        optimizer.param_groups[0]["lr"] = lr

    return LearnerParts(
        model, Objective({"cross_entropy": smoothed}), optimizer, set_lr, CLIP, autocast, 1
    )


def knobs(drop: float) -> dict[str, Any]:
    return {"lr": 0.3, "token_drop": drop}


@pytest.fixture
def build(ctd_card: Callable[[str], Any]) -> Callable[[LearnerParts], Any]:
    return partial(ctd_card("saliency_gradient").build, Empty())


@pytest.fixture
def build_ema(ctd: Modules, ctd_card: Callable[[str], Any]) -> Build:
    """A learner that reuses scores, of any fields of its config."""

    def build(given: LearnerParts, **fields: Any) -> Any:
        config = ctd("config").SaliencyGradientEmaConfig(**fields)
        return ctd_card("saliency_gradient_ema").build(config, given)

    return build


@pytest.mark.parametrize("half", [False, True])
def test_step_is_the_one_written_out(
    tiny_model: Make, build: Callable[[LearnerParts], Any], half: bool
) -> None:
    autocast = partial(torch.autocast, "cpu", dtype=torch.bfloat16, enabled=half)
    model, twin = tiny_model(**QUIET).train(), tiny_model(**QUIET).train()
    metrics = build(parts(model, autocast)).step(batch(), knobs(0.35))

    given = batch()

    def rest(x: Tensor) -> Tensor:
        logits: Tensor = twin.after_drop(x)
        return F.cross_entropy(logits.float(), given.targets, label_smoothing=0.1)

    with autocast():
        x = twin.blocks[1](twin.blocks[0](twin._embedded(twin.stem(given.inputs))))
        x = twin.blocks[2].attend(x)[0]
        leaf = x.detach().requires_grad_()
        full = rest(leaf)
    (gradient,) = torch.autograd.grad(full, leaf)
    scores = (leaf.detach() * gradient).sum(-1).abs()[:, 1:]
    kept = torch.stack([1 + row.topk(41).indices.sort().values for row in scores])
    left = torch.stack([image[[0, *rows]] for image, rows in zip(x, kept, strict=True)])
    with autocast():
        loss = rest(left)
    loss.backward()
    norm = torch.stack([p.grad.norm() for p in twin.parameters()]).norm()
    assert norm > CLIP, "clipping takes part in the comparison"
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter -= 0.3 * parameter.grad * (CLIP / (norm + 1e-6))

    assert metrics["loss"][0] / metrics["loss"][1] == pytest.approx(loss.item(), rel=1e-5)
    assert metrics["grad_norm"][0].item() == pytest.approx(norm.item(), rel=1e-4)
    rtol, atol = (1e-3, 2e-4) if half else (1e-4, 1e-6)
    for ours, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=rtol, atol=atol)
    assert torch.equal(model.stem.layers[1].running_mean, twin.stem.layers[1].running_mean)


def test_without_a_drop_it_is_back_propagation_bit_for_bit(
    tiny_model: Make, build: Callable[[LearnerParts], Any]
) -> None:
    model, twin = tiny_model(saliency="gradient").train(), tiny_model().train()
    learner, backprop = build(parts(model)), Backprop(parts(twin))
    for step in range(3):
        torch.manual_seed(step)
        ours = learner.step(batch(), knobs(0.0))
        torch.manual_seed(step)
        theirs = backprop.step(batch(), knobs(0.0))
        assert torch.equal(ours["loss"][0], theirs["loss"][0])
    assert all(
        torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True)
    )


def test_dropout_is_on_and_statistics_are_taken_once(
    tiny_model: Make, build: Callable[[LearnerParts], Any]
) -> None:
    model = tiny_model(saliency="gradient").train()
    learner = build(parts(model))
    losses = set()
    for _ in range(2):
        metrics = learner.step(batch(), knobs(0.35))
        losses.add(metrics["loss"][0].item())
        assert set(metrics) == {"loss", "acc", "grad_norm"}
    assert model.stem.layers[1].num_batches_tracked == 2
    assert all(parameter.grad is None for parameter in model.parameters())
    assert learner.capture == Backprop.capture and learner.state_dict() == {}


@pytest.mark.parametrize("fields", [{}, {"saliency": "random"}])
def test_a_model_that_ranks_otherwise_is_refused(
    tiny_model: Make,
    build: Callable[[LearnerParts], Any],
    build_ema: Build,
    fields: dict[str, Any],
) -> None:
    with pytest.raises(LabctlError, match="saliency: gradient"):
        build(parts(tiny_model(**fields)))
    with pytest.raises(LabctlError, match="ctd_vit"):
        build(parts(nn.Linear(3, 3)))
    with pytest.raises(LabctlError, match="learner saliency_gradient_ema is for"):
        build_ema(parts(tiny_model(**fields)))


@pytest.mark.slow
def test_its_step_costs_a_second_pass_from_the_drop_on(
    ctd: Modules, tiny_config: Make, tiny_images: DataSpec, build: Callable[[LearnerParts], Any]
) -> None:
    """Counted on the meta device, as for a ledger; in MACs of the blocks after the drop."""

    def flops(drop: float) -> int:
        with torch.device("meta"):
            model = ctd("model").CtdVit(tiny_config(saliency="gradient"), tiny_images).train()
            given = Batch(
                torch.empty(6, 1, 8, 8), torch.zeros(6, dtype=torch.int64), torch.zeros(6)
            )
        learner = build(parts(model))
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            learner.step(given, knobs(drop))
        return int(counter.get_total_flops())

    config = tiny_config(saliency="gradient")
    macs = ctd("cost").forward_macs
    saved = 3 * (macs(config, tiny_images, 0.0) - macs(config, tiny_images, 0.35))
    width, hidden, tokens = 24, 48, 65
    linear = 5 * 4 * tokens * width**2 + 6 * 2 * tokens * width * hidden
    attention = 5 * 2 * tokens**2 * width
    head = 10 * width
    ranking = 2 * linear + 3 * attention + 2 * head
    assert flops(0.35) - flops(0.0) == 2 * 6 * (ranking - saved)


def test_it_learns_a_batch_by_heart(tiny_model: Make, build: Callable[[LearnerParts], Any]) -> None:
    model = tiny_model(saliency="gradient", depth=3, dropout=0.0, drop_path=0.0).train()
    learner = build(parts(model))
    losses = []
    for _ in range(40):
        total, count = learner.step(batch(), knobs(0.35))["loss"]
        losses.append((total / count).item())
    assert losses[-1] < 0.7 * losses[0]


def test_that_scores_all_anew_and_forgets_is_the_exact_one(
    tiny_model: Make, build: Callable[[LearnerParts], Any], build_ema: Build
) -> None:
    model, twin = tiny_model(**QUIET).train(), tiny_model(**QUIET).train()
    reusing = build_ema(parts(model), refresh=1, momentum=0.0)
    ours = reusing.step(batch(), knobs(0.35))
    theirs = build(parts(twin)).step(batch(), knobs(0.35))
    assert set(ours) == set(theirs)
    assert ours["loss"][0].item() == pytest.approx(theirs["loss"][0].item(), rel=1e-6)
    for mine, other in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-7)


def test_what_was_found_earlier_ranks_images_that_are_not_scored_again(
    ctd: Modules, tiny_model: Make, build_ema: Build
) -> None:
    """With one image in three scored anew, four of six are ranked as the memory says."""
    model = tiny_model(**QUIET).train()
    learner = build_ema(parts(model), refresh=3, momentum=0.0)
    held = torch.rand(96, 8, 8, generator=torch.Generator().manual_seed(5))
    learner.load_state_dict({"saliency": (held / held.sum((1, 2), keepdim=True)).half()})
    before = learner.state_dict()["saliency"].clone()

    chosen = []
    best = model.best

    def spied(scores: Tensor, drop: float) -> Any:
        chosen.append(best(scores, drop))
        return chosen[-1]

    model.best = spied
    learner.step(batch(), knobs(0.35))
    (selection,) = chosen
    by_memory = held.flatten(1)[:6].topk(41).indices.sort().values
    assert torch.equal(selection.index[2:], by_memory[2:])
    assert not torch.equal(selection.index[:2], by_memory[:2])
    after = learner.state_dict()["saliency"]
    assert torch.equal(before[2:], after[2:]) and not torch.equal(before[:2], after[:2])


def test_it_scores_while_nothing_is_dropped_and_trains_as_back_propagation(
    tiny_model: Make, build_ema: Build
) -> None:
    model = tiny_model(**QUIET).train()
    twin = tiny_model(dropout=0.0, drop_path=0.0).train()
    learner, backprop = build_ema(parts(model), refresh=3), Backprop(parts(twin))
    before = learner.state_dict()["saliency"].clone()
    ours, theirs = learner.step(batch(), knobs(0.0)), backprop.step(batch(), knobs(0.0))
    assert torch.equal(ours["loss"][0], theirs["loss"][0])
    assert all(
        torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True)
    )
    assert not torch.equal(before[:2], learner.state_dict()["saliency"][:2])


def test_its_memory_is_put_back_in_place(tiny_model: Make, build_ema: Build) -> None:
    """A recorded step reads the very tensor that it was recorded with."""
    learner = build_ema(parts(tiny_model(**QUIET).train()))
    held = learner.state_dict()["saliency"]
    learner.load_state_dict({"saliency": torch.full_like(held, 0.25)})
    assert learner.state_dict()["saliency"] is held and (held == 0.25).all()


@pytest.mark.slow
def test_ranking_one_image_in_three_costs_a_third(
    tiny_model: Make, build: Callable[[LearnerParts], Any], build_ema: Build
) -> None:
    def flops(make: Callable[[LearnerParts], Any], drop: float, **fields: Any) -> int:
        with torch.device("meta"):
            model = tiny_model(saliency="gradient", **fields).train()
            given = Batch(
                torch.empty(6, 1, 8, 8), torch.zeros(6, dtype=torch.int64), torch.zeros(6).long()
            )
        learner = make(parts(model))
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            learner.step(given, knobs(drop))
        return int(counter.get_total_flops())

    plain = flops(build, 0.0)
    exact = flops(partial(build_ema, refresh=1), 0.0) - plain
    assert exact > 0
    assert flops(partial(build_ema, refresh=3), 0.0) - plain == exact // 3
    assert flops(partial(build_ema, refresh=1), 0.35) == flops(build, 0.35)


@pytest.mark.slow
def test_reuse_costs_what_the_readme_says_at_the_paper_s_size(
    ctd: Modules, ctd_config: Make, cifar100: DataSpec, build_ema: Build
) -> None:
    """In shares of a step that drops nothing; and the memory's size."""

    def learner(refresh: int) -> Any:
        with torch.device("meta"):
            model = ctd("model").CtdVit(ctd_config(saliency="gradient"), cifar100).train()
        return build_ema(parts(model), refresh=refresh)

    def flops(step: Callable[..., Any]) -> int:
        given = Batch(
            torch.empty(8, 3, 32, 32, device="meta"),
            torch.zeros(8, dtype=torch.int64, device="meta"),
            torch.zeros(8, dtype=torch.int64, device="meta"),
        )
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            step(given, knobs(0.0))
        return int(counter.get_total_flops())

    with torch.device("meta"):
        plain = flops(Backprop(parts(ctd("model").CtdVit(ctd_config(), cifar100).train())).step)
    assert round(100 * (flops(learner(8).step) / plain - 1), 1) == 5.7
    assert round(100 * (flops(learner(1).step) / plain - 1)) == 45
    held = learner(8).state_dict()["saliency"]
    assert held.nelement() * held.element_size() == 12_800_000
