"""A plan's schedules as a user sees them: values over training, drawn in a line of text."""

from __future__ import annotations

from dataclasses import dataclass

from labctl.recipe.recipe import Recipe
from labctl.registry.card import KnobValue

from .plan import Plan

BLOCKS = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True, slots=True)
class KnobSketch:
    """One knob over the whole budget."""

    name: str
    kind: str
    line: str
    """A sparkline; for choices their names in order."""
    values: tuple[tuple[int, KnobValue], ...]
    """(step, value): every rung of a structural knob; begin, quarters and end of a continuous
    one."""


def sparkline(values: list[float]) -> str:
    """Eight heights between the least and the greatest value; a flat line stays low."""
    low, high = min(values), max(values)
    if high == low:
        return BLOCKS[0] * len(values)
    return "".join(BLOCKS[min(7, int((value - low) / (high - low) * 8))] for value in values)


def sketches(recipe: Recipe, plan: Plan, width: int = 40) -> list[KnobSketch]:
    """Every knob that a schedule turns, with the values that training will use."""
    work = plan.work
    steps = [round(i * (work.steps - 1) / (width - 1)) for i in range(width)]
    drawn = []
    for name, rungs in work.ladders.items():
        values = [work.structural_at(step)[name] for step in steps]
        numbers = [value for value in values if not isinstance(value, str)]
        line = (
            sparkline(numbers)
            if len(numbers) == len(values)
            else " > ".join(str(rung.value) for rung in rungs)
        )
        drawn.append(
            KnobSketch(name, "structural", line, tuple((rung.step, rung.value) for rung in rungs))
        )
    for name, schedule in recipe.schedules.items():
        if name in work.ladders:
            continue
        fixed = schedule.resolved(recipe.clock)
        marks = sorted({0, work.steps // 4, work.steps // 2, 3 * work.steps // 4, work.steps - 1})
        samples = [value for step in steps if not isinstance(value := fixed.at(step), str)]
        drawn.append(
            KnobSketch(
                name, "continuous", sparkline(samples), tuple((s, fixed.at(s)) for s in marks)
            )
        )
    return drawn


def realised(recipe: Recipe, plan: Plan) -> list[tuple[int, int, dict[str, float]]]:
    """(start, end, what the structural knobs come to) for every phase."""
    card, config = recipe.architecture.card, recipe.architecture.config
    return [
        (
            phase.start,
            phase.end,
            card.realised(config, recipe.spec, {**plan.work.constants, **phase.structural}),
        )
        for phase in plan.work.phases()
    ]
