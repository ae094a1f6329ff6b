"""Verbs about recipes: validate, plan, schema."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from labctl.errors import LabctlError, Problem, RecipeError, UsageError
from labctl.project import Project

from .session import AsJson, Preset, RecipeName, _recipe_names, open_project, print_json

if TYPE_CHECKING:
    from labctl.plans.plan import Plan
    from labctl.registry.registry import Registry


def register(app: typer.Typer) -> None:
    """Add the verbs to `app`."""
    for verb in (validate, plan, schema):
        app.command(rich_help_panel="Recipes")(verb)


def validate(
    recipes: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RECIPE...] [FIELD=VALUE...]",
            help="All of this project if none is named.",
            autocompletion=_recipe_names,
        ),
    ] = None,
    preset: Preset = None,
    as_json: AsJson = False,
) -> None:
    """Check recipes and all their presets; every problem with its place."""
    from labctl.plans.derive import plans
    from labctl.recipe.catalogue import listed
    from labctl.recipe.recipe import load

    project, registry = open_project()
    overrides = tuple(text for text in recipes or () if "=" in text)
    names = [text for text in recipes or () if "=" not in text]
    if overrides and not names:
        hint = f"labctl validate RECIPE {overrides[0]}"
        raise UsageError(f"{overrides[0]} of which recipe?", hint=hint)
    names = names or [name for name, file in listed(project).items() if not file.is_bundled]
    valid: list[str] = []
    problems: dict[str, tuple[Problem, ...]] = {}
    for name in names:
        for chosen in [preset] if preset else _editions(project, name):
            label = f"{name}@{chosen}" if chosen else name
            try:
                recipe = load(project, registry, name, chosen, overrides)
                plans(recipe)
                valid.append(recipe.label)
            except RecipeError as error:
                problems[label] = error.problems
            except LabctlError as error:
                problems[label] = (Problem(error.message, error.where, error.hint),)
    if as_json:
        found = [
            {"recipe": label, "where": p.where, "message": p.message, "hint": p.hint}
            for label, several in problems.items()
            for p in several
        ]
        print_json({"valid": valid, "problems": found})
        if problems:
            raise typer.Exit(RecipeError.exit_code)
        return
    for label in valid:
        typer.echo(f"{label}  valid")
    if problems:
        raise RecipeError(list(_gathered(problems, is_one=len(names) == 1)))


def _gathered(problems: Mapping[str, Sequence[Problem]], *, is_one: bool) -> Iterator[Problem]:
    """Each problem once, as a fault of a recipe is found again in each of its presets; and where
    more than one recipe was asked about or only presets have it, which."""
    of: dict[Problem, list[str]] = {}
    for label, several in problems.items():
        for problem in several:
            of.setdefault(problem, []).append(label)
    for problem, labels in of.items():
        plain = [label for label in labels if "@" not in label]
        if plain and is_one:
            yield problem
        else:
            said = "; ".join(filter(None, [problem.hint, f"found in {', '.join(plain or labels)}"]))
            yield replace(problem, hint=said)


def _editions(project: Project, name: str) -> list[str | None]:
    """The recipe by itself, and with each of its presets."""
    from labctl.recipe.catalogue import located, presets_of

    try:
        return [None, *presets_of(project, located(project, name))]
    except LabctlError:  # found again, and reported, when the recipe is loaded
        return [None]


def plan(
    name: RecipeName,
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[FIELD=VALUE...]")] = None,
    preset: Preset = None,
    cost: Annotated[
        bool, typer.Option("--cost", help="Add parameters, FLOPs by phase and a time estimate.")
    ] = False,
    power: Annotated[
        bool,
        typer.Option("--power", help="Add what differences its seeds, or more of them, can show."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show what a recipe comes to: runs, schedules as realised, what is done."""
    from labctl.recipe.recipe import load
    from labctl.verbs.planning import plan as planned

    project, registry = open_project()
    recipe = load(project, registry, name, preset, tuple(overrides or ()))
    made = planned(recipe, project=project)
    costs = _costs(project, registry, made.plans[0]) if cost else None
    shown = None
    if power:
        from labctl.reports.power import power_of

        shown = power_of(project, registry, recipe)
    if as_json:
        pairs = zip(made.plans, made.runs, strict=True)
        print_json(
            {"plans": [p.model_dump(mode="json", by_alias=True) for p in made.plans],
             "status": {p.key: run.status for p, run in pairs}, "cost": costs,
             "power": shown and shown.plain()}
        )  # fmt: skip
        return
    from .pictures import console, print_cost, print_power

    console.print(made)
    if costs is not None:
        print_cost(costs)
    if shown is not None:
        print_power(shown)


def _costs(project: Project, registry: Registry, made: Plan) -> dict[str, Any]:
    from labctl.execute.estimate import cost_of

    return cost_of(project, registry, made)


def schema(
    out: Annotated[str | None, typer.Option("--out", "-o", help="Write to a file instead.")] = None,
) -> None:
    """JSON schema of recipes, for editors: every plugin's fields included."""

    from labctl.recipe.json_schema import recipe_schema
    from labctl.store.atomic import write_text

    _, registry = open_project()
    text = json.dumps(recipe_schema(registry), indent=1)
    if out is None:
        typer.echo(text)
    else:
        write_text(Path(out), text + "\n")
        typer.echo(f"wrote {out}; in a recipe's first line: # yaml-language-server: $schema={out}")
