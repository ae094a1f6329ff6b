"""Looking for a place in a recipe's fields: where training stops being stable, or is best."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Self

from rich.console import Group, RenderableType
from rich.text import Text

from labctl.errors import RunError, UsageError
from labctl.project import Project
from labctl.registry.registry import Registry
from labctl.reports.result import result_of
from labctl.reports.rows import Rows
from labctl.reports.sweeps import Swept, rows_of, trials_of, untried
from labctl.store.status import Status
from labctl.sweeps.arguments import refuse_replaced
from labctl.sweeps.bisection import Trial
from labctl.sweeps.boundary import Boundary
from labctl.sweeps.boundary import boundary as boundary_of
from labctl.sweeps.findings import Findings, SearchTrial, read_findings
from labctl.sweeps.jobs import Cell
from labctl.sweeps.probe import Probe, with_range
from labctl.sweeps.search import Search
from labctl.sweeps.search_config import SearchConfig

from .carrying import How, carry_out, require_data
from .looks import in_html, table_of
from .opening import Where
from .outcomes import Outcomes
from .sweeping import Asked, say_note, spoken, statuses, texts, written

SHOWN = 20
"""Trials of a search that a terminal is shown; JSON has all."""
SEARCH = "search: {trials: 30, objectives: [{metric: val/acc, goal: maximize}], space: {...}}"


def boundary(
    name: str = "",
    *overrides: str,
    values: str | Iterable[str] = (),
    recipe: str | Path | None = None,
    seeds: int | str | Iterable[int] | None = None,
    preset: str | None = None,
    jobs: int | None = None,
    fail_fast: bool = False,
    yes: bool = False,
    track: bool = True,
    project: Where = None,
) -> Bounds:
    """Search where runs stop being stable; what was tried before counts.

    `labctl.boundary("beta")`, or `labctl.boundary("lr.peak", recipe="ctd_baseline",
    values="1e-4:1")`.

    Args:
        name: a sweep of recipes/sweeps/, or with `recipe` a field of it.
        overrides: FIELD=VALUE of all points.
        values: lo:hi, between which both ends are looked for; else those of the sweep's file.
        seeds: 5 for 0 to 4, or several seeds.

    `preset`, `jobs`, `fail_fast`, `yes`, `track` and `project` are those of `labctl.run`; runs that
    are decided about one by one are not trained together.

    Raises:
        UsageError, RecipeError: something that cannot be understood.
        EnvironmentProblem: data or a device are missing.
        PartialError, RunError: a run has no answer, so that the search cannot go on.
        Interrupted: a signal asked for the end; the same call goes on.
    """
    given = texts(values)
    found, registry, asked = spoken(project, name, overrides, given, recipe, preset)
    require_data(found, registry, [asked.recipe])
    how = How(jobs, "auto", fail_fast, yes, track)
    return bounded(probe_of(found, registry, asked.with_seeds(written(seeds)), given), how)


def search(
    name: str,
    *overrides: str,
    seeds: int | str | Iterable[int] | None = None,
    retry: str | Iterable[str] = (),
    preset: str | None = None,
    jobs: int | None = None,
    fail_fast: bool = False,
    yes: bool = False,
    track: bool = True,
    project: Where = None,
) -> Sought:
    """Search the best values, as the file of a sweep says; a search that was killed goes on.

    Args:
        name: a sweep of recipes/sweeps/ that says what to search.
        overrides: FIELD=VALUE of all points.
        seeds: 5 for 0 to 4, or several seeds.
        retry: `failed` tries failed trials again; other ends are no faults of a trial.

    `preset`, `jobs`, `fail_fast`, `yes`, `track` and `project` are those of `labctl.run`; runs that
    are decided about one by one are not trained together.

    Returns:
        The best trials, and how the runs stand; `.require()` raises if one has failed.

    Raises:
        UsageError, RecipeError: something that cannot be understood.
        EnvironmentProblem: data or a device are missing.
        Interrupted: a signal asked for the end; the same call goes on.
    """
    found, registry, asked = spoken(project, name, overrides, (), None, preset)
    require_data(found, registry, [asked.recipe])
    how = How(jobs, "auto", fail_fast, yes, track)
    again = statuses(retry if isinstance(retry, str) else ",".join(retry))
    return sought(found, registry, asked.with_seeds(written(seeds)), how, again)


class _Told(ABC):
    """What is told in sentences, on a terminal and in a notebook."""

    __slots__ = ()

    @abstractmethod
    def sentences(self) -> list[str]:
        """What was found, the most important first."""

    def __repr__(self) -> str:
        return "\n".join(self.sentences())

    def __rich__(self) -> RenderableType:
        return Group(*(Text(sentence) for sentence in self.sentences()), *self._tables())

    def _tables(self) -> list[RenderableType]:
        return []

    def _repr_html_(self) -> str:
        return in_html(self)


@dataclass(frozen=True, slots=True, repr=False)
class Bounds(_Told):
    """Where training is stable."""

    found: Boundary
    confirmations: tuple[str, ...]
    """Sentences on the values on either side of each end, at the recipe's own budget."""

    def sentences(self) -> list[str]:
        return [*self.found.sentences(), *self.confirmations]

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        return {**self.found.plain(), "sentences": self.sentences()}


