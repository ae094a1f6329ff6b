"""The verb that trains first steps again: verify."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from labctl.errors import UsageError
from labctl.project import Project

from .session import AsJson, _run_names, open_project, print_json

if TYPE_CHECKING:
    from labctl.execute.verification import Finding, Recorded, Verification


def register(app: typer.Typer) -> None:
    """Add the verb to `app`."""
    app.command(rich_help_panel="Train")(verify)


def verify(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="RUN...",
            help="Runs: RECIPE@PRESET/seed=N, a key, or a folder.",
            autocompletion=_run_names,
        ),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(
            "--steps",
            min=1,
            help="First steps to train again. After the 20th, means over stretches of steps are "
            "compared.",
            show_default="20, whose losses every run journals exactly",
        ),
    ] = None,
    tolerance: Annotated[
        float,
        typer.Option(
            "--tolerance", min=0.0, help="Relative difference of losses that passes as close."
        ),
    ] = 0.0,
    bundle: Annotated[
        Path | None,
        typer.Option(
            "--bundle", help="Take RUN... out of this published bundle; all of it if none is named."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Train the first steps of RUN... again, from stored plan and code, and compare every loss.

    In a folder that is gone afterwards. Exit code 0 if all are equal, or close if --tolerance says
    what that is; 4 if one differs; 6 if this machine lacks what one needs. Of a bundle, the
    plugins' code is today's.
    """
    from labctl.execute.verification import Verifier
    from labctl.store.journal import FIRST_LOSSES

    project, registry = open_project()
    verifier = Verifier(project, registry, steps or FIRST_LOSSES, tolerance)
    told = []
    for run in _recorded(project, names or [], bundle):
        told.append(verifier.verify(run))
        if not as_json:
            _say(told[-1], tolerance)
    if as_json:
        print_json([one.plain() for one in told])
    if code := _exit_code([one.finding for one in told]):
        raise typer.Exit(code)


def _recorded(project: Project, names: list[str], bundle: Path | None) -> list[Recorded]:
    """Everything that is asked for, before anything is trained."""
    from labctl.execute.verification import recorded
    from labctl.store.run import find_runs

    if bundle is None:
        if not names:
            raise UsageError("no run named", hint="labctl verify RUN...; labctl status lists runs")
        return [recorded(run) for name in names for run in find_runs(project, name)]
    from labctl.reports.bundle import read_bundle
    from labctl.reports.entry import entries, recorded_of

    read = read_bundle(bundle, project.shown(bundle))
    chosen = [result for name in names for result in entries(read, name)]
    return [recorded_of(result, read.name) for result in chosen or read.results]


def _exit_code(findings: list[Finding]) -> int:
    """What differs outweighs what failed, and that what this machine cannot tell."""
    from labctl.execute.verification import Finding

    worst = (Finding.DIFFERS, Finding.FAILED, Finding.IMPOSSIBLE)
    return next((finding.exit_code for finding in worst if finding in findings), 0)


def _say(told: Verification, tolerance: float) -> None:
    typer.echo(f"{told.name}  {told.finding}{_figures(told, tolerance)}")
    for line in (*told.message.splitlines(), *told.explanations, *told.asides):
        typer.echo(f"  {line}")


def _figures(told: Verification, tolerance: float) -> str:
    if told.message:
        return ""
    first, largest = told.first, told.largest
    if first is None or largest is None:
        return f": {told.compared} losses and means of the first {told.steps} steps, bit for bit"
    counted = f"{told.differing} of {told.compared} losses and means differ"
    most = f"by {largest.relative:.2g} at most, at step {largest.step}"
    if told.finding.exit_code == 0:
        return f": {counted}, {most}; {tolerance:g} is allowed; first at step {first.step}"
    return f": {first}\n  relative difference {first.relative:.2g}; {counted}, {most}"
