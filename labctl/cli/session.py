"""What the commands share: the project, the registry, consoles, completion."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from labctl.project import Project

if TYPE_CHECKING:
    from labctl.registry.registry import Registry
    from labctl.store.run import Run


def every_run(project: Project) -> list[Run]:
    """All runs of the project; how many folders have no plan that can be read is said on stderr."""
    from labctl.store.run import all_runs, run_folders

    found = list(all_runs(project))
    folders = {run.folder for run in found}
    lost = [run for run in run_folders(project) if run.folder not in folders and run.is_planned]
    if lost:
        first = project.shown(lost[0].folder)
        typer.echo(
            f"left out, for want of a readable plan: {first}"
            + (f" and {len(lost) - 1} more" if len(lost) > 1 else "")
            + "; labctl doctor says why",
            err=True,
        )
    return found


def _recipe_names(incomplete: str) -> list[str]:
    from labctl.recipe.catalogue import listed

    return [name for name in listed(Project.at()) if name.startswith(incomplete)]


def _run_names(incomplete: str) -> list[str]:
    from labctl.store.run import all_runs

    names = {f"{run.plan.label}/seed={run.plan.work.seed}" for run in all_runs(Project.at())}
    return sorted(name for name in names if name.startswith(incomplete))


def _table_names(incomplete: str) -> list[str]:
    from labctl.recipe.catalogue import listed

    tables = (name.removeprefix("tables/") for name in listed(Project.at(), "tables"))
    return [name for name in tables if name.startswith(incomplete)]


def claimants(incomplete: str) -> list[str]:
    """Names of recipes, tables and sweeps, for completion."""
    from labctl.recipe.catalogue import listed

    project = Project.at()
    aside = [
        n.partition("/")[2] for folder in ("tables", "sweeps") for n in listed(project, folder)
    ]
    return sorted({n for n in (*listed(project), *aside) if n.startswith(incomplete)})


RecipeName = Annotated[
    str,
    typer.Argument(
        metavar="RECIPE", help="A recipe by name or path.", autocompletion=_recipe_names
    ),
]
RunNames = Annotated[
    list[str],
    typer.Argument(
        metavar="RUN...",
        help="Runs: RECIPE@PRESET/seed=N, a key, or a folder.",
        autocompletion=_run_names,
    ),
]
RunName = Annotated[
    str,
    typer.Argument(
        metavar="RUN",
        help="A run: RECIPE@PRESET/seed=N, a key, or a folder.",
        autocompletion=_run_names,
    ),
]
TableName = Annotated[
    str | None,
    typer.Option("--table", "-t", help="A table of recipes/tables/.", autocompletion=_table_names),
]
Preset = Annotated[
    str | None, typer.Option("--preset", "-p", help="A preset of the recipe, such as smoke.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def open_project() -> tuple[Project, Registry]:
    """The project and its plugins; a notice about a plugin is one line on stderr."""
    from labctl.registry.registry import Registry

    warnings.formatwarning = _notice
    project = Project.at()
    return project, Registry(project.plugins)


def _notice(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    line: str | None = None,
) -> str:
    return f"note: {message}\n"


def print_json(value: Any) -> None:
    """JSON on stdout, and nothing else."""
    print(json.dumps(value, indent=1, default=str))


def page_place(asked: Path, name: str) -> Path:
    """The file that `--html` means; a folder gets one called `name`."""
    return asked if asked.suffix.lower() == ".html" else asked / name


def set_project(root: Path | None) -> None:
    """Make `--project` hold for the whole command, workers included."""
    import os

    if root is not None:
        os.environ["LABCTL_PROJECT"] = str(root.resolve())
