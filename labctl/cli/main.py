"""`labctl`: one door for all verbs, and one place where errors meet the user."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

import labctl
from labctl.errors import LabctlError
from labctl.project import Project

from . import (
    benching,
    comparing,
    evaluating,
    exporting,
    inspecting,
    making,
    planning,
    reporting,
    running,
    sweeping,
    tracking,
    verifying,
)
from .session import set_project

app = typer.Typer(
    name="labctl",
    help="One YAML recipe in, one honest table out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for part in (
    running,
    sweeping,
    evaluating,
    benching,
    verifying,
    planning,
    inspecting,
    comparing,
    reporting,
    exporting,
    making,
    tracking,
):
    part.register(app)


def _version(asked: bool) -> None:
    if asked:
        print(f"labctl {labctl.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    project: Annotated[
        Path | None,
        typer.Option(
            "--project",
            exists=True,
            file_okay=False,
            help="Project folder; the working folder if not given.",
        ),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    set_project(project)
    Project.at(project).keep_compiled()


def main() -> None:
    """Run the command line. Every fault that a user can mend is one message and an exit code."""
    try:
        app()
    except LabctlError as error:
        _say(error)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except Exception as error:
        if os.environ.get("LABCTL_FULL_ERROR"):
            raise
        print(
            f"labctl: this is a fault of labctl: {type(error).__name__}: {error}", file=sys.stderr
        )
        print("  LABCTL_FULL_ERROR=1 shows the traceback; please report it", file=sys.stderr)
        sys.exit(1)


def _say(error: LabctlError) -> None:
    from rich.console import Console

    Console(stderr=True, emoji=False).print(
        str(error), style="red", markup=False, highlight=False, soft_wrap=True
    )
