"""The verb that times: bench."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from labctl.errors import UsageError

from .session import AsJson, Preset, _recipe_names, open_project, print_json

STEPS = 100


def register(app: typer.Typer) -> None:
    """Add the verb to `app`."""
    app.command(rich_help_panel="Train")(bench)


def bench(
    recipe: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="RECIPE [FIELD=VALUE...]",
            help="A recipe by name or path, and overrides.",
            autocompletion=_recipe_names,
        ),
    ] = None,
    preset: Preset = None,
    engines: Annotated[
        str,
        typer.Option(
            "--engines",
            metavar="NAME,...",
            help="auto, eager, graphed (runtime.engine), or compiled (numerics.compiled: other "
            "arithmetic, another key). The recipe's own if not given.",
        ),
    ] = "",
    together: Annotated[
        str,
        typer.Option("--together", metavar="N,...", help="Seeds that one worker trains at once."),
    ] = "1",
    at: Annotated[
        str,
        typer.Option(
            "--at",
            metavar="TIME,...|rungs",
            help="Where in training: 0%,50%, 10ep; or every value that structural knobs take. "
            "eta is then the share of the FLOPs saved that shows up as time saved.",
        ),
    ] = "0%",
    steps: Annotated[
        int,
        typer.Option(
            "--steps",
            min=1,
            help="Steps of each seed that are timed, in five windows, after one that warms up.",
        ),
    ] = STEPS,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            dir_okay=False,
            help="Keep all figures in a JSON file, which grows with each case.",
        ),
    ] = None,
    show: Annotated[
        Path | None,
        typer.Option("--show", dir_okay=False, help="Print such a file again; time nothing."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Time how fast RECIPE trains on this machine.

    Real training of real data, in a folder that is gone afterwards: runs/ stays as it is. Each
    engine, number of seeds and place is a row, timed in a process of its own; the first is what the
    others are compared with: `labctl bench RECIPE --engines eager,compiled --together 1,3`.
    """
    from labctl.measure.speed import read_speed, write_speed

    if show is not None:
        if recipe:
            raise UsageError("--show times nothing", hint=f"labctl bench --show {show}")
        speed = read_speed(show)
    else:
        names = [text for text in recipe or [] if "=" not in text]
        overrides = tuple(text for text in recipe or [] if "=" in text)
        if len(names) != 1:
            raise UsageError(
                f"{len(names)} recipes named, not one",
                hint="labctl bench RECIPE; labctl ls lists recipes",
            )
        from labctl.execute.benching import Benching
        from labctl.recipe.recipe import load
        from labctl.verbs.carrying import require_data

        project, registry = open_project()
        loaded = load(project, registry, names[0], preset, overrides)
        require_data(project, registry, [loaded])
        benching = Benching(project, registry, loaded, lambda text: typer.echo(text, err=True))
        for speed in benching.speeds(
            engines=_names(engines), together=_counts(together), at=_names(at), steps=steps
        ):
            if out is not None:
                write_speed(speed, out)
    if as_json:
        return print_json(speed.model_dump(mode="json"))
    from .speeds import print_speed

    print_speed(speed)


def _names(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _counts(text: str) -> list[int]:
    counts = _names(text)
    if not counts or not all(part.isdecimal() and int(part) > 0 for part in counts):
        raise UsageError(f"--together {text} are no numbers of seeds", hint="--together 1,3")
    return [int(part) for part in dict.fromkeys(counts)]
