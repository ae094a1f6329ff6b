"""One of two that are compared: a run, its replicates, a recipe, or entries of a bundle."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labctl.errors import PluginError, UsageError
from labctl.plans.derive import plans
from labctl.plans.plan import Plan
from labctl.project import Project, is_file
from labctl.recipe.catalogue import located
from labctl.recipe.recipe import load
from labctl.registry.registry import Registry
from labctl.store.run import Run, find_runs

from .bundle import Bundle, NoBundle, published, read_bundle
from .entry import entries, name_of
from .result import Result, result_of
from .rows import Rows

_BUNDLE = ".json:"


@dataclass(frozen=True, slots=True)
class Side:
    """Plans of one group, and what became of them."""

    name: str
    plans: Mapping[int, Mapping[str, Any]]
    """By seed, as JSON: those of a bundle may be of another labctl."""
    results: Mapping[int, Result]
    """By seed, of runs that told something: unfinished ones as well."""
    sources: Mapping[str, Path]
    """By plugin: where its code lies."""
    runs: Mapping[int, Run] = field(default_factory=dict)
    """By seed, of results that are in this project."""
    is_published: bool = False
    """Out of a bundle: without code, and without the folders of paths."""
    notes: tuple[str, ...] = ()

    @property
    def plan(self) -> Mapping[str, Any]:
        """Of the first seed."""
        return self.plans[min(self.plans)]

    @property
    def digests(self) -> Mapping[str, str]:
        """Of the plugins' code."""
        digests: Mapping[str, str] = self.plan["work"].get("digests", {})
        return digests


def side(project: Project, registry: Registry, text: str) -> Side:
    """What `text` names: `FILE.json:NAME` in a bundle, a recipe by name or path or
    `recipe@preset`, or runs as in `labctl show`, all of one group.

    Raises:
        UsageError: there is none, they are of several groups, or the bundle cannot be read.
        RecipeError: the recipe is faulty.
        RunError: a run cannot be read.
    """
    if _BUNDLE in text:
        return _published_side(project, text)
    if text.endswith(".json") and (whole := _bundle(Path(text))):
        labels = dict.fromkeys(result.label for result in whole.results)
        hint = f"name a run of it: {', '.join(f'{text}:{label}' for label in labels)}"
        raise UsageError(f"{text} is a bundle", hint=hint)
    name, _, preset = text.partition("@")
    if not _is_recipe(project, name) or set(preset) & set("/ "):  # recipe@preset/seed=N is a run
        return _run_side(project, text)
    return _recipe_side(project, registry, name, preset or None)


def _is_recipe(project: Project, name: str) -> bool:
    try:
        located(project, name)
    except UsageError:
        return False
    return True


def _bundle(path: Path) -> Bundle | None:
    if not is_file(path):
        return None
    try:
        return read_bundle(path, str(path))
    except NoBundle:
        return None


def _published_side(project: Project, text: str) -> Side:
    head, _, name = text.rpartition(_BUNDLE)
    path = Path(f"{head}{_BUNDLE.removesuffix(':')}")
    found = entries(read_bundle(path, project.shown(path)), name)
    _require_one_group(text, [(name_of(result), result.group) for result in found])
    by_seed = {result.seed: result for result in found}
    shown = name_of(found[0]) if len(found) == 1 else _shared(found[0])
    where = f"{shown} in {project.shown(path)}"
    return Side(where, {s: r.plan for s, r in by_seed.items()}, by_seed, {}, is_published=True)


def _shared(result: Result) -> str:
    return name_of(result).removesuffix(f" seed={result.seed}")


def _run_side(project: Project, text: str) -> Side:
    try:
        found = find_runs(project, text)
    except UsageError as error:
        hint = f"{error.hint}\n  recipes: labctl ls; of a bundle: FILE.json:RECIPE/seed=N"
        raise UsageError(f"no run and no recipe {text!r}", hint=hint) from None
    _require_one_group(text, [(run.plan.name, run.plan.group) for run in found])
    by_seed = {run.plan.work.seed: run for run in found}
    name = found[0].plan.name
    told = {seed: result_of(run) for seed, run in by_seed.items()}
    results = {seed: result for seed, result in told.items() if result.conditions}
    shown = name if len(found) == 1 else name.removesuffix(f" seed={found[0].plan.work.seed}")
    notes = [f"{run.plan.name} is {run.status}" for run in found if not run.status.is_final]
    return Side(
        shown,
        {seed: _plain(run.plan) for seed, run in by_seed.items()},
        results,
        _stored(found[0]),
        runs={seed: by_seed[seed] for seed in results},
        notes=tuple(notes),
    )


def _stored(run: Run) -> dict[str, Path]:
    folders = {name: run.source_path / name for name in run.plan.work.digests}
    return {name: folder for name, folder in folders.items() if folder.is_dir()}


def _recipe_side(project: Project, registry: Registry, name: str, preset: str | None) -> Side:
    recipe = load(project, registry, name, preset)
    made = plans(recipe)
    row = Rows(project, registry, preset, published(project)).at(recipe)[0]
    results = {} if row.edition else row.results
    sources = {}
    for plugin in made[0].work.digests:
        try:
            sources[plugin] = registry.load(plugin).plugin.folder
        except PluginError:  # the recipe needs it no more than its digest
            continue
    notes = [f"{recipe.label}  {note}" for note in row.notes()]
    return Side(
        recipe.label,
        {plan.work.seed: _plain(plan) for plan in made},
        results,
        sources,
        runs={} if row.edition else row.runs,
        notes=tuple(notes),
    )


def _plain(plan: Plan) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(plan.model_dump_json(by_alias=True))
    return value


def _require_one_group(text: str, found: Sequence[tuple[str, str]]) -> None:
    if len({group for _, group in found}) > 1:
        names = ", ".join(repr(name) for name, _ in found)
        hint = f"name one: {names}"
        if len({name for name, _ in found}) < len(found):
            hint = "labctl status lists their keys: name one by its key"
        raise UsageError(f"{text!r} means different work", hint=hint)
