"""Verbs that make files: cp, new, data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from labctl.errors import EnvironmentProblem, PluginError, UsageError, did_you_mean

from .session import AsJson, RecipeName, open_project, print_json


def register(app: typer.Typer) -> None:
    """Add the verbs to `app`."""
    app.command(rich_help_panel="Make")(cp)
    new = typer.Typer(help="Begin something new from a working example.", no_args_is_help=True)
    new.command("plugin")(new_plugin)
    app.add_typer(new, name="new", rich_help_panel="Make")
    data = typer.Typer(
        help="Data sets: what is here, and getting what is not.", invoke_without_command=True
    )
    data.callback()(data_list)
    data.command("fetch")(data_fetch)
    app.add_typer(data, name="data", rich_help_panel="Make")


def cp(
    name: RecipeName,
    target: Annotated[
        Path, typer.Argument(metavar="FILE", help="The file to write, such as mine.yaml.")
    ],
    force: Annotated[bool, typer.Option("--force", help="Replace FILE if it exists.")] = False,
) -> None:
    """Copy a recipe into a file of your own: flattened, commented."""
    from labctl.recipe.flat import flattened
    from labctl.store.atomic import write_text

    project, registry = open_project()
    if target.exists() and not force:
        raise UsageError(f"{target} exists", hint="choose another name, or --force")
    write_text(target, flattened(project, name, registry))
    typer.echo(f"wrote {target}; next: labctl validate {target}")


def new_plugin(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Name of the architecture, such as my_vit.")
    ],
) -> None:
    """Write plugins/NAME: an architecture that trains, with a recipe and a test that it passes."""
    from labctl.testing import scaffold

    project, registry = open_project()
    for path in scaffold.write(project, registry, name):
        typer.echo(f"wrote {project.shown(path)}")
    typer.echo(
        f"next: labctl run {name} --preset smoke"
        f"    and: pytest {project.shown(project.plugins / name)}"
    )


def data_list(context: typer.Context, as_json: AsJson = False) -> None:
    """What data sets there are, and which of them are on this machine."""
    if context.invoked_subcommand:
        return
    from labctl.registry.card import Dataset, Places
    from labctl.registry.guard import guarded

    from .pictures import print_rows

    project, registry = open_project()
    places = Places(project.data_roots)
    rows = []
    for card, loaded in registry.cards(Dataset):
        if card.config.model_fields and any(
            info.is_required() for info in card.config.model_fields.values()
        ):
            state = "yours: give data.path in a recipe"
        else:
            try:
                with guarded(f"missing() of dataset {card.name!r}"):
                    state = "not here" if card.missing(card.config(), places) else "here"
            except PluginError as error:
                state = f"cannot tell: {error.message}"
        rows.append(
            {
                "name": card.name,
                "state": state,
                "summary": card.summary,
                "plugin": loaded.plugin.name,
            }
        )
    if as_json:
        print_json(rows)
        return
    print_rows(rows)
    typer.echo("looked in: " + ", ".join(str(root) for root in project.data_roots))


def data_fetch(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A data set that can be downloaded.")],
    to: Annotated[
        Path | None, typer.Option("--to", help="Folder; the first data folder if not given.")
    ] = None,
) -> None:
    """Download a data set, checksums and all."""
    from labctl.registry.card import Dataset

    project, registry = open_project()
    known = {card.name: card for card, _ in registry.cards(Dataset) if card.fetch is not None}
    if name not in known:
        raise UsageError(f"no data set {name!r} to fetch", hint=did_you_mean(name, known))
    card, folder = known[name], to or project.data_roots[0]
    assert card.fetch is not None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        card.fetch(card.config(), folder)
    except (OSError, RuntimeError) as error:
        raise EnvironmentProblem(
            f"could not download {name}: {error}",
            hint=f"download it elsewhere, put it below {folder}, and see `labctl data`",
        ) from error
    typer.echo(f"{name} is in {folder}")
