"""From a composed tree to a `Recipe`: every block validated by its card, all problems at once."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from labctl.errors import RecipeError, UsageError
from labctl.project import Project
from labctl.registry.card import CostCard, DataSpec, Knob, Places
from labctl.registry.guard import guarded
from labctl.registry.registry import Loaded, Registry

from . import catalogue, course, fit
from .budget import Budget, Match, nearest_steps
from .check import Check
from .document import DataBlock, Document
from .schedule import Schedule
from .selection import UNNAMED, Selected, Selection
from .source import Node, Steps
from .times import Clock, Time

__all__ = ["Recipe", "Selected", "load"]

_BUDGET: TypeAdapter[Time | Match] = TypeAdapter(Budget)

_STAND_INS: dict[str, Any] = {
    "data": {"name": UNNAMED},
    "model": {"architecture": UNNAMED},
    "optimizer": {"kind": UNNAMED},
    "batch_size": 1,
    "budget": "1step",
    "schedules": {},
}
"""For what a recipe must say and does not: with them, the rest of it can still be checked."""


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
    schedule_plugins: tuple[Loaded, ...]
    """Where their cards come from."""
    knobs: Mapping[str, Knob]
    clock: Clock
    presets: tuple[str, ...]
    point: Mapping[str, Any]
    """Fields that overrides gave other values, but for the seeds."""
    data_label: str
    """Name of the data set's card, and what the recipe sets of it: `npz path=mine.npz`."""
    claims_data: str
    """The `data_label` that claims are about if they name none: presets and overrides aside."""
    claims_budget: str
    """The budget that claims are about: the recipe's own, presets and overrides aside."""

    @property
    def label(self) -> str:
        """`name`, or `name@preset`."""
        return f"{self.name}@{self.preset}" if self.preset else self.name


def load(
    project: Project,
    registry: Registry,
    name: str,
    preset: str | None = None,
    overrides: tuple[str, ...] = (),
) -> Recipe:
    """Read, compose and check a recipe.

    Raises:
        UsageError: no such recipe.
        RecipeError: with every problem of the recipe, each with file, line and column.
    """
    file = catalogue.located(project, name)
    return _loaded(_Reading(project, registry, file, preset, overrides))


@dataclass(frozen=True, slots=True)
class _Reading:
    """A recipe that is being read, and those that wait for it: their budgets match its cost."""

    project: Project
    registry: Registry
    file: catalogue.RecipeFile
    preset: str | None
    overrides: tuple[str, ...] = ()
    waiting: tuple[_Reading, ...] = ()

    @property
    def label(self) -> str:
        """`name`, or `name@preset`."""
        return f"{self.file.name}@{self.preset}" if self.preset else self.file.name

    def other(self, name: str) -> _Reading:
        """The recipe whose cost this one matches: with this one's preset, if it has that.

        Raises:
            UsageError: there is none.
            RecipeError: it waits for this one, or cannot be read.
        """
        name, _, preset = name.partition("@")
        file = catalogue.located(self.project, name)
        if not preset and self.preset in catalogue.presets_of(self.project, file):
            preset = self.preset or ""
        waiting = (*self.waiting, self)
        found = replace(self, file=file, preset=preset or None, overrides=(), waiting=waiting)
        labels = [one.label for one in (*waiting, found)]
        if found.label in labels[:-1]:
            message = f"budgets that match each other in a circle: {' -> '.join(labels)}"
            raise RecipeError(message, hint="give one of them a length, such as 50ep")
        return found


def _loaded(reading: _Reading) -> Recipe:
    recipe = _read(reading)
    match = recipe.document.budget
    if not isinstance(match, Match):
        return recipe
    target = _cost(reading, match, _loaded(reading.other(match.of)))
    try:
        steps = nearest_steps(
            target, lambda steps: _cost(reading, match, _read(reading, steps)), recipe.clock.steps
        )
    except ValueError as error:
        where, hint = str(recipe.tree.place(("budget",))), "give a length, such as 50ep"
        raise RecipeError(
            f"budget: {match} has no match: {error}", where=where, hint=hint
        ) from None
    return _read(reading, steps)


def _cost(reading: _Reading, match: Match, recipe: Recipe) -> float:
    card, _ = reading.registry.find(CostCard, match.match)
    with guarded(f"total() of cost {match.match!r}"):
        return card.total(recipe, reading.project, reading.registry)


