"""From a composed tree to a `Recipe`: every block validated by its card, all problems at once."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from labctl.errors import RecipeError
from labctl.project import Project
from labctl.registry.card import DataSpec, Knob, Places
from labctl.registry.registry import Registry

from . import catalogue, fit
from .check import Check
from .document import Document
from .schedule import Schedule
from .selection import UNNAMED, Selected, Selection
from .source import Node, Steps
from .times import Clock, Time

__all__ = ["Recipe", "Selected", "load"]

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
    knobs: Mapping[str, Knob]
    clock: Clock
    presets: tuple[str, ...]
    point: Mapping[str, Any]
    """Fields that overrides gave other values, but for the seeds."""
    claims_data: str
    """The data set that claims are about if they name none: the recipe's own, presets aside."""
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
    whole = catalogue.resolved(project, file, preset, overrides)
    check = Check(whole.tree)
    document = _document(check)
    selection = Selection(check, registry, document)
    spec = fit.spec_of(check, selection.data, Places(project.data_roots))
    fit.check_marks(check, document)
    clock = knobs = None
    if spec is not None:
        fit.check_model(check, selection.architecture, spec)
        fit.check_augment(check, document.data.augment, spec)
        clock = fit.clock_of(check, document, spec)
        knobs = fit.knobs_of(check, selection.with_knobs, spec)
    if clock is not None:
        fit.check_times(check, document, clock)
    if clock is not None and spec is not None:
        fit.check_stop(check, document, clock, spec)
    fit.check_schedules(check, selection, knobs, clock)
    fit.check_measures(check, selection)
    fit.check_claims(check, registry, project, document)
    if check.problems:
        raise RecipeError(check.in_order)
    assert spec is not None and clock is not None and knobs is not None
    return Recipe(
        name=file.name,
        path=file.path,
        preset=preset,
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
        knobs=knobs,
        clock=clock,
        presets=whole.presets,
        point=whole.point,
        claims_data=_data_name(whole.plain) or document.data.name,
        claims_budget=_budget(whole.plain) or str(document.budget),
    )


def _found(part: Selected | None) -> Selected:
    assert part is not None, "a part that is not found is a problem that was reported"
    return part


def _budget(tree: Node) -> str:
    """The budget that a tree names; empty if none, or none that can be read."""
    budget = tree.get("budget")
    try:
        return str(Time.parse(budget.value)) if budget else ""
    except ValueError:  # a preset or an override has replaced it
        return ""


def _data_name(tree: Node) -> str:
    """The data set that a tree names; empty if none."""
    data = tree.get("data")
    name = data.get("name") if data else None
    return str(name.value) if name else ""


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
