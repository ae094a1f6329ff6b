"""A search at work: each trial is a point, trained with every seed of the recipe.

Optuna proposes the points and keeps them in `runs/.studies/NAME.log`; the runs lie where all runs
do. A search that was killed goes on where it was, with the proposals it would have made.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from labctl.errors import EnvironmentProblem, RecipeError, UsageError
from labctl.project import Project
from labctl.store.lock import FileLock
from labctl.store.run import Run, run_of
from labctl.store.status import Status

from .findings import Findings, findings_of
from .history import (
    At,
    counted,
    facts,
    found_study,
    is_committed,
    is_current,
    jobs_at,
    jobs_of,
    keys_of,
    new_study,
    replaced,
    study_path,
)
from .objective import missing, values
from .pruning import WHOLE, Curve
from .search_config import SearchConfig
from .space import point_of

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from labctl.execute.job import Job, Outcome

    from .study import Study

MOST_REFUSED = 10
"""If the recipe refuses so many points and has accepted none, the space is wrong."""


@dataclass
class _Trial:
    """A trial that is not told."""

    number: int
    jobs: list[Job]
    pruned: str = ""
    """Why it was given up."""
    begun: int = 0
    """How many of the jobs were handed out."""

    @property
    def keys(self) -> list[str]:
        return keys_of(self.jobs)


class Search:
    """Steers a supervisor; to be used as a context, in which it owns the study.

    `at` gives the recipe at a point. With `retry_failed`, points whose runs failed are tried again.
    """

    study: Study

    def __init__(
        self,
        project: Project,
        name: str,
        config: SearchConfig,
        at: At,
        *,
        retry_failed: bool = False,
    ) -> None:
        self.project, self.name, self.config, self.at = project, name, config, at
        self._is_outdated = False
        """The recipe was edited while the search went on: nothing more is asked."""
        self._retry_failed = retry_failed
        self._lock = FileLock(study_path(project, name).with_suffix(".lock"))
        self._open: dict[int, _Trial] = {}
        self._ready: list[Job] = []
        self._handed: set[str] = set()
        self._ended: dict[str, Outcome] = {}
        self._curves: dict[tuple[int, str], Curve] = {}

    def __enter__(self) -> Self:
        """Take the study, and up what an earlier search left.

        Raises:
            UsageError: another process searches here.
            RunError: the study cannot be read.
        """
        from .study import Log

        if not self._lock.acquire():
            raise UsageError(
                f"{self.name} is being searched by another labctl",
                hint="wait for it or stop it; a sweep of another name can be searched meanwhile",
            )
        try:
            log = Log(study_path(self.project, self.name), is_owner=True)
            found = found_study(log, self.config, self.at)
            self.study = found or new_study(log, self.config, self.at, self.project)
            self.study.set_pruner(self.config.pruner)
            for trial in self.study.trials:
                if trial.state.name == "RUNNING":
                    self._take_up(trial)
            if self._retry_failed:
                self._enqueue_failed()
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self._lock.release()

    @property
    def findings(self) -> Findings:
        """What is known now."""
        return findings_of(self.study, self.config, is_outdated=self._is_outdated)

    def more(self, room: int) -> Sequence[Job]:
        """Jobs of trials that an earlier search left, then of new ones, until `room` is filled.

        Raises:
            RecipeError: the recipe refuses every point.
        """
        while len(self._ready) < room and self._may_ask():
            self._ask()
        jobs, self._ready = self._ready, []
        return jobs

    def verdict(self, run: Run) -> str:
        """Why the trials of a run are given up; empty to let it go on."""
        if self.config.pruner is None:
            return ""
        key = run.plan.key
        sharing = [trial for trial in self._open.values() if trial.keys[0] == key]
        for trial in sharing:
            trial.pruned = trial.pruned or self._pruned(trial, run)
        return sharing[0].pruned if sharing and all(trial.pruned for trial in sharing) else ""

    def ended(self, outcome: Outcome) -> None:
        """Tell the trials of a run that has ended what became of it."""
        key = outcome.run.plan.key
        self._ended[key] = outcome
        for trial in list(self._open.values()):
            if key in trial.keys:
                self._settle(trial)

    def _take_up(self, trial: FrozenTrial) -> None:
        """Go on with a trial that was not told when the last search ended."""
        if not is_committed(trial):
            return self.study.fail(trial.number)  # what it asked will be asked again
        jobs = jobs_at(self.at, self.config, trial.params)
        if "refused" in trial.user_attrs or keys_of(jobs) != trial.user_attrs["keys"]:
            is_stale = "refused" not in trial.user_attrs
            return self.study.fail(trial.number, **({"stale": True} if is_stale else {}))
        pruned = trial.user_attrs.get("pruned", "")
        first = run_of(self.project, jobs[0].plan).status
        if pruned and not first.is_final and first is not Status.RUNNING:
            return self.study.prune(trial.number)
        return self._hand_out(_Trial(trial.number, jobs, pruned))

    def _enqueue_failed(self) -> None:
        again = replaced(self.study)
        for trial in self.study.trials:
            if trial.user_attrs.get("failed") and trial.number not in again:
                self.study.enqueue(trial.params, replaces=trial.number)

    def _may_ask(self) -> bool:
        if self._is_outdated:
            return False
        if any(trial.state.name == "WAITING" for trial in self.study.trials):
            return True
        return len(list(counted(self.study))) < self.config.trials

    def _ask(self) -> None:
        """A new trial; its proposal depends on the seed, its place and what was told before."""
        if not is_current(self.study, self.config, self.at):
            self._is_outdated = True
            return
        committed = [trial.user_attrs for trial in self.study.trials if is_committed(trial)]
        place = sum("replaces" not in known for known in committed)
        seed = _seed(self.config.sampler_seed, place)
        number, params = self.study.ask(self.config.sampler, seed, self.config.space)
        try:
            jobs = jobs_of(self.at(point_of(self.config.space, params)))
        except RecipeError as error:
            self.study.fail(number, refused=error.message)
            if len(committed) + 1 >= MOST_REFUSED and all("refused" in k for k in committed):
                raise
            return
        self.study.note(number, **facts(self.project, jobs))
        twin = self._pruned_twin(keys_of(jobs))
        if twin is None:
            self._hand_out(_Trial(number, jobs))
            return
        for progress, value in twin.intermediate_values.items():
            self.study.report(number, progress, value)
        self.study.prune(number)

    def _pruned_twin(self, keys: list[str]) -> FrozenTrial | None:
        """An earlier trial of the same point that was given up."""
        for trial in self.study.trials:
            if trial.state.name == "PRUNED" and trial.user_attrs.get("keys") == keys:
                return trial
        return None

    def _hand_out(self, trial: _Trial) -> None:
        """Have a trial's runs begun; where trials may be given up, the first seed's alone."""
        self._open[trial.number] = trial
        trial.begun = 1 if self.config.pruner and not trial.begun else len(trial.jobs)
        for job in trial.jobs[: trial.begun]:
            if job.plan.key not in self._handed:
                self._handed.add(job.plan.key)
                self._ready.append(job)
        self._settle(trial)

    def _pruned(self, trial: _Trial, run: Run) -> str:
        """Report what is new of a run; why its trial is given up, if it is."""
        metric, goal = self.config.curve
        for progress, value in self._reported(trial, run):
            if progress < WHOLE and self.study.is_hopeless(trial.number):
                side = "low" if goal == "maximize" else "high"
                why = f"given up after {progress / WHOLE:.0%}: {metric} {value:.4g} is too {side}"
                self.study.note(trial.number, pruned=why)
                return why
        return ""

    def _reported(self, trial: _Trial, run: Run) -> Iterator[tuple[int, float]]:
        """Progress and values that the run journalled and the study did not have yet."""
        metric, goal = self.config.curve
        sign = 1 if goal == self.config.objectives[0].goal else -1
        curve = self._curves.setdefault((trial.number, run.plan.key), Curve(run, metric))
        for progress, value in curve.new():
            if self.study.report(trial.number, progress, sign * value):
                yield progress, value

    def _settle(self, trial: _Trial) -> None:
        """Tell a trial whose runs have all ended; one that was interrupted stays open, and the next
        search goes on with it."""
        ended = [self._ended[key] for key in trial.keys[: trial.begun] if key in self._ended]
        if len(ended) < trial.begun:
            return
        runs = [outcome.run for outcome in ended]
        # A run that is trained and lacks a measurement counts as failed, and has its objectives.
        statuses = [
            outcome.run.status if outcome.run.status.is_final else outcome.status
            for outcome in ended
        ]
        is_done = all(status is Status.DONE for status in statuses)
        if is_done and trial.begun < len(trial.jobs):
            self._hand_out(trial)
            return
        del self._open[trial.number]
        if is_done:
            self._complete(trial, runs)
        elif trial.pruned and not statuses[0].is_final:
            self.study.prune(trial.number)
        elif _is_told(statuses) and not any(map(_lacked_something, runs)):
            bad = zip(runs, statuses, strict=True)
            why = [f"{run.plan.name} {status}" for run, status in bad if status is not Status.DONE]
            self.study.fail(trial.number, why=", ".join(why), failed=Status.FAILED in statuses)

    def _complete(self, trial: _Trial, runs: list[Run]) -> None:
        if self.config.pruner:
            for _ in self._reported(trial, runs[0]):
                pass  # what came after the last look: other trials are compared with it
        wanting = [metric for run in runs for metric in missing(self.config.objectives, run)]
        if wanting:
            self.study.fail(trial.number, why=f"no finite {wanting[0]} was recorded")
        else:
            self.study.complete(trial.number, values(self.config.objectives, runs))


def _seed(seed: int, place: int) -> int:
    """For the proposal at `place`: a search that goes on draws what it would have drawn."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{place}".encode()).digest()[:4], "big")


def _is_told(statuses: Sequence[Status]) -> bool:
    """Whether every run has an answer, or failed; the others were interrupted."""
    return all(status.is_final or status is Status.FAILED for status in statuses)


def _lacked_something(run: Run) -> bool:
    """Whether the machine was at fault, not the point."""
    return int((run.end or {}).get("code", 0)) == EnvironmentProblem.exit_code
