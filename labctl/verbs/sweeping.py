"""Training a recipe at every value of some of its fields."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from pathlib import Path

from labctl.errors import RecipeError, UsageError
from labctl.execute.job import Job, outcome_of
from labctl.project import Project
from labctl.recipe.recipe import Recipe, load
from labctl.registry.registry import Registry
from labctl.store.status import Status
from labctl.sweeps.arguments import parse_seeds, with_values
from labctl.sweeps.catalogue import load_sweep, sweep_of_field
from labctl.sweeps.field import spelled_out
from labctl.sweeps.jobs import Cell, cells, due
from labctl.sweeps.sweep import Sweep

from .carrying import How, carry_out, carry_out_anew, require_data
from .growing import grown, joined
from .opening import Where, opened
from .outcomes import Outcomes

RETRIED = ("diverged", "failed", "halted", "lost", "stopped")
"""Ends after which a run can be tried again."""


def sweep(
    name: str = "",
    *overrides: str,
    values: str | float | Iterable[object] = (),
    recipe: str | Path | None = None,
    seeds: int | str | Iterable[int] | None = None,
    zip_: bool = False,
    retry: str | Iterable[str] = (),
    preset: str | None = None,
    jobs: int | None = None,
    together: str | int = "auto",
    fail_fast: bool = False,
    yes: bool = False,
    track: bool = True,
    project: Where = None,
) -> Outcomes:
    """Train a recipe at every value of a field; what is done is not done again.

    `labctl.sweep("beta", values="0.20:0.25")` runs recipes/sweeps/beta.yaml at these values;
    `labctl.sweep("lr.peak", recipe="ctd_baseline", values="log:1e-4:1e-2/5")` needs no file.

    Args:
        name: a sweep of recipes/sweeps/, or with `recipe` a field of it.
        overrides: FIELD=VALUE of all points.
        values: lo:hi:step, lo:hi/n, log:lo:hi/n, or several values; FIELD=VALUES, one for each of
            several fields.
        seeds: 5 for 0 to 4, or several seeds.
        zip_: several fields together, not every combination.
        retry: what is tried again: failed, diverged, halted, lost, stopped.

    Further arguments are those of `labctl.run`.

    Returns:
        How each run stands; one that diverged or was halted has answered.

    Raises:
        UsageError, RecipeError: something that cannot be understood.
        EnvironmentProblem: data or a device are missing.
        Interrupted: a signal asked for the end; every run has a checkpoint.
    """
    given = texts(values)
    found, registry, asked = spoken(project, name, overrides, given, recipe, preset)
    asked = asked.at(given, is_zip=zip_, seeds=written(seeds))
    how = How(jobs, together, fail_fast, yes, track)
    again = statuses(retry if isinstance(retry, str) else ",".join(retry))
    return trained(found, registry, asked, how, again)


def spoken(
    project: Where,
    name: str,
    overrides: Sequence[str],
    values: Sequence[str],
    recipe: str | Path | None,
    preset: str | None,
) -> tuple[Project, Registry, Asked]:
    """What a function of `labctl` was asked for, and where.

    Raises:
        UsageError, RecipeError: something that cannot be understood.
    """
    found, registry = opened(project)
    words = [name, *overrides] if name else list(overrides)
    names = [word for word in words if "=" not in word]
    fixed = [word for word in words if "=" in word]
    named = None if recipe is None else str(recipe)
    return found, registry, asked_for(found, registry, names, fixed, values, named, preset)


@dataclass(frozen=True, slots=True)
class Asked:
    """A sweep, and the recipe that it varies."""

    sweep: Sweep
    recipe: Recipe

    def at(self, values: Sequence[str], *, is_zip: bool, seeds: str | None) -> Asked:
        """The same at these values and seeds.

        Raises:
            UsageError: they cannot be read, or none is left.
        """
        found = with_values(self.sweep, self.recipe, values, is_zip)
        return replace(self, sweep=found).with_seeds(seeds)

    def with_seeds(self, text: str | None) -> Asked:
        """The same with other seeds, if any are given."""
        if text is None:
            return self
        return replace(self, sweep=self.sweep.with_seeds(parse_seeds(text)))


def asked_for(
    project: Project,
    registry: Registry,
    names: Sequence[str],
    overrides: Sequence[str],
    values: Sequence[str],
    recipe: str | None,
    preset: str | None,
) -> Asked:
    """The sweep that is meant; with a recipe, `values` of the form FIELD=... may say it alone.

    Raises:
        UsageError: none or several are named, or there is no such sweep, recipe or field.
        RecipeError: one is faulty.
    """
    if not names and recipe is not None:
        fields = [field for field, equals, _ in (text.partition("=") for text in values) if equals]
        names = fields[:1]
    if len(names) != 1:
        raise UsageError("name one sweep or one field", hint="labctl sweep NAME; labctl ls sweeps")
    if recipe is None:
        found = load_sweep(project, registry, names[0], preset)
    else:
        found = sweep_of_field(project, registry, names[0], recipe, preset)
    fixed = _spelled_out(project, registry, found, overrides, preset) if overrides else ()
    found = replace(found, fixed=fixed)
    loaded = load(project, registry, found.config.recipe, preset, found.fixed)
    return Asked(found, loaded)


def _spelled_out(
    project: Project,
    registry: Registry,
    sweep: Sweep,
    overrides: Sequence[str],
    preset: str | None,
) -> tuple[str, ...]:
    try:
        bare = load(project, registry, sweep.config.recipe, preset)
    except RecipeError:
        return tuple(overrides)  # they may be what it lacks
    return tuple(spelled_out(bare, text) for text in overrides)


def cells_of(project: Project, registry: Registry, asked: Asked) -> list[Cell]:
    """Every point with every seed; where the recipe grows, with those that have joined as well."""
    sweep, points = asked.sweep, asked.sweep.points()
    later = [
        Cell(point, Job(plan, recipe.path))
        for point in (points if sweep.growing else ())
        for recipe in [sweep.at(project, registry, point)]
        for plan in joined(project, recipe)
    ]
    return [*cells(project, registry, sweep, points), *later]


def trained(
    project: Project, registry: Registry, asked: Asked, how: How, retry: frozenset[Status]
) -> Outcomes:
    """What `sweep` does."""
    found = asked.sweep
    require_data(project, registry, [asked.recipe])
    if any(name.startswith("data.") for name in found.fields):
        points = found.points()
        require_data(project, registry, [found.at(project, registry, point) for point in points])
    table = cells_of(project, registry, asked)
    # What was lost or stopped goes on where it was.
    ends = retry - {Status.LOST, Status.STOPPED}
    anew = [cell.job for cell in table if cell.run(project).status in ends]
    todo = due(project, table, retry)
    keys = {cell.job.plan.key for cell in todo}
    left = [cell for cell in table if cell.job.plan.key not in keys]
    outcomes = carry_out_anew(project, registry, [cell.job for cell in todo], how, anew)
    outcomes += [outcome_of(c.run(project), c.job.plan, was_skipped=True) for c in left]
    places = {cell.run(project).folder: place for place, cell in enumerate(table)}
    outcomes.sort(key=lambda one: places[one.run.folder])
    if found.growing is not None:
        recipes = [found.at(project, registry, point) for point in found.points()]
        while more := list(grown(project, registry, recipes, how)):
            outcomes += carry_out(project, registry, more, how)
    return Outcomes.of_sweep(outcomes)


def say_note(found: Sweep, how: How) -> None:
    """Say what is worth knowing before its runs begin."""
    if found.note:
        how.console.print(found.note, highlight=False, soft_wrap=True)


def statuses(text: str) -> frozenset[Status]:
    """The ends that a list of words names.

    Raises:
        UsageError: a word that is none.
    """
    words = [word.strip().lower() for word in text.split(",") if word.strip()]
    if unknown := [word for word in words if word not in RETRIED]:
        raise UsageError(f"--retry {unknown[0]}: no way for a run to end", hint=", ".join(RETRIED))
    return frozenset(Status(word.upper()) for word in words)


def texts(values: str | float | Iterable[object]) -> list[str]:
    """Values as the command line has them: plain values in one list, those of a named field by
    themselves."""
    texts = [_yaml(v) for v in ([values] if isinstance(values, str | float | int) else values)]
    plain = ",".join(text for text in texts if "=" not in text)
    return [*([plain] if plain else []), *(text for text in texts if "=" in text)]


def _yaml(value: object) -> str:
    """A value as a recipe writes it: `false`, `null`, `[1, 2]`."""
    if value is None or isinstance(value, list | tuple | dict):
        return json.dumps(value)
    is_truth = not isinstance(value, str) and str(value) in ("True", "False")  # also numpy's
    return str(value).lower() if is_truth else str(value)


def written(seeds: int | str | Iterable[int] | None) -> str | None:
    """Seeds as on the command line."""
    if seeds is None or isinstance(seeds, str):
        return seeds
    return str(seeds) if isinstance(seeds, int | Integral) else ",".join(map(str, seeds)) + ","
