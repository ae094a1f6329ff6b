"""From a composed tree to a `Recipe`: every block validated by its card, all problems at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labctl.errors import RecipeError, did_you_mean
from labctl.project import Project
from labctl.registry.card import (
    Architecture,
    Card,
    Dataset,
    DataSpec,
    Knob,
    LearnerCard,
    LossTerm,
    MeasurementCard,
    OptimizerCard,
    Places,
    ScheduleCard,
)
from labctl.registry.registry import Loaded, Registry

from . import catalogue
from .check import Check, Path_
from .document import Document, ScheduleBlock
from .schedule import Constant, Schedule
from .source import Node
from .times import Clock


@dataclass(frozen=True, slots=True)
class Selected:
    """A card that a recipe names, with the config that the recipe gives it."""

    card: Any
    config: Any
    plugin: Loaded


@dataclass(frozen=True, slots=True)
class Recipe:
    """A recipe that can be carried out: every name found, every value checked."""

    name: str
    path: Path
    preset: str | None
    tree: Node
    document: Document
    architecture: Selected
    data: Selected
    spec: DataSpec
    learner: Selected
    optimizer: Selected
    losses: Mapping[str, Selected]
    measures: Mapping[str, Selected]
    schedules: Mapping[str, Schedule]
    """By knob, as written: times are not yet steps."""
    knobs: Mapping[str, Knob]
    clock: Clock
    presets: tuple[str, ...]
    claims_data: str
    """The data set that claims are about unless they say otherwise: the recipe's own, presets aside."""

    @property
    def label(self) -> str:
        """`name`, or `name@preset`."""
        return f"{self.name}@{self.preset}" if self.preset else self.name


def load(
    project: Project, registry: Registry, name: str, preset: str | None = None, overrides: tuple[str, ...] = ()
) -> Recipe:
    """Read, compose and check a recipe.

    Raises:
        UsageError: no such recipe.
        RecipeError: with every problem of the recipe, each with file, line and column.
    """
    file = catalogue.located(project, name)
    tree, plain = catalogue.resolved(project, file, preset, overrides)
    check = Check(tree)
    document: Document | None = check.model(Document, tree.plain(), ())
    if document is None:
        _check_named_blocks(check, registry)
        raise RecipeError(check.problems)
    places = Places(project.data_roots)

    architecture = _selected(check, registry, Architecture, document.model.architecture, document.model.options(), ("model",))
    near = [architecture.plugin.plugin.name] if architecture else []
    data = _selected(check, registry, Dataset, document.data.name, document.data.options(), ("data",), near)
    if data:
        near.append(data.plugin.plugin.name)
    learner = _selected(check, registry, LearnerCard, document.learner.kind, document.learner.options(), ("learner",), near)
    optimizer = _selected(
        check, registry, OptimizerCard, document.optimizer.kind, document.optimizer.options(), ("optimizer",), near
    )
    losses = {
        term: _selected(check, registry, LossTerm, term, options, ("loss", term), near)
        for term, options in document.loss.items()
    }
    measures = {
        measure: _selected(check, registry, MeasurementCard, measure, block.options(), ("measure", measure), near)
        for measure, block in document.measure.items()
    }
    schedules = {
        knob: _schedule(check, registry, block, ("schedules", knob), near)
        for knob, block in document.schedules.items()
    }
    _check_measures(check, measures, document.model.architecture)
    spec = _spec(check, data, places)
    if spec is not None and architecture is not None:
        if fault := architecture.card.fault(architecture.config, spec):
            check.report(("model",), f"model and data do not fit: {fault}")
    clock = _clock(check, document, spec) if spec else None
    parts = [part for part in (architecture, learner, *losses.values()) if part]
    complete = len(parts) == 2 + len(losses)
    knobs = _knobs(check, parts, spec) if complete and spec else {}
    if complete and clock:
        _check_schedules(check, document, schedules, knobs, clock)
    if check.problems:
        raise RecipeError(check.problems)
    assert architecture and data and learner and optimizer and spec and clock
    base = plain.get("data")
    base_name = base.get("name") if base else None
    return Recipe(
        name=file.name,
        path=file.path,
        preset=preset,
        tree=tree,
        document=document,
        architecture=architecture,
        data=data,
        spec=spec,
        learner=learner,
        optimizer=optimizer,
        losses={name: part for name, part in losses.items() if part},
        measures={name: part for name, part in measures.items() if part},
        schedules={name: schedule for name, schedule in schedules.items() if schedule},
        knobs=knobs,
        clock=clock,
        presets=_presets(project, file),
        claims_data=str(base_name.value) if base_name else document.data.name,
    )


def _presets(project: Project, file: catalogue.RecipeFile) -> tuple[str, ...]:
    presets = catalogue.composed(project, file).get("presets")
    return tuple(presets.value) if presets is not None and isinstance(presets.value, dict) else ()


