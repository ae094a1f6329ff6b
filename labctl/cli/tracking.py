"""Verbs about MLflow: sync, ui."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from .session import AsJson, every_run, open_project, print_json


def register(app: typer.Typer) -> None:
    """Add the verbs to `app`."""
    for verb in (sync, ui):
        app.command(rich_help_panel="Track")(verb)


def sync(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[RUN...]", help="All runs if none is named.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Deliver to MLflow what it does not have yet."""
    from labctl.store.run import find_runs
    from labctl.track.mirror import sync as deliver_all

    project, _ = open_project()
    runs = (
        [run for name in names for run in find_runs(project, name)] if names else every_run(project)
    )
    deliveries = deliver_all(project, runs)
    if as_json:
        print_json(
            [
                {"run": str(d.folder), "sent": d.sent, "remaining": d.remaining, "note": d.note}
                for d in deliveries
            ]
        )
        return
    sent = sum(d.sent for d in deliveries)
    runs_of = "1 run" if len(deliveries) == 1 else f"{len(deliveries)} runs"
    typer.echo(f"{runs_of}, {sent} metric values sent")
    for note in dict.fromkeys(d.note for d in deliveries if d.note):
        typer.echo(f"  {note}")


def ui(
    port: Annotated[int, typer.Option("--port", help="Port on 127.0.0.1.")] = 5000,
) -> None:
    """Open MLflow's web interface on this project's store."""
    from labctl.track.ui import ui_command

    project, _ = open_project()
    command = ui_command(project, port)
    typer.echo(f"http://127.0.0.1:{port}  Ctrl-C ends it")
    sys.stdout.flush()
    os.execv(command[0], command)  # signals reach the server itself; none is left behind
