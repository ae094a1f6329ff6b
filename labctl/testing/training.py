"""What is checked of training: it learns, it can stop and go on, runs do not see each other."""

from __future__ import annotations

import io
import random
import traceback
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode

from labctl.errors import Problem
from labctl.measure.measurement import MeasureContext
from labctl.registry.card import MeasurementCard
from labctl.store.run import Run
from labctl.train.cost import ledger
from labctl.train.learner import Learner, Looking
from labctl.train.streams import seed_global
from labctl.train.training import Training

from .bench import CPU, Bench
from .cards import not_finite
from .state import differences

BY_HEART = 32
"""Examples, at most, that a model must be able to learn a little by heart."""
PROGRESS = 0.1
"""Share of the loss on them that must go."""
REACHING = 3
"""Steps in which every parameter must move; gradients pass a layer that begins at zero later."""
WAITS = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero", "_unique2")
"""Operators for whose result Python has to wait."""


def learner(bench: Bench) -> Iterator[Problem]:
    """A step reports metrics and moves the parameters; the learner's state survives saving."""
    model = bench.model().train()
    subject = bench.learner(bench.assembly(), model)
    name = f"learner {bench.plan.work.learner.name}"
    if subject.capture not in ("whole", "never"):
        yield Problem(f"capture is {subject.capture!r}", name, "use whole or never")
    if isinstance(subject, Looking):
        seed_global(bench.seed, "look", 0)
        looked = subject.look(bench.sample, bench.handed(bench.busiest_step))
        yield from (Problem(f"look: {fault}", name) for fault in _metric_faults(looked))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    metrics = _step(bench, subject)
    if "loss" not in metrics:
        told = ", ".join(metrics) or "nothing"
        yield Problem(f"step reports {told}; `loss` must be among its metrics", name)
    yield from (Problem(fault, name) for fault in _metric_faults(metrics))
    yield from _replaced(bench, model, subject, name)
    if not any(differences(before, model.state_dict())):
        yield Problem("a step at the largest learning rate changes nothing in the model", name)
    file = io.BytesIO()
    torch.save(subject.state_dict(), file)
    try:
        saved = torch.load(io.BytesIO(file.getvalue()), weights_only=True)
    except Exception as error:
        hint = "keep to tensors, numbers, strings, lists and dicts"
        yield Problem(f"its saved state cannot be read: {str(error).splitlines()[0]}", name, hint)
        return
    other = bench.learner(bench.assembly(), bench.model())
    other.load_state_dict(saved)
    if found := next(differences(subject.state_dict(), other.state_dict()), None):
        hint = "load_state_dict must restore all that state_dict gives"
        yield Problem(f"its state changes on the way through a file, at {found}", name, hint)


def _replaced(bench: Bench, model: nn.Module, subject: Learner, name: str) -> Iterator[Problem]:
    """What a step that is recorded whole remembers in other tensors, which a replay would not see.

    In the first step what is missing may still be made.
    """
    if subject.capture != "whole":
        return
    before = _places(subject.state_dict()) | _places(dict(model.named_buffers()), "model.")
    _step(bench, subject)
    after = _places(subject.state_dict()) | _places(dict(model.named_buffers()), "model.")
    for path, place in before.items():
        if after.get(path) != place:
            hint = f"keep {path} in a tensor that is changed in place, or set capture to 'never'"
            yield Problem(f"a step puts something else into {path}", name, hint)


def _places(state: Any, path: str = "") -> dict[str, object]:
    """Where tensors are in memory, and what else there is, by path."""
    if isinstance(state, Tensor):
        return {path: state.data_ptr()}
    if isinstance(state, Mapping):
        items = [(f"{path}.{key}" if path else str(key), value) for key, value in state.items()]
    elif isinstance(state, list | tuple):
        items = [(f"{path}[{place}]", value) for place, value in enumerate(state)]
    else:
        return {path: state}
    return {key: found for where, value in items for key, found in _places(value, where).items()}


