"""Which field of a recipe a short name means: `beta` for `schedules.beta`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from labctl.errors import UsageError, did_you_mean
from labctl.recipe.document import Block, ScheduleBlock
from labctl.recipe.recipe import Recipe
from labctl.recipe.schedule import Constant

_ASIDE = ("title", "tags", "claims", "seeds", "marks", "stop", "measure", "runtime")
"""Fields that no sweep varies: no work follows from them, or they have their own way to be said."""


def field_of(recipe: Recipe, name: str) -> str:
    """The dotted path of the one field that `name` means: all of its path, or its end.

    Raises:
        UsageError: none or several, or a knob that a curriculum turns.
    """
    known = sorted(set(fields(recipe)))
    turned = _turned(recipe, name)
    if turned is not None:
        raise turned
    if name in known:
        return name
    found = ends_in(recipe, name)
    if len(found) == 1:
        return found[0]
    if found:
        raise UsageError(
            f"{name!r} is {len(found)} fields of {recipe.name}: {', '.join(found)}",
            hint=f"name one of them whole: labctl sweep {found[0]} --recipe {recipe.name}",
        )
    if name.partition(".")[0] in _ASIDE:
        hint = "--seeds 5, or --seeds 3,4" if name == "seeds" else "labctl ls sweeps"
        raise UsageError(f"{name} is no field that a sweep varies", hint=hint)
    leaves = {path.rpartition(".")[2] for path in known if not _has_position(path)}
    raise UsageError(
        f"{recipe.name} has no field {name!r}", hint=did_you_mean(name, [*known, *leaves])
    )


def spelled_out(recipe: Recipe, override: str) -> str:
    """`FIELD=VALUE` with the whole path of a field that is named by its end, as axes may be."""
    name, equals, value = override.partition("=")
    if name.strip().partition(".")[0] in type(recipe.document).model_fields:
        return override
    found = ends_in(recipe, name.strip())
    return f"{found[0]}{equals}{value}" if equals and len(found) == 1 else override


def one_field(first: str, second: str, path: str) -> UsageError:
    """Two names of the one field `path`: only what the second says would count."""
    return UsageError(
        f"{first!r} and {second!r} are one field, {path}", hint="write it under one of the names"
    )


def ends_in(recipe: Recipe, name: str) -> list[str]:
    """The paths of which `name` is the end; of what lies in a list only with its position."""
    ends = [path for path in sorted(set(fields(recipe))) if path.endswith(f".{name}")]
    is_listed = _has_position(name)
    return [path for path in ends if is_listed or not _has_position(path)]


def fields(recipe: Recipe) -> Iterator[str]:
    """Dotted paths of everything in a recipe that could have another value."""
    yield from (path for path, _ in _settings(recipe))
    yield from _knobs(recipe)


def takes_integers(recipe: Recipe, path: str) -> bool:
    """Whether a field holds a whole number, as far as its present value tells."""
    if path.startswith("schedules."):
        knob = recipe.knobs.get(path.removeprefix("schedules."))
        return knob is not None and knob.integer
    value = dict(_settings(recipe)).get(path)
    return isinstance(value, int) and not isinstance(value, bool)


def value_of(recipe: Recipe, path: str) -> Any:
    """What a recipe has in one of its `fields`, as JSON has it."""
    if path in recipe.document.model_fields_set:
        return recipe.document.model_dump(mode="json", by_alias=True)[path]
    known = dict(_settings(recipe))
    if path in known:
        return known[path]
    knob, _, rest = path.removeprefix("schedules.").partition(".")
    schedule = recipe.schedules.get(knob)
    if schedule is None:
        return recipe.knobs[knob].default
    values = schedule.model_dump(mode="json", by_alias=True)
    return dict(_paths("", values))[f".{rest or 'value'}"]


def _settings(recipe: Recipe) -> Iterator[tuple[str, Any]]:
    """Paths and values of all but the schedules."""
    document = recipe.document
    for name in type(document).model_fields:
        value = getattr(document, name)
        if name in _ASIDE or name in ("loss", "schedules"):
            continue
        if isinstance(value, Block):
            card = _card(recipe, name)
            yield from _paths(name, {**_own(value), **card})
        elif isinstance(value, BaseModel):
            yield from _paths(name, value.model_dump(mode="json", by_alias=True))
        elif value is not None:
            yield name, value
    for term, selected in recipe.losses.items():
        yield from _paths(f"loss.{term}", selected.config.model_dump(mode="json", by_alias=True))


def _knobs(recipe: Recipe) -> Iterator[str]:
    for knob in recipe.knobs:
        schedule = recipe.schedules.get(knob)
        if schedule is None or isinstance(schedule, Constant):
            yield f"schedules.{knob}"
        else:
            yield from _schedule_paths(recipe, knob)


def _schedule_paths(recipe: Recipe, knob: str) -> list[str]:
    values = recipe.schedules[knob].model_dump(mode="json", by_alias=True)
    return [path for path, _ in _paths(f"schedules.{knob}", values)]


def _turned(recipe: Recipe, name: str) -> UsageError | None:
    """Why a knob cannot be swept as a whole: a sweep never replaces a curriculum in silence."""
    knob = name.removeprefix("schedules.")
    schedule = recipe.schedules.get(knob)
    if schedule is None or isinstance(schedule, Constant):
        return None
    entry = recipe.document.schedules[knob]
    kind = entry.kind if isinstance(entry, ScheduleBlock) else "schedule"
    choices = _schedule_paths(recipe, knob)
    return UsageError(
        f"{recipe.name} turns {knob} by a {kind} schedule, which a sweep would replace",
        hint=f"sweep one of its fields: {', '.join(choices)}; or a recipe where {knob} is constant",
    )


def _own(block: Block) -> Mapping[str, Any]:
    """labctl's fields of a block."""
    values = block.model_dump(mode="json", by_alias=True)
    extra = block.model_extra or {}
    return {name: value for name, value in values.items() if name not in extra}


def _card(recipe: Recipe, block: str) -> Mapping[str, Any]:
    """The fields of the card that a block names."""
    selected = {
        "model": recipe.architecture,
        "data": recipe.data,
        "learner": recipe.learner,
        "optimizer": recipe.optimizer,
    }[block]
    values: Mapping[str, Any] = selected.config.model_dump(mode="json", by_alias=True)
    return values


def _has_position(path: str) -> bool:
    return any(part.isdecimal() for part in path.split("."))


def _paths(prefix: str, values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        path = f"{prefix}.{name}"
        if isinstance(value, Mapping) and value:
            yield from _paths(path, value)
            continue
        yield path, value
        if isinstance(value, list):
            yield from _paths(path, {str(place): entry for place, entry in enumerate(value)})
