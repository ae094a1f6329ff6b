"""From a composed tree to a `Recipe`: every block validated by its card, all problems at once."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from labctl.errors import PluginError, Problem, RecipeError, did_you_mean
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
from labctl.registry.config import Config
from labctl.registry.registry import Loaded, Registry

from . import catalogue
from .document import Document, ScheduleBlock
from .schedule import Constant, Schedule
from .source import Node
from .times import Clock

C = TypeVar("C", bound=Card)
Path_ = tuple[str | int, ...]


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


@dataclass
class _Check:
    """Problems collected over a tree."""

    tree: Node
    problems: list[Problem] = field(default_factory=list)

    def report(self, path: Path_, message: str, hint: str = "") -> None:
        self.problems.append(Problem(message, str(self.tree.place(path)), hint))

    def model(self, model: type[Config], data: Any, path: Path_) -> Any:
        """`data` validated by `model`; None after reporting what is wrong."""
        try:
            return model.model_validate_json(json.dumps(data))
        except ValidationError as error:
            for details in error.errors():
                self._report_pydantic(model, details, path)
            return None

    def _report_pydantic(self, model: type[BaseModel], details: ErrorDetails, path: Path_) -> None:
        loc = tuple(part for part in details["loc"] if part != "[key]")
        name = ".".join(str(part) for part in (*path, *loc)) or "the recipe"
        message, hint = f"{name}: {_message(details)}", ""
        if details["type"] == "extra_forbidden":
            message = f"unknown field {name!r}"
            hint = did_you_mean(str(loc[-1]), _fields(model, loc[:-1]))
        elif details["type"] == "missing":
            message = f"{name} is missing"
            hint = _help(model, loc)
        self.report((*path, *loc), message, hint)

    def card(self, registry: Registry, kind: type[C], name: str, path: Path_, near: list[str]) -> tuple[C, Loaded] | None:
        try:
            return registry.find(kind, name, near=near)
        except PluginError as error:
            where = f"{error.where}: " if error.where else ""
            self.report(path, where + error.message, error.hint)
            return None


def _message(details: ErrorDetails) -> str:
    text = details["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    text = text.replace("Input should be", "should be").replace("Input", "value")
    given = details["input"]
    shown = "" if isinstance(given, dict | list) or details["type"] == "value_error" else f", not {given!r}"
    return text + shown


def _fields(model: type[BaseModel], loc: tuple[Any, ...]) -> list[str]:
    """Names of the fields that the part of `model` at `loc` has."""
    for part in loc:
        info = model.model_fields.get(str(part))
        inner = info.annotation if info else None
        candidates = [inner, *getattr(inner, "__args__", ())]
        found = [c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)]
        if not found:
            return []
        model = found[0]
    return [info.alias or name for name, info in model.model_fields.items()]


def _help(model: type[BaseModel], loc: tuple[Any, ...]) -> str:
    for name, info in model.model_fields.items():
        if loc and (info.alias or name) == loc[-1]:
            return info.description or ""
    return ""


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
    check = _Check(tree)
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


def _check_named_blocks(check: _Check, registry: Registry) -> None:
    """Check what can be checked of the blocks when the recipe as a whole is not well formed."""
    for path, kind, naming in ((("model",), Architecture, "architecture"), (("data",), Dataset, "name")):
        block = check.tree.get(path[0])
        name = block.get(naming) if block else None
        if name is not None and isinstance(name.value, str):
            check.card(registry, kind, name.value, (*path, naming), [])


def _selected(
    check: _Check,
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
    check: _Check, registry: Registry, block: ScheduleBlock | float | str, path: Path_, near: list[str]
) -> Schedule | None:
    if not isinstance(block, ScheduleBlock):
        return Constant(value=block)
    selected = _selected(check, registry, ScheduleCard, block.kind, block.options(), path, near)
    return selected.config if selected else None


def _spec(check: _Check, data: Selected | None, places: Places) -> DataSpec | None:
    if data is None:
        return None
    try:
        spec: DataSpec = data.card.spec(data.config, places)
    except (OSError, ValueError) as error:
        check.report(("data",), f"data: {error}")
        return None
    return spec


def _clock(check: _Check, document: Document, spec: DataSpec) -> Clock | None:
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


def _knobs(check: _Check, parts: list[Selected], spec: DataSpec) -> dict[str, Knob]:
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


def _check_measures(check: _Check, measures: Mapping[str, Selected | None], architecture: str) -> None:
    for name, part in measures.items():
        if part and part.card.only_for and architecture not in part.card.only_for:
            check.report(
                ("measure", name), f"measurement {name!r} cannot open {architecture}", f"it is for {', '.join(part.card.only_for)}"
            )


def _check_schedules(
    check: _Check,
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
