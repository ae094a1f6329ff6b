"""What is checked of a model: that it builds, runs and can be put away, whatever its knobs say."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from labctl.data.examples import Batch
from labctl.errors import Problem
from labctl.registry.card import KnobValue
from labctl.train.learner import forward
from labctl.train.streams import seed_global

from .bench import Bench, usable_positions
from .cards import shown
from .state import differences

ALONE = 1e-4
"""How far an example's logits may move, relative and absolute, when others share its batch."""


def initialisation(bench: Bench) -> Iterator[Problem]:
    """The seed alone decides the weights; the model also builds without memory, to be counted."""
    first, again, other = bench.model(), bench.model(), bench.model(bench.seed + 1)
    if found := next(differences(first.state_dict(), again.state_dict()), None):
        hint = "labctl seeds torch's own generator before `build`; draw from no other"
        yield Problem(f"two models of one seed differ at {found}", hint=hint)
    has_matrix = any(parameter.ndim > 1 for parameter in first.parameters())
    if has_matrix and not any(differences(first.state_dict(), other.state_dict())):
        hint = "something in `build` sets a seed of its own; leave seeds to labctl"
        yield Problem("models of two seeds are equal", hint=hint)
    try:
        bench.assembly().model(torch.device("meta"), torch.float32)
    except Exception as error:
        hint = "FLOPs are counted there; read no value of a tensor while building"
        yield Problem(f"`build` fails on the meta device: {error}", hint=hint)


def logits(bench: Bench) -> Iterator[Problem]:
    """Shape, dtype and finite values, in evaluation and with the knobs of every phase."""
    model = bench.model().eval()
    for when, knobs in [*bench.phase_knobs(), ("evaluation", bench.evaluation_knobs())]:
        for message in _logits_faults(bench, model, knobs):
            yield Problem(message, f"with the knobs of {when}")


def _logits_faults(bench: Bench, model: nn.Module, knobs: Mapping[str, Any]) -> Iterator[str]:
    batch, spec = bench.sample, bench.recipe.spec
    found = _logits(model, batch.inputs, knobs)
    positions = batch.inputs.shape[:1] if spec.inputs == "image" else batch.inputs.shape
    expected = (*positions, spec.num_classes)
    if tuple(found.shape) != expected:
        yield f"logits have shape {tuple(found.shape)}; they must have {expected}"
    elif found.dtype != torch.float32:
        yield f"logits of float32 weights and inputs are {found.dtype}; they must be torch.float32"
    elif wrong := int((~found.isfinite()).sum()):
        yield f"{wrong} of {found.numel()} logits are not finite"


def _logits(model: nn.Module, inputs: Tensor, knobs: Mapping[str, Any]) -> Tensor:
    seed_global(0, "evaluate", 0)
    with torch.no_grad():
        return forward(model, inputs, knobs).logits


def knob_range(bench: Bench) -> Iterator[Problem]:
    """The model runs and trains wherever its own knobs may stand, and stays finite there."""
    card, config = bench.recipe.architecture.card, bench.recipe.architecture.config
    for knob in card.knobs(config, bench.recipe.spec):
        for value in usable_positions(knob):
            moved = {knob.name: value}
            try:
                faults = list(_faults_at(bench, moved))
            except Exception as error:
                faults = [f"{type(error).__name__}: {error}"]
            for message in faults:
                hint = "narrow the range that the knob declares, or mend the model there"
                yield Problem(message, shown(moved), hint)


def _faults_at(bench: Bench, moved: Mapping[str, KnobValue]) -> Iterator[str]:
    model = bench.model()
    yield from _logits_faults(bench, model.eval(), bench.handed(0, moved))
    learner = bench.learner(bench.assembly(), model.train())
    total, count = learner.step(bench.sample, bench.handed(bench.busiest_step, moved))["loss"]
    if not math.isfinite(float(total / count)):
        yield f"the loss of a training step is {float(total / count)}"


