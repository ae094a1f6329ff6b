"""Recipe -> plans: every number that the trainer will need is derived here, once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from labctl.recipe.document import ScheduleBlock
from labctl.recipe.looks import is_evaluated, log_every
from labctl.recipe.recipe import Recipe, Selected
from labctl.recipe.times import Time
from labctl.registry.digest import stored_digest
from labctl.registry.registry import BUILTIN, Loaded

from .key import NUMERICS, digest_of
from .ladder import ladders
from .plan import (
    DataPart,
    EvaluatePlan,
    MeasurementPart,
    OptimizerPart,
    Part,
    Plan,
    RuntimePlan,
    Work,
)


def plans(recipe: Recipe, seeds: Sequence[int] = ()) -> tuple[Plan, ...]:
    """One plan for each of `seeds`; if there are none, of those that the recipe begins with.

    Raises:
        RecipeError: a structural knob cannot follow its schedule.
    """
    chosen = seeds or recipe.document.first_seeds
    work = _work(recipe, chosen[0])
    return tuple(_plan(recipe, work.model_copy(update={"seed": seed})) for seed in chosen)


def _plan(recipe: Recipe, work: Work) -> Plan:
    values = _identity(work)
    runtime = recipe.document.runtime
    return Plan(
        recipe=recipe.name,
        preset=recipe.preset,
        title=recipe.document.title,
        tags=recipe.document.tags,
        point=dict(recipe.point),
        key=digest_of(values),
        group=digest_of({name: value for name, value in values.items() if name != "seed"}),
        work=work,
        measures=measurements(recipe, work.digests),
        runtime=RuntimePlan(
            device=runtime.device,
            log_every=log_every(recipe.document, recipe.clock),
            checkpoint_seconds=runtime.checkpoint_seconds,
            engine=runtime.engine,
        ),
    )


def measurements(recipe: Recipe, digests: Mapping[str, str]) -> tuple[MeasurementPart, ...]:
    """What is measured of runs whose key holds `digests` of plugins."""
    return tuple(
        measured_by(MeasurementPart(**_part(name, part).model_dump()), part.plugin, digests)
        for name, part in recipe.measures.items()
    )


def measured_by(
    part: MeasurementPart, loaded: Loaded, digests: Mapping[str, str]
) -> MeasurementPart:
    """The part with the code that its plugin has now."""
    is_beside = loaded.plugin.name not in (BUILTIN, *digests)
    digest = loaded.digest if loaded.plugin.folder.is_dir() else stored_digest(loaded.plugin.folder)
    codes = {"code": loaded.measurements, "plugin_code": digest if is_beside else ""}
    return part.model_copy(update=codes)


def key_of(work: Work) -> str:
    """The key of a plan with this work."""
    return digest_of(_identity(work))


def _identity(work: Work) -> dict[str, Any]:
    values = work.model_dump(mode="json", by_alias=True)
    if not work.stop:
        del values["stop"]  # it came after the first keys, and where it is not used changes none
    return values


def _work(recipe: Recipe, seed: int) -> Work:
    document, clock = recipe.document, recipe.clock
    rungs = ladders(recipe)
    turned = recipe.schedules.keys()
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
        schedules={name: _fixed(recipe, name) for name in turned if name not in rungs},
        ladders=rungs,
        constants={
            knob.name: knob.default for knob in recipe.knobs.values() if knob.name not in turned
        },
        numerics=document.numerics,
        evaluate=EvaluatePlan(
            every=_steps(recipe, document.evaluate.every),
            tail=_steps(recipe, document.evaluate.tail) if document.evaluate.tail.value else 0,
            batch_size=document.evaluate.batch_size,
            train=document.evaluate.train,
        ),
        ema=document.ema,
        stop={name: str(rule.resolved(clock)) for name, rule in sorted(document.stop.items())},
        looks_every=_looks_every(recipe),
        seed=seed,
        digests={
            loaded.plugin.name: loaded.digest
            for loaded in (*(part.plugin for part in parts), *recipe.schedule_plugins)
            if loaded.plugin.name != BUILTIN
        },
        labctl_numerics=NUMERICS,
    )


def _looks_every(recipe: Recipe) -> int | None:
    """As `Work.looks_every`."""
    document = recipe.document
    metrics = (metric for rule in document.stop.values() for metric in rule.metrics)
    if document.runtime.log_every is None or all(map(is_evaluated, metrics)):
        return None
    return log_every(document, recipe.clock)


def _fixed(recipe: Recipe, knob: str) -> dict[str, Any]:
    """The schedule of a continuous knob, every time in steps, with the name of its card."""
    entry = recipe.document.schedules[knob]
    kind = entry.kind if isinstance(entry, ScheduleBlock) else "constant"
    fixed = recipe.schedules[knob].resolved(recipe.clock)
    return {**fixed.model_dump(mode="json", by_alias=True), "kind": kind}


def _part(name: str, selected: Selected) -> Part:
    return Part(
        name=name,
        plugin=selected.plugin.plugin.name,
        config=selected.config.model_dump(mode="json", by_alias=True),
    )


def _steps(recipe: Recipe, length: Time) -> int:
    return max(1, round(recipe.clock.step(length)))
