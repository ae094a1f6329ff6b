"""The verb that tries finished runs on other images than they were tested on: eval."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from labctl.errors import UsageError

from .carrying import Jobs, NoTrack, conclude, interruptible
from .session import AsJson, RunNames, open_project, print_json

if TYPE_CHECKING:
    from rich.table import Table

    from labctl.measure.corrupted import Corrupted
    from labctl.project import Project
    from labctl.store.run import Run


def register(app: typer.Typer) -> None:
    """Add the verb to `app`."""
    app.command("eval", rich_help_panel="Train")(evaluate)


def evaluate(
    names: RunNames,
    suite: Annotated[
        str | None,
        typer.Option(
            "--suite",
            metavar="DATA-c",
            help="cifar10-c, cifar100-c, ...: leave out runs of other data.",
        ),
    ] = None,
    official: Annotated[
        bool,
        typer.Option(
            "--official", help="The published files, not the images that labctl generates."
        ),
    ] = False,
    images: Annotated[
        int | None,
        typer.Option(
            "--images", min=1, help="Of each corruption at each severity; all if not given."
        ),
    ] = None,
    jobs: Jobs = None,
    no_track: NoTrack = False,
    as_json: AsJson = False,
) -> None:
    """Test finished runs on corrupted images: 15 corruptions at 5 severities, as CIFAR-10-C.

    `labctl eval dl_baseline dl_full --suite cifar10-c`. One run shows every cell; of several, each
    is compared with the first. What was evaluated before is not evaluated again.
    """
    from rich.console import Console

    from labctl.data.corruptions.names import PUBLISHED
    from labctl.execute.later import jobs as jobs_of
    from labctl.execute.later import replaced
    from labctl.measure.corrupted import read_corrupted
    from labctl.store.run import find_runs, run_of
    from labctl.verbs.carrying import How, carry_out
    from labctl.verbs.outcomes import Outcomes

    project, registry = open_project()
    runs = [run for name in names for run in find_runs(project, name)]
    fitting = [run for run in runs if suite in (None, f"{run.plan.work.data.name}-c")]
    if not fitting:
        raise UsageError(
            f"suite {suite!r} does not corrupt {runs[0].plan.work.data.name}, which "
            f"{runs[0].plan.name} was trained on",
            hint=f"--suite {runs[0].plan.work.data.name}-c, or leave it out",
        )
    if official:
        fitting = [run for run in fitting if run.plan.work.data.name in PUBLISHED] or fitting
        _require_files(project, fitting)
    measured = "official_robustness" if official else "robustness"
    asked = [] if images is None else [f"images={images}"]
    work = jobs_of(project, registry, fitting, {measured: asked})
    console = Console(stderr=as_json, emoji=False, markup=False)
    for run in runs:
        if run not in fitting:
            console.print(f"{run.plan.name}  left out: trained on {run.plan.work.data.name}")
    for line in replaced(work, fitting):
        console.print(line, highlight=False, soft_wrap=True)
    how = How(jobs, "off", yes=True, track=not no_track, console=console)
    with interruptible(console):
        outcomes = Outcomes(tuple(carry_out(project, registry, work, how)))
    conclude(console, outcomes, as_json=False)
    place = f"measurements/{measured}"
    found = {
        job.plan.name: read_corrupted(run_of(project, job.plan).folder / place) for job in work
    }
    if as_json:
        return print_json({name: of.plain() for name, of in found.items()})
    console.print(*_shown(found), sep="\n")


def _require_files(project: Project, runs: Sequence[Run]) -> None:
    """Raises:
    EnvironmentProblem: the published files of a run's data are not there.
    """
    from labctl.data.corruptions.names import files_missing
    from labctl.registry.card import Places

    for data in dict.fromkeys(run.plan.work.data.name for run in runs):
        if (problem := files_missing(data, Places(project.data_roots))) is not None:
            raise problem


def _shown(found: dict[str, Corrupted]) -> list[Table | str]:
    from labctl.measure.corrupted import STAR

    first = next(iter(found.values()))
    table = _grid(first) if len(found) == 1 else _rows(found)
    if first.source == "official":
        return [table]
    return [table, STAR]


def _percent(share: float) -> str:
    return f"{100 * share:.2f}"


def _worst(of: Corrupted) -> str:
    from labctl.measure.corrupted import WORST

    cells = of.worst(WORST)
    return ", ".join(f"{of.label(name)} {level}: {_percent(value)}" for name, level, value in cells)


def _grid(of: Corrupted) -> Table:
    """Every cell of one run."""
    from rich.table import Table

    table = Table(
        title=f"{of.suite}: accuracy (%) on {of.images:,} images a cell",
        caption=f"clean {_percent(of.clean)}   mCA {_percent(of.mean_accuracy)}   "
        f"mCE {_percent(of.mean_error)}\nworst five: {_worst(of)}",
        title_justify="left",
        caption_justify="left",
    )
    table.add_column("corruption")
    for severity in range(1, 6):
        table.add_column(str(severity), justify="right")
    table.add_column("mean", justify="right")
    for name, cells in of.accuracy.items():
        mean = sum(cells) / len(cells)
        table.add_row(of.label(name), *(_percent(cell) for cell in (*cells, mean)))
    return table


def _rows(found: dict[str, Corrupted]) -> Table:
    """A row per run, each compared with the first."""
    from rich.table import Table

    first = next(iter(found.values()))
    table = Table(
        title=f"{first.suite}: accuracy (%) on {first.images:,} images a cell",
        caption="mCA: mean over 15 corruptions at 5 severities; mCE: 100 less that\n"
        "relative CE: clean less mCA, over that of the first row",
        title_justify="left",
        caption_justify="left",
    )
    for heading in ("run", "clean", "mCA", "mCE", "relative CE", "worst five"):
        table.add_column(heading, justify="left" if heading in ("run", "worst five") else "right")
    for name, of in found.items():
        numbers = (of.clean, of.mean_accuracy, of.mean_error)
        table.add_row(name, *map(_percent, numbers), f"{of.relative_error(first):.3f}", _worst(of))
    return table