def evaluation(bench: Bench) -> Iterator[Problem]:
    """In evaluation an example's logits depend on that example and nothing else."""
    model, batch, knobs = bench.model().eval(), bench.sample, bench.evaluation_knobs()
    found = _logits(model, batch.inputs, knobs)
    if not torch.equal(found, _logits(model, batch.inputs, knobs)):
        hint = "`forward` must keep no state, and draw from torch's own generator alone"
        yield Problem("the same forward pass twice gives two results", hint=hint)
        return
    alone = _logits(model, batch.inputs[:1], knobs)
    if not torch.allclose(found[:1], alone, rtol=ALONE, atol=ALONE):
        moved = float((found[:1] - alone).abs().max())
        hint = "in evaluation mode each example must be treated alone"
        yield Problem(f"logits move by {moved:.2g} when others share the batch", hint=hint)
    if _predicts_next(batch):
        yield from _foresight(model, batch, knobs, found)


def _predicts_next(batch: Batch) -> bool:
    return batch.targets.ndim == 2 and torch.equal(batch.targets[:, :-1], batch.inputs[:, 1:])


def _foresight(
    model: nn.Module, batch: Batch, knobs: Mapping[str, Any], found: Tensor
) -> Iterator[Problem]:
    """Where the targets are the next tokens, no position may look ahead."""
    middle = batch.inputs.shape[1] // 2
    changed = batch.inputs.clone()
    changed[:, middle:] = changed[:, middle:].roll(1, dims=1).flip(0)
    moved = _logits(model, changed, knobs)
    if not torch.allclose(found[:, :middle], moved[:, :middle], rtol=ALONE, atol=ALONE):
        hint = "the model reads what it is to predict; mask the future"
        yield Problem(f"logits before position {middle} change with later tokens", hint=hint)


def storage(bench: Bench) -> Iterator[Problem]:
    """The state dict is all of the model: put away and taken out, it computes the same."""
    model, knobs = bench.model(), bench.evaluation_knobs()
    learner = bench.learner(bench.assembly(), model.train())
    seed_global(bench.seed, "dropout", 0)
    learner.step(bench.sample, bench.handed(bench.busiest_step))
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    other = bench.model(bench.seed + 1)
    try:
        other.load_state_dict(torch.load(io.BytesIO(file.getvalue()), weights_only=True))
    except Exception as error:
        yield Problem(f"its state dict does not load into another model of the config: {error}")
        return
    before = _logits(model.eval(), bench.sample.inputs, knobs)
    after = _logits(other.eval(), bench.sample.inputs, knobs)
    if not torch.equal(before, after):
        hint = "register what `forward` reads and `build` draws: register_buffer, or a Parameter"
        yield Problem("a model with the same state dict computes other logits", hint=hint)


def losses(bench: Bench) -> Iterator[Problem]:
    """Every loss term is a finite 0-d float tensor, the mean over its batch."""
    model, batch = bench.model().eval(), bench.sample
    twice = replace(
        batch,
        inputs=torch.cat([batch.inputs, batch.inputs]),
        targets=torch.cat([batch.targets, batch.targets]),
        index=torch.cat([batch.index, batch.index]),
    )
    for name, term in bench.assembly().objective().terms.items():
        for when, knobs in bench.phase_knobs():
            with torch.no_grad():
                values = [term(forward(model, b.inputs, knobs), b, knobs) for b in (batch, twice)]
            for message in _loss_faults(*values):
                yield Problem(message, f"loss.{name}, {when}", "take the mean over the batch")


def _loss_faults(once: Any, twice: Any) -> Iterator[str]:
    if not isinstance(once, Tensor) or once.ndim:
        shape = tuple(once.shape) if isinstance(once, Tensor) else type(once).__name__
        yield f"must be a 0-d tensor, is {shape}"
    elif not math.isfinite(float(once)):
        yield f"is {float(once)}"
    elif abs(float(once)) > 1e-6 and abs(float(twice) / float(once) - 2) < 1e-3:
        yield "doubles when every example is there twice"
