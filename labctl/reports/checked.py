"""Every claim of some recipes, tables and sweeps, judged together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from labctl.errors import Problem, RecipeError, UsageError, did_you_mean
from labctl.project import Project
from labctl.recipe import catalogue
from labctl.recipe.catalogue import RecipeFile
from labctl.recipe.layers import NOTHING
from labctl.recipe.source import Node, read
from labctl.registry.registry import Registry
from labctl.sweeps.catalogue import is_sweep, load_sweep, sweep_named, sweeps
from labctl.sweeps.sweep import Sweep

from .bundle import published
from .evidence import Evidence, of_row
from .rows import Row, Rows
from .sweeps import rows_of
from .table import load_table
from .threshold import of_sweep
from .verdicts import Verdict, judge, remark


@dataclass(frozen=True, slots=True)
class Claimant:
    """A recipe or a sweep that claims something, with the results that its claims are judged by."""

    name: str
    """With its preset: `ctd_gamma1.5@short`."""
    is_sweep: bool = False
    bundles: tuple[str, ...] = ()
    """Published files that results come from."""
    edition: str = ""
    """The bundle, if its results were published before the recipe changed."""

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        kind = "sweep" if self.is_sweep else "recipe"
        return {kind: self.name, "published": list(self.bundles), "earlier": bool(self.edition)}


@dataclass(frozen=True, slots=True)
class Checked:
    """All claims with their verdicts, in the order of those who make them."""

    verdicts: tuple[tuple[Claimant, Verdict], ...]
    remark: str
    """How they were judged."""

    def unexpected(self, is_strict: bool) -> list[tuple[Claimant, Verdict]]:
        """Those whose verdict is not the expected one; if strict, also those that have none yet."""
        return [
            (who, verdict)
            for who, verdict in self.verdicts
            if verdict.is_surprise or (is_strict and verdict.is_open)
        ]

    def plain(self, is_strict: bool) -> dict[str, Any]:
        """As JSON."""
        unexpected = self.unexpected(is_strict)
        claims = [
            who.plain()
            | verdict.plain()
            | {"expected": str(verdict.expected), "is_expected": (who, verdict) not in unexpected}
            for who, verdict in self.verdicts
        ]
        return {"claims": claims, "unexpected": len(unexpected), "remark": self.remark}


def check(
    project: Project,
    registry: Registry,
    names: Sequence[str] = (),
    preset: str | None = None,
    bundles: Sequence[Path] = (),
) -> Checked:
    """Judge every claim of what is named, by the project's runs and by published bundles.

    A name that a recipe, a table and a sweep share means them all. Without names: all recipes and
    sweeps, but for those without the preset if one is given. Recipes that claim nothing are not
    loaded.

    Raises:
        UsageError: nothing has such a name.
        RecipeError: with every problem of every recipe, table and sweep that is faulty.
        RunError: a bundle that cannot be read.
    """
    rows = Rows(project, registry, preset, published(project, bundles))
    found: list[tuple[Claimant, Evidence]] = []
    problems: list[Problem] = []
    files, swept = _named(rows, names, preset) if names else _all(project, preset)
    sources = [
        *(partial(_of_recipe, rows, file) for file in files),
        *(partial(_of_sweep, rows, name, bool(names)) for name in swept),
    ]
    for source in sources:
        try:
            found += source()
        except RecipeError as error:
            problems += error.problems
        except UsageError as error:
            problems.append(Problem(error.message, error.where, error.hint))
    if problems:
        raise RecipeError(list(dict.fromkeys(problems)))
    verdicts = judge([evidence for _, evidence in found])
    judged = zip((who for who, _ in found), verdicts, strict=True)
    return Checked(tuple(judged), remark(verdicts))


def _all(project: Project, preset: str | None) -> tuple[list[RecipeFile], list[str]]:
    files = list(catalogue.listed(project).values())
    if preset is not None:
        files = [file for file in files if preset in catalogue.presets_of(project, file)]
    return files, list(sweeps(project))


def _named(
    rows: Rows, names: Sequence[str], preset: str | None
) -> tuple[list[RecipeFile], list[str]]:
    """The recipes and sweeps that names mean, in order, each once."""
    project = rows.project
    recipes, known_sweeps = catalogue.listed(project), sweeps(project)
    listed = catalogue.listed(project, "tables").items()
    tables = {name.removeprefix("tables/"): file.path for name, file in listed}
    files: list[RecipeFile] = []
    swept: list[str] = []
    for given in names:
        table, sweep = (_found(project, given, known) for known in (tables, known_sweeps))
        if table is not None:
            found = load_table(project, table, preset).table
            shown = [*(row.recipe for row in found.rows), found.baseline]
            files += [catalogue.located(project, recipe) for recipe in shown if recipe]
            swept += [row.sweep for row in found.rows if row.sweep]
        if sweep is not None:
            swept.append(sweep)
        is_path = Path(given).suffix in catalogue.SUFFIXES
        if given in recipes or (is_path and table is None and sweep is None):
            files.append(catalogue.located(project, given))
        elif table is None and sweep is None:
            if is_sweep(project, given):
                raise _without_file(sweep_named(project, rows.registry, given, rows.preset))
            hint = did_you_mean(given, [*recipes, *tables, *known_sweeps])
            raise UsageError(f"no recipe, table or sweep {given!r}", hint=hint)
    return list(dict.fromkeys(files)), list(dict.fromkeys(swept))


def _without_file(sweep: Sweep) -> UsageError:
    """What to say of claims of a sweep over a field of a recipe."""
    recipe, (field,) = sweep.config.recipe, sweep.fields
    return UsageError(
        f"{sweep.name} is a sweep without a file, of which nothing can be claimed",
        hint=f"write recipes/sweeps/NAME.yaml with recipe: {recipe}, axes: {{{field}: [..]}} and "
        f"claims; what {recipe} claims: labctl check {recipe}",
    )


def _found(project: Project, given: str, known: Mapping[str, Path]) -> str | None:
    """The name by which a name or a path is known."""
    if given in known:
        return given
    places = {Path(given).resolve(), (project.root / given).resolve()}
    return next((name for name, path in known.items() if path.resolve() in places), None)


def _of_recipe(rows: Rows, file: RecipeFile) -> Iterator[tuple[Claimant, Evidence]]:
    whole = catalogue.resolved(rows.project, file, rows.preset)
    if not (whole.tree.get("claims") or NOTHING).plain():
        return
    known = catalogue.listed(rows.project).get(file.name)
    name = file.name if known and known.path.resolve() == file.path.resolve() else str(file.path)
    found = rows.of(name)
    earlier = [(row, of_row(row, rows.counterpart)) for row in found if row.edition]
    for row in _judged_by(found):
        for place, evidence in enumerate(of_row(row, rows.counterpart)):
            measured = [
                (then, judged[place])
                for then, judged in (earlier if evidence.is_unmeasured else ())
                if not judged[place].is_unmeasured
            ]
            if row.edition or not measured:
                measured = [(row, evidence)]
            yield from ((_claimant(one), about) for one, about in measured)


def _claimant(row: Row) -> Claimant:
    return Claimant(row.recipe.label, False, _bundles(row), row.edition)


def _judged_by(found: Sequence[Row]) -> Sequence[Row]:
    """The row of the recipe as it is; if that has no result, those of its earlier editions, which
    also stand in for what it lacks."""
    now = [row for row in found if not row.edition]
    if any(row.results for row in now):
        return now
    return [row for row in found if row.edition] or now


def _of_sweep(rows: Rows, name: str, is_named: bool) -> Iterator[tuple[Claimant, Evidence]]:
    path = sweeps(rows.project).get(name)
    tree = read(path, rows.project.shown(path)) if path else NOTHING
    has_file_or_field = path is not None or is_sweep(rows.project, name)
    if has_file_or_field and not (tree.get("claims") or NOTHING).plain():
        return
    if rows.preset is not None and not is_named and not _has_preset(rows, tree):
        return
    sweep = load_sweep(rows.project, rows.registry, name, rows.preset)
    for found in rows_of(rows, sweep).editions:
        bundles = {bundle for _, row in found.along for bundle in _bundles(row)}
        who = Claimant(sweep.label, True, tuple(sorted(bundles)), found.edition)
        yield from ((who, evidence) for evidence in of_sweep(found))


def _has_preset(rows: Rows, sweep: Node) -> bool:
    """Whether the recipe of a sweep has the preset that is asked for."""
    recipe = sweep.get("recipe")
    if recipe is None or not isinstance(recipe.value, str):
        return True  # a fault that is found when the sweep is read in full
    file = catalogue.located(rows.project, recipe.value)
    return rows.preset in catalogue.presets_of(rows.project, file)


def _bundles(row: Row) -> tuple[str, ...]:
    return tuple(sorted({*row.bundles.values()}))