def _check_named_blocks(check: Check, registry: Registry) -> None:
    """Check what can be checked of the blocks when the recipe as a whole is not well formed."""
    for path, kind, naming in ((("model",), Architecture, "architecture"), (("data",), Dataset, "name")):
        block = check.tree.get(path[0])
        name = block.get(naming) if block else None
        if name is not None and isinstance(name.value, str):
            check.card(registry, kind, name.value, (*path, naming), [])


def _selected(
    check: Check,
    registry: Registry,
    kind: type[Card],
    name: str,
    options: dict[str, Any],
    path: Path_,
    near: list[str] | None = None,
) -> Selected | None:
    found = check.card(registry, kind, name, (*path, kind.field), near or [])
    if found is None:
        return None
    card, plugin = found
    config = check.model(card.config, options, path)
    return None if config is None else Selected(card, config, plugin)


def _schedule(
    check: Check, registry: Registry, block: ScheduleBlock | float | str, path: Path_, near: list[str]
) -> Schedule | None:
    if not isinstance(block, ScheduleBlock):
        return Constant(value=block)
    selected = _selected(check, registry, ScheduleCard, block.kind, block.options(), path, near)
    return selected.config if selected else None


def _spec(check: Check, data: Selected | None, places: Places) -> DataSpec | None:
    if data is None:
        return None
    try:
        spec: DataSpec = data.card.spec(data.config, places)
    except (OSError, ValueError) as error:
        check.report(("data",), f"data: {error}")
        return None
    return spec


def _clock(check: Check, document: Document, spec: DataSpec) -> Clock | None:
    total = spec.sizes["train"]
    left = total - document.data.val
    if left <= 0:
        check.report(("data", "val"), f"data.val: {document.data.val} of {total} training examples leaves none to train on")
        return None
    per_epoch = left // document.batch_size
    if per_epoch == 0:
        check.report(("batch_size",), f"batch_size {document.batch_size} exceeds the {left} training examples of {spec.name}")
        return None
    tokens = spec.tokens_per_item
    rough = Clock(0, per_epoch, tokens * document.batch_size if tokens else None)
    try:
        steps = round(rough.step(document.budget))
    except ValueError as error:
        check.report(("budget",), f"budget: {error}")
        return None
    if steps < 1:
        check.report(("budget",), f"budget {document.budget} is less than one step of {document.batch_size} examples")
        return None
    clock = Clock(steps, per_epoch, rough.tokens_per_step, document.marks)
    for name, time in document.marks.items():
        if time.unit == "mark":
            check.report(("marks", name), f"mark {name} is another mark, {time}; give it a time of its own")
            return None
        if clock.step(time) > steps:
            check.report(("marks", name), f"mark {name} is {time}, after the budget of {document.budget} ends")
            return None
    for name, length in (("every", document.evaluate.every), ("tail", document.evaluate.tail)):
        try:
            clock.step(length)
        except ValueError as error:
            check.report(("evaluate", name), f"evaluate.{name}: {error}")
    return clock


def _knobs(check: Check, parts: list[Selected], spec: DataSpec) -> dict[str, Knob]:
    """Every knob of the parts by name, with the learning rate, which all optimizers have."""
    knobs = {"lr": Knob("lr", 0.0, "learning rate of the optimizer, per step", low=0.0)}
    for part in parts:
        if not hasattr(part.card, "knobs"):
            continue
        for knob in part.card.knobs(part.config, spec):
            first = knobs.setdefault(knob.name, knob)
            if first.kind != knob.kind or first.choices != knob.choices:
                check.report(("model",), f"knob {knob.name!r} is declared twice, in two ways")
    return knobs


def _check_measures(check: Check, measures: Mapping[str, Selected | None], architecture: str) -> None:
    for name, part in measures.items():
        if part and part.card.only_for and architecture not in part.card.only_for:
            check.report(
                ("measure", name), f"measurement {name!r} cannot open {architecture}", f"it is for {', '.join(part.card.only_for)}"
            )


def _check_schedules(
    check: Check,
    document: Document,
    schedules: Mapping[str, Schedule | None],
    knobs: Mapping[str, Knob],
    clock: Clock,
) -> None:
    if "lr" not in schedules:
        check.report((), "schedules.lr is missing", "for example `lr: {kind: cosine, peak: 1e-3, warmup: 5%}`")
    for name, schedule in schedules.items():
        if name not in knobs:
            check.report(("schedules", name), f"no knob {name!r} to turn", did_you_mean(name, knobs))
        elif schedule is not None:
            for fault in _schedule_faults(schedule, knobs[name], clock):
                check.report(("schedules", name), f"schedules.{name}: {fault}")
        block = document.schedules[name]
        if name in knobs and isinstance(block, ScheduleBlock) and block.every is not None and knobs[name].kind == "continuous":
            check.report(("schedules", name, "every"), f"schedules.{name}.every: {name} is continuous and follows every step")


def _schedule_faults(schedule: Schedule, knob: Knob, clock: Clock) -> Iterator[str]:
    try:
        fault = schedule.fault(clock)
    except ValueError as error:
        fault = str(error)
    if fault:
        yield fault
        return
    for value in schedule.values():
        if fault := knob.fault(value):
            yield fault
            return