def _step(bench: Bench, subject: Learner) -> Mapping[str, Any]:
    seed_global(bench.seed, "dropout", 0)
    return subject.step(bench.sample, bench.handed(bench.busiest_step))


def _metric_faults(metrics: Mapping[str, Any]) -> Iterator[str]:
    for name, pair in metrics.items():
        is_pair = isinstance(pair, tuple) and len(pair) == 2
        if not is_pair or any(not isinstance(value, Tensor) or value.ndim for value in pair):
            yield f"metric {name!r} must be a pair of 0-d tensors, sum and count; is {pair!r}"
        elif any(value.requires_grad for value in pair):
            yield f"metric {name!r} holds on to its graph; detach it, or memory grows step by step"
        elif not all(bool(value.isfinite()) for value in pair):
            yield f"metric {name!r} is {float(pair[0])} over {float(pair[1])}"


def reach(bench: Bench, unmoved: Sequence[str]) -> Iterator[Problem]:
    """A few steps move every parameter, so nothing is trained in name only."""
    model = bench.model().train()
    subject, batch = bench.learner(bench.assembly(), model), bench.examples(BY_HEART)
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    rate = bench.handed(bench.busiest_step)["lr"]
    for when, knobs in bench.phase_knobs():
        for step in range(REACHING):
            seed_global(bench.seed, f"reach/{when}", step)
            subject.step(batch, {**knobs, "lr": rate})
    still = [
        name
        for name, value in model.named_parameters()
        if value.requires_grad
        and torch.equal(value, before[name])
        and not any(fnmatchcase(name, pattern) for pattern in unmoved)
    ]
    if still:
        hint = "use them in `forward` without detach, take them away, or name them in `unmoved`"
        yield Problem(f"training does not move {', '.join(still)}", hint=hint)


def overfitting(bench: Bench, steps: int) -> Iterator[Problem]:
    """A few examples, over and over: the loss must fall."""
    subject = bench.learner(bench.assembly(), bench.model().train())
    batch, knobs = bench.examples(BY_HEART), bench.handed(bench.busiest_step)
    losses = []
    for step in range(steps):
        seed_global(bench.seed, "dropout", step)
        total, count = subject.step(batch, knobs)["loss"]
        losses.append(float(total / count))
    last = sum(losses[-3:]) / len(losses[-3:])
    if not last <= losses[0] - PROGRESS * abs(losses[0]):
        yield Problem(
            f"the loss goes from {losses[0]:.4g} to {last:.4g} in {steps} steps at lr "
            f"{float(knobs['lr']):g} on the same {len(batch.index)} examples",
            hint=f"{PROGRESS:.0%} of it must go: look at the recipe's learning rate, the sign of "
            "the loss, and whether logits and targets belong together",
        )


@dataclass(frozen=True)
class Trace:
    """What some steps of training leave behind."""

    state: dict[str, Any]
    """Of the checkpoint: model, optimizer, learner, sums of metrics."""
    curves: dict[str, Any]
    """Of the journal: value by metric and step."""

    def difference(self, other: Trace) -> str | None:
        """The first place where two traces are not equal, bit for bit."""
        found = next(differences(self.state, other.state), None)
        return found or next(differences(self.curves, other.curves), None)


@dataclass(frozen=True)
class Track:
    """Trains the bench's plan a few steps at a time, as a worker would."""

    bench: Bench

    def begin(self, name: str, seed: int) -> Training:
        """The run `name` from its last checkpoint on, or from the beginning."""
        assembly = self.bench.assembly(seed)
        run = Run(self.bench.folder / name / f"seed={seed}")
        run.create(assembly.plan, {})
        return Training(run, assembly, CPU, {"device": "cpu"})

    def trace(self, training: Training) -> Trace:
        """Close a training and read what it left."""
        training.checkpoint()
        training.end("STOPPED")
        state = torch.load(training.run.checkpoint_path, weights_only=True)
        state["window"].pop("seconds")
        return Trace(state, dict(training.run.journal.curves))

    def alone(self, name: str, seed: int, steps: int) -> Trace:
        training = self.begin(name, seed)
        training.advance(steps)
        return self.trace(training)


