"""Recipe -> plans: every number that the trainer will need is derived here, once."""

from __future__ import annotations

from typing import Any

from labctl.errors import RecipeError
from labctl.recipe.document import ScheduleBlock
from labctl.recipe.recipe import Recipe, Selected
from labctl.recipe.schedule import Schedule
from labctl.recipe.times import Time
from labctl.registry.card import Knob, KnobValue
from labctl.registry.registry import BUILTIN

from .key import NUMERICS, digest_of
from .plan import DataPart, EvaluatePlan, OptimizerPart, Part, Plan, Rung, RuntimePlan, Work


def plans(recipe: Recipe) -> tuple[Plan, ...]:
    """One plan per seed."""
    return tuple(_plan(recipe, seed) for seed in recipe.document.seeds)


def _plan(recipe: Recipe, seed: int) -> Plan:
    work = _work(recipe, seed)
    values = work.model_dump(mode="json", by_alias=True)
    key = digest_of(values)
    group = digest_of({name: value for name, value in values.items() if name != "seed"})
    runtime = recipe.document.runtime
    default_log = max(1, recipe.clock.steps_per_epoch // 10)
    log_every = default_log if runtime.log_every is None else _steps(recipe, runtime.log_every)
    return Plan(
        recipe=recipe.name,
        preset=recipe.preset,
        title=recipe.document.title,
        tags=recipe.document.tags,
        key=key,
        group=group,
        work=work,
        measures=tuple(_part(name, part) for name, part in recipe.measures.items()),
        runtime=RuntimePlan(
            device=runtime.device,
            log_every=log_every,
            checkpoint_seconds=runtime.checkpoint_seconds,
        ),
    )


def _work(recipe: Recipe, seed: int) -> Work:
    document, clock = recipe.document, recipe.clock
    schedules: dict[str, dict[str, Any]] = {}
    ladders: dict[str, tuple[Rung, ...]] = {}
    for name, schedule in recipe.schedules.items():
        fixed = schedule.resolved(clock)
        if recipe.knobs[name].kind == "structural":
            ladders[name] = _ladder(recipe, recipe.knobs[name], fixed)
        else:
            schedules[name] = fixed.model_dump(mode="json", by_alias=True)
    scheduled = schedules.keys() | ladders.keys()
    parts = (
        recipe.architecture,
        recipe.data,
        recipe.learner,
        recipe.optimizer,
        *recipe.losses.values(),
    )
    return Work(
        architecture=_part(document.model.architecture, recipe.architecture),
        data=DataPart(
            **_part(document.data.name, recipe.data).model_dump(),
            version=recipe.spec.version,
            val=document.data.val,
            augment=document.data.augment,
        ),
        learner=_part(document.learner.kind, recipe.learner),
        losses=tuple(_part(name, recipe.losses[name]) for name in sorted(recipe.losses)),
        optimizer=OptimizerPart(
            **_part(document.optimizer.kind, recipe.optimizer).model_dump(),
            weight_decay=document.optimizer.weight_decay,
            clip_norm=document.optimizer.clip_norm,
            groups=document.optimizer.groups,
        ),
        batch_size=document.batch_size,
        steps=clock.steps,
        steps_per_epoch=clock.steps_per_epoch,
        schedules=schedules,
        ladders=ladders,
        constants={
            knob.name: knob.default for knob in recipe.knobs.values() if knob.name not in scheduled
        },
        numerics=document.numerics,
        evaluate=EvaluatePlan(
            every=_steps(recipe, document.evaluate.every),
            tail=_steps(recipe, document.evaluate.tail) if document.evaluate.tail.value else 0,
            batch_size=document.evaluate.batch_size,
            train=document.evaluate.train,
        ),
        ema=document.ema,
        seed=seed,
        digests={
            part.plugin.plugin.name: part.plugin.digest
            for part in parts
            if part.plugin.plugin.name != BUILTIN
        },
        labctl_numerics=NUMERICS,
    )


def _part(name: str, selected: Selected) -> Part:
    return Part(
        name=name,
        plugin=selected.plugin.plugin.name,
        config=selected.config.model_dump(mode="json", by_alias=True),
    )


def _steps(recipe: Recipe, length: Time) -> int:
    return max(1, round(recipe.clock.step(length)))


def _ladder(recipe: Recipe, knob: Knob, schedule: Schedule) -> tuple[Rung, ...]:
    """The values that a structural knob will take, sampled at the edges where it may change."""
    block = recipe.document.schedules[knob.name]
    every = block.every if isinstance(block, ScheduleBlock) and block.every else Time(1, "ep")
    length = _steps(recipe, every)
    edges = range(0, recipe.clock.steps, length)
    asked = [schedule.at(edge) for edge in edges]
    values: list[KnobValue] = list(asked)
    numbers = [value for value in asked if not isinstance(value, str)]
    if knob.ladder is not None and len(numbers) == len(asked):
        values = list(knob.ladder(numbers))
    elif knob.integer:
        values = [round(value) for value in numbers]
    rungs: list[Rung] = []
    for edge, value in zip(edges, values, strict=True):
        if fault := knob.fault(value):
            raise RecipeError(f"schedules.{knob.name}: at step {edge}: {fault}", where=recipe.name)
        if not rungs or rungs[-1].value != value:
            rungs.append(Rung(step=edge, value=value))
    missed = {value for value in schedule.values() if isinstance(value, str)} - {
        rung.value for rung in rungs
    }
    if missed:
        raise RecipeError(
            f"schedules.{knob.name}: {', '.join(sorted(map(str, missed)))} is never reached: {knob.name} may change "
            f"every {length} steps, and the budget is {recipe.clock.steps}",
            where=recipe.name,
            hint=f"let it change more often: schedules.{knob.name}.every=100step",
        )
    return tuple(rungs)
