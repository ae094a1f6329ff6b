"""Where a structural knob stands: the few values that training uses, and from which step."""

from __future__ import annotations

from collections.abc import Sequence

from labctl.errors import PluginError, Problem, RecipeError
from labctl.recipe.document import ScheduleBlock
from labctl.recipe.recipe import Recipe
from labctl.recipe.schedule import Schedule
from labctl.recipe.times import Time
from labctl.registry.card import Knob, KnobValue
from labctl.registry.guard import guarded

from .plan import Rung

MOST_EDGES = 1_000_000


def ladders(recipe: Recipe) -> dict[str, tuple[Rung, ...]]:
    """The rungs of every structural knob that a schedule turns.

    Raises:
        RecipeError: a knob cannot stand where its schedule puts it, or never comes to a value.
    """
    found = {}
    problems = []
    for name, schedule in recipe.schedules.items():
        knob = recipe.knobs[name]
        if knob.kind == "structural":
            try:
                found[name] = _ladder(recipe, knob, schedule.resolved(recipe.clock))
            except _Fault as fault:
                where = str(recipe.tree.place(("schedules", name)))
                problems.append(Problem(f"schedules.{name}: {fault.message}", where, fault.hint))
    if problems:
        raise RecipeError(problems)
    return found


class _Fault(Exception):
    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message, self.hint = message, hint


def _ladder(recipe: Recipe, knob: Knob, schedule: Schedule) -> tuple[Rung, ...]:
    """The values of `schedule` at the steps where the knob may change."""
    block = recipe.document.schedules[knob.name]
    every = block.every if isinstance(block, ScheduleBlock) and block.every else Time(1, "ep")
    length = max(1, round(recipe.clock.step(every)))
    edges = range(0, recipe.clock.steps, length)
    if len(edges) > MOST_EDGES:
        raise _Fault(f"{knob.name} would change up to {len(edges):,} times", "lengthen `every`")
    _check_plateaus(knob, schedule, edges, recipe.clock.steps)
    rungs: list[Rung] = []
    for edge, value in zip(edges, _values(knob, schedule, edges), strict=True):
        if fault := knob.fault(value):
            raise _Fault(f"at step {edge}: {fault}")
        if not rungs or rungs[-1].value != value:
            rungs.append(Rung(step=edge, value=value))
    return tuple(rungs)


def _check_plateaus(knob: Knob, schedule: Schedule, edges: range, steps: int) -> None:
    missed = [
        plateau
        for plateau in schedule.plateaus(steps)
        if not any(plateau.start <= edge < plateau.end for edge in _near(plateau.start, edges))
    ]
    if missed:
        shortest = max(1, int(min(plateau.end - plateau.start for plateau in missed)))
        raise _Fault(
            f"{', '.join(str(plateau.value) for plateau in missed)} is never reached: {knob.name} "
            f"may change every {edges.step} steps, and the budget is {steps}",
            f"let it change more often: schedules.{knob.name}.every={shortest}step",
        )


def _near(start: float, edges: range) -> Sequence[int]:
    """The edges just before and after `start`."""
    position = int(start // edges.step)
    return edges[position : position + 2]


def _values(knob: Knob, schedule: Schedule, edges: range) -> Sequence[KnobValue]:
    asked = [schedule.at(edge) for edge in edges]
    numbers = [value for value in asked if not isinstance(value, str)]
    if len(numbers) < len(asked):
        return asked
    if knob.ladder is None:
        return [round(value) for value in numbers] if knob.integer else numbers
    try:
        with guarded(f"the ladder of knob {knob.name!r}"):
            values = list(knob.ladder(numbers))
    except PluginError as error:
        raise _Fault(error.placed, error.hint) from error
    if len(values) != len(numbers):
        raise _Fault(f"the ladder of {knob.name} gives {len(values)} values for {len(numbers)}")
    return values