@dataclass(frozen=True, slots=True, repr=False)
class Sought(_Told):
    """What a search has found, and how its runs stand."""

    findings: Findings
    outcomes: Outcomes

    @property
    def best(self) -> tuple[SearchTrial, ...]:
        """Trials that no other beats in every objective."""
        return self.findings.best

    @property
    def trials(self) -> tuple[SearchTrial, ...]:
        """All of them, the best first."""
        return self.findings.trials

    def sentences(self) -> list[str]:
        return self.findings.sentences()

    def _tables(self) -> list[RenderableType]:
        return _listed(self.trials) if self.trials else []

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self.findings)

    def require(self) -> Self:
        """This, if all of its runs have answered or were given up, and not every trial failed.

        Raises:
            PartialError, RunError, EnvironmentProblem: as `Outcomes.require`; or all have failed.
        """
        self.outcomes.require()
        if set(self.findings.states) == {"failed"}:
            hint = "mend what made them fail, and search again"
            raise RunError("every trial of the search has failed", hint=hint)
        return self


def probe_of(project: Project, registry: Registry, asked: Asked, values: Sequence[str]) -> Probe:
    """A boundary search.

    Args:
        values: the range, as the command line has it; none for that of the sweep's file.

    Raises:
        UsageError: there is no range, or none that can be read.
    """
    return Probe(project, registry, with_range(asked.sweep, values))


def trials_before(probe: Probe) -> list[Trial]:
    """What was tried before, if it counts."""
    before = _before(probe)
    return trials_of(before) if before else []


def _before(probe: Probe) -> Swept | None:
    sweep = probe.sweep
    if probe.config.budget is not None or sweep.fixed:
        return None
    return rows_of(Rows(probe.project, probe.registry, sweep.preset, ()), sweep)


def bounded(probe: Probe, how: How) -> Bounds:
    """What `boundary` does: step after step, each a sweep of its own."""
    say_note(probe.sweep, how)
    before = _before(probe)
    trials = trials_of(before) if before else []
    ended = [result for _, row in before.along for result in row.results.values()] if before else []
    while todo := probe.next(trials):
        trials += probe.judged(_answered(probe, todo, how, len(trials)))
        runs = (cell.run(probe.project) for cell in todo)
        ended += [result_of(run) for run in runs if run.status is Status.DONE]
    found = boundary_of(probe.config, probe.sweep.seeds, trials, tuple(untried(ended)))
    confirmed = _answered(probe, probe.at_length(found), how, len(trials))
    return Bounds(found, tuple(probe.confirmations(found, confirmed)))


