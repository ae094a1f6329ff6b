"""A plan's schedules as a user sees them: values over training, drawn in a line of text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from labctl.errors import PluginError
from labctl.recipe.recipe import Recipe
from labctl.recipe.schedule import Schedule
from labctl.registry.card import KnobValue
from labctl.registry.guard import guarded

from .plan import Plan, Work, landmarks

BLOCKS = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True, slots=True)
class KnobSketch:
    """One knob over the whole budget."""

    name: str
    kind: str
    line: str
    """A sparkline; for choices their names in order."""
    values: tuple[tuple[int, KnobValue], ...]
    """(step, value): every rung of a structural knob; of a continuous one begin, quarters, end."""


def sparkline(values: Sequence[float]) -> str:
    """Eight heights between the least and the greatest value; a flat line stays low."""
    low, high = min(values), max(values)
    if high == low:
        return BLOCKS[0] * len(values)
    return "".join(BLOCKS[min(7, int((value - low) / (high - low) * 8))] for value in values)


def sketches(recipe: Recipe, plan: Plan, width: int = 40) -> list[KnobSketch]:
    """Every knob that a schedule turns, with the values that training will use."""
    last = plan.work.steps - 1
    steps = [round(position * last / (width - 1)) for position in range(width)]
    return [*_structural(plan.work, steps), *_continuous(recipe, plan.work, steps)]


def _structural(work: Work, steps: Sequence[int]) -> Iterator[KnobSketch]:
    for name, rungs in work.ladders.items():
        values = [work.structural_at(step)[name] for step in steps]
        numbers = [value for value in values if not isinstance(value, str)]
        are_numbers = len(numbers) == len(values)
        line = sparkline(numbers) if are_numbers else " > ".join(str(rung.value) for rung in rungs)
        taken = tuple((rung.step, rung.value) for rung in rungs)
        yield KnobSketch(name, "structural", line, taken)


def _continuous(recipe: Recipe, work: Work, steps: Sequence[int]) -> Iterator[KnobSketch]:
    for name in work.schedules:
        schedule = recipe.schedules[name].resolved(recipe.clock)
        at = partial(_value, name, schedule)
        samples = [value for step in steps if not isinstance(value := at(step), str)]
        taken = tuple((step, at(step)) for step in landmarks(work.steps))
        yield KnobSketch(name, "continuous", sparkline(samples), taken)


def _value(name: str, schedule: Schedule, step: float) -> KnobValue:
    with guarded(f"at() of schedules.{name}"):
        value: object = schedule.at(step)
    if not isinstance(value, float | int | str):
        hint = "a schedule gives a number, or one of a knob's choices"
        raise PluginError(f"at() of schedules.{name} gave {value!r} at step {step:g}", hint=hint)
    return value


def realised(recipe: Recipe, plan: Plan) -> list[tuple[int, int, dict[str, float]]]:
    """(start, end, what the structural knobs come to) for every phase.

    Raises:
        PluginError: the architecture cannot tell.
    """
    found = []
    for phase in plan.work.phases():
        standing = {**plan.work.constants, **phase.structural}
        numbers = recipe.architecture.ask("realised", recipe.spec, standing)
        if not isinstance(numbers, Mapping):
            what = f"realised() of architecture {recipe.architecture.card.name!r}"
            raise PluginError(f"{what} gave {numbers!r}", hint="it gives numbers by name")
        found.append((phase.start, phase.end, dict(numbers)))
    return found
