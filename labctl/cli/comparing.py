"""The verb that holds two runs or recipes against each other: compare."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from labctl.errors import UsageError

from .session import AsJson, _run_names, open_project, page_place, print_json


def register(app: typer.Typer) -> None:
    """Add the verb to `app`."""
    app.command(rich_help_panel="Look")(compare)


_HELP = (
    "A run as in `labctl show`, RECIPE or RECIPE@PRESET with the results of its seeds, or "
    "FILE.json:RUN in a bundle."
)


def compare(
    a: Annotated[str, typer.Argument(metavar="A", help=_HELP, autocompletion=_run_names)],
    b: Annotated[str, typer.Argument(metavar="B", help="Likewise.", autocompletion=_run_names)],
    code: Annotated[
        bool, typer.Option("--code", help="Show how the plugins' code differs, line by line.")
    ] = False,
    html: Annotated[
        Path | None,
        typer.Option(
            "--html",
            metavar="FOLDER|FILE.html",
            help="Write one page instead that needs nothing but itself, with curves of both.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say what differs between A and B: fields, schedules, code, data, environment, results.

    Results of several seeds are means, their difference is paired by seed. Of runs that kept their
    losses, the first step at which these part is said.
    """
    from labctl.reports.contrast import compare as held_against
    from labctl.reports.side import side

    if html is not None and as_json:
        raise UsageError("--html writes a page, --json prints", hint="one after the other")
    project, registry = open_project()
    ours, theirs = (side(project, registry, text) for text in (a, b))
    found = held_against(registry, ours, theirs, with_code=code)
    if as_json:
        return print_json(found.model_dump(mode="json"))
    if html is not None:
        from labctl.reports.contrast_page import contrast_page
        from labctl.store.atomic import write_text

        place = page_place(html, "compare.html")
        words = ["labctl", "compare", a, b, *(["--code"] if code else [])]
        write_text(place, contrast_page(found, ours, theirs, shlex.join(words)))
        return typer.echo(f"wrote {place}")
    from .contrasts import print_contrast

    return print_contrast(found)