def _answered(probe: Probe, todo: Sequence[Cell], how: How, before: int) -> Sequence[Cell]:
    """Train what is missing of `todo`; `before` runs of the search have answered already.

    Raises:
        PartialError, RunError, EnvironmentProblem: a run without an answer ends the search.
    """
    if todo:
        work = [cell.job for cell in todo]
        outcomes = Outcomes.of_sweep(carry_out(probe.project, probe.registry, work, how))
        replace(outcomes, hint="labctl why RUN; the same command goes on").require(before)
    return todo


def sought(
    project: Project, registry: Registry, asked: Asked, how: How, retry: frozenset[Status]
) -> Sought:
    """What `search` does: trials that a sampler proposes.

    Raises:
        UsageError: there is nothing to search, or ends that a search does not try again.
    """
    if answered := sorted(retry - {Status.FAILED, Status.LOST}):
        raise UsageError(
            f"--retry {answered[0].lower()}: a search tries again only trials that failed",
            hint="--retry failed; what was interrupted goes on by itself, and what diverged "
            "or was halted or given up is an answer",
        )
    sweep, config = asked.sweep, _searched(asked)
    say_note(sweep, how)
    at = partial(sweep.at, project, registry)
    is_retried = Status.FAILED in retry
    with Search(project, sweep.label, config, at, retry_failed=is_retried) as steering:
        outcomes = Outcomes.of_sweep(carry_out(project, registry, [], how, steering))
        findings = steering.findings
    # Those that were given up are STOPPED.
    return Sought(findings, replace(outcomes, answers=outcomes.answers | {Status.STOPPED}))


def sought_before(project: Project, registry: Registry, asked: Asked) -> Sought:
    """What `search` has found so far; nothing is trained.

    Raises:
        UsageError: there is nothing to search.
        RunError: its trials cannot be read.
    """
    config = _searched(asked)
    at = partial(asked.sweep.at, project, registry)
    found = read_findings(project, asked.sweep.label, config, at)
    return Sought(found or Findings(config.trials), Outcomes.of_sweep(()))


def _searched(asked: Asked) -> SearchConfig:
    sweep = asked.sweep
    if sweep.config.search is None:
        raise UsageError(f"sweep {sweep.name} does not say what to search", hint=SEARCH)
    config = sweep.config.search.fitted(asked.recipe)
    refuse_replaced(sweep.fixed, [*config.space])
    return config


def _listed(trials: Sequence[SearchTrial]) -> list[RenderableType]:
    """A table of the first trials, their values to four digits, and how many there are besides."""
    fields = list(dict.fromkeys(field for trial in trials for field in trial.point))
    metrics = list(dict.fromkeys(metric for trial in trials for metric in trial.values))
    headings = (_brief(field, fields) for field in fields)
    table = table_of("trial", *headings, *metrics, "seeds", "state", is_tight=True)
    for trial in trials[:SHOWN]:
        values = (trial.values.get(metric) for metric in metrics)
        table.add_row(
            str(trial.number),
            *(_rounded(trial.point.get(field, "")) for field in fields),
            *("" if value is None else f"{value:.4g}" for value in values),
            str(len(trial.runs) or ""),
            trial.state,
        )
    rest = len(trials) - SHOWN
    return [table, Text(f"and {rest} more: --json")] if rest > 0 else [table]


def _brief(field: str, fields: Sequence[str]) -> str:
    """The end of a field's name that no other has."""
    parts = field.split(".")
    ends = (".".join(parts[place:]) for place in range(len(parts) - 1, 0, -1))
    return next((e for e in ends if sum(f".{one}".endswith(f".{e}") for one in fields) == 1), field)


def _rounded(text: str) -> str:
    """A number to four digits, and any other value as it is."""
    try:
        return f"{float(text):.4g}"
    except ValueError:
        return text