def _read(reading: _Reading, steps: int | None = None) -> Recipe:
    """The recipe, checked.

    Args:
        steps: how long it is to train, where its budget matches another's; as long as that one if
            not given.
    """
    project, registry = reading.project, reading.registry
    whole = catalogue.resolved(project, reading.file, reading.preset, reading.overrides)
    check = Check(whole.tree)
    document = _document(check)
    selection = Selection(check, registry, document)
    spec = fit.spec_of(check, selection.data, Places(project.data_roots))
    course.check_marks(check, document)
    clock = knobs = None
    if spec is not None:
        fit.check_model(check, selection.architecture, spec)
        fit.check_augment(check, document.data.augment, spec)
        fit.check_mix(check, document.data.augment, selection)
        clock = course.clock_of(check, document, spec, _length(check, reading, document, steps))
        knobs = course.knobs_of(check, selection.with_knobs, spec)
    if clock is not None:
        course.check_times(check, document, clock)
    if clock is not None and spec is not None:
        course.check_stop(check, document, clock, spec, knobs)
    fit.check_learner(check, selection)
    course.check_schedules(check, selection, knobs, clock)
    fit.check_measures(check, selection, spec)
    fit.check_seeds(check, registry, document, spec)
    is_as_written = reading.preset is None and not reading.overrides
    fit.check_claims(
        check, registry, project, reading.file, document, spec, is_as_written=is_as_written
    )
    if check.problems:
        raise RecipeError(check.in_order)
    assert spec is not None and clock is not None and knobs is not None
    return Recipe(
        name=reading.file.name,
        path=reading.file.path,
        preset=reading.preset,
        tree=whole.tree,
        document=document,
        architecture=_found(selection.architecture),
        data=_found(selection.data),
        spec=spec,
        learner=_found(selection.learner),
        optimizer=_found(selection.optimizer),
        losses={name: _found(part) for name, part in selection.losses.items()},
        measures={name: _found(part) for name, part in selection.measures.items()},
        schedules={name: part for name, part in selection.schedules.items() if part},
        schedule_plugins=tuple(selection.schedule_plugins),
        knobs=knobs,
        clock=clock,
        presets=whole.presets,
        point=whole.point,
        data_label=_data_label(whole.tree),
        claims_data=_data_label(whole.plain) or _data_label(whole.tree),
        claims_budget=_budget(whole.plain) or str(document.budget),
    )


def _length(check: Check, reading: _Reading, document: Document, steps: int | None) -> Time | None:
    """The budget as a length of time; None after reporting why there is none."""
    budget = document.budget
    if isinstance(budget, Time):
        return budget
    if steps is None:
        try:
            steps = _loaded(reading.other(budget.of)).clock.steps
        except RecipeError as error:
            first = error.problems[0]
            others = len(error.problems) - 1
            more = f" ({others} more)" if others else ""
            message = f"budget.of: {budget.of}: {first.placed}{more}"
            check.report(("budget", "of"), message, first.hint)
            return None
        except UsageError as error:
            check.report(("budget", "of"), f"budget.of: {error.message}", error.hint)
            return None
    return Time(float(steps), "step")


def _found(part: Selected | None) -> Selected:
    assert part is not None, "a part that is not found is a problem that was reported"
    return part


def _budget(tree: Node) -> str:
    """The budget that a tree names; empty if none, or none that can be read."""
    budget = tree.get("budget")
    try:
        return str(_BUDGET.validate_python(budget.plain(), by_alias=True)) if budget else ""
    except ValueError:  # a preset or an override has replaced it
        return ""


def _data_label(tree: Node) -> str:
    """The data set that a tree names, and what it sets of its card; empty if none."""
    data = tree.get("data")
    name = data.get("name") if data else None
    if data is None or name is None:
        return ""
    own = sorted(data.children.keys() - DataBlock.model_fields.keys())
    return " ".join([str(name.value), *(f"{key}={data.children[key].plain()}" for key in own)])


def _document(check: Check) -> Document:
    """The recipe as a document; where it is faulty, without what is faulty.

    Raises:
        RecipeError: so much is wrong that no more can be checked.
    """
    plain = check.tree.plain()
    document = check.model(Document, plain)
    if document is not None:
        return document
    assert isinstance(plain, dict)
    for steps in check.faulty:
        _remove(plain, steps)
    for name, stand_in in _STAND_INS.items():
        given = plain.setdefault(name, stand_in)
        if isinstance(stand_in, dict) and isinstance(given, dict):
            plain[name] = {**stand_in, **given}
    try:
        return Document.model_validate_json(json.dumps(plain))
    except ValidationError:
        raise RecipeError(check.in_order) from None


def _remove(plain: Any, steps: Steps) -> None:
    """Take away what `steps` lead to; of a list the whole, of what is not there its parent."""
    here = plain
    for number, step in enumerate(steps):
        is_last = number == len(steps) - 1
        if isinstance(here, dict) and step in here:
            if is_last or isinstance(here[step], list):
                del here[step]
                return
            here = here[step]
        else:
            if number >= 2:
                _remove(plain, steps[:number])
            return
