"""Verbs that look: ls, show, status, logs, doctor."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from labctl.errors import EnvironmentProblem, PluginError, RecipeError, UsageError
from labctl.project import Project

from .session import AsJson, RunName, every_run, open_project, print_json

if TYPE_CHECKING:
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
    looking: tuple[Callable[..., None], ...] = (ls, show, status, logs, doctor)
    for verb in looking:
        app.command(rich_help_panel="Look")(verb)


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
