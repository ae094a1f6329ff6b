"""Verbs that read: plan, validate, ls, show, status, logs, schema, doctor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer

from labctl.errors import PluginError, RecipeError, UsageError

from .session import AsJson, Preset, RecipeName, RunName, _recipe_names, open_project, print_json

LISTS = ("recipes", "presets", "plugins", "architectures", "datasets", "learners", "losses",
         "optimizers", "schedules", "measurements", "tables", "runs")  # fmt: skip


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
        list[str],
        typer.Argument(metavar="RECIPE... [FIELD=VALUE...]", autocompletion=_recipe_names),
    ],
    preset: Preset = None,
    as_json: AsJson = False,
) -> None:
    """Check recipes and all their presets; every problem with its place."""
    from labctl.plan.derive import plans
    from labctl.recipe.recipe import load

    project, registry = open_project()
    overrides = tuple(text for text in recipes if "=" in text)
    problems: dict[str, list[Any]] = {}
    checked: list[str] = []
    for name in (text for text in recipes if "=" not in text):
        wanted: list[str | None] = [preset]
        seen: set[str | None] = set()
        while wanted:
            chosen = wanted.pop(0)
            seen.add(chosen)
            label = f"{name}@{chosen}" if chosen else name
            try:
                recipe = load(project, registry, name, chosen, overrides)
                plans(recipe)
                checked.append(recipe.label)
                if preset is None:
                    wanted += [
                        other
                        for other in recipe.presets
                        if other not in seen and other not in wanted
                    ]
            except RecipeError as error:
                problems[label] = list(error.problems)
    if as_json:
        print_json(
            {"valid": checked,
             "problems": [{"recipe": label, "where": p.where, "message": p.message, "hint": p.hint}
                          for label, found in problems.items() for p in found]}
        )  # fmt: skip
        if problems:
            raise typer.Exit(2)
        return
    for label in checked:
        typer.echo(f"{label}  valid")
    if problems:
        raise RecipeError(list(dict.fromkeys(p for found in problems.values() for p in found)))


def plan(
    name: RecipeName,
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[FIELD=VALUE...]")] = None,
    preset: Preset = None,
    cost: Annotated[
        bool, typer.Option("--cost", help="Add parameters, FLOPs by phase and a time estimate.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show what a recipe comes to: runs, schedules as realised, what is done."""
    from labctl.plan.derive import plans
    from labctl.recipe.recipe import load
    from labctl.store.run import run_of

    project, registry = open_project()
    recipe = load(project, registry, name, preset, tuple(overrides or ()))
    made = plans(recipe)
    costs = _costs(project, registry, made[0]) if cost else None
    if as_json:
        print_json(
            {"plans": [p.model_dump(mode="json", by_alias=True) for p in made],
             "status": {p.key: run_of(project, p).status for p in made}, "cost": costs}
        )  # fmt: skip
        return
    from .pictures import print_cost, print_plan

    print_plan(project, recipe, made)
    if costs is not None:
        print_cost(costs)


def _costs(project: Any, registry: Any, made: Any) -> dict[str, Any]:
    from labctl.execute.estimate import cost_of

    return cost_of(project, registry, made)


def ls(
    what: Annotated[str, typer.Argument(help=", ".join(LISTS))] = "recipes",
    as_json: AsJson = False,
) -> None:
    """List what there is: recipes and plugins first of all."""
    from labctl.registry.card import KINDS

    project, registry = open_project()
    if what not in LISTS:
        raise UsageError(f"nothing to list under {what!r}", hint=f"there are: {', '.join(LISTS)}")
    rows: list[dict[str, Any]] = []
    kinds = {f"{kind.kind}s".replace("losss", "losses"): kind for kind in KINDS}
    if what in ("recipes", "presets"):
        rows = _recipes(project)
    elif what == "plugins":
        rows = [{"name": p.name, "origin": p.origin} for p in registry.plugins.values()]
    elif what == "tables":
        from labctl.recipe.catalogue import listed

        rows = [{"name": t.removeprefix("tables/")} for t in listed(project, "tables")]
    elif what == "runs":
        return status(as_json=as_json)
    else:
        rows = [
            {"name": card.name, "summary": card.summary, "plugin": loaded.plugin.name}
            for card, loaded in registry.cards(kinds[what])
        ]
    if as_json:
        return print_json(rows)
    from .pictures import print_rows

    print_rows(rows)
    if what == "recipes":
        plugins = ", ".join(name for name in registry.plugins if name != "labctl")
        typer.echo(f"\nplugins: {plugins or 'none'}    more: labctl ls {'|'.join(LISTS[2:])}")
    for error in registry.broken() if what not in ("recipes", "presets", "tables") else []:
        typer.echo(f"not loaded: {error}", err=True)
    return None


def _recipes(project: Any) -> list[dict[str, Any]]:
    from labctl.recipe.catalogue import composed, listed

    rows = []
    for file in listed(project).values():
        try:
            tree = composed(project, file)
        except RecipeError as error:
            rows.append(
                {
                    "name": file.name,
                    "title": f"cannot be read: {error.problems[0].message}",
                    "presets": "",
                }
            )
            continue
        title, presets = tree.get("title"), tree.get("presets")
        names = list(presets.value) if presets and isinstance(presets.value, dict) else []
        rows.append(
            {
                "name": file.name,
                "title": str(title.value) if title else "",
                "presets": ", ".join(names),
            }
        )
    return rows


def show(name: RunName, as_json: AsJson = False) -> None:
    """Everything about a run; of a recipe that has none, its text, flattened."""
    from labctl.recipe.catalogue import listed
    from labctl.store.run import find_runs

    from .pictures import print_run

    project, _ = open_project()
    try:
        found = find_runs(project, name)
    except UsageError:
        if name in listed(project):
            from labctl.recipe.flat import flattened

            typer.echo(flattened(project, name))
            return
        raise
    if as_json:
        print_json([_run_json(run) for run in found])
        return
    for run in found:
        print_run(project, run)


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
    from labctl.store.run import all_runs, find_runs

    project, _ = open_project()
    found = (
        [run for name in names for run in find_runs(project, name)]
        if names
        else list(all_runs(project))
    )
    rows = []
    for run in found:
        plan, state = run.plan, run.status
        journal = run.journal
        step = max(
            [int(run.progress.get("step", 0)), *(record.step for record in journal.records)],
            default=0,
        )
        rows.append(
            {
                "run": f"{plan.label}/seed={plan.work.seed}",
                "key": plan.key[:8],
                "status": str(state),
                "step": f"{min(step, plan.work.steps)}/{plan.work.steps}",
                "test acc": journal.last.get("test/acc", journal.last.get("val/acc")),
                "note": str((run.end or {}).get("message", "")).splitlines()[0]
                if (run.end or {}).get("message")
                else "",
            }
        )
    if as_json:
        return print_json(rows)
    if not rows:
        typer.echo("no runs yet; begin with: labctl run RECIPE")
        return None
    from .pictures import print_rows

    return print_rows(rows)


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
        raise typer.Exit(6)
