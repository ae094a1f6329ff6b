"""The verb that gives a trained model away: export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .session import RunName, open_project


def register(app: typer.Typer) -> None:
    """Add the verb to `app`."""
    app.command(rich_help_panel="Report")(export)


def export(
    name: RunName,
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", metavar="FILE.onnx|FILE.safetensors", help="The file to write."
        ),
    ],
) -> None:
    """Write the trained model of one run as ONNX or safetensors.

    It computes in float32, whatever precision it was trained and evaluated in. In Python,
    `labctl.load_model(RUN)` gives the model itself.
    """
    from labctl.store.run import find_run
    from labctl.train.export import export as write
    from labctl.train.predictor import load_model

    project, _ = open_project()
    run = find_run(project, name)
    write(run, load_model(run, project=project.root), out)
    typer.echo(f"wrote {out}: {run.plan.name}, {out.stat().st_size / 2**20:.1f} MiB")
