"""Sweeps by their names: those of `recipes/sweeps/`, and those of a field without a file."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from labctl.errors import RecipeError, UsageError, did_you_mean
from labctl.project import Project, is_file
from labctl.recipe.catalogue import listed
from labctl.recipe.check import Check
from labctl.recipe.recipe import Recipe, load
from labctl.recipe.source import Node, read
from labctl.registry.registry import Registry

from .axis import Axis, values_of
from .config import SweepConfig, faults_of
from .field import ends_in, field_of, one_field, takes_integers
from .sweep import Sweep


def sweeps(project: Project) -> dict[str, Path]:
    """The sweeps of the project and the bundled ones, by name."""
    found = listed(project, "sweeps")
    return {name.removeprefix("sweeps/"): file.path for name, file in found.items()}


def is_sweep(project: Project, name: str) -> bool:
    """Whether a sweep can be called so."""
    return name in sweeps(project) or _recipe_and_field(project, name) is not None


def sweep_named(
    project: Project, registry: Registry, name: str, preset: str | None = None
) -> Sweep:
    """The sweep of a file, or `RECIPE.FIELD` for one that has none.

    Raises:
        UsageError, RecipeError: as `load_sweep`, `sweep_of_field`.
    """
    if name not in sweeps(project) and (parts := _recipe_and_field(project, name)):
        return sweep_of_field(project, registry, parts[1], parts[0], preset)
    return load_sweep(project, registry, name, preset)


def load_sweep(project: Project, registry: Registry, name: str, preset: str | None = None) -> Sweep:
    """Read and check `recipes/sweeps/NAME.yaml`, or a file by its path.

    Raises:
        UsageError: no such sweep.
        RecipeError: a fault of the file or of its recipe, with place.
    """
    path = _located(project, name)
    tree = read(path, project.shown(path))
    check = Check(tree, "the sweep")
    config = check.model(SweepConfig, tree.plain())
    if config is None:
        raise RecipeError(check.in_order)
    recipe = _recipe(project, registry, config, preset, tree)
    axes: list[Axis] = []
    names: dict[str, str] = {}
    for given, values in config.axes.items():
        try:
            varied = field_of(recipe, given)
            if varied in names:
                raise one_field(names[varied], given, varied)
            names[varied] = given
            is_integer = takes_integers(recipe, varied)
            axes.append(Axis(varied, values_of(values, config, is_integer), is_integer))
        except UsageError as error:
            check.report(("axes", given), error.message, error.hint)
        except ValueError as error:
            check.report(("axes", given), str(error))
    if config.boundary and [axis.is_integer for axis in axes] == [True]:
        try:
            config = config.model_copy(update={"boundary": config.boundary.of_integers()})
        except ValidationError as error:
            check.report(("boundary",), faults_of(error))
    if check.problems:
        raise RecipeError(check.in_order)
    seeds = config.seeds or recipe.document.first_seeds
    growing = None if config.seeds else recipe.document.growing
    return Sweep(path.stem, config, preset, tuple(axes), seeds, growing=growing, tree=tree)


def sweep_of_field(
    project: Project, registry: Registry, name: str, recipe: str, preset: str | None = None
) -> Sweep:
    """A sweep without a file: of one field of a recipe; its values are given by `with_values`.

    Raises:
        UsageError: no such recipe, or no such field.
    """
    loaded = load(project, registry, recipe, preset)
    found = field_of(loaded, name)
    config = SweepConfig(recipe=recipe, axes={found: []})
    short = found.rpartition(".")[2]
    if not found.startswith("schedules.") or [*ends_in(loaded, short)] != [found]:
        short = found
    seeds, growing = loaded.document.first_seeds, loaded.document.growing
    axes = (Axis(found, (), takes_integers(loaded, found)),)
    return Sweep(f"{loaded.name}.{short}", config, preset, axes, seeds, growing=growing)


def _recipe(
    project: Project, registry: Registry, config: SweepConfig, preset: str | None, tree: Node
) -> Recipe:
    try:
        return load(project, registry, config.recipe, preset)
    except UsageError as error:
        where = str(tree.place(("recipe",)))
        raise RecipeError(error.message, where=where, hint=error.hint) from None


def _located(project: Project, name: str) -> Path:
    known = sweeps(project)
    if name in known:
        return known[name]
    for candidate in (Path(name), project.root / name):
        if candidate.suffix in (".yaml", ".yml") and is_file(candidate):
            return candidate
    raise UsageError(
        f"no sweep {name!r}",
        hint=f"{did_you_mean(name, known)}; of a field without a file: "
        f"labctl sweep {name} --recipe RECIPE --values ...",
    )


def _recipe_and_field(project: Project, name: str) -> tuple[str, str] | None:
    known = listed(project)
    dots = [place for place, sign in enumerate(name) if sign == "."]
    splits = ((name[:place], name[place + 1 :]) for place in reversed(dots))
    return next((parts for parts in splits if parts[0] in known and parts[1]), None)
