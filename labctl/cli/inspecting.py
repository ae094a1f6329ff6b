"""Verbs that read: plan, validate, ls, show, status, logs, schema, doctor."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from labctl.errors import (
    EnvironmentProblem,
    LabctlError,
    PluginError,
    Problem,
    RecipeError,
    UsageError,
)
from labctl.project import Project

from .session import (
    AsJson,
    Preset,
    RecipeName,
    RunName,
    _recipe_names,
    every_run,
    open_project,
    print_json,
)

if TYPE_CHECKING:
    from labctl.plans.plan import Plan
    from labctl.registry.registry import Registry
    from labctl.store.run import Run

_CARDS = {
    "architectures": "architecture",
    "datasets": "dataset",
    "learners": "learner",
    "losses": "loss",
    "optimizers": "optimizer",
    "schedules": "schedule",
    "measurements": "measurement",
    "costs": "cost",
}
LISTS = ("recipes", "presets", "plugins", *_CARDS, "tables", "sweeps", "runs")


def register(app: typer.Typer) -> None:
    """Add the verbs to `app`."""
    recipes: tuple[Callable[..., None], ...] = (validate, plan, schema)
    for verb in recipes:
        app.command(rich_help_panel="Recipes")(verb)
    looking: tuple[Callable[..., None], ...] = (ls, show, status, logs, doctor)
    for verb in looking:
        app.command(rich_help_panel="Look")(verb)


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


def ls(
    what: Annotated[str, typer.Argument(help=", ".join(LISTS))] = "recipes",
    as_json: AsJson = False,
) -> None:
    """List what there is: recipes and plugins first of all."""
    project, registry = open_project()
    if what not in LISTS:
        raise UsageError(f"nothing to list under {what!r}", hint=f"there are: {', '.join(LISTS)}")
    if what == "runs":
        return status(as_json=as_json)
    if what == "recipes":
        rows = list(_recipe_rows(project))
    elif what == "presets":
        rows = list(_preset_rows(project))
    elif what in ("tables", "sweeps"):
        from labctl.recipe.catalogue import listed

        rows = [{"name": name.removeprefix(f"{what}/")} for name in listed(project, what)]
    elif what == "plugins":
        rows = [{"name": p.name, "origin": p.origin} for p in registry.plugins.values()]
    else:
        from labctl.registry.card import KINDS

        kind = next(kind for kind in KINDS if kind.kind == _CARDS[what])
        rows = [
            {"name": card.name, "summary": card.summary, "plugin": loaded.plugin.name}
            for card, loaded in registry.cards(kind)
        ]
    if as_json:
        return print_json(rows)
    from .pictures import print_rows

    print_rows(rows)
    if what == "recipes":
        plugins = ", ".join(name for name in registry.plugins if name != "labctl")
        typer.echo(f"\nplugins: {plugins or 'none'}    more: labctl ls {'|'.join(LISTS[1:])}")
    for error in registry.broken() if what in ("plugins", *_CARDS) else []:
        typer.echo(f"not loaded: {error}", err=True)
    return None


def _recipe_rows(project: Project) -> Iterator[dict[str, Any]]:
    from labctl.recipe.catalogue import composed, listed

    for file in listed(project).values():
        try:
            tree = composed(project, file)
        except RecipeError as error:
            message = f"cannot be read: {error.problems[0].message}"
            yield {"name": file.name, "title": message, "presets": ""}
            continue
        title, presets = tree.get("title"), tree.get("presets")
        names = ", ".join(presets.children) if presets else ""
        yield {"name": file.name, "title": title.plain() if title else "", "presets": names}


def _preset_rows(project: Project) -> Iterator[dict[str, Any]]:
    from labctl.recipe.catalogue import listed, presets_of

    for file in listed(project).values():
        try:
            names = presets_of(project, file)
        except RecipeError:  # `labctl ls recipes` and `labctl validate` say why
            continue
        yield from ({"recipe": file.name, "preset": name} for name in names)


def show(name: RunName, as_json: AsJson = False) -> None:
    """Everything about a run; of a recipe that has none, its text, flattened."""
    from labctl.store.run import find_runs

    from .pictures import print_run

    project, _ = open_project()
    try:
        found = find_runs(project, name)
    except UsageError:
        if (text := _recipe_text(project, name)) is None:
            raise
        if as_json:
            print_json({"recipe": name, "text": text})
        else:
            typer.echo(text)
        return
    if as_json:
        print_json([_run_json(run) for run in found])
        return
    for run in found:
        print_run(project, run)


def _recipe_text(project: Project, name: str) -> str | None:
    """A recipe by name or path, as one file; None if there is none."""
    from labctl.recipe.catalogue import located
    from labctl.recipe.flat import flattened

    try:
        located(project, name)
    except UsageError:
        return None
    return flattened(project, name)


def _run_json(run: Any) -> dict[str, Any]:
    journal = run.journal
    return {
        "plan": run.plan.model_dump(mode="json", by_alias=True),
        "status": run.status,
        "end": run.end,
        "attempts": journal.attempts,
        "metrics": journal.last,
        "damage": list(journal.damage),
        "ledger": run.ledger,
        "provenance": run.provenance,
        "folder": str(run.folder),
    }


def status(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[RUN...]", help="All runs if none is named.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """State of runs, read from their folders."""
    from labctl.plans.plan import settings_of
    from labctl.store.journal import glance
    from labctl.store.run import find_runs

    project, _ = open_project()
    found = (
        [run for name in names for run in find_runs(project, name)] if names else every_run(project)
    )
    rows = []
    for run in sorted(found, key=_place):
        plan, state = run.plan, run.status
        journalled, latest = glance(run.folder, ("test/acc", "val/acc"))
        metric, accuracy = latest or ("", None)
        step = max(int(run.progress.get("step", 0)), journalled)
        rows.append(
            {
                "run": f"{plan.label}/seed={plan.work.seed}",
                "set": " ".join(settings_of(plan.point)),
                "key": plan.key[:8],
                "status": str(state),
                "step": f"{min(step, plan.work.steps)}/{plan.work.steps}",
                "acc": accuracy,
                "of": metric.removesuffix("/acc"),
                "note": next(iter(str((run.end or {}).get("message", "")).splitlines()), ""),
            }
        )
    if as_json:
        return print_json(rows)
    if not rows:
        typer.echo(
            f"no runs in {project.shown(project.runs)}; begin with: labctl run RECIPE, or say in "
            "LABCTL_RUNS where they are"
        )
        return None
    from .pictures import print_rows

    if not any(row["set"] for row in rows):
        rows = [{name: text for name, text in row.items() if name != "set"} for row in rows]
    return print_rows(rows)


def _place(run: Run) -> tuple[str, list[str], int]:
    """In a list: seeds of the same work beside each other."""
    from labctl.plans.plan import settings_of

    return run.plan.label, settings_of(run.plan.point), run.plan.work.seed


def logs(
    name: RunName,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on printing while the run is trained.")
    ] = False,
) -> None:
    """What a run's worker printed."""
    import time

    from labctl.store.run import find_runs
    from labctl.store.status import Status

    project, _ = open_project()
    for run in find_runs(project, name):
        if not run.log_path.exists():
            typer.echo(f"{run.plan.name}  has no log yet", err=True)
            continue
        if not follow and run.log_path.stat().st_size == 0:
            typer.echo(f"{run.plan.name}  printed nothing", err=True)
        with run.log_path.open(encoding="utf-8", errors="replace") as log:
            while True:
                typer.echo(log.read(), nl=False)
                if not follow or run.status is not Status.RUNNING:
                    break
                time.sleep(0.3)