def leg(bench: Bench, steps: int) -> int:
    """`steps`, or half of the budget if that is shorter."""
    return max(1, min(steps, bench.plan.work.steps // 2))


def repetition(bench: Bench, steps: int) -> Iterator[Problem]:
    """The same seed gives the same run."""
    track, total = Track(bench), 2 * leg(bench, steps)
    first, again = (track.alone(f"repeat-{time}", bench.seed, total) for time in "12")
    if found := first.difference(again):
        hint = (
            "labctl seeds torch's own generator at every step; draw from no other, and keep no "
            "state in modules or classes"
        )
        yield Problem(f"two runs of one seed differ after {total} steps, at {found}", hint=hint)


def interleaving(bench: Bench, steps: int) -> Iterator[Problem]:
    """Two runs that take turns in one process are the same two alone."""
    track, total = Track(bench), 2 * leg(bench, steps)
    seeds = (bench.seed, bench.seed + 1)
    alone = [track.alone("alone", seed, total) for seed in seeds]
    together = [track.begin("together", seed) for seed in seeds]
    for _ in range(total):
        for training in together:
            training.advance(1)
    for seed, before, training in zip(seeds, alone, together, strict=True):
        if found := before.difference(track.trace(training)):
            message = f"the run of seed {seed} changes when another takes turns with it, at {found}"
            hint = "they share something: a global, a class attribute, a cache"
            yield Problem(message, hint=hint)


def resumption(bench: Bench, steps: int) -> Iterator[Problem]:
    """N steps, a stop, and N steps are 2N steps."""
    track, length = Track(bench), leg(bench, steps)
    straight = track.alone("straight", bench.seed, 2 * length)
    track.alone("stopped", bench.seed, length)
    hint = "what the model remembers belongs in a buffer, what the learner does in its state_dict"
    try:
        training = track.begin("stopped", bench.seed)
    except Exception as error:
        yield Problem(f"a stopped run cannot go on: {type(error).__name__}: {error}", hint=hint)
        return
    training.advance(length)
    if found := straight.difference(track.trace(training)):
        message = (
            f"{length} steps, a stop and {length} steps are not {2 * length} steps, at {found}"
        )
        yield Problem(message, hint=hint)


def manners(bench: Bench) -> Iterator[Problem]:
    """Building and training leave Python's and numpy's randomness and torch's settings alone."""
    before = _ambient()
    try:
        model = bench.model().train()
        _step(bench, bench.learner(bench.assembly(), model))
        after = _ambient()
    finally:
        _restore(before)
    for name, value in before.items():
        if after[name] != value:
            hint = "other runs share the process; labctl seeds torch's own generators and no others"
            yield Problem(f"building the model and one step change {name}", hint=hint)


def _ambient() -> dict[str, Any]:
    return {
        "the state of `random`": random.getstate(),
        "the state of `numpy.random`": repr(np.random.get_state()),
        "torch's default dtype": torch.get_default_dtype(),
        "torch's gradient mode": torch.is_grad_enabled(),
        "torch's number of threads": torch.get_num_threads(),
        "torch's deterministic mode": torch.are_deterministic_algorithms_enabled(),
    }


def _restore(ambient: Mapping[str, Any]) -> None:
    """The settings that a faulty plugin changed would change the checks after this one."""
    torch.set_default_dtype(ambient["torch's default dtype"])
    torch.set_grad_enabled(ambient["torch's gradient mode"])
    torch.set_num_threads(ambient["torch's number of threads"])
    torch.use_deterministic_algorithms(ambient["torch's deterministic mode"])


class _Waits(TorchDispatchMode):
    """Notes where code below `folder` makes Python wait for a value."""

    def __init__(self, folder: Path) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch annotates no mode
        self.folder = folder
        self.found: Counter[str] = Counter()

    def __torch_dispatch__(
        self,
        operator: OpOverload,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> object:
        if operator.overloadpacket.__name__ in WAITS:
            stack = traceback.extract_stack()
            inside = [f for f in stack if Path(f.filename).is_relative_to(self.folder)]
            if inside:
                self.found[f"{inside[-1].filename}:{inside[-1].lineno}"] += 1
        return operator(*args, **(kwargs or {}))


def waiting(bench: Bench) -> Iterator[Problem]:
    """A step that says it can be captured whole reads no value of a tensor."""
    subject = bench.learner(bench.assembly(), bench.model().train())
    if subject.capture != "whole":
        return
    found: Counter[str] = Counter()
    for _, knobs in bench.phase_knobs():
        seed_global(bench.seed, "dropout", 0)
        with _Waits(bench.source) as waits:
            subject.step(bench.sample, knobs)
        found |= waits.found
    for where, times in found.items():
        hint = (
            "compute with 0-d tensors instead of float(), item(), `if` and boolean masks; or make "
            "the knob structural; or set the learner's capture to 'never'"
        )
        yield Problem(f"waits for the value of a tensor, {times} times a step", where, hint)


def cost(bench: Bench, uncounted: Sequence[str]) -> Iterator[Problem]:
    """FLOPs of every phase are known, and nothing that may hide work is left out unsaid."""
    try:
        counted = ledger(bench.assembly())
    except Exception as error:
        yield Problem(f"FLOPs cannot be counted: {type(error).__name__}: {error}")
        return
    if counted["train_flops"] <= 0:
        hint = "write products as matmul, einsum or convolutions: sums of products count nothing"
        yield Problem("FLOPs of training come to 0", hint=hint)
    if hidden := [name for name in counted["uncounted"] if name not in uncounted]:
        hint = f"write them in other operators, or say that you know: uncounted = {tuple(hidden)}"
        yield Problem(f"FLOPs of {', '.join(hidden)} are not counted", hint=hint)


def measurements(bench: Bench) -> Iterator[Problem]:
    """The plugin's measurements give finite numbers and leave the model as it is."""
    for card in bench.cards(MeasurementCard):
        config = _measurement_config(bench, card)
        if config is None:
            continue
        model, where = bench.model().eval(), f"measurement {card.name}"
        before = {name: value.clone() for name, value in model.state_dict().items()}
        values = card.run(config, _context(bench, model, card.name))
        if wrong := not_finite(values):
            hint = "return finite numbers; arrays and figures go into context.folder"
            yield Problem(f"returns {wrong}", where, hint)
        if found := next(differences(before, model.state_dict()), None):
            yield Problem(f"changes the model, at {found}", where, "work on a copy")


def _measurement_config(bench: Bench, card: MeasurementCard) -> Any:
    """The recipe's, or the defaults; None if it is for others, or has fields without a default."""
    if card.only_for and bench.plan.work.architecture.name not in card.only_for:
        return None
    if (named := bench.recipe.measures.get(card.name)) is not None:
        return named.config
    needs = any(info.is_required() for info in card.config.model_fields.values())
    return None if needs else card.config()


def _context(bench: Bench, model: nn.Module, name: str) -> MeasureContext:
    folder = bench.folder / "measurements" / name
    folder.mkdir(parents=True, exist_ok=True)
    seed_global(bench.seed, f"measure/{name}")
    return MeasureContext(
        model=model,
        model_config=bench.recipe.architecture.config,
        spec=bench.recipe.spec,
        splits=bench.splits,
        knobs=bench.evaluation_knobs(),
        device=CPU,
        folder=folder,
        seed=bench.seed,
    )
