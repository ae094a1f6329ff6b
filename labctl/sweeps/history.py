"""What earlier searches left in a study, and whether it still means what it meant.

What a trial's point means is given by the keys of its runs. If the recipe means other work there
now, a new study is begun in the same file, and the old one is taken up again when the recipe means
its work again. A new study, also one of another space or other objectives, begins with the points
of older ones that are still what they were.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labctl.errors import LabctlError
from labctl.plans.derive import plans
from labctl.project import Project
from labctl.recipe.recipe import Recipe
from labctl.store.run import run_of
from labctl.store.status import Status

from .objective import missing, values
from .search_config import SearchConfig
from .space import Params, holds, point_of

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from labctl.execute.job import Job

    from .study import Log, Study

At = Callable[[Mapping[str, str]], Recipe]
"""The recipe at a point, given as values of overrides by field."""


def study_path(project: Project, name: str) -> Path:
    """Where the trials of a sweep are kept."""
    return project.runs / ".studies" / f"{name}.log"


def found_study(log: Log, config: SearchConfig, at: At) -> Study | None:
    """The study that asks the same, of the recipe as it is now."""
    for name in log.names():
        study = log.study(name)
        if study.about == config.about and is_current(study, config, at):
            return study
    return None


def new_study(log: Log, config: SearchConfig, at: At, project: Project) -> Study:
    """A study that begins with what is known already."""
    older = [log.study(name) for name in log.names()]
    study = log.new([one.goal for one in config.objectives], config.about)
    known: list[list[str]] = []
    for trial in (trial for old in older for trial in old.trials):
        if trial.state.name != "COMPLETE" or not holds(config.space, trial.params):
            continue
        jobs = jobs_at(at, config, trial.params)
        runs = [run_of(project, job.plan) for job in jobs]
        if not jobs or keys_of(jobs) in known or any(run.status is not Status.DONE for run in runs):
            continue
        if not any(missing(config.objectives, run) for run in runs):
            known.append(keys_of(jobs))
            study.add(
                config.space, trial.params, values(config.objectives, runs), **facts(project, jobs)
            )
    return study


def is_current(study: Study, config: SearchConfig, at: At) -> bool:
    """Whether the recipe means what it meant when the study was begun."""
    first = next((trial for trial in study.trials if "keys" in trial.user_attrs), None)
    if first is None:
        return True
    then: list[str] = first.user_attrs["keys"]
    return keys_of(jobs_at(at, config, first.params)) == then


def is_committed(trial: FrozenTrial) -> bool:
    """Whether what it asks was written down whole: it was not killed as it was asked."""
    return "keys" in trial.user_attrs or "refused" in trial.user_attrs


def replaced(study: Study) -> set[int]:
    """Numbers of trials that others try again."""
    return {
        trial.user_attrs["replaces"] for trial in study.trials if "replaces" in trial.user_attrs
    }


def counted(study: Study) -> Iterator[FrozenTrial]:
    """The trials that count toward the number that is wanted."""
    again = replaced(study)
    for trial in study.trials:
        is_asked = trial.state.name == "WAITING" or is_committed(trial)
        if is_asked and trial.number not in again and "stale" not in trial.user_attrs:
            yield trial


def facts(project: Project, jobs: Sequence[Job]) -> dict[str, Any]:
    """What a study keeps of a trial's runs; `keys` last, they say that the rest is there."""
    folders = [run_of(project, job.plan).folder for job in jobs]
    return {
        "runs": [job.plan.name for job in jobs],
        "folders": [str(folder.relative_to(project.runs)) for folder in folders],
        "keys": keys_of(jobs),
    }


def keys_of(jobs: Sequence[Job]) -> list[str]:
    """Keys of the runs, seed by seed."""
    return [job.plan.key for job in jobs]


def jobs_of(recipe: Recipe) -> list[Job]:
    """One job per seed."""
    from labctl.execute.job import Job

    return [Job(plan, recipe.path) for plan in plans(recipe)]


def jobs_at(at: At, config: SearchConfig, params: Params) -> list[Job]:
    """The jobs of a point; none if the recipe refuses it now."""
    try:
        return jobs_of(at(point_of(config.space, params)))
    except LabctlError:
        return []