def schema(
    out: Annotated[str | None, typer.Option("--out", "-o", help="Write to a file instead.")] = None,
) -> None:
    """JSON schema of recipes, for editors: every plugin's fields included."""
    import json
    from pathlib import Path

    from labctl.recipe.json_schema import recipe_schema
    from labctl.store.atomic import write_text

    _, registry = open_project()
    text = json.dumps(recipe_schema(registry), indent=1)
    if out is None:
        typer.echo(text)
    else:
        write_text(Path(out), text + "\n")
        typer.echo(f"wrote {out}; in a recipe's first line: # yaml-language-server: $schema={out}")


def doctor(
    plugin: Annotated[
        str | None, typer.Option("--plugin", help="Import one plugin and show its traceback.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check the machine: devices, data, plugins, runs."""
    from labctl.execute.checkup import checks

    project, registry = open_project()
    if plugin is not None:
        try:
            loaded = registry.load(plugin)
        except PluginError as error:
            if error.__cause__ is not None:
                import traceback

                traceback.print_exception(error.__cause__)
            raise
        typer.echo(f"{plugin}: {', '.join(f'{card.kind} {card.name}' for card in loaded.cards)}")
        return
    rows = [
        {"check": c.name, "state": "ok" if c.is_good else "PROBLEM", "detail": c.detail}
        for c in checks(project, registry)
    ]
    if as_json:
        print_json(rows)
    else:
        from .pictures import print_rows

        print_rows(rows)
    if any(row["state"] != "ok" for row in rows):
        raise typer.Exit(EnvironmentProblem.exit_code)
