"""What the verbs that train have in common: their options, Ctrl-C, the end of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from .session import print_json

if TYPE_CHECKING:
    from rich.console import Console

    from labctl.verbs.outcomes import Outcomes

Jobs = Annotated[
    int | None,
    typer.Option(
        "--jobs", "-j", min=1, help="Workers at once.", show_default="one per GPU or core"
    ),
]
Together = Annotated[
    str,
    typer.Option(
        "--together",
        metavar="auto|N|off",
        help="Runs that one worker trains at once on its GPU; auto measures how many seeds of a "
        "recipe are fastest.",
    ),
]
FailFast = Annotated[bool, typer.Option("--fail-fast", help="Stop the others when one fails.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Begin work of many hours on a CPU.")]
NoTrack = Annotated[
    bool, typer.Option("--no-track", help="Do not feed MLflow now; `labctl sync` can later.")
]


@contextmanager
def interruptible(console: Console, again: str = "labctl resume") -> Iterator[None]:
    """Around training: Ctrl-C is no error, and `again` is what goes on after it."""
    from labctl.execute.signals import Interrupted

    try:
        yield
    except Interrupted as interrupted:
        console.print(f"stopped; nothing is lost. Go on with: {again}", highlight=False)
        raise typer.Exit(128 + interrupted.number) from None


def conclude(console: Console, outcomes: Outcomes, *, as_json: bool) -> None:
    """One line of summary, and the exit code that scripts read.

    Raises:
        PartialError, RunError, EnvironmentProblem: as `Outcomes.require`.
    """
    if as_json:
        print_json(outcomes.plain())
    console.print(outcomes.summary, highlight=False)
    outcomes.require()
