"""Measurements that finished runs are asked for later."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from labctl.errors import PluginError, Problem, RecipeError, RunError, UsageError, did_you_mean
from labctl.plans.derive import measured_by
from labctl.plans.fields import codes_of
from labctl.plans.plan import MeasurementPart, Plan, differences
from labctl.project import Project
from labctl.recipe.check import Check
from labctl.recipe.metrics import without_split
from labctl.recipe.source import Mark, parse_value
from labctl.registry.card import Dataset, MeasurementCard, Places
from labctl.registry.config import Config
from labctl.registry.guard import guarded
from labctl.registry.registry import Registry
from labctl.store.run import Run, run_of
from labctl.store.status import Status

from .job import Job


def told_apart(registry: Registry, words: Sequence[str]) -> tuple[list[str], dict[str, list[str]]]:
    """Names of runs, and of measurements with the fields that they are given: `maps.images=64`.

    Raises:
        UsageError: no measurement, or no run, is among the words.
    """
    known = [card.name for card, _ in registry.cards(MeasurementCard)]
    asked: dict[str, list[str]] = {}
    runs = []
    for word in words:
        name, _, field = word.partition(".")
        if name in known:
            asked.setdefault(name, []).extend([field] if field else [])
        else:
            runs.append(word)
    if not asked:
        last = words[-1].partition(".")[0] if words else ""
        near = did_you_mean(last, known)
        raise UsageError(f"{last!r} is no measurement", hint=near)
    if not runs:
        raise UsageError("no run is named", hint="labctl measure RECIPE@PRESET/seed=N MEASUREMENT")
    return runs, asked


def jobs(
    project: Project, registry: Registry, runs: Iterable[Run], asked: Mapping[str, Sequence[str]]
) -> list[Job]:
    """What takes the measurements `asked` of finished runs, by the code that they were trained
    with; where that is today's, but for measurements, by today's.

    Raises:
        RunError: a run is not done, not the project's, or its code has no such measurement.
        UsageError: a measurement cannot open the architecture of a run, or its data do not fit it.
        RecipeError: a field that it does not have, or another value than it takes.
    """
    return [
        Job(_asked(project, registry, run, asked), Path(run.provenance.get("recipe", ".")))
        for run in runs
    ]


def replaced(jobs: Iterable[Job], runs: Iterable[Run]) -> Iterator[str]:
    """What was measured of runs with other settings, or by other code, than it is to be now, and
    gives way to that."""
    for job, run in zip(jobs, runs, strict=True):
        for part in job.plan.measures:
            before = run.asked(part.name) if run.measured(part.name) else None
            if before is None:
                continue
            for setting, (then, now) in differences(before.config, part.config).items():
                asked = f"{part.name}.{setting}={now}"
                yield f"{job.plan.name}  {asked} takes the place of what was measured with {then}"
            if before.plugin and codes_of(before.model_dump()) != codes_of(part.model_dump()):
                what = f"code of {part.plugin} that measures it has changed"
                yield f"{job.plan.name}  {part.name} is taken again: {what}"


def _asked(
    project: Project, registry: Registry, run: Run, asked: Mapping[str, Sequence[str]]
) -> Plan:
    plan = run.plan
    if run_of(project, plan).folder.resolve() != run.folder.resolve():
        raise RunError(
            f"{plan.name} lies outside of {project.shown(project.runs)}",
            where=str(run.folder),
            hint="LABCTL_RUNS, or --project, says where the runs of a project are",
        )
    if run.status is not Status.DONE:
        hint = "labctl resume finishes it"
        if run.status.is_final:
            hint = "it keeps no weights; another recipe, without what ended it, would have some"
        raise RunError(
            f"{plan.name} is {run.status}; only a finished run can be measured", hint=hint
        )
    if not _trains_alike(registry, plan):
        registry = Registry(run.source_path, is_quiet=True)
    places = Places(project.data_roots)
    wanted = {name: _part(registry, plan, name, fields, places) for name, fields in asked.items()}
    # One copy of a plugin's code is kept: what else was measured by it is measured by the same.
    renewed = {part.plugin for part in wanted.values()}
    parts = {
        part.name: measured_by(part, registry.load(part.plugin), plan.work.digests)
        if part.plugin in renewed
        else part
        for part in run.taken
        if run.measured(part.name)
    }
    return plan.model_copy(update={"measures": tuple((parts | wanted).values())})


def _trains_alike(registry: Registry, plan: Plan) -> bool:
    """Whether today's plugins train as they did for the plan."""
    digests = plan.work.digests
    try:
        return all(registry.load(name).digest == digest for name, digest in digests.items())
    except PluginError:
        return False


def _part(
    registry: Registry, plan: Plan, name: str, fields: Sequence[str], places: Places
) -> MeasurementPart:
    try:
        card, loaded = registry.find(MeasurementCard, name, near=plan.work.digests)
    except PluginError as error:
        message = f"the code that {plan.name} was trained with has no measurement {name}"
        raise RunError(message, hint=error.hint) from None
    architecture = plan.work.architecture.name
    if card.only_for and architecture not in card.only_for:
        raise UsageError(
            f"measurement {name!r} cannot open {architecture}",
            hint=f"it is for {', '.join(card.only_for)}",
        )
    given = {}
    for field in fields:
        key, _, text = field.partition("=")
        if key in given:
            raise UsageError(f"{name}.{key} is given twice", hint="each field once")
        given[key] = parse_value(text, Mark(f"{name}.{field}")).plain()
    check = Check(parse_value(json.dumps(given), Mark(name)), name)
    config = check.model(card.config, given)
    if config is None:
        raise RecipeError(check.in_order)
    if fault := _fault(registry, plan, card, config, places):
        message = f"measurement {name!r} cannot be taken of {plan.name}: {fault.message}"
        raise UsageError(message, hint=fault.hint)
    dumped = config.model_dump(mode="json", by_alias=True)
    part = MeasurementPart(name=name, plugin=loaded.plugin.name, config=dumped)
    return measured_by(part, loaded, plan.work.digests)


def _fault(
    registry: Registry, plan: Plan, card: MeasurementCard, config: Config, places: Places
) -> Problem | None:
    """Why the measurement does not fit the data of a plan. Begun nevertheless, it would fail, and
    the run with it, which is done."""
    of = plan.work.data
    data, _ = registry.find(Dataset, of.name, near=(of.plugin,))
    with guarded(f"spec() of dataset {of.name!r}"):
        spec = data.spec(data.config.model_validate_json(json.dumps(of.config)), places)
    with guarded(f"fault() of measurement {card.name!r}"):
        fault = card.fault(config, spec)
    return Problem(fault) if fault else without_split(config, spec.splits(of.val))
